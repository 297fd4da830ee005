//! Probes: what a reader and a writer of a table would have waited while a migration runs.
//!
//! A probe holds nothing while it waits, so it is in nobody's way for longer than one statement takes: a reader's asks
//! for ACCESS SHARE, a writer's for ROW EXCLUSIVE, and for a lock on some rows that it gives up on at once when
//! somebody has them. A real writer would hold its table's lock while it waits for a row.

mod attempt;
mod rows;
mod waits;

use std::sync::Arc;
use std::time::Duration;

use switchyard_postgres::{ConnectionSettings, ConnectionUrl, PostgresError, Session};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::tables::TableName;
use waits::Shared;
pub(super) use waits::Waits;

/// Attempts of every probe before the migration begins: they say what of a wait is noise.
const ATTEMPTS_AT_REST: u64 = 10;

/// Longest wait for the probes to have made them.
const REST_LIMIT: Duration = Duration::from_secs(60);

/// Longest time that a probe is given to end after the migration has.
const END_LIMIT: Duration = Duration::from_secs(30);

/// Fewest milliseconds between two attempts of one probe.
const SHORTEST_PAUSE: u64 = 5;

/// Who waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Only reads.
    Reader,
    /// Writes, or locks rows to write them.
    Writer,
}

/// The probes of one migration. Dropping them cuts their sessions.
#[derive(Debug)]
pub(super) struct Probes {
    running: Vec<Running>,
    stop: watch::Sender<bool>,
}

#[derive(Debug)]
struct Running {
    table: TableName,
    role: Role,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
    watches_rows: bool,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What the probes of one table saw.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    /// The table.
    pub(super) table: TableName,
    /// Longest wait of a reader.
    pub(super) readers: Waits,
    /// Longest wait of a writer.
    pub(super) writers: Waits,
    /// Longest wait at rest.
    pub(super) at_rest: Duration,
    /// Whether rows were watched.
    pub(super) rows_watched: bool,
}

impl Probes {
    /// Starts a reader and a writer for each table. `limit` is the longest wait of one attempt.
    ///
    /// # Errors
    /// When a session cannot be opened: the server may have too few.
    pub(super) async fn start(
        copy: &ConnectionUrl,
        tables: &[TableName],
        limit: Duration,
    ) -> Result<Self, PostgresError> {
        let (stop, stopped) = watch::channel(false);
        let mut probes = Self {
            running: Vec::new(),
            stop,
        };
        // All probes together ask at most some hundred times a second, so that they do not slow down what they measure.
        let sessions = u64::try_from(tables.len())
            .unwrap_or(u64::MAX)
            .saturating_mul(2);
        let pause = Duration::from_millis(sessions.saturating_mul(2).max(SHORTEST_PAUSE));
        for table in tables {
            for role in [Role::Reader, Role::Writer] {
                let session = open(copy, role, limit).await?;
                let rows = match role {
                    Role::Reader => Vec::new(),
                    Role::Writer => rows::choose(&session, table).await?,
                };
                let shared = Arc::new(Shared::default());
                let attempt = attempt::Attempt {
                    session,
                    table: table.clone(),
                    role,
                    rows,
                };
                probes.running.push(Running {
                    table: table.clone(),
                    role,
                    watches_rows: attempt.watches_rows(),
                    task: tokio::spawn(attempt.repeat(shared.clone(), stopped.clone(), pause)),
                    shared,
                });
            }
        }
        Ok(probes)
    }

    /// Waits until every probe has asked some times, and takes what it waited for noise. Gives up after a minute:
    /// then somebody else holds a table of the copy.
    ///
    /// # Errors
    /// Naming the tables that could not be asked for.
    pub(super) async fn rest(&self) -> Result<(), Vec<String>> {
        let all = async {
            for probe in &self.running {
                probe.shared.reached(ATTEMPTS_AT_REST).await;
            }
        };
        let rested = tokio::time::timeout(REST_LIMIT, all).await;
        let mut stuck = Vec::new();
        for probe in &self.running {
            let waits = probe.shared.read();
            if waits.attempts < ATTEMPTS_AT_REST && waits.error.is_none() {
                stuck.push(probe.table.to_string());
            }
            probe.shared.begin();
        }
        match rested {
            Ok(()) => Ok(()),
            Err(_) => {
                // A reader and a writer ask for each.
                stuck.dedup();
                Err(stuck)
            }
        }
    }

    /// Longest wait so far, for progress.
    pub(super) fn longest(&self) -> Duration {
        let waits = self.running.iter().map(|probe| probe.shared.read().longest);
        waits.max().unwrap_or_default()
    }

    /// Ends the probes and tells what each table's saw.
    pub(super) async fn stop(mut self) -> Vec<Seen> {
        // A probe that is gone needs no telling.
        let _ = self.stop.send(true);
        for probe in &mut self.running {
            if tokio::time::timeout(END_LIMIT, &mut probe.task)
                .await
                .is_err()
            {
                probe.shared.fail("the probe did not end".to_owned());
            }
        }
        let of = |role: Role| self.running.iter().filter(move |probe| probe.role == role);
        let pairs = of(Role::Reader).zip(of(Role::Writer));
        pairs
            .map(|(reader, writer)| {
                let (readers, writers) = (reader.shared.read(), writer.shared.read());
                Seen {
                    table: reader.table.clone(),
                    at_rest: readers.at_rest.max(writers.at_rest),
                    readers,
                    writers,
                    rows_watched: writer.watches_rows,
                }
            })
            .collect()
    }
}

async fn open(copy: &ConnectionUrl, role: Role, limit: Duration) -> Result<Session, PostgresError> {
    let name = match role {
        Role::Reader => "switchyard reader probe",
        Role::Writer => "switchyard writer probe",
    };
    let settings = ConnectionSettings {
        application_name: name.to_owned(),
        lock_timeout: Duration::ZERO,
        statement_timeout: limit,
    };
    let session = Session::open(copy, &settings).await?;
    // A probe that locked a row must not wait for the disk.
    let sql = "SET synchronous_commit = off";
    session.script("prepare a probe", sql).await?;
    Ok(session)
}
