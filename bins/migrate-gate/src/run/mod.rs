//! `run`: applies what was approved, under limits, and proves it.
//!
//! Databases run beside each other, the schemas of one in turn. Every step is written down before it is
//! done. What stops leaves the database as it stands, with what ran, what did not, and how to go on.

mod assertions;
mod attempt;
mod book;
mod catalog;
mod emptied;
mod generate;
mod inputs;
mod journal;
mod one;
mod rehearsed;
mod report;
mod restore;
mod resume;
mod role_limits;
mod start;
mod tool;
mod verify;
mod watch;
mod words;

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use futures::future::join_all;
use switchyard_postgres::{
    AdvisoryLock, ConnectionSettings, ConnectionUrl, GATE_LOCK, LockWait, Session,
};
use switchyard_runner::{Context, Failure, Kind};
use tokio::sync::Mutex;

pub(crate) use generate::run as generate;
use inputs::ToolArgs;
pub(crate) use inputs::{GenerateArgs, RunArgs, positive};

use crate::database::{self, DatabaseGroup};
use crate::plan::{self, Plan};
use crate::project::{SchemaMigrations, Tool};
use crate::{project, trusted};
use attempt::Patience;
use book::Book;
use rehearsed::Rehearsed;
use report::{Ending, Report};
use restore::Backups;
use tool::ToolInputs;

/// How our own sessions call themselves.
const GATE: &str = "switchyard migrate-gate";

/// Everything that the runs of all databases share.
#[derive(Debug)]
struct Run<'a> {
    args: &'a RunArgs,
    context: &'a Context,
    tool: ToolInputs,
    patience: Patience,
    rehearsed: Option<Rehearsed>,
    backups: Backups,
    journal: PathBuf,
    book: Mutex<Book>,
    /// Set when a schema has stopped: then no further one is begun.
    has_stopped: AtomicBool,
}

/// A database that this gate has for itself.
struct Locked {
    group: DatabaseGroup,
    lock: AdvisoryLock,
    session: Session,
}

/// Applies everything pending.
///
/// # Errors
/// Kind gate: another plan was approved, a ledger is broken, a migration failed, a proof failed, another
/// gate works; kind remote: a server fails; kind input: bad inputs.
pub(crate) async fn run(args: RunArgs, context: &mut Context) -> Result<(), Failure> {
    trusted::require(&context.environment, "run")?;
    let schemas = project::read(&args.project)?;
    require_scripts(&schemas)?;
    let tool = tool_inputs(&args.tool)?;
    let names: Vec<String> = schemas
        .iter()
        .map(|one| one.schema.name.to_string())
        .collect();
    args.assertions
        .check(&names)
        .map_err(|cause| Failure::message(Kind::Input, format!("input `assertions`: {cause}")))?;
    let groups = database::locate(&args.database, schemas, &context.console)?;
    let rehearsal = args.rehearsal.as_deref();
    let rehearsed = rehearsal
        .map(|path| Rehearsed::read(path, &groups, &context.console))
        .transpose()?;
    let backups = Backups::find(&args, &groups, context).await?;
    let journal = journal_path(&args, context);
    let book = Book::open(&journal, &args.deployment, context).await?;
    let run = Run {
        rehearsed,
        backups,
        patience: Patience {
            attempts: args.attempts,
            pause: args.retry_pause,
        },
        args: &args,
        context,
        tool,
        journal,
        book: Mutex::new(book),
        has_stopped: AtomicBool::new(false),
    };
    let done = run.all(groups).await;
    let mut book = run.book.into_inner();
    let concluded = conclude(done, &mut book, context).await;
    book.close().await;
    concluded
}

/// Tells what came of it; the deployment goes on where everything is applied and proved.
async fn conclude(
    done: Result<Report, Failure>,
    book: &mut Book,
    context: &mut Context,
) -> Result<(), Failure> {
    let report = done?;
    report.publish(context)?;
    report.verdict()?;
    book.conclude(context).await
}

impl Run<'_> {
    async fn all(&self, groups: Vec<DatabaseGroup>) -> Result<Report, Failure> {
        let files = resume::files_digest(groups.iter());
        let locked = self.lock_all(groups).await?;
        for database in &locked {
            self.settle_earlier(database).await?;
            self.settle_failed(database).await?;
        }
        let plan = self.plan(&locked).await?;
        self.refuse_unapproved(&plan, &locked, &files).await?;
        let digest = self.args.approved_digest.clone();
        let digest = digest.unwrap_or_else(|| plan.digest.to_string());
        let runs = locked
            .iter()
            .map(|database| self.database(database, &digest, &files));
        let endings: Vec<Vec<Ending>> = join_all(runs).await;
        for database in locked {
            // A session that is gone has let go already.
            let _ = database.lock.release().await;
        }
        Ok(Report::new(digest, endings.into_iter().flatten().collect()))
    }

    /// What would run now, with every database to ourselves.
    async fn plan(&self, databases: &[Locked]) -> Result<Plan, Failure> {
        let groups: Vec<&DatabaseGroup> = databases.iter().map(|one| &one.group).collect();
        let plan = plan::make(&groups, self.context).await?;
        plan.require_sound()?;
        if let Some(rehearsed) = &self.rehearsed {
            rehearsed.require_all(&plan, &self.context.console)?;
        }
        Ok(plan)
    }

    /// Takes the locks in an order that every gate has, so that no two wait for each other.
    async fn lock_all(&self, groups: Vec<DatabaseGroup>) -> Result<Vec<Locked>, Failure> {
        let mut groups: Vec<(usize, DatabaseGroup)> = groups.into_iter().enumerate().collect();
        groups.sort_by_key(|(_, group)| group.url.to_string());
        let mut locked = Vec::new();
        for (place, group) in groups {
            locked.push((place, self.lock(group).await?));
        }
        locked.sort_by_key(|(place, _)| *place);
        Ok(locked.into_iter().map(|(_, database)| database).collect())
    }

    async fn lock(&self, group: DatabaseGroup) -> Result<Locked, Failure> {
        let settings = ConnectionSettings::reading(GATE);
        let open = || async {
            let opened = Session::open(&group.url, &settings).await;
            opened.map_err(database::failure)
        };
        let (holding, session) = (open().await?, open().await?);
        let place = session.place().to_string();
        let wait = LockWait::up_to(self.args.gate_timeout);
        let console = &self.context.console;
        let locking = AdvisoryLock::acquire(holding, GATE_LOCK, wait, |holder, waited| {
            let holder = watch::without_statement(holder);
            let waited = waited.as_secs();
            console.progress(format!(
                "{place}: another gate works there for {waited} s: {holder}"
            ));
        });
        let lock = tokio::select! {
            lock = locking => lock.map_err(lock_failure)?,
            signal = self.context.cancel.cancelled() => {
                let text = format!("{} while waiting for another gate", signal.name());
                return Err(Failure::message(Kind::Cancelled(signal), text));
            }
        };
        Ok(Locked {
            group,
            lock,
            session,
        })
    }

    /// What an earlier run left: a tool that goes on by itself, time limits of the role.
    async fn settle_earlier(&self, database: &Locked) -> Result<(), Failure> {
        let console = &self.context.console;
        let session = &database.session;
        let left = watch::wait_for_earlier(session, console, self.args.gate_timeout).await;
        if let Some(left) = left.map_err(database::failure)? {
            return Err(Failure::message(Kind::Gate, left)
                .hint("end them, or wait until they have ended, and run this step again"));
        }
        self.settle_limits(database).await
    }

    /// Gives every role of the database the time limits back that a killed run took from it.
    async fn settle_limits(&self, database: &Locked) -> Result<(), Failure> {
        for url in database.urls_of_roles() {
            let session = database::open_for_reading(url).await?;
            let limits = role_limits::read(&session).await;
            if !role_limits::has_ours(&limits.map_err(database::failure)?) {
                continue;
            }
            let before = {
                let book = self.book.lock().await;
                journal::limits_before(&book.open_events(&database.place()), url.role())
            };
            role_limits::give_back(&session, &before)
                .await
                .map_err(database::failure)?;
            self.context.console.info(format!(
                "{}: time limits of role `{}` that an earlier run left are taken back",
                database.place(),
                url.role()
            ));
        }
        Ok(())
    }
}

impl Locked {
    /// Database and server, as texts and the journal name them.
    fn place(&self) -> String {
        self.session.place().to_string()
    }

    /// A URL for each role that logs in to the database.
    fn urls_of_roles(&self) -> Vec<&ConnectionUrl> {
        let mut urls: Vec<&ConnectionUrl> = Vec::new();
        for located in &self.group.schemas {
            if urls.iter().all(|url| url.role() != located.url.role()) {
                urls.push(&located.url);
            }
        }
        urls
    }
}

fn require_scripts(schemas: &[SchemaMigrations]) -> Result<(), Failure> {
    let mut schemas = schemas.iter().map(|one| &one.schema);
    let without = schemas.find(|one| one.tool == Tool::Command && one.command.is_none());
    let Some(schema) = without else {
        return Ok(());
    };
    let text = format!(
        "schema `{}` has tool `command`, and there is none",
        schema.name
    );
    Err(Failure::message(Kind::Input, text)
        .hint("give `script`, or `command` in the schema: the script that runs everything pending"))
}

fn tool_inputs(args: &ToolArgs) -> Result<ToolInputs, Failure> {
    let prisma: Vec<String> = args.prisma.split_whitespace().map(str::to_owned).collect();
    if prisma.is_empty() {
        return Err(Failure::message(Kind::Input, "input `prisma` has no word"));
    }
    Ok(ToolInputs {
        prisma,
        variables: args.variables.clone().into_vec(),
        time_limit: args.tool_timeout,
    })
}

fn journal_path(args: &RunArgs, context: &Context) -> PathBuf {
    match (&args.journal, context.environment.get("RUNNER_TEMP")) {
        (Some(path), _) => path.clone(),
        (None, Some(folder)) => PathBuf::from(folder).join("switchyard-migrate-gate/journal"),
        (None, None) => PathBuf::from("migrate-gate.journal"),
    }
}

fn unusable(error: journal::JournalError) -> Failure {
    let hint = error.hint();
    Failure::input(error).hint(hint)
}

fn lock_failure(error: switchyard_postgres::LockError) -> Failure {
    let hint = error.hint();
    match error {
        switchyard_postgres::LockError::Postgres(error) => database::failure(error),
        held @ switchyard_postgres::LockError::Held { .. } => Failure::gate(held).maybe_hint(hint),
    }
}
