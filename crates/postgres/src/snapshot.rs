//! A snapshot that several sessions and `pg_dump` share, so that all of them see one moment.
//!
//! An open snapshot makes `CREATE INDEX CONCURRENTLY` wait: end it before anything else runs.

use std::fmt;

use crate::contents::pin_output;
use crate::error::PostgresError;
use crate::session::Session;

/// Name of an exported snapshot, as `pg_dump --snapshot` takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotId(String);

impl SnapshotId {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An exported snapshot: usable by others for as long as this value's transaction is open.
#[derive(Debug)]
pub struct ExportedSnapshot {
    session: Session,
    id: SnapshotId,
}

impl ExportedSnapshot {
    /// Opens a transaction that only reads, and exports what it sees. Texts of values are pinned in it.
    ///
    /// # Errors
    /// As [`Session::rows`].
    pub async fn export(session: Session) -> Result<Self, PostgresError> {
        let what = "export a snapshot";
        // An idle session must not be ended while `pg_dump` works.
        let sql = "BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY;
                   SET LOCAL idle_in_transaction_session_timeout = 0";
        session.script(what, sql).await?;
        pin_output(&session).await?;
        let sql = "SELECT pg_catalog.pg_export_snapshot() AS id";
        let row = session.row(what, sql, &[]).await?;
        let id = SnapshotId(session.column(what, &row, "id")?);
        Ok(Self { session, id })
    }

    /// Its name.
    #[must_use]
    pub fn id(&self) -> &SnapshotId {
        &self.id
    }

    /// The session that sees it.
    #[must_use]
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Lets another session of the same database see the same, in a transaction that only reads.
    ///
    /// # Errors
    /// As [`Session::rows`]; the snapshot is gone when its transaction has ended.
    pub async fn share_with(&self, session: &Session) -> Result<(), PostgresError> {
        let what = "take over a snapshot";
        // The name comes from the server and consists of hexadecimal digits and dashes.
        let sql = format!(
            "BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY;
             SET TRANSACTION SNAPSHOT '{}'",
            self.id.0.replace('\'', "")
        );
        session.script(what, &sql).await?;
        pin_output(session).await
    }

    /// Ends the transaction and closes the session.
    ///
    /// # Errors
    /// When the session was lost meanwhile: then nobody could have relied on the snapshot.
    pub async fn end(self) -> Result<(), PostgresError> {
        self.session.script("end the snapshot", "COMMIT").await
    }
}
