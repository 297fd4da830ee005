//! Tells the findings: annotations on their lines, the summary, the log.

use std::fmt::Write as _;
use std::path::Path;

use switchyard_runner::summary::cell;
use switchyard_runner::{Annotation, Context, Level, Location};

use super::finding::{Finding, Severity};

/// How many there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Migrations that were judged.
    pub(crate) migrations: usize,
    /// Findings by severity.
    pub(crate) errors: usize,
    /// Findings by severity.
    pub(crate) warnings: usize,
    /// Findings by severity.
    pub(crate) notices: usize,
    /// Findings that say that something is not known.
    pub(crate) unknown: usize,
}

impl Counts {
    /// Counts findings.
    pub(crate) fn of(findings: &[Finding], migrations: usize) -> Self {
        let of = |severity| {
            findings
                .iter()
                .filter(|finding| finding.severity == severity)
                .count()
        };
        Self {
            migrations,
            errors: of(Severity::Error),
            warnings: of(Severity::Warning),
            notices: of(Severity::Notice),
            unknown: findings.iter().filter(|finding| finding.is_unknown).count(),
        }
    }

    /// All findings.
    pub(crate) fn all(self) -> usize {
        self.errors + self.warnings + self.notices
    }

    /// In words: `2 errors and 1 warning in 3 migrations`.
    pub(crate) fn words(self) -> String {
        let mut parts = Vec::new();
        for (count, word) in [
            (self.errors, "error"),
            (self.warnings, "warning"),
            (self.notices, "notice"),
        ] {
            if count > 0 {
                parts.push(format!(
                    "{count} {word}{}",
                    if count == 1 { "" } else { "s" }
                ));
            }
        }
        let found = if parts.is_empty() {
            "no findings".to_owned()
        } else {
            parts.join(" and ")
        };
        let migrations = self.migrations;
        format!(
            "{found} in {migrations} migration{}",
            if migrations == 1 { "" } else { "s" }
        )
    }
}

/// Annotates each finding at its line, the gravest first, because the runner shows only ten of a kind.
pub(crate) fn annotate(findings: &[Finding], context: &Context) {
    let mut gravest_first: Vec<&Finding> = findings.iter().collect();
    gravest_first.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    let files: Vec<_> = gravest_first
        .iter()
        .map(|finding| finding.file.to_string_lossy())
        .collect();
    let annotations = gravest_first.iter().zip(&files);
    let annotations = annotations.map(|(finding, file)| Annotation {
        level: match finding.severity {
            Severity::Error => Level::Error,
            Severity::Warning => Level::Warning,
            Severity::Notice => Level::Notice,
        },
        at: Location {
            file,
            line: finding.line,
            end_line: finding.end_line,
        },
        title: finding.rule,
        text: format!("{}\nhint: {}", finding.message, finding.hint),
    });
    context.console.annotations(annotations);
}

/// The findings for the step's summary.
pub(crate) fn markdown(findings: &[Finding], counts: Counts) -> String {
    let mut text = format!("### Migrations: {}\n", counts.words());
    if findings.is_empty() {
        return text;
    }
    text.push_str("\n| | where | rule | what |\n| --- | --- | --- | --- |\n");
    for finding in findings {
        let place = place(&finding.file, finding.line);
        // Writing into a string cannot fail.
        let _ = writeln!(
            text,
            "| {} | {} | `{}` | {}. {} |",
            finding.severity,
            cell(&place),
            finding.rule,
            cell(&finding.message),
            cell(&finding.hint)
        );
    }
    text
}

/// `20240101_name/migration.sql:3`: the end of the path says enough in a table.
fn place(file: &Path, line: usize) -> String {
    let parts: Vec<_> = file.components().rev().take(2).collect();
    let parts: Vec<String> = parts
        .iter()
        .rev()
        .map(|part| part.as_os_str().to_string_lossy().into_owned())
        .collect();
    format!("{}:{line}", parts.join("/"))
}
