//! What has to hold once everything is applied. Nothing that could not be asked counts as holding.

use std::collections::BTreeSet;

use switchyard_postgres::{ConnectionSettings, PostgresError, Session};

use super::assertions::{Assertion, Assertions};
use super::emptied::{self, WithRows};
use crate::database::Located;

/// What was there before anything ran.
#[derive(Debug, Clone)]
pub(crate) struct Before {
    /// Tables that had rows.
    pub(crate) with_rows: WithRows,
    /// Indexes that were not valid.
    pub(crate) invalid_indexes: BTreeSet<String>,
}

/// Reads what is there before anything runs.
///
/// # Errors
/// As the server's.
pub(crate) async fn before(session: &Session) -> Result<Before, PostgresError> {
    Ok(Before {
        with_rows: emptied::tables_with_rows(session).await?,
        invalid_indexes: invalid_indexes(session).await?,
    })
}

/// Indexes that are not valid and were valid or absent before.
///
/// # Errors
/// As the server's.
pub(crate) async fn new_invalid_indexes(
    session: &Session,
    before: &Before,
) -> Result<Vec<String>, PostgresError> {
    let now = invalid_indexes(session).await?;
    Ok(now.difference(&before.invalid_indexes).cloned().collect())
}

async fn invalid_indexes(session: &Session) -> Result<BTreeSet<String>, PostgresError> {
    let indexes = session.invalid_indexes().await?;
    let named = indexes
        .iter()
        .map(|index| format!("{}.{}", index.schema, index.name));
    Ok(named.collect())
}

/// Everything that does not hold, a sentence each.
///
/// # Errors
/// As the server's, for what is not the fault of an assertion.
pub(crate) async fn faults(
    session: &Session,
    located: &Located,
    before: &Before,
    assertions: &Assertions,
    settings: &ConnectionSettings,
) -> Result<Vec<String>, PostgresError> {
    let mut faults = Vec::new();
    let after = emptied::tables_with_rows(session).await?;
    let there = session.relations().await?;
    let there = there
        .iter()
        .map(|table| format!("{}.{}", table.schema, table.name))
        .collect();
    for table in emptied::emptied(&before.with_rows, &after, &there) {
        faults.push(format!("table {table} had rows and has none now"));
    }
    let name = located.name();
    for assertion in assertions.of(&name) {
        faults.extend(ask(located, assertion, settings).await?);
    }
    Ok(faults)
}

/// Asks an assertion in a session of its own that can only read.
async fn ask(
    located: &Located,
    assertion: &Assertion,
    settings: &ConnectionSettings,
) -> Result<Option<String>, PostgresError> {
    let session = Session::open(&located.url, settings).await?;
    session
        .script(
            "prepare to ask an assertion",
            "SET default_transaction_read_only = on",
        )
        .await?;
    let what = format!("ask assertion `{}`", assertion.name);
    let name = &assertion.name;
    let rows = match session.rows(&what, &assertion.sql, &[]).await {
        Ok(rows) => rows,
        // Its SQL is the user's: an error in it is a proof that failed.
        Err(error) if error.sql_state().is_some() => {
            return Ok(Some(format!(
                "assertion `{name}` could not be asked: {error}"
            )));
        }
        Err(error) => return Err(error),
    };
    let answer = match rows.as_slice() {
        [row] if row.len() == 1 => row.try_get::<_, Option<bool>>(0),
        rows => {
            let count = rows.len();
            return Ok(Some(format!(
                "assertion `{name}` has {count} rows for an answer, not one of one column"
            )));
        }
    };
    Ok(match answer {
        Ok(Some(true)) => None,
        Ok(Some(false)) => Some(format!("assertion `{name}` does not hold")),
        Ok(None) => Some(format!("assertion `{name}` has no answer (null)")),
        Err(_) => Some(format!(
            "assertion `{name}` answers with something else than a boolean"
        )),
    })
}
