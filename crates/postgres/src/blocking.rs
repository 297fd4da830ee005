//! Who holds what others wait for.

use std::fmt;
use std::time::Duration;

use crate::error::PostgresError;
use crate::session::Session;

/// Longest piece of a statement that is shown.
const SHOWN: usize = 120;

/// What a session of the server is doing. Fields that the role may not see are `None`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Activity {
    /// Id of the server's process.
    pub process: i32,
    /// Its role.
    pub role: Option<String>,
    /// How it calls itself.
    pub application: Option<String>,
    /// Its address.
    pub address: Option<String>,
    /// `active`, `idle in transaction`, …
    pub state: Option<String>,
    /// How long its transaction has been open.
    pub transaction_open: Option<Duration>,
    /// Its present or last statement; may hold values.
    pub statement: Option<String>,
}

impl fmt::Display for Activity {
    /// One line, with the beginning of the statement.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {}", self.process)?;
        let mut parts = Vec::new();
        parts.extend(
            self.application
                .iter()
                .filter(|name| !name.is_empty())
                .cloned(),
        );
        parts.extend(self.role.iter().map(|role| format!("role {role}")));
        parts.extend(self.address.iter().map(|address| format!("from {address}")));
        parts.extend(self.state.clone());
        parts.extend(
            self.transaction_open
                .map(|open| format!("transaction open for {} s", open.as_secs())),
        );
        if !parts.is_empty() {
            write!(f, " ({})", parts.join(", "))?;
        }
        if let Some(statement) = &self.statement {
            let line = statement.split_whitespace().collect::<Vec<_>>().join(" ");
            let shown: String = line.chars().take(SHOWN).collect();
            let more = if shown.len() < line.len() { "…" } else { "" };
            write!(f, ": {shown}{more}")?;
        }
        Ok(())
    }
}

/// A session that waits, and those that it waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blocked {
    /// Who waits.
    pub waiting: Activity,
    /// Who is in the way; holders, and those that queued before.
    pub by: Vec<Activity>,
}

/// Columns that [`Session::activity`] reads.
pub(crate) const ACTIVITY: &str = "
    a.pid AS process, a.usename::text AS role, a.application_name AS application,
    a.client_addr::text AS address, a.state,
    extract(epoch FROM clock_timestamp() - a.xact_start)::float8 AS open, a.query AS statement";

impl Session {
    /// The sessions that the sessions with these process ids wait for.
    ///
    /// # Errors
    /// As [`Session::rows`].
    pub async fn blockers_of(&self, process: i32) -> Result<Vec<Activity>, PostgresError> {
        let what = "read who is in the way";
        let sql = format!(
            "SELECT {ACTIVITY} FROM pg_catalog.pg_stat_activity a
             WHERE a.pid = ANY (pg_catalog.pg_blocking_pids($1)) ORDER BY a.xact_start NULLS LAST"
        );
        let rows = self.rows(what, &sql, &[&process]).await?;
        rows.iter().map(|row| self.activity(what, row)).collect()
    }

    /// Every session of this database that waits for another one.
    ///
    /// # Errors
    /// As [`Session::rows`].
    pub async fn blocked(&self) -> Result<Vec<Blocked>, PostgresError> {
        let what = "read who waits for whom";
        let sql = format!(
            "SELECT {ACTIVITY} FROM pg_catalog.pg_stat_activity a
             WHERE a.datname = pg_catalog.current_database()
               AND pg_catalog.cardinality(pg_catalog.pg_blocking_pids(a.pid)) > 0 ORDER BY a.pid"
        );
        let mut blocked = Vec::new();
        for row in self.rows(what, &sql, &[]).await? {
            let waiting = self.activity(what, &row)?;
            let by = self.blockers_of(waiting.process).await?;
            // It may have got what it waited for in the meantime.
            if !by.is_empty() {
                blocked.push(Blocked { waiting, by });
            }
        }
        Ok(blocked)
    }

    /// Who holds or waits for a lock on a relation, oldest transaction first; without this session.
    ///
    /// `relation` is a name as SQL has it, quoted where it needs quotes.
    ///
    /// # Errors
    /// As [`Session::rows`].
    pub async fn holders_of(&self, relation: &str) -> Result<Vec<Activity>, PostgresError> {
        let what = "read who holds a lock";
        let sql = format!(
            "SELECT DISTINCT ON (a.xact_start, a.pid) {ACTIVITY}
             FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
             WHERE l.locktype = 'relation' AND l.granted AND l.relation = pg_catalog.to_regclass($1)
               AND l.pid <> pg_catalog.pg_backend_pid()
             ORDER BY a.xact_start, a.pid"
        );
        let rows = self.rows(what, &sql, &[&relation]).await?;
        rows.iter().map(|row| self.activity(what, row)).collect()
    }

    pub(crate) fn activity(
        &self,
        what: &str,
        row: &tokio_postgres::Row,
    ) -> Result<Activity, PostgresError> {
        let open: Option<f64> = self.column(what, row, "open")?;
        Ok(Activity {
            process: self.column(what, row, "process")?,
            role: self.column(what, row, "role")?,
            application: self.column(what, row, "application")?,
            address: self.column(what, row, "address")?,
            state: self.column(what, row, "state")?,
            transaction_open: open.and_then(|open| Duration::try_from_secs_f64(open).ok()),
            statement: self.column(what, row, "statement")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_told_in_one_line_and_a_hidden_one_by_its_process() {
        let activity = Activity {
            process: 42,
            role: Some("web".into()),
            application: Some("shop".into()),
            address: Some("10.0.0.7".into()),
            state: Some("idle in transaction".into()),
            transaction_open: Some(Duration::from_secs(90)),
            statement: Some(format!("UPDATE item\n  SET x = {}", "1".repeat(300))),
        };
        let text = activity.to_string();
        assert!(
            text.starts_with("process 42 (shop, role web, from 10.0.0.7, idle in transaction, transaction open for 90 s): UPDATE item SET x = 111"),
            "{text}"
        );
        assert!(text.ends_with('…'));
        let hidden = Activity {
            process: 42,
            role: None,
            application: None,
            address: None,
            state: None,
            transaction_open: None,
            statement: None,
        };
        assert_eq!(hidden.to_string(), "process 42");
    }
}
