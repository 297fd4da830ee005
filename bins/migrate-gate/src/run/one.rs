//! The run of one database: its schemas in turn, each until it is applied and proved, or stops.

use std::path::PathBuf;
use std::sync::atomic::Ordering;

use switchyard_postgres::{ConnectionSettings, ConnectionUrl, SchemaDescription};
use switchyard_record::MigrationEvent as Event;
use switchyard_runner::{Failure, Kind, values};

use super::attempt::{self, Next, Stopped};
use super::inputs::LimitsBy;
use super::report::{Conclusion, Ending};
use super::start::read_standings;
use super::verify::{self, Before, Proving};
use super::watch::InTheWay;
use super::words::{self, About};
use super::{Locked, Run, catalog, role_limits, tool};
use crate::database::{self, Located};
use crate::ledger::State;
use crate::project::Tool;

/// What is known of a schema while it runs.
#[derive(Default)]
pub(super) struct Progress {
    /// What was pending when the run began.
    planned: Vec<String>,
    /// What the present attempt is to apply.
    pub(super) step: Vec<String>,
    /// Attempts at the present step.
    pub(super) attempts: u32,
    /// Starts of the tool in all.
    pub(super) starts: u32,
    /// Migrations that the ledger was seen to call applied.
    pub(super) applied: Vec<String>,
    pub(super) in_the_way: InTheWay,
    pub(super) output: Option<PathBuf>,
    differences: Vec<String>,
    /// What differs from the rehearsal.
    faults: Vec<String>,
}

/// A role whose time limits are ours for as long as the run takes.
struct Limited<'a> {
    url: &'a ConnectionUrl,
    before: role_limits::Before,
}

/// How a step ended.
enum Step {
    /// It is applied, and made this schema.
    Applied(SchemaDescription),
    Stopped(Stopped),
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
        let mut limited = Vec::new();
        let begun = self.begin(database, digest, files, &mut limited).await;
        let mut endings = Vec::new();
        for located in &database.group.schemas {
            let mut progress = Progress::default();
            let conclusion = match &begun {
                Err(failure) => failed(failure),
                Ok(()) if self.has_stopped.load(Ordering::SeqCst) => Conclusion::NotBegun,
                Ok(()) => match self.schema(database, located, &mut progress).await {
                    Ok(conclusion) => conclusion,
                    Err(failure) => failed(&failure),
                },
            };
            if !conclusion.is_good() {
                self.has_stopped.store(true, Ordering::SeqCst);
            }
            endings.push(self.ending(database, located, progress, conclusion).await);
        }
        self.end(database, &limited, &mut endings).await;
        let backups = &self.backups;
        backups
            .go_back(self.args, &database.group, &mut endings, self.context)
            .await;
        self.context.console.info(format!("{place}: done"));
        endings
    }

    async fn begin<'a>(
        &self,
        database: &'a Locked,
        digest: &str,
        files: &str,
        limited: &mut Vec<Limited<'a>>,
    ) -> Result<(), Failure> {
        let (digest, files) = (digest.to_owned(), files.to_owned());
        self.note(database, Event::Begun { digest, files }).await?;
        match self.args.limits {
            LimitsBy::Connection => Ok(()),
            LimitsBy::Role => self.set_limits(database, limited).await,
        }
    }

    /// Sets the time limits of every role; what each had goes into `limited` before it is changed.
    async fn set_limits<'a>(
        &self,
        database: &'a Locked,
        limited: &mut Vec<Limited<'a>>,
    ) -> Result<(), Failure> {
        for url in database.urls_of_roles() {
            let session = database::open_for_reading(url).await?;
            let before = role_limits::read(&session)
                .await
                .map_err(database::failure)?;
            self.note(
                database,
                Event::LimitsSet {
                    role: url.role().to_owned(),
                    before: before.clone(),
                },
            )
            .await?;
            limited.push(Limited { url, before });
            let (lock, statement) = (self.args.lock_timeout, self.args.statement_timeout);
            let set = role_limits::set(&session, lock, statement).await;
            set.map_err(database::failure)?;
        }
        Ok(())
    }

    /// Takes limits back, and closes the journal where nothing is left open.
    async fn end(&self, database: &Locked, limited: &[Limited<'_>], endings: &mut [Ending]) {
        let mut faults = Vec::new();
        for Limited { url, before } in limited {
            let given_back = async {
                let session = database::open_for_reading(url).await?;
                let given_back = role_limits::give_back(&session, before).await;
                given_back.map_err(database::failure)
            };
            faults.extend(given_back.await.err());
        }
        if !limited.is_empty() && faults.is_empty() {
            faults.extend(self.note(database, Event::LimitsTakenBack).await.err());
        }
        let is_done = endings.iter().all(|ending| ending.conclusion.is_good());
        if is_done && faults.is_empty() {
            faults.extend(self.note(database, Event::Done).await.err());
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
        progress.planned = self.pending(database, located).await?;
        let runs = !progress.planned.is_empty() || located.schema.schema.tool == Tool::Command;
        let mut before = None;
        if runs {
            let was = verify::before(&database.session).await;
            let was = was.map_err(database::failure)?;
            if let Some(stopped) = self.apply(database, located, &was, progress).await? {
                return self.stop(database, located, progress, &stopped).await;
            }
            before = Some(was);
        }
        let reading = ConnectionSettings::reading(super::GATE);
        let proving = Proving {
            session: &database.session,
            located,
            assertions: &self.args.assertions,
            settings: &reading,
            console: &self.context.console,
        };
        let faults = proving.faults(before.as_ref()).await;
        let mut faults = faults.map_err(database::failure)?;
        faults.append(&mut progress.faults);
        let schema = located.name();
        if !faults.is_empty() {
            let why = faults.join("; ");
            self.note(database, Event::Stopped { schema, why }).await?;
            return Ok(Conclusion::Unproved { failed: faults });
        }
        self.note(database, Event::Verified { schema }).await?;
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
            let made = match self.apply_step(database, located, before, progress).await? {
                Step::Stopped(stopped) => return Ok(Some(stopped)),
                Step::Applied(made) => made,
            };
            if self.differs_from_rehearsed(located, progress, &made) {
                return Ok(None);
            }
            pending = self.pending(database, located).await?;
            if !one_by_one || pending.is_empty() {
                return Ok(None);
            }
        }
    }

    /// Whether what was applied made another schema than in the rehearsal.
    fn differs_from_rehearsed(
        &self,
        located: &Located,
        progress: &mut Progress,
        made: &SchemaDescription,
    ) -> bool {
        let (Some(rehearsed), Some(last)) = (&self.rehearsed, progress.step.last()) else {
            return false;
        };
        let wrong = rehearsed.wrong_after(&located.name(), last, &made.fingerprint());
        let differs = wrong.is_some();
        progress.faults.extend(wrong);
        differs
    }

    /// Starts the tool until the step is applied.
    async fn apply_step(
        &self,
        database: &Locked,
        located: &Located,
        before: &Before,
        progress: &mut Progress,
    ) -> Result<Step, Failure> {
        loop {
            progress.attempts += 1;
            progress.starts += 1;
            let attempted = self.attempt(database, located, before, progress).await?;
            match attempt::next(&attempted.observed, progress.attempts, &self.patience) {
                Next::Verify => return Ok(Step::Applied(attempted.after)),
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
                    return Ok(Step::Stopped(stopped));
                }
            }
        }
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
        )
        .await?;
        Ok(Conclusion::Stopped {
            seen,
            how_to_go_on,
            nothing_is_left: stopped.leaves_nothing(),
        })
    }

    /// The migrations that the tool would run now.
    async fn pending(&self, database: &Locked, located: &Located) -> Result<Vec<String>, Failure> {
        let standings = read_standings(database, located).await?;
        let pending = standings.into_iter().filter(|one| one.state.will_run());
        Ok(pending.map(|one| one.name).collect())
    }

    /// The ending, with what is applied and what is not: by the ledger as it is now, or as it was last seen.
    async fn ending(
        &self,
        database: &Locked,
        located: &Located,
        progress: Progress,
        conclusion: Conclusion,
    ) -> Ending {
        let (applied, left) = if conclusion.is_good() {
            (progress.applied, Vec::new())
        } else {
            match read_standings(database, located).await {
                Ok(standings) => {
                    let names = |is_meant: &dyn Fn(&State) -> bool| {
                        let meant = standings.iter().filter(|one| is_meant(&one.state));
                        meant.map(|one| one.name.clone()).collect::<Vec<_>>()
                    };
                    let mut applied = names(&|state| *state == State::Applied);
                    applied.retain(|name| progress.planned.contains(name));
                    let left = |state: &State| !matches!(state, State::Applied | State::Untracked);
                    (applied, names(&left))
                }
                Err(_) => {
                    let unknown = "not known: the database does not answer".to_owned();
                    (progress.applied, vec![unknown])
                }
            }
        };
        Ending {
            schema: located.name(),
            database: database.place(),
            applied,
            left,
            attempts: progress.starts,
            conclusion,
            differences: progress.differences,
            output: progress.output,
            not_restored: None,
            hints: Vec::new(),
        }
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

    pub(super) async fn note(&self, database: &Locked, event: Event) -> Result<(), Failure> {
        let mut book = self.book.lock().await;
        book.write(&database.place(), event, self.context).await
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
