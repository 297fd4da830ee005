//! The rules' pages: what each reports, why, and what to do instead.

use super::finding::Severity;
use super::rules::{self, Rule};

/// A page of the documentation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Name of the file in `docs/lint`.
    pub file: String,
    /// Its text, markdown.
    pub text: String,
}

/// One page for each rule, and one that lists them.
#[must_use]
pub fn pages() -> Vec<Page> {
    let rules = rules::ALL.iter().map(|rule| Page {
        file: format!("{}.md", rule.id),
        text: page(rule),
    });
    std::iter::once(index()).chain(rules).collect()
}

const GENERATED: &str =
    "<!-- Generated from bins/migrate-gate/src/lint/rules by scripts/generate. Do not edit. -->";

fn index() -> Page {
    let rows: String = rules::ALL
        .iter()
        .map(|rule| {
            format!(
                "| [`{0}`]({0}.md) | {1} | {2} |\n",
                rule.id, rule.severity, rule.summary
            )
        })
        .collect();
    Page {
        file: "README.md".to_owned(),
        text: format!(
            "# Rules of `migrate-gate lint`\n\n{GENERATED}\n\n\
             A finding is taken back by a comment above its statement, or behind it on its last line:\n\
             `-- switchyard:allow RULE reason`. Tables that the same migration makes have no users, so no rule\n\
             about locks speaks of them.\n\n\
             | rule | severity | what it reports |\n| --- | --- | --- |\n{rows}"
        ),
    }
}

fn page(rule: &Rule) -> String {
    let severity = match rule.severity {
        Severity::Error => "error: the gate says no",
        Severity::Warning => "warning",
        Severity::Notice => "notice",
    };
    format!(
        "# `{}`\n\n{GENERATED}\n\n{}.\n\n{}\n\nSeverity: {severity}.\n\n\
         ## Reported\n\n```sql\n{}\n```\n\n## Instead\n\n```sql\n{}\n```\n\n\
         Both follow a migration that made:\n\n```sql\n{}\n```\n",
        rule.id, rule.summary, rule.reason, rule.bad, rule.good, rule.before
    )
}
