//! Watches the locks of the session that migrates: which tables it really locked, how strongly, for how long.
//!
//! What it sees of tables that are probed says which lock it was; of others it is the only measure, and a lower one:
//! a lock shorter than the time between two looks may be missed.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use switchyard_postgres::{PostgresError, Session};

use super::tables::TableName;

/// Time between two looks.
pub(super) const PAUSE: Duration = Duration::from_millis(10);

/// Lock modes as `pg_locks` has them, weakest first. Those before [`BLOCKS_WRITERS`] keep nobody from reading or
/// writing. Source: <https://www.postgresql.org/docs/15/explicit-locking.html#LOCKING-TABLES>.
const MODES: [&str; 8] = [
    "AccessShareLock",
    "RowShareLock",
    "RowExclusiveLock",
    "ShareUpdateExclusiveLock",
    "ShareLock",
    "ShareRowExclusiveLock",
    "ExclusiveLock",
    "AccessExclusiveLock",
];

/// Place of the weakest mode that keeps writers out.
const BLOCKS_WRITERS: usize = 4;

/// The locks seen on one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SeenLock {
    /// Place of the strongest mode in [`MODES`].
    strongest: usize,
    /// From the first to the last look at which it kept writers out.
    blocking: Option<(Instant, Instant)>,
}

impl SeenLock {
    /// The strongest mode, as `AccessExclusiveLock`.
    pub(super) fn mode(&self) -> &'static str {
        MODES[self.strongest]
    }

    /// How long it kept writers out at least; `None` when it was never seen to.
    pub(super) fn blocked(&self) -> Option<Duration> {
        self.blocking.map(|(first, last)| last - first)
    }
}

/// The locks seen so far.
#[derive(Debug, Default)]
pub(super) struct SeenLocks(BTreeMap<TableName, SeenLock>);

impl SeenLocks {
    /// The locks on a table.
    pub(super) fn of(&self, table: &TableName) -> Option<&SeenLock> {
        self.0.get(table)
    }

    /// Every table that was seen locked.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&TableName, &SeenLock)> {
        self.0.iter()
    }

    fn take(&mut self, table: TableName, mode: usize, now: Instant) {
        let lock = self.0.entry(table).or_insert(SeenLock {
            strongest: mode,
            blocking: None,
        });
        lock.strongest = lock.strongest.max(mode);
        if mode >= BLOCKS_WRITERS {
            let first = lock.blocking.map_or(now, |(first, _)| first);
            lock.blocking = Some((first, now));
        }
    }

    /// Looks once at the locks of the process `backend`. Tables that its transaction has made are not seen: nobody
    /// else sees them either.
    ///
    /// # Errors
    /// As [`Session::rows`].
    pub(super) async fn look(
        &mut self,
        session: &Session,
        backend: i32,
    ) -> Result<(), PostgresError> {
        let what = "watch the locks of a migration";
        let sql = "
            SELECT n.nspname::text AS schema, c.relname::text AS name, l.mode
            FROM pg_catalog.pg_locks l
            JOIN pg_catalog.pg_class c ON c.oid = l.relation AND c.relkind IN ('r', 'p', 'm')
            JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
            WHERE l.pid = $1 AND l.locktype = 'relation' AND l.granted
              AND l.database = (SELECT oid FROM pg_catalog.pg_database
                                WHERE datname = pg_catalog.current_database())
              AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'";
        let now = Instant::now();
        for row in session.rows(what, sql, &[&backend]).await? {
            let mode: String = session.column(what, &row, "mode")?;
            let Some(mode) = MODES.iter().position(|known| *known == mode) else {
                continue;
            };
            let table = TableName {
                schema: session.column(what, &row, "schema")?,
                name: session.column(what, &row, "name")?,
            };
            self.take(table, mode, now);
        }
        Ok(())
    }
}
