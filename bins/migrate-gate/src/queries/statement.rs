//! One statement of the running version, and which sort it is.

use serde::Deserialize;
use switchyard_postgres::StatementStatistics;

use crate::shorten::beginning;

/// Longest piece of a statement that is told, in characters.
const SHOWN: usize = 300;

/// A statement that the running version sends.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Statement {
    /// Its text, with `$1`, `$2`, … for parameters.
    pub(crate) text: String,
    /// How often it was sent.
    #[serde(default = "once")]
    pub(crate) calls: u64,
    /// The database that it was sent to; every one where it is not known.
    #[serde(default)]
    pub(crate) database: Option<String>,
}

fn once() -> u64 {
    1
}

/// Which sort of statement it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sort {
    /// It reads or changes rows.
    Application,
    /// It asks for the catalog or the server's state, as tools and drivers do.
    Catalog,
    /// Neither: it has no plan.
    Utility,
}

/// First words of statements that have a plan.
const PLANNED: [&str; 8] = [
    "select", "insert", "update", "delete", "merge", "with", "values", "table",
];

/// What only a statement about the catalog names.
const OF_CATALOG: [&str; 4] = [
    "pg_catalog.",
    "information_schema.",
    "pg_stat_",
    "_prisma_migrations",
];

impl Statement {
    /// From what a server counted.
    pub(crate) fn counted(one: StatementStatistics) -> Self {
        Self {
            text: one.text,
            calls: u64::try_from(one.calls).unwrap_or(0),
            database: None,
        }
    }

    /// Whether it was sent to this database, as far as that is known.
    pub(crate) fn is_of(&self, database: &str) -> bool {
        self.database.as_deref().is_none_or(|name| name == database)
    }

    /// Which sort it is.
    pub(crate) fn sort(&self) -> Sort {
        let text = without_comments(&self.text).to_lowercase();
        let first = text.trim_start_matches('(').trim_start();
        let word: String = first
            .chars()
            .take_while(char::is_ascii_alphabetic)
            .collect();
        if !PLANNED.contains(&word.as_str()) {
            return Sort::Utility;
        }
        if OF_CATALOG.iter().any(|name| text.contains(name)) {
            return Sort::Catalog;
        }
        Sort::Application
    }

    /// Its beginning on one line.
    pub(crate) fn shown(&self) -> String {
        beginning(&self.text, SHOWN)
    }
}

/// Takes away the comments before the first word, as tracing libraries put them there.
fn without_comments(text: &str) -> &str {
    let mut rest = text.trim_start();
    loop {
        let after = if rest.starts_with("--") {
            rest.find('\n').map(|end| &rest[end..])
        } else if rest.starts_with("/*") {
            rest.find("*/").map(|end| &rest[end + 2..])
        } else {
            return rest;
        };
        rest = after.unwrap_or_default().trim_start();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_statements_of_an_application_count_for_it() {
        for (text, sort) in [
            ("SELECT * FROM item", Sort::Application),
            (
                "/* trace=1 */ -- x\n UPDATE item SET a = $1",
                Sort::Application,
            ),
            ("(SELECT 1) UNION (SELECT 2)", Sort::Application),
            ("SELECT oid FROM pg_catalog.pg_class", Sort::Catalog),
            ("BEGIN", Sort::Utility),
            ("/* only a comment", Sort::Utility),
            ("CREATE TABLE x ()", Sort::Utility),
        ] {
            let statement = Statement {
                text: text.to_owned(),
                calls: 1,
                database: None,
            };
            assert_eq!(statement.sort(), sort, "{text}");
        }
    }
}
