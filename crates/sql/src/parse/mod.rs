//! From a script to statements. The only module that knows the parser's crates.
//!
//! A statement that the parser refuses, or that it reads in a way which is not expected here, becomes
//! [`Statement::Unknown`]; no text makes it panic.

#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "the parser's enums have hundreds of variants; what a match does not name becomes unknown"
)]

mod alter_table;
mod body;
mod change;
mod column;
mod expression;
mod names;
mod nesting;
mod other;
mod plain;
mod reach;
mod relation;

use std::collections::HashMap;
use std::ops::Range;

use squawk_syntax::SourceFile;
use squawk_syntax::ast;

use self::nesting::{LARGE_STACK, Nesting, nesting};
use crate::statement::Unknown;
use crate::{Statement, cut};

/// A statement and where it stands in its script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located {
    /// Its bytes, without what is around it and without the semicolon.
    pub span: Range<usize>,
    /// What it is.
    pub statement: Statement,
}

/// Parses a script: every statement in it, in order.
#[must_use]
pub fn parse(script: &str) -> Vec<Located> {
    Parser::default().parse(script)
}

/// Parses scripts one after the other. The same settings and commands of transactions stand in most
/// migrations of a project: those are read once.
#[derive(Debug, Default)]
pub struct Parser {
    known: HashMap<String, Statement>,
}

impl Parser {
    /// Parses a script, as [`parse`] does.
    #[must_use]
    pub fn parse(&mut self, script: &str) -> Vec<Located> {
        let pieces = cut(script);
        let spans = pieces.into_iter().filter_map(|piece| piece.statement);
        spans
            .map(|span| Located {
                statement: self.statement(&script[span.clone()], span.start),
                span,
            })
            .collect()
    }

    fn statement(&mut self, text: &str, offset: usize) -> Statement {
        if let Some(known) = self.known.get(text) {
            return known.clone();
        }
        let read = statement(text, offset);
        let comes_again = matches!(
            read,
            Statement::Set(_) | Statement::Reset(_) | Statement::Transaction(_)
        );
        // They say nothing of where they stand.
        if comes_again {
            self.known.insert(text.to_owned(), read.clone());
        }
        read
    }
}

/// Parses one statement that begins at `offset` of its script.
pub(crate) fn statement(text: &str, offset: usize) -> Statement {
    let unknown = |reason: &str| {
        Statement::Unknown(Unknown {
            reason: reason.to_owned(),
            offset,
        })
    };
    if text.starts_with('\\') {
        return unknown("is a command of psql, which no server understands");
    }
    match nesting(text) {
        Nesting::Usual => parsed(text, offset),
        // A stack of its own: the parser goes down by recursion, and the caller's may be small.
        Nesting::Deep => std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().stack_size(LARGE_STACK);
            let thread = thread.spawn_scoped(scope, || parsed(text, offset));
            thread.ok().and_then(|thread| thread.join().ok())
        })
        .unwrap_or_else(|| unknown("is nested too deep for this machine")),
        Nesting::Absurd => unknown("is nested deeper than any parser should go"),
    }
}

fn parsed(text: &str, offset: usize) -> Statement {
    let unknown = |reason: &str| {
        Statement::Unknown(Unknown {
            reason: reason.to_owned(),
            offset,
        })
    };
    let parsed = SourceFile::parse(text);
    if let Some(error) = parsed.errors().first() {
        return unknown(&format!("is not understood: {}", error.message()));
    }
    let file = parsed.tree();
    let mut statements = file.stmts();
    match (statements.next(), statements.next()) {
        (Some(found), None) => of(found, offset)
            .unwrap_or_else(|| unknown("is written in a way that is not expected here")),
        _ => unknown("is not understood as one statement"),
    }
}

/// Converts what the parser gave. `None` where its tree lacks something that the grammar demands.
fn of(statement: ast::Stmt, offset: usize) -> Option<Statement> {
    other::statement(statement, offset)
}
