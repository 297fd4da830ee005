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
    /// These were sent between them, most calls first; at least one of them by an application. Those that have no
    /// plan (`COPY`, `DECLARE`), and those that name the catalog as well, are among them: they use tables too.
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
            if *calls > before {
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
        let is_of_application = |one: &Statement| match one.sort() {
            Sort::Application => true,
            Sort::Catalog | Sort::Utility => false,
        };
        if !grown.iter().any(is_of_application) {
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
    let named = match statement.sort() {
        Sort::Application | Sort::Utility => tokens.iter().filter_map(Token::name).collect(),
        // What tools ask for the catalog has columns called `name`, `role`, `type`.
        Sort::Catalog => relations(&tokens),
    };
    let names = |name: &str| named.contains(name);
    if !names(&what.table) && !views.iter().any(|view| names(view)) {
        return false;
    }
    match &what.part {
        Part::Table => true,
        Part::Column(column) => {
            tokens.iter().any(|token| token.name() == Some(column)) || takes_all_columns(&tokens)
        }
        Part::Writes => ["insert", "update", "merge", "copy"]
            .iter()
            .any(|verb| tokens.iter().any(|token| token.is_word(verb))),
    }
}

/// Words behind which a table is named.
const BEFORE_TABLES: [&str; 7] = ["from", "join", "into", "update", "only", "table", "using"];

/// Words that end a list of tables.
const BEHIND_TABLES: [&str; 9] = [
    "where",
    "group",
    "order",
    "having",
    "limit",
    "union",
    "select",
    "set",
    "returning",
];

/// The names that stand where tables are named, and the schemas before them.
fn relations(tokens: &[Token]) -> BTreeSet<&str> {
    let is_any = |token: &Token, words: &[&str]| words.iter().any(|word| token.is_word(word));
    let (mut is_in_list, mut is_next) = (false, false);
    let mut relations = BTreeSet::new();
    for token in tokens {
        let is_table = is_next;
        is_next = match token {
            Token::Sign('.') => is_table,
            Token::Sign(',') => is_in_list,
            Token::Sign(_) => false,
            Token::Word(_) if is_any(token, &BEFORE_TABLES) => {
                is_in_list = true;
                true
            }
            Token::Word(_) if is_any(token, &BEHIND_TABLES) => {
                is_in_list = false;
                false
            }
            Token::Word(_) | Token::Quoted(_) => {
                if is_table {
                    relations.extend(token.name());
                }
                // A table may stand behind a point.
                is_table
            }
        };
    }
    relations
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
        let only_utilities = sample(&[
            (1, "SELECT a FROM t", 5),
            (2, "SELECT b FROM t", 5),
            (3, "COMMIT", 9),
        ]);
        assert_eq!(before.until(&only_utilities), Growth::Silence);
        let grown = sample(&[
            (1, "SELECT a FROM t", 5),
            (2, "SELECT b FROM t", 7),
            (3, "SELECT c FROM t", 9),
            (4, "COPY t FROM STDIN", 1),
        ]);
        let Growth::Grew(grown) = before.until(&grown) else {
            panic!("it grew");
        };
        let calls: Vec<(&str, u64)> = grown
            .iter()
            .map(|one| (one.text.as_str(), one.calls))
            .collect();
        assert_eq!(
            calls,
            [
                ("SELECT c FROM t", 9),
                ("SELECT b FROM t", 2),
                ("COPY t FROM STDIN", 1)
            ]
        );
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
            ("COPY item (price) FROM STDIN", Part::Writes, true),
            ("DECLARE c CURSOR FOR SELECT name FROM item", name(), true),
            (
                "SELECT name FROM shop.item, pg_catalog.pg_class",
                name(),
                true,
            ),
            (
                "SELECT i.name FROM information_schema.tables t, item i",
                name(),
                true,
            ),
            (
                "SELECT relname AS name, item FROM pg_catalog.pg_class",
                name(),
                false,
            ),
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
