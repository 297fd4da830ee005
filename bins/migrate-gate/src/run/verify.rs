//! What has to hold once everything is applied. Nothing that could not be asked counts as holding.

use std::collections::BTreeSet;

use switchyard_postgres::{ConnectionSettings, PostgresError, Session};
use switchyard_runner::Console;

use super::assertions::{Assertion, Assertions};
use super::emptied::Tables;
use crate::database::Located;

/// What was there before anything ran.
#[derive(Debug, Clone)]
pub(crate) struct Before {
    /// Tables and whether they had rows.
    pub(crate) tables: Tables,
    /// Indexes that were not valid.
    pub(crate) invalid_indexes: BTreeSet<String>,
}

/// Reads what is there before anything runs.
///
/// # Errors
/// As the server's.
pub(crate) async fn before(session: &Session) -> Result<Before, PostgresError> {
    Ok(Before {
        tables: Tables::read(session).await?,
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

/// What is proved, and with what.
pub(crate) struct Proving<'a> {
    /// A session of the gate.
    pub(crate) session: &'a Session,
    /// The schema.
    pub(crate) located: &'a Located,
    /// What the user says has to hold.
    pub(crate) assertions: &'a Assertions,
    /// Settings of the sessions in which that is asked.
    pub(crate) settings: &'a ConnectionSettings,
    /// Hears what is odd and no fault.
    pub(crate) console: &'a Console,
}

impl Proving<'_> {
    /// Everything that does not hold, a sentence each. `before` is there where something ran.
    ///
    /// # Errors
    /// As the server's, for what is not the fault of an assertion.
    pub(crate) async fn faults(
        &self,
        before: Option<&Before>,
    ) -> Result<Vec<String>, PostgresError> {
        let mut faults = match before {
            Some(before) => self.emptied(before).await?,
            None => Vec::new(),
        };
        let name = self.located.name();
        for assertion in self.assertions.of(&name) {
            faults.extend(ask(self.located, assertion, self.settings).await?);
        }
        Ok(faults)
    }

    /// Tables that were emptied; a few rows that are gone are told.
    async fn emptied(&self, before: &Before) -> Result<Vec<String>, PostgresError> {
        let mut faults = Vec::new();
        let after = Tables::read(self.session).await?;
        for table in before.tables.emptied(&after) {
            faults.push(format!(
                "table {table} had a thousand rows or more and has none now"
            ));
        }
        for table in before.tables.worked_off(&after) {
            let text = format!("table {table} had a few rows and has none now");
            self.console.warning("migrate-gate", text);
        }
        let unreadable: Vec<&str> = after.unreadable().collect();
        if !unreadable.is_empty() {
            let text = format!(
                "not looked into, because the role may not: {}",
                unreadable.join(", ")
            );
            self.console.notice("migrate-gate", text);
        }
        Ok(faults)
    }
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
