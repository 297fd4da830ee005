//! What is in a database: relations with their sizes, indexes that are not valid, extensions, settings.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::PostgresError;
use crate::quoting::{identifier, literal};
use crate::session::Session;
use crate::version::ServerVersion;

/// What sort of relation it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RelationKind {
    /// A table with rows of its own; partitions are such.
    Table,
    /// A table that has partitions and no rows of its own.
    PartitionedTable,
    /// A materialized view.
    MaterializedView,
    /// A view.
    View,
    /// A table of another server.
    ForeignTable,
    /// An index.
    Index,
    /// A sequence.
    Sequence,
}

impl RelationKind {
    /// Reads `pg_class.relkind`; `None` for what no statement of a migration names (TOAST, composite types).
    fn of(relkind: &str) -> Option<Self> {
        match relkind {
            "r" => Some(Self::Table),
            "p" => Some(Self::PartitionedTable),
            "m" => Some(Self::MaterializedView),
            "v" => Some(Self::View),
            "f" => Some(Self::ForeignTable),
            "i" | "I" => Some(Self::Index),
            "S" => Some(Self::Sequence),
            _ => None,
        }
    }
}

/// A relation with its size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Relation {
    /// Its schema.
    pub schema: String,
    /// Its name, without quotes.
    pub name: String,
    /// What it is.
    pub kind: RelationKind,
    /// The table of an index.
    pub table: Option<String>,
    /// Rows as the planner estimates them, those of all partitions for a partitioned table; `None` where the
    /// table was never analysed.
    pub rows: Option<u64>,
    /// Bytes with TOAST and without indexes; those of all partitions for a partitioned table.
    ///
    /// The larger one of what lies on the disk and of what the statistics say.
    pub bytes: u64,
    /// Bytes of its indexes.
    pub index_bytes: u64,
    /// How many indexes it has.
    pub indexes: u32,
}

impl fmt::Display for Relation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.name)
    }
}

/// An index that the server keeps up to date and never reads: what a failed `CREATE INDEX CONCURRENTLY` left.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct InvalidIndex {
    /// Schema of the index.
    pub schema: String,
    /// Name of the index.
    pub name: String,
    /// Its table.
    pub table: String,
}

/// An installed extension.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Extension {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Schema of its objects.
    pub schema: String,
}

/// Who compares the texts of a database where a column does not say otherwise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CollationProvider {
    /// The library of the operating system; the only one before PostgreSQL 15.
    #[default]
    Libc,
    /// ICU.
    Icu,
    /// PostgreSQL itself, from 17 on.
    Builtin,
}

impl CollationProvider {
    /// Reads `pg_database.datlocprovider`.
    fn of(letter: &str) -> Option<Self> {
        match letter {
            "c" => Some(Self::Libc),
            "i" => Some(Self::Icu),
            "b" => Some(Self::Builtin),
            _ => None,
        }
    }
}

/// How a database was made: a copy of it has to be made alike.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Encoding, as `UTF8`.
    pub encoding: String,
    /// `LC_COLLATE`.
    pub collate: String,
    /// `LC_CTYPE`.
    pub ctype: String,
    /// Who compares texts.
    #[serde(default)]
    pub provider: CollationProvider,
    /// The locale of ICU, or of PostgreSQL's own provider; libc has the two above.
    #[serde(default)]
    pub locale: Option<String>,
    /// Rules of ICU on top of its locale.
    #[serde(default)]
    pub icu_rules: Option<String>,
    /// Bytes of the whole database.
    pub bytes: u64,
}

impl Settings {
    /// The statement that makes an empty database like it on a server of this version; further options can be put
    /// behind it.
    #[must_use]
    pub fn create_database(&self, name: &str, server: ServerVersion) -> String {
        let mut sql = format!(
            "CREATE DATABASE {} TEMPLATE template0 ENCODING {} LC_COLLATE {} LC_CTYPE {}",
            identifier(name),
            literal(&self.encoding),
            literal(&self.collate),
            literal(&self.ctype)
        );
        let (provider, locale) = match self.provider {
            // Servers before 15 know no other one, and not the word.
            CollationProvider::Libc if server.major() < 15 => return sql,
            CollationProvider::Libc => ("libc", None),
            CollationProvider::Icu => ("icu", self.locale.as_deref().map(|one| ("ICU", one))),
            CollationProvider::Builtin => {
                let locale = self.locale.as_deref();
                ("builtin", locale.map(|one| ("BUILTIN", one)))
            }
        };
        sql.push_str(&format!(" LOCALE_PROVIDER {provider}"));
        if let Some((word, locale)) = locale {
            sql.push_str(&format!(" {word}_LOCALE {}", literal(locale)));
        }
        if let Some(rules) = &self.icu_rules {
            sql.push_str(&format!(" ICU_RULES {}", literal(rules)));
        }
        sql
    }
}

/// Everything outside of PostgreSQL's own schemas. Sizes are summed over partitions.
const RELATIONS: &str = "
SELECT n.nspname::text AS schema, c.relname::text AS name, c.relkind::text AS kind,
       (SELECT t.relname::text FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class t ON t.oid = i.indrelid
        WHERE i.indexrelid = c.oid) AS of_table,
       size.rows, size.bytes, size.index_bytes,
       (SELECT count(*)::int4 FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid) AS indexes
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN LATERAL (
  SELECT CASE WHEN bool_and(l.reltuples >= 0) THEN sum(l.reltuples)::float8 END AS rows,
         coalesce(sum(CASE WHEN l.relkind IN ('r','m','t','S') THEN greatest(pg_catalog.pg_table_size(l.oid),
                  l.relpages::int8 * pg_catalog.current_setting('block_size')::int8)
                  WHEN l.relkind = 'i' THEN greatest(pg_catalog.pg_relation_size(l.oid),
                  l.relpages::int8 * pg_catalog.current_setting('block_size')::int8) ELSE 0 END), 0)::int8 AS bytes,
         coalesce(sum(CASE WHEN l.relkind IN ('r','m') THEN pg_catalog.pg_indexes_size(l.oid) ELSE 0 END), 0)::int8
           AS index_bytes
  FROM pg_catalog.pg_class l
  WHERE (c.relkind NOT IN ('p','I') AND l.oid = c.oid)
     OR (c.relkind IN ('p','I') AND l.relkind NOT IN ('p','I')
         AND l.oid IN (SELECT relid FROM pg_catalog.pg_partition_tree(c.oid)))
) AS size
WHERE n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'
  AND c.relkind IN ('r','p','m','v','f','i','I','S')
ORDER BY 1, 2";

impl Session {
    /// Every relation outside of PostgreSQL's own schemas, by schema and name.
    ///
    /// # Errors
    /// As [`Session::rows`]; a table that another session has locked exclusively cannot be measured.
    pub async fn relations(&self) -> Result<Vec<Relation>, PostgresError> {
        let what = "read the sizes of the tables";
        let mut relations = Vec::new();
        for row in self.rows(what, RELATIONS, &[]).await? {
            let kind: String = self.column(what, &row, "kind")?;
            let Some(kind) = RelationKind::of(&kind) else {
                continue;
            };
            let rows: Option<f64> = self.column(what, &row, "rows")?;
            relations.push(Relation {
                schema: self.column(what, &row, "schema")?,
                name: self.column(what, &row, "name")?,
                kind,
                table: self.column(what, &row, "of_table")?,
                rows: rows.map(whole),
                bytes: self.size(what, &row, "bytes")?,
                index_bytes: self.size(what, &row, "index_bytes")?,
                indexes: u32::try_from(self.column::<i32>(what, &row, "indexes")?).unwrap_or(0),
            });
        }
        Ok(relations)
    }

    /// The indexes that are not valid, by name.
    ///
    /// # Errors
    /// As [`Session::rows`].
    pub async fn invalid_indexes(&self) -> Result<Vec<InvalidIndex>, PostgresError> {
        let what = "look for indexes that are not valid";
        // An index of a partitioned table is invalid until its last partition has one: that is no accident.
        let sql = "
            SELECT n.nspname::text AS schema, c.relname::text AS name, t.relname::text AS of_table
            FROM pg_catalog.pg_index i
            JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid AND c.relkind = 'i'
            JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
            JOIN pg_catalog.pg_class t ON t.oid = i.indrelid
            WHERE NOT (i.indisvalid AND i.indisready)
            ORDER BY 1, 2";
        let mut indexes = Vec::new();
        for row in self.rows(what, sql, &[]).await? {
            indexes.push(InvalidIndex {
                schema: self.column(what, &row, "schema")?,
                name: self.column(what, &row, "name")?,
                table: self.column(what, &row, "of_table")?,
            });
        }
        Ok(indexes)
    }

    /// The installed extensions, by name.
    ///
    /// # Errors
    /// As [`Session::rows`].
    pub async fn extensions(&self) -> Result<Vec<Extension>, PostgresError> {
        let what = "read the extensions";
        let sql = "
            SELECT e.extname::text AS name, e.extversion AS version, n.nspname::text AS schema
            FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace
            ORDER BY 1";
        let mut extensions = Vec::new();
        for row in self.rows(what, sql, &[]).await? {
            extensions.push(Extension {
                name: self.column(what, &row, "name")?,
                version: self.column(what, &row, "version")?,
                schema: self.column(what, &row, "schema")?,
            });
        }
        Ok(extensions)
    }

    /// How this database was made.
    ///
    /// # Errors
    /// As [`Session::settings_of_database`].
    pub async fn database_settings(&self) -> Result<Settings, PostgresError> {
        self.settings_of(None).await
    }

    /// How a database of this server was made.
    ///
    /// # Errors
    /// As [`Session::rows`], and [`PostgresError::Unsupported`] where texts are compared in a way that is not known.
    pub async fn settings_of_database(&self, name: &str) -> Result<Settings, PostgresError> {
        self.settings_of(Some(name)).await
    }

    async fn settings_of(&self, name: Option<&str>) -> Result<Settings, PostgresError> {
        let what = "read how the database was made";
        let (provider, locale, rules) = match self.version().major() {
            ..15 => ("'c'", "NULL", "NULL"),
            15 => ("datlocprovider", "daticulocale", "NULL"),
            16 => ("datlocprovider", "daticulocale", "daticurules"),
            17.. => ("datlocprovider", "datlocale", "daticurules"),
        };
        let sql = format!(
            "SELECT pg_catalog.pg_encoding_to_char(encoding)::text AS encoding, datcollate::text AS collate,
                    datctype::text AS ctype, {provider}::text AS provider, {locale}::text AS locale,
                    {rules}::text AS rules, pg_catalog.pg_database_size(oid) AS bytes
             FROM pg_catalog.pg_database WHERE datname = coalesce($1, pg_catalog.current_database())"
        );
        let row = self.row(what, &sql, &[&name]).await?;
        let provider: String = self.column(what, &row, "provider")?;
        let provider =
            CollationProvider::of(&provider).ok_or_else(|| PostgresError::Unsupported {
                place: Arc::new(self.place().clone()),
                missing: format!("the collation provider `{provider}` is not known"),
            })?;
        Ok(Settings {
            encoding: self.column(what, &row, "encoding")?,
            collate: self.column(what, &row, "collate")?,
            ctype: self.column(what, &row, "ctype")?,
            provider,
            locale: self.column(what, &row, "locale")?,
            icu_rules: self.column(what, &row, "rules")?,
            bytes: self.size(what, &row, "bytes")?,
        })
    }

    /// The size of a column of bytes, which is never negative.
    pub(crate) fn size(
        &self,
        what: &str,
        row: &tokio_postgres::Row,
        name: &str,
    ) -> Result<u64, PostgresError> {
        let size: i64 = self.column(what, row, name)?;
        Ok(u64::try_from(size).unwrap_or(0))
    }
}

/// An estimate as a whole number: a cast saturates, and an estimate is never negative here.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn whole(estimate: f64) -> u64 {
    estimate.round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(
        provider: CollationProvider,
        locale: Option<&str>,
        rules: Option<&str>,
    ) -> Settings {
        Settings {
            encoding: "UTF8".to_owned(),
            collate: "C.UTF-8".to_owned(),
            ctype: "C".to_owned(),
            provider,
            locale: locale.map(str::to_owned),
            icu_rules: rules.map(str::to_owned),
            bytes: 0,
        }
    }

    #[test]
    fn a_database_is_made_as_each_version_has_it_said() {
        let (libc, icu) = (CollationProvider::Libc, CollationProvider::Icu);
        let cases = [
            (settings(libc, None, None), 140_000, ""),
            (settings(libc, None, None), 150_000, " LOCALE_PROVIDER libc"),
            (
                settings(icu, Some("de"), None),
                150_000,
                " LOCALE_PROVIDER icu ICU_LOCALE 'de'",
            ),
            (
                settings(icu, Some("de"), Some("&a < 'b'")),
                160_000,
                " LOCALE_PROVIDER icu ICU_LOCALE 'de' ICU_RULES '&a < ''b'''",
            ),
            (
                settings(CollationProvider::Builtin, Some("C.UTF-8"), None),
                170_000,
                " LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8'",
            ),
        ];
        for (settings, version, expected) in cases {
            let sql = settings.create_database("shop", ServerVersion::from_number(version));
            let plain = "CREATE DATABASE \"shop\" TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C.UTF-8' LC_CTYPE 'C'";
            assert_eq!(sql, format!("{plain}{expected}"));
        }
    }
}
