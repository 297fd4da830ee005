//! Contracts between callers, workflows, actions and programs, checked without running anything.
//!
//! GitHub says nothing about an input that no step reads or an output that no step writes, and `act`
//! hides some of these mistakes, so the files themselves are read. It knows the files of the project
//! as text; it refuses to know what any program does.

mod action;
mod expression;
mod repository;
mod workflow;

use std::fmt;

pub use repository::Repository;

/// Where the published actions live: `uses: switchyard-ci/switchyard/actions/rollout@v1`.
pub const SELF: &str = "switchyard-ci/switchyard";

/// One broken contract.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// The file, relative to the repository's root.
    pub file: String,
    /// What is wrong, naming the input, output, step or job.
    pub message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.file, self.message)
    }
}

/// Collects the findings of one file.
struct Report<'a> {
    file: &'a str,
    findings: Vec<Finding>,
}

impl<'a> Report<'a> {
    fn new(file: &'a str) -> Self {
        Self {
            file,
            findings: Vec::new(),
        }
    }

    fn add(&mut self, message: impl Into<String>) {
        self.findings.push(Finding {
            file: self.file.to_owned(),
            message: message.into(),
        });
    }
}

/// Every broken contract of a repository, ordered by file.
#[must_use]
pub fn check(repository: &Repository) -> Vec<Finding> {
    let mut findings = repository.unreadable.clone();
    findings.extend(action::check(repository));
    findings.extend(workflow::check(repository));
    findings.sort();
    findings.dedup();
    findings
}
