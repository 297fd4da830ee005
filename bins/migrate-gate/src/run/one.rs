//! The run of one database: its schemas in turn, each until it is applied and proved, or stops.

use std::path::PathBuf;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use jiff::Timestamp;
use switchyard_postgres::{ConnectionSettings, SchemaDescription, Session};
use switchyard_runner::child::{ChildResult, KeptOutput};
use switchyard_runner::{Failure, Kind, values};

use super::attempt::{self, Next, Observed, Outcome, Standing, Stopped, ToolEnd};
use super::inputs::LimitsBy;
use super::journal::Event;
use super::report::{Conclusion, Ending};
use super::tool::{self, Stage, ToolDatabase};
use super::verify::{self, Before, Proving};
use super::watch::{self, InTheWay};
use super::words::{self, About};
use super::{Locked, Run, catalog, role_limits};
use crate::database::{self, Located, read_ledger};
use crate::ledger::{State, standings};
use crate::project::{Migration, Tool};

/// What is known of a schema while it runs.
struct Progress {
    /// What was pending when the run began.
    planned: Vec<String>,
    /// What the present attempt is to apply.
    step: Vec<String>,
    /// Attempts at the present step.
    attempts: u32,
    /// Starts of the tool in all.
    starts: u32,
    in_the_way: InTheWay,
    output: Option<PathBuf>,
    differences: Vec<String>,
    /// What differs from the rehearsal.
    faults: Vec<String>,
}

/// One start of a tool: what came of it, and the catalog before and after.
struct Attempted {
    observed: Observed,
    before: SchemaDescription,
    after: SchemaDescription,
}

impl Run<'_> {
    /// Runs the schemas of one database. Never fails as a whole: every schema has its ending.
    pub(super) async fn database(
        &self,
        database: &Locked,
        digest: &str,
        files: &str,
    ) -> Vec<Ending> {
        let place = database.place();
        let begun = self.begin(database, digest, files).await;
        let mut endings = Vec::new();
        for located in &database.group.schemas {
            let mut progress = Progress {
                planned: Vec::new(),
                step: Vec::new(),
                attempts: 0,
                starts: 0,
                in_the_way: InTheWay::default(),
                output: None,
                differences: Vec::new(),
                faults: Vec::new(),
            };
            let conclusion = match &begun {
                Err(failure) => failed(failure),
                Ok(()) if self.has_stopped.load(Ordering::SeqCst) => Conclusion::NotBegun,
                Ok(()) => match self.schema(database, located, &mut progress).await {
                    Ok(conclusion) => conclusion,
                    Err(failure) => failed(&failure),
                },
            };
            if !matches!(
                conclusion,
                Conclusion::Verified | Conclusion::NothingPending
            ) {
                self.has_stopped.store(true, Ordering::SeqCst);
            }
            endings.push(self.ending(database, located, progress, conclusion).await);
        }
        self.end(database, &mut endings).await;
        let backups = &self.backups;
        backups
            .go_back(self.args, &database.group, &mut endings, self.context)
            .await;
        self.context.console.info(format!("{place}: done"));
        endings
    }

    async fn begin(&self, database: &Locked, digest: &str, files: &str) -> Result<(), Failure> {
        let (digest, files) = (digest.to_owned(), files.to_owned());
        self.note(database, Event::Begun { digest, files })?;
        if self.args.limits == LimitsBy::Role {
            self.note(database, Event::LimitsSet)?;
            for located in &database.group.schemas {
                let session = database::open_for_reading(&located.url).await?;
                let set = role_limits::set(
                    &session,
                    self.args.lock_timeout,
                    self.args.statement_timeout,
                );
                set.await.map_err(database::failure)?;
            }
        }
        Ok(())
    }

    /// Takes limits back, and closes the journal where nothing is left open.
    async fn end(&self, database: &Locked, endings: &mut [Ending]) {
        let mut faults = Vec::new();
        if self.args.limits == LimitsBy::Role {
            for located in &database.group.schemas {
                let taken_back = async {
                    let session = database::open_for_reading(&located.url).await?;
                    role_limits::take_back(&session)
                        .await
                        .map_err(database::failure)
                };
                faults.extend(taken_back.await.err());
            }
            if faults.is_empty() {
                faults.extend(self.note(database, Event::LimitsTakenBack).err());
            }
        }
        let is_done = endings.iter().all(|ending| {
            matches!(
                ending.conclusion,
                Conclusion::Verified | Conclusion::NothingPending
            )
        });
        if is_done && faults.is_empty() {
            faults.extend(self.note(database, Event::Done).err());
        }
        for fault in faults {
            let text = format!("{}: {}", database.place(), fault.chain());
            self.context.console.error("migrate-gate", text);
            if let (Some(ending), true) = (endings.last_mut(), is_done) {
                ending.conclusion = failed(&fault);
            }
        }
    }

    async fn schema(
        &self,
        database: &Locked,
        located: &Located,
        progress: &mut Progress,
    ) -> Result<Conclusion, Failure> {
        let before = verify::before(&database.session)
            .await
            .map_err(database::failure)?;
        progress.planned = self.pending(database, located).await?;
        let runs = !progress.planned.is_empty() || located.schema.schema.tool == Tool::Command;
        if runs && let Some(stopped) = self.apply(database, located, &before, progress).await? {
            return self.stop(database, located, progress, &stopped).await;
        }
        let reading = ConnectionSettings::reading(super::GATE);
        let proving = Proving {
            session: &database.session,
            located,
            assertions: &self.args.assertions,
            settings: &reading,
            console: &self.context.console,
        };
        let faults = proving.faults(&before).await;
        let mut faults = faults.map_err(database::failure)?;
        faults.append(&mut progress.faults);
        let schema = located.name();
        if !faults.is_empty() {
            let why = faults.join("; ");
            self.note(database, Event::Stopped { schema, why })?;
            return Ok(Conclusion::Unproved { failed: faults });
        }
        self.note(database, Event::Verified { schema })?;
        Ok(if runs {
            Conclusion::Verified
        } else {
            Conclusion::NothingPending
        })
    }

    /// Applies everything, one migration at a time where the tool can be made to. Gives why it stopped, if
    /// it did.
    async fn apply(
        &self,
        database: &Locked,
        located: &Located,
        before: &Before,
        progress: &mut Progress,
    ) -> Result<Option<Stopped>, Failure> {
        let mut pending = progress.planned.clone();
        loop {
            let one_by_one = located.schema.schema.runs_one_by_one();
            progress.step = if one_by_one {
                pending.iter().take(1).cloned().collect()
            } else {
                pending
            };
            progress.attempts = 0;
            self.refuse_unlike_rehearsed(database, located, progress)
                .await?;
            if let Some(stopped) = self.apply_step(database, located, before, progress).await? {
                return Ok(Some(stopped));
            }
            if self
                .differs_from_rehearsed(database, located, progress)
                .await?
            {
                return Ok(None);
            }
            pending = self.pending(database, located).await?;
            if !one_by_one || pending.is_empty() {
                return Ok(None);
            }
        }
    }

    /// Refuses to let a migration loose on another schema than the one it was rehearsed on.
    async fn refuse_unlike_rehearsed(
        &self,
        database: &Locked,
        located: &Located,
        progress: &Progress,
    ) -> Result<(), Failure> {
        let (Some(rehearsed), Some(first)) = (&self.rehearsed, progress.step.first()) else {
            return Ok(());
        };
        let now = catalog::read(&database.session, &database.group);
        let now = now.await.map_err(database::failure)?.fingerprint();
        match rehearsed.wrong_before(&located.name(), first, &now) {
            Some(wrong) => Err(Failure::message(
                Kind::Gate,
                format!("schema `{}`: {wrong}", located.name()),
            )
            .hint("rehearse again on a copy of what is there now")),
            None => Ok(()),
        }
    }

    /// Whether what was applied made another schema than in the rehearsal.
    async fn differs_from_rehearsed(
        &self,
        database: &Locked,
        located: &Located,
        progress: &mut Progress,
    ) -> Result<bool, Failure> {
        let (Some(rehearsed), Some(last)) = (&self.rehearsed, progress.step.last()) else {
            return Ok(false);
        };
        let now = catalog::read(&database.session, &database.group);
        let now = now.await.map_err(database::failure)?.fingerprint();
        let wrong = rehearsed.wrong_after(&located.name(), last, &now);
        let differs = wrong.is_some();
        progress.faults.extend(wrong);
        Ok(differs)
    }

    /// Starts the tool until the step is applied.
    async fn apply_step(
        &self,
        database: &Locked,
        located: &Located,
        before: &Before,
        progress: &mut Progress,
    ) -> Result<Option<Stopped>, Failure> {
        loop {
            progress.attempts += 1;
            progress.starts += 1;
            let attempted = self.attempt(database, located, before, progress).await?;
            match attempt::next(&attempted.observed, progress.attempts, &self.patience) {
                Next::Verify => return Ok(None),
                Next::Retry { failed } => {
                    self.mark_rolled_back(database, located, &failed).await?;
                    let pause = self.patience.pause_after(progress.attempts);
                    self.context.console.progress(format!(
                        "schema `{}`: a lock did not come and nothing was changed; again in {}",
                        located.name(),
                        values::show_duration(pause)
                    ));
                    self.pause(pause).await?;
                }
                Next::Stop(stopped) => {
                    progress.differences = catalog::shown(&attempted.before, &attempted.after);
                    if let Stopped::LockTimedOut { failed } = &stopped {
                        self.mark_rolled_back(database, located, failed).await?;
                    }
                    return Ok(Some(stopped));
                }
            }
        }
    }

    async fn attempt(
        &self,
        database: &Locked,
        located: &Located,
        before: &Before,
        progress: &mut Progress,
    ) -> Result<Attempted, Failure> {
        let session = &database.session;
        let was = catalog::read(session, &database.group)
            .await
            .map_err(database::failure)?;
        self.confirm_lock(database).await?;
        self.note(
            database,
            Event::Attempt {
                schema: located.name(),
                number: progress.attempts,
                fingerprint: was.fingerprint().to_string(),
                pending: progress.step.clone(),
            },
        )?;
        let (end, output) = self.start_tool(session, located, progress).await?;
        self.note(
            database,
            Event::Ended {
                schema: located.name(),
                end: shown(end),
            },
        )?;
        let is = catalog::read(session, &database.group)
            .await
            .map_err(database::failure)?;
        let migrations = self.outcomes(database, located, &progress.step).await?;
        let applied = migrations.iter().flatten();
        let applied = applied
            .filter(|one| one.standing == Standing::Applied)
            .count();
        let invalid = verify::new_invalid_indexes(session, before).await;
        let observed = Observed {
            end,
            lock_timed_out: tool::says_lock_timeout(&output),
            migrations,
            catalog: catalog::compare(&was, &is, applied),
            invalid_indexes: invalid.map_err(database::failure)?,
        };
        Ok(Attempted {
            observed,
            before: was,
            after: is,
        })
    }

    async fn start_tool(
        &self,
        session: &Session,
        located: &Located,
        progress: &mut Progress,
    ) -> Result<(ToolEnd, KeptOutput), Failure> {
        let name = located.name();
        let tool_database = self.tool_database(session, located);
        let stage = self.stage(session, located, &progress.step).await?;
        let child = tool::apply(
            &located.schema.schema,
            stage.as_ref(),
            &self.tool,
            &tool_database,
            &self.context.environment,
        );
        let console = &self.context.console;
        console.info(format!(
            "schema `{name}`: {}, attempt {}",
            progress.step.join(", "),
            progress.attempts
        ));
        let running = child.keep(&self.context.environment, &self.context.cancel);
        let watching = watch::watch(session, console, &mut progress.in_the_way);
        let result = tokio::select! {
            result = running => result,
            never = watching => match never {},
        };
        // What a client leaves behind that is gone goes on in the server.
        let is_left =
            !matches!(&result, Ok((ended, _)) if matches!(ended.result, ChildResult::Exited(_)));
        if is_left {
            watch::end_sessions(session, console)
                .await
                .map_err(database::failure)?;
        }
        let (ended, mut output) = result?;
        let mut secrets = located.url.secrets();
        secrets.push(tool_database.url.clone());
        tool::redact(&mut output, &secrets);
        let title = format!("what the tool of schema `{name}` wrote");
        let lines: Vec<&str> = output.lines.iter().map(String::as_str).collect();
        console.untrusted(title, &lines.join("\n"));
        progress.output = self.keep_output(&name, progress.starts, &output);
        let end = match ended.result {
            ChildResult::Exited(0) => ToolEnd::Success,
            ChildResult::Exited(code) => ToolEnd::Code(code),
            ChildResult::Killed => ToolEnd::Killed,
            ChildResult::TimedOut(_) => ToolEnd::TimedOut,
        };
        Ok((end, output))
    }

    /// A copy of the schema with what is applied and the step, for a tool that is to apply nothing else.
    async fn stage(
        &self,
        session: &Session,
        located: &Located,
        step: &[String],
    ) -> Result<Option<Stage>, Failure> {
        let schema = &located.schema.schema;
        if !schema.runs_one_by_one() {
            return Ok(None);
        }
        let ledger = read_ledger(session, located)
            .await
            .map_err(database::failure)?;
        let standings = standings(&ledger, &located.schema.migrations);
        let later = |name: &String| {
            let mut open = standings.iter();
            open.any(|one| one.name == *name && one.state.will_run()) && !step.contains(name)
        };
        let migrations = located.schema.migrations.iter();
        let staged: Vec<&Migration> = migrations.filter(|one| !later(&one.name)).collect();
        Stage::of(schema, &staged).map_err(|cause| {
            let text = format!(
                "copy the schema `{}` to apply one migration at a time",
                located.name()
            );
            Failure::input(anyhow::Error::new(cause).context(text))
        })
    }

    /// How the tool reaches the database. Its server is asked to look for it now and then: a statement whose
    /// client is gone would otherwise run on, and be committed.
    fn tool_database(&self, session: &Session, located: &Located) -> ToolDatabase {
        let settings = ConnectionSettings {
            application_name: tool::APPLICATION_NAME.to_owned(),
            lock_timeout: self.args.lock_timeout,
            statement_timeout: self.args.statement_timeout,
        };
        let more: &[(&str, &str)] = if session.version().major() >= 14 {
            &[("client_connection_check_interval", "2s")]
        } else {
            &[]
        };
        let url = located.url.with_settings(&settings, more);
        // It is another text than the one that was given, with the same password in it.
        self.context.console.mask(&url);
        ToolDatabase {
            url,
            options: located.url.options_with(&settings, more),
        }
    }

    pub(super) async fn mark_rolled_back(
        &self,
        database: &Locked,
        located: &Located,
        failed: &[String],
    ) -> Result<(), Failure> {
        for migration in failed {
            let schema = &located.schema.schema;
            let tool_database = self.tool_database(&database.session, located);
            let environment = &self.context.environment;
            let marking =
                tool::mark_rolled_back(schema, migration, &self.tool, &tool_database, environment);
            let Some(child) = marking else {
                continue;
            };
            self.note(
                database,
                Event::Resolving {
                    schema: located.name(),
                    migration: migration.clone(),
                },
            )?;
            let (ended, output) = child.keep(environment, &self.context.cancel).await?;
            if !ended.result.is_success() {
                let last: Vec<&str> = output
                    .lines
                    .iter()
                    .rev()
                    .take(5)
                    .rev()
                    .map(String::as_str)
                    .collect();
                let text = format!(
                    "schema `{}`: migration `{migration}` could not be marked as rolled back: {}",
                    located.name(),
                    last.join(" ")
                );
                return Err(Failure::message(Kind::Gate, text)
                    .hint("mark it by hand; nothing of it is in the database"));
            }
        }
        Ok(())
    }

    async fn stop(
        &self,
        database: &Locked,
        located: &Located,
        progress: &Progress,
        stopped: &Stopped,
    ) -> Result<Conclusion, Failure> {
        let in_the_way = progress.in_the_way.text();
        let schema = located.name();
        let resolve = tool::resolve_words(&located.schema.schema, &self.tool);
        let about = About {
            schema: &schema,
            in_the_way: &in_the_way,
            attempts: progress.attempts,
            resolve: resolve.as_deref(),
        };
        let seen = words::seen(stopped, &about);
        let how_to_go_on = words::how_to_go_on(stopped, &about);
        let why = seen.clone();
        self.note(
            database,
            Event::Stopped {
                schema: located.name(),
                why,
            },
        )?;
        Ok(Conclusion::Stopped {
            seen,
            how_to_go_on,
            nothing_is_left: stopped.leaves_nothing(),
        })
    }

    /// The migrations that the tool would run now.
    async fn pending(&self, database: &Locked, located: &Located) -> Result<Vec<String>, Failure> {
        let ledger = read_ledger(&database.session, located)
            .await
            .map_err(database::failure)?;
        let standings = standings(&ledger, &located.schema.migrations);
        let pending = standings.into_iter().filter(|one| one.state.will_run());
        Ok(pending.map(|one| one.name).collect())
    }

    /// Where the migrations stand that were pending; `None` for a tool whose ledger is not known.
    async fn outcomes(
        &self,
        database: &Locked,
        located: &Located,
        pending: &[String],
    ) -> Result<Option<Vec<Outcome>>, Failure> {
        let ledger = read_ledger(&database.session, located)
            .await
            .map_err(database::failure)?;
        let migrations = &located.schema.migrations;
        let mut outcomes = Vec::new();
        for one in standings(&ledger, migrations) {
            if !pending.contains(&one.name) {
                continue;
            }
            let standing = match one.state {
                State::Applied | State::Edited { .. } | State::Missing => Standing::Applied,
                State::Failed { .. } | State::Unknown { .. } => Standing::Failed,
                State::Pending | State::OutOfOrder { .. } | State::WillRerun => Standing::Pending,
                State::Untracked => return Ok(None),
            };
            let migration = migrations
                .iter()
                .find(|migration| migration.name == one.name);
            outcomes.push(Outcome {
                name: one.name,
                standing,
                may_write_rows: migration
                    .is_none_or(|migration: &Migration| catalog::may_write_rows(migration)),
            });
        }
        Ok(Some(outcomes))
    }

    async fn ending(
        &self,
        database: &Locked,
        located: &Located,
        progress: Progress,
        conclusion: Conclusion,
    ) -> Ending {
        let left = match &conclusion {
            Conclusion::Verified | Conclusion::NothingPending => Vec::new(),
            Conclusion::Stopped { .. }
            | Conclusion::Unproved { .. }
            | Conclusion::Failed { .. }
            | Conclusion::Restored { .. }
            | Conclusion::NotBegun => self.left(database, located).await,
        };
        let applied = progress.planned.iter().filter(|name| !left.contains(name));
        Ending {
            schema: located.name(),
            database: database.place(),
            applied: applied.cloned().collect(),
            left,
            attempts: progress.starts,
            conclusion,
            differences: progress.differences,
            output: progress.output,
            not_restored: None,
            hints: Vec::new(),
        }
    }

    /// What is not applied, as far as that can be read now.
    async fn left(&self, database: &Locked, located: &Located) -> Vec<String> {
        let Ok(ledger) = read_ledger(&database.session, located).await else {
            return vec!["not known: the database does not answer".to_owned()];
        };
        let standings = standings(&ledger, &located.schema.migrations);
        let left = standings
            .into_iter()
            .filter(|one| one.state != State::Applied);
        left.map(|one| one.name).collect()
    }

    async fn confirm_lock(&self, database: &Locked) -> Result<(), Failure> {
        if database.lock.confirm().await.map_err(database::failure)? {
            return Ok(());
        }
        let text = format!("{}: the lock of this gate is gone", database.place());
        Err(Failure::message(Kind::Remote, text)
            .hint("its connection was cut; run this step again"))
    }

    async fn pause(&self, pause: std::time::Duration) -> Result<(), Failure> {
        tokio::select! {
            () = tokio::time::sleep(pause) => Ok(()),
            signal = self.context.cancel.cancelled() => {
                let text = format!("{} between two attempts; nothing was changed", signal.name());
                Err(Failure::message(Kind::Cancelled(signal), text))
            }
        }
    }

    fn note(&self, database: &Locked, event: Event) -> Result<(), Failure> {
        let mut journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        let written = journal.write(Timestamp::now(), &database.place(), event);
        written.map_err(super::unusable)
    }

    fn keep_output(&self, schema: &str, start: u32, output: &KeptOutput) -> Option<PathBuf> {
        let mut text = String::new();
        if output.lines_left_out > 0 {
            text.push_str(&format!("({} lines before these)\n", output.lines_left_out));
        }
        for line in &output.lines {
            text.push_str(line);
            text.push('\n');
        }
        let journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        match journal.keep(&format!("{schema}.{start}.log"), &text) {
            Ok(path) => Some(path),
            Err(cause) => {
                let text =
                    format!("what the tool of schema `{schema}` wrote was not kept: {cause}");
                self.context.console.warning("migrate-gate", text);
                None
            }
        }
    }
}

impl Locked {
    pub(super) fn place(&self) -> String {
        self.session.place().to_string()
    }
}

fn failed(failure: &Failure) -> Conclusion {
    let mut hints = failure.hints().to_vec();
    if matches!(failure.kind(), Kind::Cancelled(_)) {
        hints.push("run this step again: it goes on where this one was".to_owned());
    }
    Conclusion::Failed {
        what: failure.chain(),
        hints,
        kind: failure.kind(),
    }
}

fn shown(end: ToolEnd) -> String {
    match end {
        ToolEnd::Success => "success".to_owned(),
        ToolEnd::Code(code) => format!("exit code {code}"),
        ToolEnd::Killed => "killed".to_owned(),
        ToolEnd::TimedOut => "timed out".to_owned(),
    }
}
