//! How far standbys are behind.

use switchyard_postgres::{PostgresError, Session};

use super::inputs::Bytes;

/// How far standbys are behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Lag {
    /// There is none, or none that has ever answered.
    NoStandby,
    /// The role may not see them.
    Hidden,
    /// The one that is furthest behind.
    Behind {
        /// Its name.
        standby: String,
        /// By how much WAL.
        bytes: Bytes,
    },
}

/// Looks. Bytes, because the times that the server tells stand still with the standby.
///
/// # Errors
/// As [`Session::rows`].
pub(super) async fn look(session: &Session) -> Result<Lag, PostgresError> {
    let what = "read how far standbys are behind";
    let sql = "
        SELECT coalesce(nullif(application_name, ''), client_addr::text, pid::text) AS standby,
               pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(),
                 coalesce(replay_lsn, flush_lsn, write_lsn, sent_lsn))::int8 AS bytes
        FROM pg_catalog.pg_stat_replication
        WHERE state IS DISTINCT FROM 'backup' ORDER BY 2 DESC NULLS FIRST LIMIT 1";
    let found = session.rows(what, sql, &[]).await?;
    let Some(row) = found.first() else {
        return Ok(Lag::NoStandby);
    };
    let bytes: Option<i64> = session.column(what, row, "bytes")?;
    let Some(bytes) = bytes else {
        return Ok(Lag::Hidden);
    };
    Ok(Lag::Behind {
        standby: session.column(what, row, "standby")?,
        bytes: Bytes(u64::try_from(bytes).unwrap_or(0)),
    })
}
