//! PostgreSQL statements as plain data: a script cut into statements.
//!
//! Refuses to know files, ledgers, servers, the runner, and any policy about what is allowed.

mod cut;
mod lines;
mod server_version;

pub use cut::{Piece, cut};
pub use lines::{Lines, Position};
pub use server_version::{InvalidServerVersion, ServerVersion};
