//! What is in the tables, as counts and checksums that a restored copy must have too.
//!
//! A checksum is a sum over the hashes of the rows' texts: independent of their order, and of where they lie.
//! The texts depend on settings, so those are pinned.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::PostgresError;
use crate::quoting::identifier;
use crate::session::Session;

/// The alias of a row in a checksum: no column has this name, and `t::text` would mean a column named `t`.
const ROW: &str = "switchyard_row_of_checksum";

/// A table whose rows are counted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CountedTable {
    /// Its schema.
    pub schema: String,
    /// Its name, without quotes.
    pub name: String,
    /// Bytes on the disk, for the order in which tables are read.
    #[serde(skip)]
    pub bytes: u64,
}

impl fmt::Display for CountedTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.name)
    }
}

/// Rows of a table, and the checksum over them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableContents {
    /// How many rows.
    pub rows: u64,
    /// Sum of the rows' hashes, as decimal text: it is larger than 64 bits.
    pub checksum: String,
}

/// Where a sequence stands.
///
/// Sequences move outside of transactions, so a snapshot does not hold them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SequencePosition {
    /// The last value, or the first one when none was taken.
    pub last_value: i64,
    /// Whether a value was taken.
    pub is_called: bool,
    /// By how much it grows.
    pub increment: i64,
}

impl SequencePosition {
    /// Whether a value that this position would give was already given at `other`: the restored sequence must
    /// not fall behind.
    #[must_use]
    pub fn is_behind(self, other: Self) -> bool {
        let next = |one: Self| {
            let step = if one.is_called {
                i128::from(one.increment)
            } else {
                0
            };
            i128::from(one.last_value) + step
        };
        if other.increment >= 0 {
            next(self) < next(other)
        } else {
            next(self) > next(other)
        }
    }
}

/// Large objects, which are in no table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LargeObjects {
    /// How many.
    pub count: u64,
    /// Sum of the hashes of their ids and contents.
    pub checksum: String,
}

/// Everything that is compared between a database and its copy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseContents {
    /// By `schema.table`.
    pub tables: BTreeMap<String, TableContents>,
    /// By `schema.sequence`.
    pub sequences: BTreeMap<String, SequencePosition>,
    /// Large objects.
    pub large_objects: Option<LargeObjects>,
}

impl DatabaseContents {
    /// What a copy of this lacks or has otherwise, one line each; empty when it is the same, as far as both were
    /// counted.
    #[must_use]
    pub fn differences(&self, copy: &Self) -> Vec<String> {
        let mut differences = Vec::new();
        for (name, ours) in &self.tables {
            match copy.tables.get(name) {
                None => differences.push(format!("table {name} is missing")),
                Some(theirs) if theirs.rows != ours.rows => differences.push(format!(
                    "table {name} has {} rows instead of {}",
                    theirs.rows, ours.rows
                )),
                Some(theirs) if theirs != ours => {
                    differences.push(format!("table {name} has other contents"));
                }
                Some(_) => {}
            }
        }
        let added = copy
            .tables
            .keys()
            .filter(|name| !self.tables.contains_key(*name));
        differences.extend(added.map(|name| format!("table {name} was not there")));
        for (name, ours) in &self.sequences {
            match copy.sequences.get(name) {
                None => differences.push(format!("sequence {name} is missing")),
                Some(theirs) if theirs.is_behind(*ours) => differences.push(format!(
                    "sequence {name} is behind: {} instead of {}",
                    theirs.last_value, ours.last_value
                )),
                Some(_) => {}
            }
        }
        // What was not counted on one side is compared with nothing.
        if let (Some(ours), Some(theirs)) = (&self.large_objects, &copy.large_objects)
            && ours != theirs
        {
            differences.push("the large objects are others".to_owned());
        }
        differences
    }
}

/// Fixes every setting that changes how a value is written, until the end of the transaction.
///
/// # Errors
/// As [`Session::rows`].
pub async fn pin_output(session: &Session) -> Result<(), PostgresError> {
    // Row security that hides rows becomes an error, as in `pg_dump`.
    let sql = "
        SET LOCAL search_path = 'pg_catalog';
        SET LOCAL TimeZone = 'UTC';
        SET LOCAL DateStyle = 'ISO, YMD';
        SET LOCAL IntervalStyle = 'postgres';
        SET LOCAL extra_float_digits = 3;
        SET LOCAL bytea_output = 'hex';
        SET LOCAL lc_monetary = 'C';
        SET LOCAL xmlbinary = 'base64';
        SET LOCAL quote_all_identifiers = off;
        SET LOCAL row_security = off";
    session.script("pin the form of values", sql).await
}

impl Session {
    /// The tables that a dump holds rows of, largest first: partitions on their own, without what belongs to
    /// extensions.
    ///
    /// # Errors
    /// As [`Session::rows`].
    pub async fn counted_tables(&self) -> Result<Vec<CountedTable>, PostgresError> {
        let what = "read the tables";
        let sql = "
            SELECT n.nspname::text AS schema, c.relname::text AS name,
                   pg_catalog.pg_table_size(c.oid) AS bytes
            FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
            WHERE c.relkind = 'r' AND c.relpersistence <> 't'
              AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'
              AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                              WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid
                                AND d.deptype = 'e')
            ORDER BY 3 DESC, 1, 2";
        let mut tables = Vec::new();
        for row in self.rows(what, sql, &[]).await? {
            tables.push(CountedTable {
                schema: self.column(what, &row, "schema")?,
                name: self.column(what, &row, "name")?,
                bytes: self.size(what, &row, "bytes")?,
            });
        }
        Ok(tables)
    }

    /// Counts the rows of a table and sums up their hashes. Call [`pin_output`] in the same transaction
    /// before.
    ///
    /// # Errors
    /// As [`Session::rows`].
    pub async fn table_contents(
        &self,
        table: &CountedTable,
    ) -> Result<TableContents, PostgresError> {
        let what = format!("count the rows of {table}");
        let sql = format!(
            "SELECT pg_catalog.count(*) AS rows,
                    coalesce(pg_catalog.sum(pg_catalog.hashtextextended({ROW}.*::text, 0)), 0)::text AS checksum
             FROM ONLY {}.{} AS {ROW}",
            identifier(&table.schema),
            identifier(&table.name)
        );
        let row = self.row(&what, &sql, &[]).await?;
        Ok(TableContents {
            rows: self.size(&what, &row, "rows")?,
            checksum: self.column(&what, &row, "checksum")?,
        })
    }

    /// Where every sequence stands, by `schema.sequence`, without those of extensions.
    ///
    /// # Errors
    /// As [`Session::rows`].
    pub async fn sequence_positions(
        &self,
    ) -> Result<BTreeMap<String, SequencePosition>, PostgresError> {
        let what = "read the sequences";
        let sql = "
            SELECT n.nspname::text AS schema, c.relname::text AS name, s.seqincrement AS increment
            FROM pg_catalog.pg_sequence s JOIN pg_catalog.pg_class c ON c.oid = s.seqrelid
            JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
            WHERE c.relpersistence <> 't' AND n.nspname NOT LIKE 'pg\\_%'
              AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                              WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid
                                AND d.deptype = 'e')
            ORDER BY 1, 2";
        let mut positions = BTreeMap::new();
        for row in self.rows(what, sql, &[]).await? {
            let schema: String = self.column(what, &row, "schema")?;
            let name: String = self.column(what, &row, "name")?;
            let increment = self.column(what, &row, "increment")?;
            let sql = format!(
                "SELECT last_value, is_called FROM {}.{}",
                identifier(&schema),
                identifier(&name)
            );
            let row = self.row(what, &sql, &[]).await?;
            let position = SequencePosition {
                last_value: self.column(what, &row, "last_value")?,
                is_called: self.column(what, &row, "is_called")?,
                increment,
            };
            positions.insert(format!("{schema}.{name}"), position);
        }
        Ok(positions)
    }

    /// Counts the large objects and sums up the hashes of their contents.
    ///
    /// # Errors
    /// As [`Session::rows`]; an object that the role may not read, or one over 1 GB, fails.
    pub async fn large_objects(&self) -> Result<LargeObjects, PostgresError> {
        let what = "read the large objects";
        let sql = "
            SELECT pg_catalog.count(*) AS count,
                   coalesce(pg_catalog.sum(pg_catalog.hashtextextended(
                     m.oid::text || ':' || pg_catalog.md5(pg_catalog.lo_get(m.oid)), 0)), 0)::text AS checksum
            FROM pg_catalog.pg_largeobject_metadata m";
        let row = self.row(what, sql, &[]).await?;
        Ok(LargeObjects {
            count: self.size(what, &row, "count")?,
            checksum: self.column(what, &row, "checksum")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position(last_value: i64, is_called: bool, increment: i64) -> SequencePosition {
        SequencePosition {
            last_value,
            is_called,
            increment,
        }
    }

    #[test]
    fn a_sequence_is_behind_when_it_would_give_a_value_again() {
        let cases = [
            (position(5, true, 1), position(5, true, 1), false),
            (position(7, true, 1), position(5, true, 1), false),
            (position(4, true, 1), position(5, true, 1), true),
            (position(1, false, 1), position(1, true, 1), true),
            (position(-5, true, -1), position(-4, true, -1), false),
            (position(-3, true, -1), position(-4, true, -1), true),
        ];
        for (copy, original, expected) in cases {
            assert_eq!(copy.is_behind(original), expected, "{copy:?} {original:?}");
        }
    }

    #[test]
    fn every_difference_is_named() {
        let contents = |rows, checksum: &str| TableContents {
            rows,
            checksum: checksum.into(),
        };
        let original = DatabaseContents {
            tables: [
                ("a.one".to_owned(), contents(1, "1")),
                ("a.two".to_owned(), contents(2, "2")),
                ("a.three".to_owned(), contents(3, "3")),
            ]
            .into(),
            sequences: [("a.ids".to_owned(), position(9, true, 1))].into(),
            large_objects: None,
        };
        let copy = DatabaseContents {
            tables: [
                ("a.one".to_owned(), contents(1, "7")),
                ("a.two".to_owned(), contents(1, "1")),
                ("a.four".to_owned(), contents(0, "0")),
            ]
            .into(),
            sequences: [("a.ids".to_owned(), position(3, true, 1))].into(),
            large_objects: None,
        };
        assert_eq!(
            original.differences(&copy),
            [
                "table a.one has other contents",
                "table a.three is missing",
                "table a.two has 1 rows instead of 2",
                "table a.four was not there",
                "sequence a.ids is behind: 3 instead of 9",
            ]
        );
        assert!(original.differences(&original).is_empty());
        let objects = |checksum: &str| DatabaseContents {
            large_objects: Some(LargeObjects {
                count: 1,
                checksum: checksum.into(),
            }),
            ..DatabaseContents::default()
        };
        assert_eq!(
            objects("1").differences(&objects("2")),
            ["the large objects are others"]
        );
        let uncounted = DatabaseContents::default();
        assert!(objects("1").differences(&uncounted).is_empty());
        assert!(uncounted.differences(&objects("1")).is_empty());
    }
}
