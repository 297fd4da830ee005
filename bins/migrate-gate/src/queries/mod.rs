//! Statements that a running version sends: which sort each is, and which names it holds.
//!
//! It refuses to know where they were captured, and what is made of them.

mod statement;
mod tokens;

pub(crate) use statement::{Sort, Statement};
pub(crate) use tokens::{Token, tokens};
