//! Comments that take findings back: `-- switchyard:allow RULE reason` above a statement or behind it on
//! its last line, `-- switchyard:allow-file RULE reason` for the whole file.

use std::ops::Range;

use switchyard_sql::{Lines, Located, comments};

use super::finding::{Found, Severity};
use super::rules;

/// What such a comment begins with, behind its dashes.
const WORD: &str = "switchyard:allow";

/// The rule that findings about these comments belong to.
pub(crate) const RULE: &str = "allow-comment";

/// A comment that takes findings of a rule back.
#[derive(Debug)]
pub(crate) struct Allow {
    rule: &'static str,
    /// Bytes of the statement that it is about; `None` for the whole file.
    statement: Option<Range<usize>>,
    /// Bytes of the comment.
    span: Range<usize>,
    is_used: bool,
}

/// The comments of a script, and what is wrong with those that allow nothing.
#[derive(Debug, Default)]
pub(crate) struct Allows {
    allows: Vec<Allow>,
    /// Comments that allow nothing, with their bytes.
    pub(crate) wrong: Vec<(Range<usize>, Found)>,
}

impl Allows {
    /// Reads the comments of a script.
    pub(crate) fn read(script: &str, statements: &[Located], lines: &Lines) -> Self {
        let mut read = Self::default();
        // Most scripts have none, and comments are found by going over all of a script.
        if !script.contains(WORD) {
            return read;
        }
        for span in comments(script) {
            let text = script[span.clone()]
                .trim_start_matches(['-', '/', '*'])
                .trim_end_matches(['*', '/'])
                .trim();
            let Some(rest) = text.strip_prefix(WORD) else {
                continue;
            };
            let (is_file, rest) = match rest.strip_prefix("-file") {
                Some(rest) => (true, rest),
                None => (false, rest),
            };
            let mut words = rest
                .splitn(2, [' ', '\t', ':'])
                .skip(usize::from(rest.starts_with([' ', '\t', ':'])));
            let (rule, reason) = match words.next() {
                Some(rest) => rest
                    .trim()
                    .split_once(char::is_whitespace)
                    .unwrap_or((rest.trim(), "")),
                None => ("", ""),
            };
            let statement = if is_file {
                None
            } else {
                target(&span, statements, lines)
            };
            match rules::find(rule) {
                None => read.wrong.push((span, unknown_rule(rule))),
                Some(_) if reason.trim().is_empty() => read.wrong.push((span, no_reason(rule))),
                Some(_) if !is_file && statement.is_none() => {
                    read.wrong.push((span, no_statement(rule)))
                }
                Some(rule) => read.allows.push(Allow {
                    rule: rule.id,
                    statement,
                    span,
                    is_used: false,
                }),
            }
        }
        read
    }

    /// Whether a finding of a rule at a statement is taken back.
    pub(crate) fn takes_back(&mut self, rule: &str, statement: &Range<usize>) -> bool {
        let mut is_allowed = false;
        for allow in &mut self.allows {
            let is_meant = allow.statement.as_ref().is_none_or(|own| own == statement);
            if allow.rule == rule && is_meant {
                allow.is_used = true;
                is_allowed = true;
            }
        }
        is_allowed
    }

    /// Comments that took nothing back, with their bytes.
    pub(crate) fn unused(&self) -> impl Iterator<Item = (Range<usize>, Found)> + '_ {
        let unused = self.allows.iter().filter(|allow| !allow.is_used);
        unused.map(|allow| {
            let found = Found {
                severity: Some(Severity::Warning),
                ..Found::new(
                    format!(
                        "rule `{}` finds nothing here that could be allowed",
                        allow.rule
                    ),
                    "take the comment away",
                )
            };
            (allow.span.clone(), found)
        })
    }
}

/// The statement that a comment is about: the one that ends on its line before it, the one that it
/// stands in, or the next one.
fn target(comment: &Range<usize>, statements: &[Located], lines: &Lines) -> Option<Range<usize>> {
    let line = lines.line(comment.start);
    let before = statements
        .iter()
        .rev()
        .find(|located| located.span.end <= comment.start)
        .filter(|located| lines.line(located.span.end.saturating_sub(1)) == line);
    let next = || {
        statements
            .iter()
            .find(|located| located.span.end > comment.start)
    };
    before.or_else(next).map(|located| located.span.clone())
}

fn unknown_rule(given: &str) -> Found {
    let ids: Vec<&str> = rules::ALL.iter().map(|rule| rule.id).collect();
    Found::new(
        format!("no rule is called `{given}`, so nothing is allowed"),
        format!("the rules are: {}", ids.join(", ")),
    )
}

fn no_reason(rule: &str) -> Found {
    Found::new(
        format!("no reason is given for allowing `{rule}`, so nothing is allowed"),
        format!("write it behind the name: `-- {WORD} {rule} REASON`"),
    )
}

fn no_statement(rule: &str) -> Found {
    Found::new(
        format!("no statement follows the comment that allows `{rule}`"),
        "put it above the statement, or behind it on its last line",
    )
}
