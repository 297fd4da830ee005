//! One failure at the edge of a binary: its kind decides the exit code, its hints say what to do.

use std::fmt;

use crate::Signal;

/// What sort of failure it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The gate says no: the check ran and its answer is negative. Exit code 1.
    Gate,
    /// Bad input: refused before anything was touched. Exit code 2.
    Input,
    /// A remote system failed or could not be reached. Exit code 3.
    Remote,
    /// SIGINT or SIGTERM ended the command in order. Exit code 130 or 143.
    Cancelled(Signal),
    /// Our bug. Exit code 70 (`EX_SOFTWARE` of sysexits.h).
    Bug,
}

impl Kind {
    /// The process exit code.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Gate => 1,
            Self::Input => 2,
            Self::Remote => 3,
            Self::Cancelled(signal) => signal.exit_code(),
            Self::Bug => 70,
        }
    }
}

/// A failure as it is shown once, at the end of a command: title, message, causes, hints.
#[derive(Debug)]
pub struct Failure {
    kind: Kind,
    title: Option<String>,
    error: anyhow::Error,
    hints: Vec<String>,
}

impl Failure {
    fn new(kind: Kind, error: impl Into<anyhow::Error>) -> Self {
        Self {
            kind,
            title: None,
            error: error.into(),
            hints: Vec::new(),
        }
    }

    /// The gate says no.
    pub fn gate(error: impl Into<anyhow::Error>) -> Self {
        Self::new(Kind::Gate, error)
    }

    /// An input is missing or nonsense.
    pub fn input(error: impl Into<anyhow::Error>) -> Self {
        Self::new(Kind::Input, error)
    }

    /// A remote system failed.
    pub fn remote(error: impl Into<anyhow::Error>) -> Self {
        Self::new(Kind::Remote, error)
    }

    /// Our bug.
    pub fn bug(error: impl Into<anyhow::Error>) -> Self {
        Self::new(Kind::Bug, error)
    }

    /// The command was told to stop; `error` says where it stopped.
    pub fn cancelled(signal: Signal, error: impl Into<anyhow::Error>) -> Self {
        Self::new(Kind::Cancelled(signal), error)
    }

    /// Shorthands for a message without a typed error.
    #[must_use]
    pub fn message(kind: Kind, text: impl fmt::Display) -> Self {
        Self::new(kind, anyhow::anyhow!("{text}"))
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Adds a hint when there is one.
    #[must_use]
    pub fn maybe_hint(self, hint: Option<impl Into<String>>) -> Self {
        match hint {
            Some(hint) => self.hint(hint),
            None => self,
        }
    }

    /// Replaces the title, which is the binary's name otherwise.
    #[must_use]
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.title = Some(title.into());
        self
    }

    /// What sort of failure it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What to do about it, most useful first.
    #[must_use]
    pub fn hints(&self) -> &[String] {
        &self.hints
    }

    /// The title to show: its own, or the binary's name.
    #[must_use]
    pub fn title_or<'a>(&'a self, name: &'a str) -> &'a str {
        self.title.as_deref().unwrap_or(name)
    }

    /// The message with its causes on one line, `what: cause: deeper cause`. A cause that its parent's
    /// text already ends with is not said twice.
    #[must_use]
    pub fn chain(&self) -> String {
        let mut text = String::new();
        for cause in self.error.chain() {
            let cause = cause.to_string();
            if text.is_empty() {
                text = cause;
            } else if !text.ends_with(&cause) {
                text.push_str(": ");
                text.push_str(&cause);
            }
        }
        text
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.chain())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_the_documented_ones() {
        let codes = [
            Kind::Gate,
            Kind::Input,
            Kind::Remote,
            Kind::Cancelled(Signal::Interrupt),
            Kind::Cancelled(Signal::Terminate),
            Kind::Bug,
        ]
        .map(Kind::exit_code);
        assert_eq!(codes, [1, 2, 3, 130, 143, 70]);
    }

    #[test]
    fn the_chain_names_each_cause_once() {
        let inner = anyhow::anyhow!("connection refused");
        let failure = Failure::remote(inner.context("read service `shop/web`"));
        assert_eq!(
            failure.chain(),
            "read service `shop/web`: connection refused"
        );
    }
}
