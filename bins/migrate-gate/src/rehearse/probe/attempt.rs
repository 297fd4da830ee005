//! One probe: asks for its lock again and again, and notes how long it waits.

use std::sync::Arc;
use std::time::{Duration, Instant};

use switchyard_postgres::{PostgresError, Session};
use tokio::sync::watch;

use super::Role;
use super::rows::{self, Held};
use super::waits::Shared;
use crate::rehearse::tables::TableName;

/// SQLSTATE `undefined_table`, `invalid_schema_name`: it was renamed or dropped.
const ABSENT: [&str; 2] = ["42P01", "3F000"];

/// SQLSTATE `wrong_object_type`: a view has taken its name.
const NO_TABLE: &str = "42809";

/// A probe of one table.
pub(super) struct Attempt {
    pub(super) session: Session,
    pub(super) table: TableName,
    pub(super) role: Role,
    /// Conditions that find the rows to watch.
    pub(super) rows: Vec<String>,
}

impl Attempt {
    /// Whether there are rows to watch.
    pub(super) fn watches_rows(&self) -> bool {
        !self.rows.is_empty()
    }

    /// Asks until it is told to stop, or the session breaks.
    pub(super) async fn repeat(
        self,
        shared: Arc<Shared>,
        mut stopped: watch::Receiver<bool>,
        pause: Duration,
    ) {
        let mut held = Held::default();
        let mut waiting_since: Option<Instant> = None;
        loop {
            let begun = *waiting_since.get_or_insert_with(Instant::now);
            match self.once(&mut held, &shared).await {
                Ok(()) => {
                    shared.waited(begun);
                    waiting_since = None;
                    shared.answered();
                }
                Err(cause) if is_absent(&cause) => {
                    waiting_since = None;
                    shared.absent();
                }
                // Its own limit: it goes on waiting.
                Err(cause) if cause.is_cancelled() => shared.waited(begun),
                Err(cause) => {
                    shared.waited(begun);
                    shared.fail(cause.to_string());
                    return;
                }
            }
            if *stopped.borrow() {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                // Whether it was told or nobody is left to tell: one more attempt, then the end.
                _ = stopped.changed() => {}
            }
        }
    }

    async fn once(&self, held: &mut Held, shared: &Shared) -> Result<(), PostgresError> {
        let mode = match self.role {
            Role::Reader => "ACCESS SHARE",
            Role::Writer => "ROW EXCLUSIVE",
        };
        let sql = format!(
            "BEGIN; LOCK TABLE {} IN {mode} MODE; ROLLBACK",
            self.table.quoted()
        );
        let locked = self.session.script("probe a table", &sql).await;
        if let Err(cause) = locked {
            // The transaction that failed is still open.
            self.session.script("end a probe", "ROLLBACK").await?;
            return Err(cause);
        }
        if !self.rows.is_empty() {
            self.look_at_rows(held, shared).await?;
        }
        Ok(())
    }

    async fn look_at_rows(&self, held: &mut Held, shared: &Shared) -> Result<(), PostgresError> {
        let what = "probe rows";
        let asked = Instant::now();
        let question = rows::question(&self.table, &self.rows);
        let answer = match self.session.rows(what, &question, &[]).await {
            Ok(answer) => answer,
            // A column of the key was renamed or has another type now: there is nothing to find the rows by.
            Err(cause) if is_of_columns(&cause) => return Ok(()),
            Err(cause) => return Err(cause),
        };
        for row in &answer {
            let place: i32 = self.session.column(what, row, "place")?;
            let found: i64 = self.session.column(what, row, "found")?;
            let free: i64 = self.session.column(what, row, "free")?;
            if let Some(since) = held.take(place, found > 0, free > 0, asked) {
                shared.waited(since);
            }
        }
        Ok(())
    }
}

fn is_absent(cause: &PostgresError) -> bool {
    let code = cause.sql_state().unwrap_or_default();
    ABSENT.contains(&code) || code == NO_TABLE
}

/// `undefined_column`, `invalid_text_representation`, `datatype_mismatch`, `undefined_function`.
fn is_of_columns(cause: &PostgresError) -> bool {
    let code = cause.sql_state().unwrap_or_default();
    ["42703", "22P02", "42804", "42883"].contains(&code)
}
