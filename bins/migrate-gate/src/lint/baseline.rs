//! The baseline: findings that were there when the gate was put up, which it leaves alone.
//!
//! One line each: rule, migration, and the beginning of the SHA-256 of the statement, so that a changed
//! statement is judged anew and a line that is not needed any more is told.

use std::collections::BTreeSet;
use std::path::Path;

use switchyard_runner::{Failure, Kind};

use super::finding::Finding;
use crate::sha256::sha256;

/// First line of the file, for whoever opens it.
const HEAD: &str =
    "# Findings of `migrate-gate lint` that were there before it: SCHEMA/MIGRATION RULE STATEMENT";

/// Known findings.
#[derive(Debug, Default)]
pub(crate) struct Baseline {
    lines: BTreeSet<String>,
}

impl Baseline {
    /// Reads the file.
    ///
    /// # Errors
    /// Kind input when it cannot be read, or a line of it is none.
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        let text = std::fs::read_to_string(path).map_err(|cause| {
            let text = format!("read the baseline `{}`", path.display());
            Failure::input(anyhow::Error::new(cause).context(text))
                .hint("make it with `write-baseline: true`")
        })?;
        let mut lines = BTreeSet::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if line.split(' ').count() != 3 {
                let text = format!(
                    "line {} of the baseline `{}` is `{line}`",
                    number + 1,
                    path.display()
                );
                return Err(Failure::message(Kind::Input, text)
                    .hint("a line is `SCHEMA/MIGRATION RULE STATEMENT`; make the file with `write-baseline: true`"));
            }
            lines.insert(line.to_owned());
        }
        Ok(Self { lines })
    }

    /// Takes out the findings that it knows; gives the others, and its lines that know none.
    pub(crate) fn split(&self, findings: Vec<Finding>) -> (Vec<Finding>, Vec<&str>) {
        // Without a baseline no finding has to be told from another.
        if self.lines.is_empty() {
            return (findings, Vec::new());
        }
        let mut seen = BTreeSet::new();
        let new = findings.into_iter().filter(|finding| {
            let line = line(finding);
            let is_known = self.lines.contains(&line);
            seen.insert(line);
            !is_known
        });
        let new = new.collect();
        let gone = self.lines.iter().filter(|line| !seen.contains(*line));
        (new, gone.map(String::as_str).collect())
    }
}

/// Writes a baseline of findings.
///
/// # Errors
/// Kind input when the file cannot be written.
pub(crate) fn write(path: &Path, findings: &[Finding]) -> Result<(), Failure> {
    let lines: BTreeSet<String> = findings.iter().map(line).collect();
    let mut text = format!("{HEAD}\n");
    for line in lines {
        text.push_str(&line);
        text.push('\n');
    }
    std::fs::write(path, text).map_err(|cause| {
        let text = format!("write the baseline `{}`", path.display());
        Failure::input(anyhow::Error::new(cause).context(text))
    })
}

fn line(finding: &Finding) -> String {
    let digest = sha256(&finding.statement);
    // Enough to tell the statements of a migration apart.
    let digest = &digest[..16];
    // Names of folders may hold blanks.
    let migration = finding.migration.replace(' ', "%20");
    format!("{}/{migration} {} {digest}", finding.schema, finding.rule)
}
