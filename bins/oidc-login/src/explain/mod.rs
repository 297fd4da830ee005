//! Explains tokens and refusals. It talks to nobody but GitHub, and only to ask for the token that it
//! explains.

mod command;
mod compare;
mod party;
mod report;

pub(crate) use command::run;
pub(crate) use report::{Expectations, printable, report};
