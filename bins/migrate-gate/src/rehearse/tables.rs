//! Which tables a migration is probed on: those whose names, or whose indexes' names, stand in its text, and those
//! tied to them by foreign keys or inheritance. Where it names none, as a `DO` block may, all tables are.
//!
//! Names alone find more tables than the migration touches, and never fewer of those that it names. What it locks
//! besides is seen by the watch of its locks.

use std::collections::{BTreeMap, BTreeSet};

use switchyard_postgres::{PostgresError, Relation, RelationKind, Session, identifier};

/// A table with its schema.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct TableName {
    /// Its schema.
    pub(crate) schema: String,
    /// Its own name.
    pub(crate) name: String,
}

impl TableName {
    /// The table of a relation.
    pub(crate) fn of(relation: &Relation) -> Self {
        Self {
            schema: relation.schema.clone(),
            name: relation.name.clone(),
        }
    }

    /// As SQL has it, with quotes.
    pub(crate) fn quoted(&self) -> String {
        format!("{}.{}", identifier(&self.schema), identifier(&self.name))
    }
}

impl std::fmt::Display for TableName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.schema, self.name)
    }
}

/// The tables of a copy as they are before a migration.
#[derive(Debug)]
pub(super) struct Tables {
    relations: Vec<Relation>,
    /// Pairs tied to each other.
    ties: Vec<(TableName, TableName)>,
}

impl Tables {
    /// Reads them.
    ///
    /// # Errors
    /// As [`Session::rows`].
    pub(super) async fn read(session: &Session) -> Result<Self, PostgresError> {
        let what = "read which tables are tied to each other";
        let sql = "
            SELECT n1.nspname::text AS schema1, c1.relname::text AS name1,
                   n2.nspname::text AS schema2, c2.relname::text AS name2
            FROM (SELECT conrelid AS one, confrelid AS other FROM pg_catalog.pg_constraint WHERE contype = 'f'
                  UNION SELECT inhrelid, inhparent FROM pg_catalog.pg_inherits) t
            JOIN pg_catalog.pg_class c1 ON c1.oid = t.one AND c1.relkind IN ('r', 'p')
            JOIN pg_catalog.pg_namespace n1 ON n1.oid = c1.relnamespace
            JOIN pg_catalog.pg_class c2 ON c2.oid = t.other AND c2.relkind IN ('r', 'p')
            JOIN pg_catalog.pg_namespace n2 ON n2.oid = c2.relnamespace";
        let mut ties = Vec::new();
        for row in session.rows(what, sql, &[]).await? {
            let table = |schema: &str, name: &str| -> Result<TableName, PostgresError> {
                Ok(TableName {
                    schema: session.column(what, &row, schema)?,
                    name: session.column(what, &row, name)?,
                })
            };
            ties.push((table("schema1", "name1")?, table("schema2", "name2")?));
        }
        Ok(Self {
            relations: session.relations().await?,
            ties,
        })
    }

    /// Rows of each table, where its server knows them.
    pub(super) fn rows(&self) -> BTreeMap<TableName, Option<u64>> {
        let tables = self.probable();
        tables.map(|one| (TableName::of(one), one.rows)).collect()
    }

    /// What `LOCK TABLE` takes: tables, partitioned ones included.
    fn probable(&self) -> impl Iterator<Item = &Relation> {
        self.relations.iter().filter(|one| match one.kind {
            RelationKind::Table | RelationKind::PartitionedTable => true,
            RelationKind::MaterializedView
            | RelationKind::View
            | RelationKind::ForeignTable
            | RelationKind::Index
            | RelationKind::Sequence => false,
        })
    }
}

/// The tables to probe, and those that there was no room for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Probed {
    /// To probe; those that the script names come first, larger ones before smaller ones.
    pub(super) tables: Vec<TableName>,
    /// Left out, because more were found than may be probed.
    pub(super) left_out: Vec<TableName>,
}

/// Chooses the tables to probe for a script, at most `most`.
pub(super) fn probed(script: &str, tables: &Tables, most: usize) -> Probed {
    let words = words(script);
    let is_named = |name: &str| words.contains(name);
    let mut named = BTreeSet::new();
    for relation in &tables.relations {
        match (relation.kind, &relation.table) {
            (RelationKind::Index, Some(table)) if is_named(&relation.name) => {
                named.insert(TableName {
                    schema: relation.schema.clone(),
                    name: table.clone(),
                });
            }
            _ if is_named(&relation.name) => {
                named.insert(TableName::of(relation));
            }
            _ => {}
        }
    }
    let mut tied = BTreeSet::new();
    for (one, other) in &tables.ties {
        if named.contains(one) {
            tied.insert(other.clone());
        }
        if named.contains(other) {
            tied.insert(one.clone());
        }
    }
    let mut found: Vec<(&Relation, TableName)> = tables
        .probable()
        .map(|relation| (relation, TableName::of(relation)))
        .collect();
    let is_any = found
        .iter()
        .any(|(_, table)| named.contains(table) || tied.contains(table));
    if is_any {
        found.retain(|(_, table)| named.contains(table) || tied.contains(table));
    }
    found.sort_by_key(|(relation, table)| {
        (!named.contains(table), std::cmp::Reverse(relation.bytes))
    });
    let mut found: Vec<TableName> = found.into_iter().map(|(_, table)| table).collect();
    let left_out = found.split_off(most.min(found.len()));
    Probed {
        tables: found,
        left_out,
    }
}

/// Everything in a script that may be a name: words folded to lower case, and what stands between double quotes.
fn words(script: &str) -> BTreeSet<String> {
    let mut words = BTreeSet::new();
    let is_of_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '$');
    for word in script.split(|c| !is_of_word(c)) {
        if !word.is_empty() {
            words.insert(word.to_lowercase());
            // Inside of quotes, also those of a `DO` block's strings, case counts.
            words.insert(word.to_owned());
        }
    }
    // A quoted name may hold blanks. An odd quote in a string only adds names that nothing has.
    words.extend(script.split('"').skip(1).step_by(2).map(str::to_owned));
    words.extend(script.split('"').step_by(2).map(str::to_owned));
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn relation(name: &str, kind: RelationKind, table: Option<&str>, bytes: u64) -> Relation {
        Relation {
            schema: "public".into(),
            name: name.into(),
            kind,
            table: table.map(str::to_owned),
            rows: None,
            bytes,
            index_bytes: 0,
            indexes: 0,
        }
    }

    fn shop() -> Tables {
        let table = |name: &str| TableName {
            schema: "public".into(),
            name: name.into(),
        };
        Tables {
            relations: vec![
                relation("User", RelationKind::Table, None, 10),
                relation("order", RelationKind::Table, None, 30),
                relation("order_place", RelationKind::Index, Some("order"), 5),
                relation("log", RelationKind::Table, None, 90),
                relation("recent", RelationKind::View, None, 0),
            ],
            ties: vec![(table("order"), table("User"))],
        }
    }

    fn names(script: &str, most: usize) -> (Vec<String>, usize) {
        let found = probed(script, &shop(), most);
        let names = found.tables.iter().map(|one| one.name.clone());
        (names.collect(), found.left_out.len())
    }

    #[test]
    fn named_tables_come_first_and_bring_those_that_are_tied_to_them() {
        for (script, expected) in [
            ("ALTER TABLE \"User\" ADD x int", vec!["User", "order"]),
            ("alter table public.ORDER add x int", vec!["order", "User"]),
            ("DROP INDEX order_place", vec!["order", "User"]),
            ("DO $$ BEGIN EXECUTE 'DROP TABLE log'; END $$", vec!["log"]),
        ] {
            assert_eq!(names(script, 9).0, expected, "{script}");
        }
    }

    #[test]
    fn a_script_that_names_no_table_is_probed_on_all_and_says_what_found_no_room() {
        let script = "DO $$ BEGIN EXECUTE 'DROP TABLE ' || current_user; END $$";
        assert_eq!(names(script, 9).0, ["log", "order", "User"]);
        assert_eq!(names(script, 1), (vec!["log".to_owned()], 2));
    }
}
