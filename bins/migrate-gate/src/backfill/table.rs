//! The table of a backfill and its batches, as questions to the server.

use switchyard_postgres::{PostgresError, Session, literal};

/// The table with what its statements need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Table {
    /// Its name with the schema, quoted where it needs quotes.
    pub(super) name: String,
    /// The key's column, quoted where it needs quotes.
    pub(super) key: String,
    /// Rows, as the server estimates them.
    pub(super) rows: Option<u64>,
}

/// What is wrong with the inputs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unusable {
    /// There is no such table.
    #[error("input `table`: there is no table `{0}`")]
    Absent(String),
    /// There is no such column.
    #[error("input `key`: table `{table}` has no column `{key}`")]
    ColumnAbsent { table: String, key: String },
    /// Rows could be missed or looked at twice.
    #[error("input `key`: column `{key}` of `{table}` {reason}")]
    Unsuitable {
        table: String,
        key: String,
        reason: &'static str,
    },
}

/// The rows of one batch: keys above the last one, up to this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Range {
    /// The highest key, as text.
    pub(super) upper: String,
    /// Rows in it.
    pub(super) rows: u64,
}

/// What a batch did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Changed {
    /// Rows that were changed.
    pub(super) rows: u64,
    /// Those of them that are left to do all the same.
    pub(super) still_left: u64,
}

impl Table {
    /// Finds the table and its key.
    ///
    /// # Errors
    /// As [`Session::rows`].
    pub(super) async fn find(
        session: &Session,
        table: &str,
        key: &str,
    ) -> Result<Result<Self, Unusable>, PostgresError> {
        let what = "look for the table and its key";
        let sql = "
            SELECT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname) AS name,
                   c.relkind IN ('r', 'p') AS is_table, c.reltuples::float8 AS rows
            FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
            WHERE c.oid = pg_catalog.to_regclass($1)";
        let found = session.rows(what, sql, &[&table]).await?;
        let Some(row) = found.first() else {
            return Ok(Err(Unusable::Absent(table.to_owned())));
        };
        if !session.column::<bool>(what, row, "is_table")? {
            return Ok(Err(Unusable::Absent(table.to_owned())));
        }
        let name: String = session.column(what, row, "name")?;
        let rows: f64 = session.column(what, row, "rows")?;
        let key = match find_key(session, &name, key).await? {
            Ok(key) => key,
            Err(unusable) => return Ok(Err(unusable)),
        };
        Ok(Ok(Self {
            name,
            key,
            rows: (rows >= 0.0).then(|| whole(rows)),
        }))
    }

    /// The next batch: `size` rows above a key.
    ///
    /// # Errors
    /// As [`Session::rows`].
    pub(super) async fn next(
        &self,
        session: &Session,
        above: Option<&str>,
        size: u32,
    ) -> Result<Option<Range>, PostgresError> {
        let what = "look for the next batch";
        let Self { name, key, .. } = self;
        let above = above.map_or(String::new(), |above| {
            format!("WHERE {key} > {}", literal(above))
        });
        let sql = format!(
            "SELECT k::text AS upper, count(*) OVER () AS rows
             FROM (SELECT {key} AS k FROM {name} {above} ORDER BY {key} LIMIT {size}) batch
             ORDER BY k DESC LIMIT 1"
        );
        let found = session.rows(what, &sql, &[]).await?;
        let Some(row) = found.first() else {
            return Ok(None);
        };
        let rows: i64 = session.column(what, row, "rows")?;
        Ok(Some(Range {
            upper: session.column(what, row, "upper")?,
            rows: u64::try_from(rows).unwrap_or(0),
        }))
    }

    /// Changes the rows of a batch that are left to do, in the transaction that is open.
    ///
    /// # Errors
    /// As [`Session::rows`].
    pub(super) async fn change(
        &self,
        session: &Session,
        above: Option<&str>,
        upper: &str,
        (set, left): (&str, &str),
    ) -> Result<Changed, PostgresError> {
        let what = "change a batch";
        let Self { name, key, .. } = self;
        let above = above.map_or(String::new(), |above| {
            format!("{key} > {} AND", literal(above))
        });
        let upper = literal(upper);
        // Line ends keep a comment in an input from taking what follows with it.
        let sql = format!(
            "WITH changed AS (
               UPDATE {name} SET {set}\n WHERE {above} {key} <= {upper} AND (\n{left}\n)
               RETURNING (\n{left}\n) IS TRUE AS is_left)
             SELECT count(*) AS rows, count(*) FILTER (WHERE is_left) AS still_left FROM changed"
        );
        let row = session.row(what, &sql, &[]).await?;
        let number = |name: &str| -> Result<u64, PostgresError> {
            let number: i64 = session.column(what, &row, name)?;
            Ok(u64::try_from(number).unwrap_or(0))
        };
        Ok(Changed {
            rows: number("rows")?,
            still_left: number("still_left")?,
        })
    }

    /// How many rows are left to do in the whole table, counted up to `most`.
    ///
    /// # Errors
    /// As [`Session::rows`].
    pub(super) async fn left(
        &self,
        session: &Session,
        left: &str,
        most: u64,
    ) -> Result<u64, PostgresError> {
        let what = "count the rows that are left";
        let sql = format!(
            "SELECT count(*) AS rows FROM (SELECT FROM {} WHERE (\n{left}\n) LIMIT {most}) rest",
            self.name
        );
        let row = session.row(what, &sql, &[]).await?;
        let rows: i64 = session.column(what, &row, "rows")?;
        Ok(u64::try_from(rows).unwrap_or(0))
    }
}

async fn find_key(
    session: &Session,
    table: &str,
    key: &str,
) -> Result<Result<String, Unusable>, PostgresError> {
    let what = "look at the key";
    // A name as SQL has it: folded to lower case unless it is quoted.
    let sql = "
        SELECT pg_catalog.quote_ident(a.attname) AS name, a.attnotnull AS is_not_null,
               EXISTS (SELECT FROM pg_catalog.pg_index i
                       WHERE i.indrelid = a.attrelid AND i.indisunique AND i.indisvalid AND i.indimmediate
                         AND i.indpred IS NULL AND i.indnkeyatts = 1 AND i.indkey[0] = a.attnum) AS is_unique
        FROM pg_catalog.pg_attribute a
        WHERE a.attrelid = pg_catalog.to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped
          AND ARRAY[a.attname::text] = pg_catalog.parse_ident($2)";
    let found = session.rows(what, sql, &[&table, &key]).await?;
    let Some(row) = found.first() else {
        return Ok(Err(Unusable::ColumnAbsent {
            table: table.to_owned(),
            key: key.to_owned(),
        }));
    };
    let no_key = |reason| {
        Ok(Err(Unusable::Unsuitable {
            table: table.to_owned(),
            key: key.to_owned(),
            reason,
        }))
    };
    if !session.column::<bool>(what, row, "is_not_null")? {
        return no_key("may be null, so rows could be missed");
    }
    if !session.column::<bool>(what, row, "is_unique")? {
        return no_key("has no unique index of its own, so batches would have no bounds");
    }
    Ok(Ok(session.column(what, row, "name")?))
}

/// An estimate as a whole number; it is not negative here, and a cast saturates.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn whole(estimate: f64) -> u64 {
    estimate.round() as u64
}
