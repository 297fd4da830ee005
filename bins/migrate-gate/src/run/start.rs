//! One start of a tool: the catalog and the ledger before and after it, and what it left in the server.

use std::path::PathBuf;

use switchyard_postgres::{ConnectionSettings, SchemaDescription, Session};
use switchyard_record::MigrationEvent as Event;
use switchyard_runner::child::{Child, ChildResult, Ended, KeptOutput};
use switchyard_runner::{Failure, Kind};

use super::attempt::{Observed, Outcome, Standing, ToolEnd};
use super::journal;
use super::one::Progress;
use super::tool::{self, Stage, ToolDatabase};
use super::verify::{self, Before};
use super::{Locked, Run, catalog, watch};
use crate::database::{self, Located, read_ledger};
use crate::ledger::{self, State, standings};
use crate::project::Migration;

/// Lines of a tool's output that a message repeats.
const REPEATED: usize = 5;

/// What came of one start of a tool, and the catalog before and after it.
pub(super) struct Attempted {
    pub(super) observed: Observed,
    pub(super) before: SchemaDescription,
    pub(super) after: SchemaDescription,
}

/// Where the migrations of a schema stand, by its ledger.
pub(super) async fn read_standings(
    database: &Locked,
    located: &Located,
) -> Result<Vec<ledger::Standing>, Failure> {
    let ledger = read_ledger(&database.session, located)
        .await
        .map_err(database::failure)?;
    Ok(standings(&ledger, &located.schema.migrations))
}

impl Run<'_> {
    /// Starts the tool for the step once, and looks what came of it.
    pub(super) async fn attempt(
        &self,
        database: &Locked,
        located: &Located,
        was: &Before,
        progress: &mut Progress,
    ) -> Result<Attempted, Failure> {
        let session = &database.session;
        let before = catalog::read(session, &database.group)
            .await
            .map_err(database::failure)?;
        self.refuse_unlike_rehearsed(located, progress, &before)?;
        self.confirm_lock(database).await?;
        self.note(
            database,
            Event::Attempt {
                schema: located.name(),
                number: progress.attempts,
                fingerprint: before.fingerprint().to_string(),
                pending: progress.step.clone(),
            },
        )
        .await?;
        let (end, output) = self.start_tool(database, located, progress).await?;
        self.note(
            database,
            Event::Ended {
                schema: located.name(),
                end: shown(end),
            },
        )
        .await?;
        let after = catalog::read(session, &database.group)
            .await
            .map_err(database::failure)?;
        let standings = read_standings(database, located).await?;
        let migrations = outcomes(&standings, &progress.step, &located.schema.migrations);
        let applied = migrations.iter().flatten();
        let applied: Vec<String> = applied
            .filter(|one| one.standing == Standing::Applied)
            .map(|one| one.name.clone())
            .collect();
        let invalid = verify::new_invalid_indexes(session, was).await;
        let observed = Observed {
            end,
            lock_timed_out: tool::says_lock_timeout(&output),
            catalog: catalog::compare(&before, &after, applied.len()),
            migrations,
            invalid_indexes: invalid.map_err(database::failure)?,
        };
        progress.applied.extend(applied);
        Ok(Attempted {
            observed,
            before,
            after,
        })
    }

    /// Refuses to let a migration loose on another schema than the one it was rehearsed on.
    fn refuse_unlike_rehearsed(
        &self,
        located: &Located,
        progress: &Progress,
        now: &SchemaDescription,
    ) -> Result<(), Failure> {
        let (Some(rehearsed), Some(first)) = (&self.rehearsed, progress.step.first()) else {
            return Ok(());
        };
        match rehearsed.wrong_before(&located.name(), first, &now.fingerprint()) {
            Some(wrong) => Err(Failure::message(
                Kind::Gate,
                format!("schema `{}`: {wrong}", located.name()),
            )
            .hint("rehearse again on a copy of what is there now")),
            None => Ok(()),
        }
    }

    async fn start_tool(
        &self,
        database: &Locked,
        located: &Located,
        progress: &mut Progress,
    ) -> Result<(ToolEnd, KeptOutput), Failure> {
        let (name, session) = (located.name(), &database.session);
        let tool_database = self.tool_database(session, located);
        let stage = stage(database, located, &progress.step).await?;
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
        let running = self.keep(&child, located, &tool_database);
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
        let (ended, output) = result?;
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

    /// Runs a tool and keeps what it wrote, without the secrets that it was given.
    async fn keep(
        &self,
        child: &Child,
        located: &Located,
        given: &ToolDatabase,
    ) -> Result<(Ended, KeptOutput), Failure> {
        let kept = child.keep(&self.context.environment, &self.context.cancel);
        let (ended, mut output) = kept.await?;
        let mut secrets = located.url.secrets();
        secrets.push(given.url.clone());
        tool::redact(&mut output, &secrets);
        Ok((ended, output))
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

    /// Marks migrations as rolled back of which nothing is in the database.
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
            )
            .await?;
            let (ended, output) = self.keep(&child, located, &tool_database).await?;
            if !ended.result.is_success() {
                let first = output.lines.len().saturating_sub(REPEATED);
                let last: Vec<&str> = output.lines.range(first..).map(String::as_str).collect();
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

    async fn confirm_lock(&self, database: &Locked) -> Result<(), Failure> {
        if database.lock.confirm().await.map_err(database::failure)? {
            return Ok(());
        }
        let text = format!("{}: the lock of this gate is gone", database.place());
        Err(Failure::message(Kind::Remote, text)
            .hint("its connection was cut; run this step again"))
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
        match journal::keep(&self.journal, &format!("{schema}.{start}.log"), &text) {
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

/// A copy of the schema with what is applied and the step, for a tool that is to apply nothing else.
async fn stage(
    database: &Locked,
    located: &Located,
    step: &[String],
) -> Result<Option<Stage>, Failure> {
    let schema = &located.schema.schema;
    if !schema.runs_one_by_one() {
        return Ok(None);
    }
    let standings = read_standings(database, located).await?;
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

/// Where the migrations of a step stand; `None` for a tool whose ledger is not known.
fn outcomes(
    standings: &[ledger::Standing],
    step: &[String],
    migrations: &[Migration],
) -> Option<Vec<Outcome>> {
    let of_step = standings.iter().filter(|one| step.contains(&one.name));
    let outcomes = of_step.map(|one| {
        let standing = match one.state {
            State::Applied | State::Edited { .. } | State::Missing => Standing::Applied,
            State::Failed { .. } | State::Unknown { .. } => Standing::Failed,
            State::Pending | State::OutOfOrder { .. } | State::WillRerun => Standing::Pending,
            State::Untracked => return None,
        };
        let mut migrations = migrations.iter();
        let migration = migrations.find(|migration| migration.name == one.name);
        Some(Outcome {
            name: one.name.clone(),
            standing,
            may_write_rows: migration.is_none_or(catalog::may_write_rows),
        })
    });
    outcomes.collect()
}

fn shown(end: ToolEnd) -> String {
    match end {
        ToolEnd::Success => "success".to_owned(),
        ToolEnd::Code(code) => format!("exit code {code}"),
        ToolEnd::Killed => "killed".to_owned(),
        ToolEnd::TimedOut => "timed out".to_owned(),
    }
}
