//! Tables that had many rows before and have none after: what an `UPDATE` loses nobody can see, a lost table
//! everybody can. It refuses to judge growth and shrinkage, because the application goes on writing; a small
//! table may be a queue that was worked off, which is told and no more.

use std::collections::{BTreeMap, BTreeSet};

use switchyard_postgres::{PostgresError, RelationKind, Session, identifier};

/// Rows that are counted at most: a table with so many is not emptied by accident.
const MANY: i64 = 1_000;

/// How many rows a table has, as far as they are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rows {
    None,
    Few,
    Many,
}

/// The tables with their rows, as `schema.table`, and those that the role may not read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tables {
    rows: BTreeMap<String, Rows>,
    unreadable: BTreeSet<String>,
}

impl Tables {
    /// Reads them: at most a thousand rows of each.
    ///
    /// # Errors
    /// As the server's; a table that the role may not read is none.
    pub(crate) async fn read(session: &Session) -> Result<Self, PostgresError> {
        let what = "look for rows in each table";
        let mut tables = Self::default();
        for relation in session.relations().await? {
            if !matches!(relation.kind, RelationKind::Table) {
                continue;
            }
            let name = format!("{}.{}", relation.schema, relation.name);
            let [schema, table] = [&relation.schema, &relation.name].map(|part| identifier(part));
            let sql = format!(
                "SELECT count(*) AS counted FROM (SELECT FROM ONLY {schema}.{table} LIMIT {MANY}) AS first_rows"
            );
            let row = match session.row(what, &sql, &[]).await {
                Ok(row) => row,
                Err(error) if error.is_permission_denied() => {
                    tables.unreadable.insert(name);
                    continue;
                }
                Err(error) => return Err(error),
            };
            let rows = match session.column::<i64>(what, &row, "counted")? {
                0 => Rows::None,
                MANY.. => Rows::Many,
                _ => Rows::Few,
            };
            tables.rows.insert(name, rows);
        }
        Ok(tables)
    }

    /// Those that nobody looked into.
    pub(crate) fn unreadable(&self) -> impl Iterator<Item = &str> {
        self.unreadable.iter().map(String::as_str)
    }

    /// Tables that had many rows, are still there, and have none.
    pub(crate) fn emptied(&self, after: &Self) -> Vec<String> {
        self.without_rows(after, Rows::Many)
    }

    /// Tables that had a few rows, are still there, and have none.
    pub(crate) fn worked_off(&self, after: &Self) -> Vec<String> {
        self.without_rows(after, Rows::Few)
    }

    fn without_rows(&self, after: &Self, before: Rows) -> Vec<String> {
        let lost = self
            .rows
            .iter()
            .filter(|(name, rows)| **rows == before && after.rows.get(*name) == Some(&Rows::None));
        lost.map(|(name, _)| name.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_emptied_when_it_had_many_rows_and_is_there_without_any() {
        let tables = |rows: &[(&str, Rows)]| Tables {
            rows: rows
                .iter()
                .map(|(name, rows)| ((*name).to_owned(), *rows))
                .collect(),
            unreadable: BTreeSet::new(),
        };
        let before = tables(&[
            ("public.orders", Rows::Many),
            ("public.items", Rows::Many),
            ("public.dropped", Rows::Many),
            ("public.jobs", Rows::Few),
        ]);
        let after = tables(&[
            ("public.orders", Rows::None),
            ("public.items", Rows::Few),
            ("public.jobs", Rows::None),
        ]);
        assert_eq!(before.emptied(&after), ["public.orders"]);
        assert_eq!(before.worked_off(&after), ["public.jobs"]);
    }
}
