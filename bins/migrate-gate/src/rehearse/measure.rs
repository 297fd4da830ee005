//! Runs one migration on the copy while probes ask for its tables, and puts together what they saw.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use switchyard_postgres::{ConnectionUrl, PostgresError, Session};
use switchyard_runner::{Console, values};

use super::apply::{self, Limits};
use super::locks::{self, SeenLocks};
use super::probe::{Probes, Seen};
use super::report::{Evidence, RehearsedError, TableBlocking, scaled};
use super::tables::{Probed, TableName, Tables, probed};
use super::target::TargetSchema;
use crate::project::Migration;

/// Time between two reports of a migration that takes long.
const REPORT_EVERY: Duration = Duration::from_secs(10);

/// Rows of tables, where their server knows them.
pub(super) type Rows = BTreeMap<TableName, Option<u64>>;

/// What measuring needs beside the migration.
pub(super) struct Measuring<'a> {
    /// The copy's URL, for the probes.
    pub(super) copy: &'a ConnectionUrl,
    /// A session that looks.
    pub(super) looking: &'a Session,
    /// Rows of production; empty where it is not given.
    pub(super) production_rows: &'a Rows,
    /// Limits of the migration.
    pub(super) limits: Limits,
    /// Most tables that are probed.
    pub(super) most_tables: usize,
    /// Where progress is told.
    pub(super) console: &'a Console,
}

/// What was measured of one migration.
#[derive(Debug)]
pub(super) struct Measured {
    pub(super) milliseconds: u64,
    pub(super) error: Option<RehearsedError>,
    pub(super) tables: Vec<TableBlocking>,
    pub(super) evidence: Evidence,
    pub(super) not_probed: Vec<String>,
}

impl Measuring<'_> {
    /// Runs a migration and measures whom it keeps waiting.
    ///
    /// # Errors
    /// When the copy cannot be looked at; an error of the migration is part of what is measured.
    pub(super) async fn run(
        &self,
        schema: &TargetSchema,
        migration: &Migration,
    ) -> Result<Measured, PostgresError> {
        let (chosen, copy_rows) = self.choose(migration.script()).await?;
        let limit = self
            .limits
            .statement
            .saturating_add(Duration::from_secs(60));
        let probes = Probes::start(self.copy, &chosen.tables, limit).await?;
        let mut unmeasured = Vec::new();
        if let Err(tables) = probes.rest().await {
            unmeasured.push(format!(
                "somebody else holds {} of the copy",
                tables.join(", ")
            ));
        }
        let tool = schema.schema.schema.tool;
        let session = apply::open(&schema.copy, tool, &schema.namespace, self.limits).await?;
        let mut locks = SeenLocks::default();
        let begin = Instant::now();
        let result = self.watch(&session, migration, &probes, &mut locks).await?;
        let elapsed = begin.elapsed();
        // Only the end of its session surely lets go of everything.
        drop(session);
        let seen = probes.stop().await;
        unmeasured.extend(doubts(&seen));
        let mut tables: Vec<TableBlocking> = seen
            .iter()
            .map(|seen| self.blocking(seen, &copy_rows, &locks))
            .collect();
        tables.extend(self.not_probed(&chosen, &copy_rows, &locks, &mut unmeasured));
        let error = result.err();
        if error.as_ref().is_some_and(PostgresError::is_lock_timeout) {
            unmeasured.push(format!(
                "it did not get a lock within {}: somebody else works in the copy",
                values::show_duration(self.limits.lock)
            ));
        }
        Ok(Measured {
            milliseconds: milliseconds(elapsed),
            error: error.map(|cause| rehearsed_error(&cause)),
            tables,
            evidence: Evidence::unless(unmeasured),
            not_probed: chosen.left_out.iter().map(ToString::to_string).collect(),
        })
    }

    /// Chooses the tables to probe, and counts their rows where nobody has: a restored copy has no statistics.
    async fn choose(&self, script: &str) -> Result<(Probed, Rows), PostgresError> {
        let tables = Tables::read(self.looking).await?;
        let chosen = probed(script, &tables, self.most_tables);
        let rows = tables.rows();
        let unknown = |table: &&TableName| rows.get(table).copied().flatten().is_none();
        let unknown: Vec<&TableName> = chosen.tables.iter().filter(unknown).collect();
        if unknown.is_empty() {
            return Ok((chosen, rows));
        }
        for table in unknown {
            let sql = format!("ANALYZE {}", table.quoted());
            self.looking
                .script("analyse a table of the copy", &sql)
                .await?;
        }
        Ok((chosen, Tables::read(self.looking).await?.rows()))
    }

    /// Runs the migration; meanwhile its locks are watched and progress is told.
    async fn watch(
        &self,
        session: &Session,
        migration: &Migration,
        probes: &Probes,
        locks: &mut SeenLocks,
    ) -> Result<Result<(), PostgresError>, PostgresError> {
        let what = "read the session's process";
        let row = session
            .row(what, "SELECT pg_catalog.pg_backend_pid() AS own", &[])
            .await?;
        let backend: i32 = session.column(what, &row, "own")?;
        let begin = Instant::now();
        let mut told = begin;
        let applying = apply::apply(session, migration);
        tokio::pin!(applying);
        loop {
            let looking = async {
                let looked = locks.look(self.looking, backend).await;
                tokio::time::sleep(locks::PAUSE).await;
                looked
            };
            tokio::select! {
                // The look is cut short by the end of the migration: its answer is read and dropped by the session.
                result = &mut applying => return Ok(result),
                looked = looking => looked?,
            }
            if told.elapsed() >= REPORT_EVERY {
                told = Instant::now();
                self.console.progress(format!(
                    "`{}`: {}, longest wait so far {}",
                    migration.name,
                    values::show_duration(begin.elapsed()),
                    values::show_duration(probes.longest())
                ));
            }
        }
    }

    fn blocking(&self, seen: &Seen, copy_rows: &Rows, locks: &SeenLocks) -> TableBlocking {
        let (readers, writers) = (seen.readers.longest, seen.writers.longest);
        let lock = locks.of(&seen.table).map(|lock| lock.mode().to_owned());
        self.table_blocking(
            &seen.table,
            TableBlocking {
                readers_milliseconds: milliseconds(readers),
                // Whoever writes also reads.
                writers_milliseconds: milliseconds(writers.max(readers)),
                at_rest_milliseconds: milliseconds(seen.at_rest),
                lock,
                rows_watched: seen.rows_watched,
                ..nothing()
            },
            copy_rows,
        )
    }

    fn table_blocking(
        &self,
        table: &TableName,
        measured: TableBlocking,
        copy_rows: &Rows,
    ) -> TableBlocking {
        let copy = copy_rows.get(table).copied().flatten();
        let production = self.production_rows.get(table).copied().flatten();
        let longest = measured
            .readers_milliseconds
            .max(measured.writers_milliseconds);
        TableBlocking {
            table: table.to_string(),
            copy_rows: copy,
            production_rows: production,
            production_estimate_milliseconds: scaled(
                longest,
                measured.at_rest_milliseconds,
                copy,
                production,
            ),
            ..measured
        }
    }

    /// Tables that nobody asked for, and that were seen locked so that others would have waited.
    fn not_probed(
        &self,
        chosen: &Probed,
        copy_rows: &Rows,
        locks: &SeenLocks,
        unmeasured: &mut Vec<String>,
    ) -> Vec<TableBlocking> {
        let mut tables = Vec::new();
        for (table, lock) in locks.iter() {
            let Some(blocked) = lock.blocked() else {
                continue;
            };
            if chosen.tables.contains(table) {
                continue;
            }
            let mode = lock.mode();
            unmeasured.push(format!("`{table}` was locked ({mode}) and not probed"));
            let measured = TableBlocking {
                writers_milliseconds: milliseconds(blocked),
                lock: Some(mode.to_owned()),
                ..nothing()
            };
            tables.push(self.table_blocking(table, measured, copy_rows));
        }
        tables
    }
}

/// What the probes could not see.
fn doubts(seen: &[Seen]) -> Vec<String> {
    let mut doubts = Vec::new();
    for table in seen {
        for waits in [&table.readers, &table.writers] {
            if let Some(error) = &waits.error {
                doubts.push(format!("a probe of `{}` ended: {error}", table.table));
            }
        }
    }
    doubts
}

fn nothing() -> TableBlocking {
    TableBlocking {
        table: String::new(),
        readers_milliseconds: 0,
        writers_milliseconds: 0,
        at_rest_milliseconds: 0,
        lock: None,
        copy_rows: None,
        production_rows: None,
        production_estimate_milliseconds: None,
        rows_watched: false,
    }
}

fn rehearsed_error(cause: &PostgresError) -> RehearsedError {
    RehearsedError {
        message: cause.to_string(),
        code: cause.sql_state().map(str::to_owned),
        hint: cause.hint(),
    }
}

/// Whole milliseconds.
pub(super) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
