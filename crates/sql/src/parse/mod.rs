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
mod other;
mod plain;
mod relation;

use std::ops::Range;

use squawk_syntax::SourceFile;
use squawk_syntax::ast;

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

/// Deeper nesting than any statement that a person wrote. The parser goes down by recursion, so a text
/// made of nothing but parentheses would end the process.
const DEEPEST: usize = 200;

/// More operators in a row than any statement that a person wrote; a chain of them nests as well.
const LONGEST_CHAIN: usize = 4000;

/// Parses a script: every statement in it, in order.
#[must_use]
pub fn parse(script: &str) -> Vec<Located> {
    let pieces = cut(script);
    let spans = pieces.into_iter().filter_map(|piece| piece.statement);
    spans
        .map(|span| Located {
            statement: statement(&script[span.clone()], span.start),
            span,
        })
        .collect()
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
    if !is_shallow(text) {
        return unknown("is nested deeper than any parser should go");
    }
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

/// Whether the parser can go into a text without running out of stack.
fn is_shallow(text: &str) -> bool {
    let (mut depth, mut deepest, mut operators) = (0_usize, 0, 0_usize);
    let mut longest = 0;
    for byte in text.bytes() {
        match byte {
            b'(' | b'[' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b')' | b']' => depth = depth.saturating_sub(1),
            // A list begins its next item: what was chained before does not nest any further.
            b',' => operators = 0,
            b'+' | b'-' | b'*' | b'/' | b'|' | b'=' | b'<' | b'>' | b':' | b'.' | b'~' | b'!'
            | b'@' | b'#' | b'%' | b'^' | b'&' | b'?' | b' ' | b'\n' | b'\t' => operators += 1,
            _ => {}
        }
        longest = longest.max(operators);
    }
    // Blanks count too, because `a AND b OR NOT c` has no other sign between its words.
    deepest <= DEEPEST && longest <= LONGEST_CHAIN * 4
}

/// Converts what the parser gave. `None` where its tree lacks something that the grammar demands.
fn of(statement: ast::Stmt, offset: usize) -> Option<Statement> {
    other::statement(statement, offset)
}
