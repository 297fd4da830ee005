//! Rows that a writer's probe watches: those that a migration's `UPDATE` reaches first and last.

use std::collections::BTreeMap;
use std::time::Instant;

use switchyard_postgres::{PostgresError, Session, identifier};

use crate::rehearse::tables::TableName;

/// Conditions that find single rows, `"id" = '1'`. None where the table is empty or has no primary key.
pub(super) async fn choose(
    session: &Session,
    table: &TableName,
) -> Result<Vec<String>, PostgresError> {
    let what = "read a primary key";
    let sql = "
        SELECT a.attname::text AS name
        FROM pg_catalog.pg_index i
        CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY k (attnum, place)
        JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
        WHERE i.indrelid = pg_catalog.to_regclass($1) AND i.indisprimary ORDER BY k.place";
    let mut columns = Vec::new();
    for row in session.rows(what, sql, &[&table.quoted()]).await? {
        columns.push(identifier(&session.column::<String>(what, &row, "name")?));
    }
    if columns.is_empty() {
        return Ok(Vec::new());
    }
    let ordered = |direction: &str| {
        let keys: Vec<String> = columns
            .iter()
            .map(|key| format!("{key} {direction}"))
            .collect();
        format!("ORDER BY {}", keys.join(", "))
    };
    let mut conditions = Vec::new();
    // As they lie on the disk, and by the key from both ends.
    for order in [String::new(), ordered("ASC"), ordered("DESC")] {
        let condition = condition(session, table, &columns, &order).await?;
        conditions.extend(condition);
    }
    conditions.sort_unstable();
    conditions.dedup();
    Ok(conditions)
}

async fn condition(
    session: &Session,
    table: &TableName,
    columns: &[String],
    order: &str,
) -> Result<Option<String>, PostgresError> {
    let what = "choose rows to watch";
    let parts: Vec<String> = columns
        .iter()
        .map(|column| {
            let name = format!("{column} = ").replace('\'', "''");
            format!("'{name}' || pg_catalog.quote_literal({column}::text)")
        })
        .collect();
    let sql = format!(
        "SELECT {} AS condition FROM {} {order} LIMIT 1",
        parts.join(" || ' AND ' || "),
        table.quoted()
    );
    let rows = session.rows(what, &sql, &[]).await?;
    rows.first()
        .map(|row| session.column(what, row, "condition"))
        .transpose()
}

/// A question that locks the rows which nobody else has locked, and says of each whether it is there and was free.
///
/// It never waits for a row: who waits for one holds its table, and would be in the migration's way.
pub(super) fn question(table: &TableName, conditions: &[String]) -> String {
    let table = table.quoted();
    let parts = conditions.iter().enumerate().map(|(place, condition)| {
        format!(
            "SELECT {place} AS place,
                    (SELECT count(*) FROM {table} WHERE {condition}) AS found,
                    (SELECT count(*) FROM (SELECT FROM {table} WHERE {condition}
                                           FOR NO KEY UPDATE SKIP LOCKED) free) AS free"
        )
    });
    parts.collect::<Vec<_>>().join(" UNION ALL ")
}

/// Since when each row has been somebody else's.
#[derive(Debug, Default)]
pub(super) struct Held(BTreeMap<i32, Instant>);

impl Held {
    /// Takes the answer about one row that was asked at `asked`; gives since when somebody has had it, or had.
    pub(super) fn take(
        &mut self,
        place: i32,
        is_found: bool,
        is_free: bool,
        asked: Instant,
    ) -> Option<Instant> {
        if is_found && !is_free {
            return Some(*self.0.entry(place).or_insert(asked));
        }
        // One that is gone is nobody's any more.
        self.0.remove(&place)
    }
}
