//! PostgreSQL statements as plain data: a script cut into statements, what each of them is, what it
//! locks and costs on which server, and which phase it belongs to.
//!
//! Refuses to know files, ledgers, servers, the runner, and any policy about what is allowed.

mod catalog;
mod cut;
mod data_type;
mod effect;
mod expression;
mod function;
mod lines;
mod lock_mode;
mod name;
mod parse;
mod phase;
mod server_version;
pub mod statement;
mod transaction;

pub use catalog::{Catalog, Index, KnownColumn, KnownConstraint, Table, UserType};
pub use cut::{Piece, comments, cut};
pub use data_type::{BaseType, DataType, TypeChange, type_change};
pub use effect::{Effects, TableLock, Work, WorkKind, action_effects, column_change, effects};
pub use expression::{Expression, Volatility};
pub use lines::{Lines, Position};
pub use lock_mode::LockMode;
pub use name::Name;
pub use parse::{Located, Parser, parse};
pub use phase::{Phase, phase};
pub use server_version::{InvalidServerVersion, ServerVersion};
pub use statement::Statement;
pub use transaction::{Delivery, Place, places, refused_in_block};
