//! `backfill`: changes the rows of a table batch by batch, along a key, at a pace that traffic does not notice, and goes
//! on where it stopped.
//!
//! It refuses to know migrations: what is set, and which rows are left to do, is said by the inputs.

mod inputs;
mod lag;
mod pace;
mod position;
mod table;
mod work;

use std::path::Path;
use std::time::Instant;

use switchyard_postgres::{
    AdvisoryLock, ConnectionSettings, ConnectionUrl, LockError, LockKey, LockWait, Session,
};
use switchyard_runner::{Context, Failure, Kind, values};

use crate::{database, report_file, trusted};
pub(crate) use inputs::BackfillArgs;
use position::{Job, Position};
use table::Table;
use work::{APPLICATION_NAME, Outcome, Work, of_position};

/// One backfill at a time in a database: `swtchbfl` in ASCII. A gate may run beside it.
const BACKFILL_LOCK: LockKey = LockKey(i64::from_be_bytes(*b"swtchbfl"));

/// Works until no row is left.
///
/// # Errors
/// Kind input for a table, key or SQL that cannot be used; kind gate when rows are left; kind remote.
pub(crate) async fn run(args: BackfillArgs, context: &mut Context) -> Result<(), Failure> {
    trusted::require(&context.environment, "backfill")?;
    let url = database::parse_url("input `database-url`", &args.database_url, &context.console)?;
    let asked = args.position_file.as_deref();
    let path = report_file::path(asked, "migrate-gate-backfill.json", context);
    let looking = database::open_for_reading(&url).await?;
    let table = Table::find(&looking, &args.table, &args.key).await;
    let table = table.map_err(database::failure)?.map_err(Failure::input)?;
    let lock = lock(&args, &url, context).await?;
    // Not before: whoever had the lock until now has moved it on.
    let mut position = Position::read(&path, job(&args, &url, &table)).map_err(of_position)?;
    let session = open(&args, &url).await?;
    if let Some(key) = &position.last_key {
        let text = format!("going on after {} {key}, pass {}", table.key, position.pass);
        context.console.info(text);
    }
    // Written before the first batch: a place that cannot be written to is found out now.
    position.write(&path).map_err(of_position)?;
    let seen_at_begin = position.rows_seen;
    let mut work = Work {
        args: &args,
        table: &table,
        session: &session,
        looking: &looking,
        position: &mut position,
        path: &path,
        console: &context.console,
        started: Instant::now(),
        begin: Instant::now(),
        seen_at_begin,
        told: Instant::now(),
    };
    let ended = tokio::select! {
        outcome = work.run() => Ok(outcome),
        signal = context.cancel.cancelled() => Err(signal),
    };
    let result = match ended {
        Ok(outcome) => conclude(outcome, &args, &position, &path, context),
        Err(signal) => {
            // A batch that is under way is rolled back; nothing else can be done where that is not heard.
            let _ = session.cancel().await;
            let text = format!(
                "{} stopped the backfill: {}",
                signal.name(),
                told(&position)
            );
            Err(Failure::message(Kind::Cancelled(signal), text).hint(go_on(&path)))
        }
    };
    // The server lets go of it by itself when that is not heard.
    let _ = lock.release().await;
    result
}

fn conclude(
    outcome: Result<Outcome, Failure>,
    args: &BackfillArgs,
    position: &Position,
    path: &Path,
    context: &Context,
) -> Result<(), Failure> {
    let (console, outputs) = (&context.console, &context.outputs);
    console.info(told(position));
    outputs.set("rows", position.rows_changed)?;
    outputs.set("verified", matches!(outcome, Ok(Outcome::Done)))?;
    let outcome = outcome.map_err(|failure| match failure.kind() {
        Kind::Remote => failure.hint(go_on(path)),
        Kind::Gate | Kind::Input | Kind::Cancelled(_) | Kind::Bug => failure,
    });
    match outcome? {
        Outcome::Done => {
            let text = format!("### Backfill\n\n{}; no row is left.\n", told(position));
            context.summarize("migrate-gate", &text);
            // The next one of the same form begins anew.
            match std::fs::remove_file(path) {
                Ok(()) => Ok(()),
                Err(cause) => {
                    let text = format!("remove the position `{}`", path.display());
                    Err(Failure::input(anyhow::Error::new(cause).context(text)))
                }
            }
        }
        Outcome::Stopped => {
            let limit = args.stop_after.unwrap_or_default();
            let text = format!(
                "stopped after {}: {}",
                values::show_duration(limit),
                told(position)
            );
            Err(Failure::message(Kind::Gate, text).hint(go_on(path)))
        }
    }
}

fn told(position: &Position) -> String {
    format!(
        "{} rows changed, {} seen in pass {}",
        position.rows_changed, position.rows_seen, position.pass
    )
}

fn go_on(path: &Path) -> String {
    format!("run it again with `{}` to go on", path.display())
}

fn job(args: &BackfillArgs, url: &ConnectionUrl, table: &Table) -> Job {
    Job {
        server: url.server(),
        database: url.database().to_owned(),
        table: table.name.clone(),
        key: table.key.clone(),
        set: args.set.clone(),
        r#where: args.r#where.clone(),
    }
}

async fn open(args: &BackfillArgs, url: &ConnectionUrl) -> Result<Session, Failure> {
    let settings = ConnectionSettings {
        application_name: APPLICATION_NAME.to_owned(),
        lock_timeout: args.lock_timeout,
        statement_timeout: args.statement_timeout,
    };
    let session = Session::open(url, &settings)
        .await
        .map_err(database::failure)?;
    let sql = "SET standard_conforming_strings = on";
    let prepared = session.script("prepare the session", sql).await;
    prepared.map_err(database::failure)?;
    Ok(session)
}

/// A process that was killed may still be at work in the server for some seconds.
async fn lock(
    args: &BackfillArgs,
    url: &ConnectionUrl,
    context: &Context,
) -> Result<AdvisoryLock, Failure> {
    let session = database::open_for_reading(url).await?;
    let wait = LockWait::up_to(args.wait_limit);
    let taken = AdvisoryLock::acquire(session, BACKFILL_LOCK, wait, |holder, waited| {
        let waited = values::show_duration(waited);
        let text = format!("another backfill is at work, waiting since {waited}: {holder}");
        context.console.progress(text);
    });
    taken.await.map_err(|cause| match cause {
        LockError::Held { holder, .. } => Failure::message(
            Kind::Gate,
            format!("another backfill is at work in {url}: {holder}"),
        )
        .hint("wait until it has ended"),
        LockError::Postgres(cause) => database::failure(cause),
    })
}
