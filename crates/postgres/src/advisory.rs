//! One gate at a time in a database: an advisory lock, polled.
//!
//! A client blocked in `pg_advisory_lock` holds a snapshot, and `CREATE INDEX CONCURRENTLY` of the one that has
//! the lock waits for it: a deadlock. So the lock is tried again and again instead.

use std::time::Duration;

use tokio::time::Instant;

use crate::blocking::{ACTIVITY, Activity};
use crate::error::PostgresError;
use crate::session::Session;

/// The key of an advisory lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LockKey(pub i64);

/// The key of this gate: `swtchyrd` in ASCII. Prisma's own is 72707369, and stays free for it.
pub const GATE_LOCK: LockKey = LockKey(i64::from_be_bytes(*b"swtchyrd"));

/// How often and how long a lock is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LockWait {
    /// Most time to wait; zero tries once.
    pub limit: Duration,
    /// Pause between two tries.
    pub pause: Duration,
    /// Time between two reports.
    pub report_every: Duration,
}

impl LockWait {
    /// Tries every half second, and reports every ten seconds.
    #[must_use]
    pub fn up_to(limit: Duration) -> Self {
        Self {
            limit,
            pause: Duration::from_millis(500),
            report_every: Duration::from_secs(10),
        }
    }
}

/// Why the lock was not had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody else has it.
    #[error("another gate works on {place} for longer than {limit:?}: {holder}")]
    Held {
        /// The database.
        place: String,
        /// How long it was waited for.
        limit: Duration,
        /// Who has it.
        holder: String,
    },
    /// The server did not answer.
    #[error(transparent)]
    Postgres(#[from] PostgresError),
}

impl LockError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Held { .. } => Some(
                "wait until it has ended; a killed one lets go by itself as soon as the server notices".into(),
            ),
            Self::Postgres(cause) => cause.hint(),
        }
    }
}

/// The lock, held for as long as this value lives and its session is open.
#[derive(Debug)]
pub struct AdvisoryLock {
    session: Session,
    key: LockKey,
}

impl AdvisoryLock {
    /// Takes the lock over a session that serves for nothing else. `progress` hears who has it.
    ///
    /// # Errors
    /// [`LockError::Held`] after the limit, naming the holder.
    pub async fn acquire(
        session: Session,
        key: LockKey,
        wait: LockWait,
        mut progress: impl FnMut(&Activity, Duration),
    ) -> Result<Self, LockError> {
        let begin = Instant::now();
        let mut reported: Option<Instant> = None;
        loop {
            if try_lock(&session, key).await? {
                return Ok(Self { session, key });
            }
            let holder = holder(&session, key).await?;
            let waited = begin.elapsed();
            if waited >= wait.limit {
                return Err(LockError::Held {
                    place: session.place().to_string(),
                    limit: wait.limit,
                    holder: holder
                        .map_or_else(|| "it let go just now".into(), |one| one.to_string()),
                });
            }
            let is_due = reported.is_none_or(|last| last.elapsed() >= wait.report_every);
            if let (Some(holder), true) = (&holder, is_due) {
                progress(holder, waited);
                reported = Some(Instant::now());
            }
            tokio::time::sleep(wait.pause.min(wait.limit.saturating_sub(waited))).await;
        }
    }

    /// Asks the server whether the lock is still held: a lost session has lost it.
    ///
    /// # Errors
    /// When the session is gone, and the lock with it.
    pub async fn confirm(&self) -> Result<bool, PostgresError> {
        let holder = holder(&self.session, self.key).await?;
        let what = "read the session's process";
        let row = self
            .session
            .row(what, "SELECT pg_catalog.pg_backend_pid() AS own", &[])
            .await?;
        let own: i32 = self.session.column(what, &row, "own")?;
        Ok(holder.is_some_and(|holder| holder.process == own))
    }

    /// Lets go and closes the session.
    ///
    /// # Errors
    /// When the server does not answer; it lets go by itself then.
    pub async fn release(self) -> Result<(), PostgresError> {
        let sql = "SELECT pg_catalog.pg_advisory_unlock($1)";
        self.session
            .row("let the lock go", sql, &[&self.key.0])
            .await
            .map(|_| ())
    }
}

async fn try_lock(session: &Session, key: LockKey) -> Result<bool, PostgresError> {
    let what = "try the lock of the gate";
    let sql = "SELECT pg_catalog.pg_try_advisory_lock($1) AS taken";
    let row = session.row(what, sql, &[&key.0]).await?;
    session.column(what, &row, "taken")
}

/// Who has the lock in this database; `None` where nobody has it.
async fn holder(session: &Session, key: LockKey) -> Result<Option<Activity>, PostgresError> {
    let what = "read who has the lock of the gate";
    // The halves of a 64-bit key are stored as unsigned numbers; `objsubid` 1 says that they are one key.
    let sql = format!(
        "SELECT {ACTIVITY} FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
         WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
           AND l.database = (SELECT oid FROM pg_catalog.pg_database
                             WHERE datname = pg_catalog.current_database())
           AND (l.classid::int8 << 32) | l.objid::int8 = $1"
    );
    let rows = session.rows(what, &sql, &[&key.0]).await?;
    rows.first()
        .map(|row| session.activity(what, row))
        .transpose()
}
