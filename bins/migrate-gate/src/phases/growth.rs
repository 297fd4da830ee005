//! Which statements grew between two samples of `pg_stat_statements`, and whether they use what goes away. Pure.

use std::collections::{BTreeMap, BTreeSet};

use switchyard_postgres::StatementStatistics;

use super::classify::{Part, Use};
use crate::queries::{Sort, Statement, Token, tokens};

/// Calls by statement and role.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Sample(BTreeMap<(i64, Option<String>), (Statement, u64)>);

/// What two samples say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Growth {
    /// These were sent between them, most calls first; at least one.
    Grew(Vec<Statement>),
    /// No statement of an application was sent: it is not known who would have.
    Silence,
    /// Somebody reset the counts.
    Reset,
}

impl Sample {
    /// From what a server counted.
    pub(super) fn of(counted: Vec<StatementStatistics>) -> Self {
        let mut sample: BTreeMap<_, (Statement, u64)> = BTreeMap::new();
        for one in counted {
            let key = (one.query_id, one.role.clone());
            let statement = Statement::counted(one);
            let calls = statement.calls;
            let entry = sample.entry(key).or_insert((statement, 0));
            entry.1 = entry.1.saturating_add(calls);
        }
        Self(sample)
    }

    /// How many statements it holds.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// What was sent between this one and a later one. `calls` are those between them.
    pub(super) fn until(&self, later: &Self) -> Growth {
        let mut grown = Vec::new();
        for (key, (statement, calls)) in &later.0 {
            let before = self.0.get(key).map_or(0, |(_, calls)| *calls);
            if *calls < before {
                return Growth::Reset;
            }
            if *calls > before && statement.sort() == Sort::Application {
                grown.push(Statement {
                    calls: calls - before,
                    ..statement.clone()
                });
            }
        }
        // One that is gone was evicted or reset; what was sent of it since is not known.
        if self.0.keys().any(|key| !later.0.contains_key(key)) {
            return Growth::Reset;
        }
        if grown.is_empty() {
            return Growth::Silence;
        }
        grown.sort_by_key(|statement| std::cmp::Reverse(statement.calls));
        Growth::Grew(grown)
    }
}

/// Whether a statement uses something. `views` are the names of views upon the table. By names alone, so rather once
/// too often than once too little.
pub(super) fn uses(statement: &Statement, what: &Use, views: &BTreeSet<String>) -> bool {
    let tokens = tokens(&statement.text);
    let names = |name: &str| tokens.iter().any(|token| token.name() == Some(name));
    if !names(&what.table) && !views.iter().any(|view| names(view)) {
        return false;
    }
    match &what.part {
        Part::Table => true,
        Part::Column(column) => names(column) || takes_all_columns(&tokens),
        Part::Writes => ["insert", "update", "merge", "copy"]
            .iter()
            .any(|verb| tokens.iter().any(|token| token.is_word(verb))),
    }
}

/// Whether a statement has a `*` that stands for columns, or an `INSERT` that names none.
fn takes_all_columns(tokens: &[Token]) -> bool {
    let star = Token::Sign('*');
    let stands_for_columns = |at: usize| {
        let before = at.checked_sub(1).and_then(|at| tokens.get(at));
        // `count(*)` and `price * 2` do not; `SELECT *`, `t.*` and `, *` do.
        match before {
            Some(Token::Sign('.' | ',')) => true,
            Some(Token::Word(word)) => {
                ["select", "all", "distinct", "returning"].contains(&word.as_str())
            }
            Some(Token::Sign(_) | Token::Quoted(_)) | None => false,
        }
    };
    let has_star = tokens
        .iter()
        .enumerate()
        .any(|(at, token)| *token == star && stands_for_columns(at));
    let has_open_insert = tokens
        .windows(2)
        .any(|pair| pair[1].is_word("values") && pair[0] != Token::Sign(')'));
    has_star || has_open_insert
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statistics(id: i64, text: &str, calls: i64) -> StatementStatistics {
        StatementStatistics {
            query_id: id,
            text: text.to_owned(),
            role: Some("web".to_owned()),
            calls,
            rows: 0,
            total_milliseconds: 0.0,
        }
    }

    #[test]
    fn silence_and_a_reset_prove_nothing() {
        let sample = |counted: &[(i64, &str, i64)]| {
            let counted = counted
                .iter()
                .map(|(id, text, calls)| statistics(*id, text, *calls));
            Sample::of(counted.collect())
        };
        let before = sample(&[(1, "SELECT a FROM t", 5), (2, "SELECT b FROM t", 5)]);
        assert_eq!(before.until(&before), Growth::Silence);
        let only_catalog = sample(&[
            (1, "SELECT a FROM t", 5),
            (2, "SELECT b FROM t", 5),
            (3, "SELECT oid FROM pg_catalog.pg_class", 9),
        ]);
        assert_eq!(before.until(&only_catalog), Growth::Silence);
        let fewer = sample(&[(1, "SELECT a FROM t", 4), (2, "SELECT b FROM t", 5)]);
        assert_eq!(before.until(&fewer), Growth::Reset);
        let gone = sample(&[(1, "SELECT a FROM t", 9)]);
        assert_eq!(before.until(&gone), Growth::Reset);
        let grown = sample(&[
            (1, "SELECT a FROM t", 5),
            (2, "SELECT b FROM t", 7),
            (3, "SELECT c FROM t", 9),
        ]);
        let Growth::Grew(grown) = before.until(&grown) else {
            panic!("it grew");
        };
        let calls: Vec<(&str, u64)> = grown
            .iter()
            .map(|one| (one.text.as_str(), one.calls))
            .collect();
        assert_eq!(calls, [("SELECT c FROM t", 9), ("SELECT b FROM t", 2)]);
    }

    #[test]
    fn a_use_is_found_by_its_names() {
        let views = BTreeSet::from(["recent".to_owned()]);
        let name = || Part::Column("name".into());
        for (text, part, expected) in [
            ("SELECT name FROM item", name(), true),
            ("SELECT price FROM item", name(), false),
            ("SELECT * FROM item", name(), true),
            ("SELECT i.* FROM item i", name(), true),
            ("SELECT count(*) FROM item", name(), false),
            ("SELECT price * $1 FROM item", name(), false),
            ("INSERT INTO item VALUES ($1)", name(), true),
            ("INSERT INTO item (id) VALUES ($1)", name(), false),
            ("SELECT name FROM other", name(), false),
            ("SELECT name FROM recent", name(), true),
            ("SELECT 'item', name FROM other", name(), false),
            ("SELECT price FROM item", Part::Writes, false),
            ("UPDATE item SET price = $1", Part::Writes, true),
            ("SELECT price FROM item", Part::Table, true),
        ] {
            let statement = Statement {
                text: text.to_owned(),
                calls: 1,
                database: None,
            };
            let what = Use {
                table: "item".into(),
                part,
            };
            assert_eq!(uses(&statement, &what, &views), expected, "{text}");
        }
    }
}
