//! The batches one after the other: each its own transaction, the position written after each.

use std::path::Path;
use std::time::{Duration, Instant};

use switchyard_postgres::{PostgresError, Session};
use switchyard_runner::{Console, Failure, Kind, values};

use super::inputs::{BackfillArgs, Bytes};
use super::lag::{self, Lag};
use super::pace;
use super::position::{Position, PositionError};
use super::table::{Changed, Range, Table};
use crate::database;

/// Name of the session that changes rows.
pub(super) const APPLICATION_NAME: &str = "switchyard backfill";

/// Time between two reports.
const REPORT_EVERY: Duration = Duration::from_secs(10);

/// Time between two looks at standbys that are behind.
const LAG_PAUSE: Duration = Duration::from_secs(1);

/// Longest pause before a batch is tried again.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Passes over the table before it gives up: the running version may add rows below the position.
const MOST_PASSES: u32 = 3;

/// Rows that are left are counted up to this number.
const COUNTED: u64 = 10_000;

/// SQLSTATEs after which a batch is tried again: a lock that did not come, a deadlock, a serialization failure.
const TRANSIENT: [&str; 3] = ["55P03", "40P01", "40001"];

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// No row is left.
    Done,
    /// It stopped in order, to be gone on with.
    Stopped,
}

/// A backfill at work.
pub(super) struct Work<'a> {
    pub(super) args: &'a BackfillArgs,
    pub(super) table: &'a Table,
    /// The session that changes rows.
    pub(super) session: &'a Session,
    /// A session that looks.
    pub(super) looking: &'a Session,
    pub(super) position: &'a mut Position,
    pub(super) path: &'a Path,
    pub(super) console: &'a Console,
    /// When this run began.
    pub(super) started: Instant,
    /// When its present pass began, for the rate.
    pub(super) begin: Instant,
    /// Rows seen at that time.
    pub(super) seen_at_begin: u64,
    /// When it told how it goes.
    pub(super) told: Instant,
}

impl Work<'_> {
    /// Works until no row is left, or a limit is reached.
    ///
    /// # Errors
    /// Kind gate when it has to stop; kind input when the inputs' SQL does not do what it must; kind remote.
    pub(super) async fn run(&mut self) -> Result<Outcome, Failure> {
        loop {
            if self.pass().await? == Outcome::Stopped {
                return Ok(Outcome::Stopped);
            }
            let left = self
                .table
                .left(self.session, &self.args.r#where, COUNTED)
                .await;
            let left = left.map_err(of_statement)?;
            if left == 0 {
                return Ok(Outcome::Done);
            }
            let shown = if left == COUNTED {
                format!("{COUNTED} or more")
            } else {
                left.to_string()
            };
            if self.position.pass >= MOST_PASSES {
                let text = format!("{shown} rows are left after {MOST_PASSES} passes");
                return Err(Failure::message(Kind::Gate, text)
                    .hint("the running version still writes such rows: let it write the new value, or set a default, then run this again"));
            }
            self.console
                .info(format!("{shown} rows are left: once more over the table"));
            self.position.pass += 1;
            self.position.last_key = None;
            self.position.rows_seen = 0;
            self.position.write(self.path).map_err(of_position)?;
            self.seen_at_begin = 0;
            self.begin = Instant::now();
        }
    }

    /// Goes over the table once, from the position on. `Done` says that its end was reached.
    async fn pass(&mut self) -> Result<Outcome, Failure> {
        let end = self.args.stop_after.map(|limit| self.started + limit);
        loop {
            if end.is_some_and(|end| Instant::now() >= end) {
                return Ok(Outcome::Stopped);
            }
            self.wait_for_standbys().await?;
            let above = self.position.last_key.as_deref();
            let next = self
                .table
                .next(self.session, above, self.args.batch_size)
                .await;
            let Some(range) = next.map_err(of_statement)? else {
                return Ok(Outcome::Done);
            };
            let begun = Instant::now();
            let changed = self.batch(&range).await?;
            let took = begun.elapsed();
            self.position.last_key = Some(range.upper);
            self.position.rows_seen += range.rows;
            self.position.rows_changed += changed;
            self.position.write(self.path).map_err(of_position)?;
            self.tell();
            let pause = pace::pause_after(changed, took, self.args.pause, self.args.max_rate);
            tokio::time::sleep(pause).await;
        }
    }

    /// One batch, tried again while its locks do not come.
    async fn batch(&self, range: &Range) -> Result<u64, Failure> {
        let mut pause = Duration::from_millis(500);
        for attempt in 1.. {
            let cause = match self.transaction(range).await {
                Ok(changed) if changed.still_left > 0 => return Err(still_left(changed)),
                Ok(changed) => return Ok(changed.rows),
                Err(cause) => cause,
            };
            if !TRANSIENT.contains(&cause.sql_state().unwrap_or_default()) {
                return Err(of_statement(cause));
            }
            let holders = self.holders().await?;
            if attempt >= self.args.batch_attempts {
                let text = format!("rows did not come free in {attempt} attempts{holders}");
                return Err(Failure::gate(anyhow::Error::new(cause).context(text))
                    .hint("run it again when they have ended: it goes on where it stopped"));
            }
            self.console.progress(format!(
                "attempt {attempt} of {}: {cause}{holders}",
                self.args.batch_attempts
            ));
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        Err(Failure::message(Kind::Bug, "no attempt was made"))
    }

    async fn transaction(&self, range: &Range) -> Result<Changed, PostgresError> {
        let session = self.session;
        session.script("begin a batch", "BEGIN").await?;
        let above = self.position.last_key.as_deref();
        let sql = (self.args.set.as_str(), self.args.r#where.as_str());
        let changed = self.table.change(session, above, &range.upper, sql).await;
        let end = match &changed {
            Ok(changed) if changed.still_left == 0 => "COMMIT",
            Ok(_) | Err(_) => "ROLLBACK",
        };
        let ended = session.script("end a batch", end).await;
        // The first error is the cause of the second.
        let changed = changed?;
        ended.map(|()| changed)
    }

    /// Who has locks on the table, without their statements: those may hold values.
    async fn holders(&self) -> Result<String, Failure> {
        let holders = self.looking.holders_of(&self.table.name).await;
        let holders = holders.map_err(database::failure)?;
        let others = holders
            .into_iter()
            .filter(|one| one.application.as_deref() != Some(APPLICATION_NAME));
        let told: Vec<String> = others
            .map(|mut one| {
                one.statement = None;
                one.to_string()
            })
            .collect();
        Ok(match told.len() {
            0 => String::new(),
            _ => format!("; sessions with locks on the table: {}", told.join("; ")),
        })
    }

    async fn wait_for_standbys(&mut self) -> Result<(), Failure> {
        let Some(most) = self.args.max_lag else {
            return Ok(());
        };
        let begin = Instant::now();
        loop {
            let lag = lag::look(self.looking).await.map_err(database::failure)?;
            let Some(behind) = too_far(&lag, most)? else {
                return Ok(());
            };
            if begin.elapsed() >= self.args.wait_limit {
                let limit = values::show_duration(self.args.wait_limit);
                return Err(
                    Failure::message(Kind::Gate, format!("{behind} for {limit}")).hint(
                        "run it again when the standby has caught up: it goes on where it stopped",
                    ),
                );
            }
            if self.told.elapsed() >= REPORT_EVERY || begin.elapsed() < LAG_PAUSE {
                self.told = Instant::now();
                self.console.progress(format!("waiting: {behind}"));
            }
            tokio::time::sleep(LAG_PAUSE).await;
        }
    }

    fn tell(&mut self) {
        if self.told.elapsed() < REPORT_EVERY {
            return;
        }
        self.told = Instant::now();
        let seen = self.position.rows_seen;
        let rate = pace::rate(
            seen.saturating_sub(self.seen_at_begin),
            self.begin.elapsed(),
        );
        let known = |number: Option<u64>| number.map_or_else(|| "?".to_owned(), |n| n.to_string());
        let left = pace::left(seen, self.table.rows, rate);
        let left = left.map_or_else(|| "unknown".to_owned(), values::show_duration);
        self.console.progress(format!(
            "{seen} of about {} rows seen, {} changed, {} rows a second, about {left} left",
            known(self.table.rows),
            self.position.rows_changed,
            known(rate)
        ));
    }
}

/// What is too far behind; `None` where nothing is.
fn too_far(lag: &Lag, most: Bytes) -> Result<Option<String>, Failure> {
    match lag {
        Lag::NoStandby => Ok(None),
        Lag::Hidden => Err(Failure::message(
            Kind::Gate,
            "the role may not see how far standbys are behind",
        )
        .hint("grant it pg_monitor, or leave `max-lag` away")),
        Lag::Behind { standby, bytes } if *bytes > most => Ok(Some(format!(
            "standby `{standby}` is {bytes} behind, more than {most}"
        ))),
        Lag::Behind { .. } => Ok(None),
    }
}

fn still_left(changed: Changed) -> Failure {
    let text = format!(
        "input `where` still holds for {} of {} rows after `set`: the batch was rolled back",
        changed.still_left, changed.rows
    );
    Failure::message(Kind::Input, text).hint(
        "choose a `where` that `set` makes false, so that a row which is done is known as such",
    )
}

/// Class 42 is about the text of a statement, and class 22 about its values: the inputs' own.
pub(super) fn of_statement(cause: PostgresError) -> Failure {
    let code = cause.sql_state().unwrap_or_default();
    let is_of_inputs = (code.starts_with("42") && code != "42501") || code.starts_with("22");
    if is_of_inputs {
        let hint = cause.hint();
        return Failure::input(anyhow::Error::new(cause).context("inputs `set` and `where`"))
            .maybe_hint(hint);
    }
    database::failure(cause)
}

pub(super) fn of_position(cause: PositionError) -> Failure {
    let hint = match &cause {
        PositionError::OtherJob { .. } | PositionError::OtherForm { .. } => Some(
            "give each backfill a `position-file` of its own, or remove the old one to begin anew",
        ),
        PositionError::Malformed { .. } => {
            Some("remove it to begin anew: rows that are done stay done")
        }
        PositionError::File { .. } => None,
    };
    Failure::input(cause).maybe_hint(hint)
}
