//! Columns that demand a value and have none of their own, before and after the migrations.

use std::collections::{BTreeMap, BTreeSet};

use switchyard_postgres::{PostgresError, Session};

use crate::rehearse::tables::TableName;

/// Every table with its columns; of each, whether it demands a value.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Columns(BTreeMap<TableName, BTreeMap<String, bool>>);

/// A column that demands a value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Column {
    /// Its table.
    pub(crate) table: TableName,
    /// Its name.
    pub(crate) name: String,
}

impl Columns {
    /// Reads the columns of every table. One demands a value when it is NOT NULL, without a default, and neither
    /// generated nor an identity; a domain counts with its own.
    ///
    /// # Errors
    /// As [`Session::rows`].
    pub(super) async fn read(session: &Session) -> Result<Self, PostgresError> {
        let what = "read which columns demand a value";
        // `atthasdef` is true of generated columns as well.
        let sql = "
            SELECT n.nspname::text AS schema, c.relname::text AS name, a.attname::text AS of_column,
                   (a.attnotnull OR t.typnotnull) AND NOT a.atthasdef AND a.attidentity = ''
                     AND t.typdefault IS NULL AS demands
            FROM pg_catalog.pg_attribute a
            JOIN pg_catalog.pg_class c ON c.oid = a.attrelid AND c.relkind IN ('r', 'p')
            JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
            JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
            WHERE a.attnum > 0 AND NOT a.attisdropped
              AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'";
        let mut columns = Self::default();
        for row in session.rows(what, sql, &[]).await? {
            let table = TableName {
                schema: session.column(what, &row, "schema")?,
                name: session.column(what, &row, "name")?,
            };
            let name = session.column(what, &row, "of_column")?;
            let demands = session.column(what, &row, "demands")?;
            columns.0.entry(table).or_default().insert(name, demands);
        }
        Ok(columns)
    }
}

/// The columns of tables known before that demand a value only now.
pub(super) fn new_ones(before: &Columns, after: &Columns) -> BTreeSet<Column> {
    let mut found = BTreeSet::new();
    for (table, columns) in &after.0 {
        let Some(old) = before.0.get(table) else {
            // A new table: the running version does not know it.
            continue;
        };
        for (name, demands) in columns {
            if *demands && old.get(name) != Some(&true) {
                found.insert(Column {
                    table: table.clone(),
                    name: name.clone(),
                });
            }
        }
    }
    found
}
