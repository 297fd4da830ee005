//! What a rule found, and where.

use std::fmt;
use std::path::PathBuf;

use clap::ValueEnum;

/// How much a finding matters, the least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Severity {
    /// Worth a look
    Notice,
    /// Hurts where the table is large or busy
    Warning,
    /// Stops the gate
    Error,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Notice => "notice",
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

/// What a rule says of a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    /// What is wrong, as a sentence without a full stop.
    pub(crate) message: String,
    /// What to do instead.
    pub(crate) hint: String,
    /// How much it matters, where that differs from the rule's own.
    pub(crate) severity: Option<Severity>,
    /// Whether it says that something is not known.
    pub(crate) is_unknown: bool,
}

impl Found {
    /// What is wrong and what to do instead.
    pub(crate) fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: hint.into(),
            severity: None,
            is_unknown: false,
        }
    }

    /// Something that is not known, which is never safe.
    pub(crate) fn unknown(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            is_unknown: true,
            ..Self::new(message, hint)
        }
    }
}

/// A finding with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    /// The rule's id.
    pub(crate) rule: &'static str,
    /// How much it matters.
    pub(crate) severity: Severity,
    /// What is wrong.
    pub(crate) message: String,
    /// What to do instead.
    pub(crate) hint: String,
    /// Whether it says that something is not known.
    pub(crate) is_unknown: bool,
    /// Name of the schema.
    pub(crate) schema: String,
    /// Name of the migration.
    pub(crate) migration: String,
    /// Its file.
    pub(crate) file: PathBuf,
    /// First line of the statement, from 1.
    pub(crate) line: usize,
    /// Its last line.
    pub(crate) end_line: usize,
    /// The statement, its space made single: the baseline knows it by this.
    pub(crate) statement: String,
}
