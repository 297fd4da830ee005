//! One server, from its last user with the old version to its first one with the new:
//!
//! ```text
//! drain → quiet, else maint at the limit → maint → update → healthy at its own address
//!       → drain → every HAProxy finds it well → ready → every HAProxy uses it
//! ```
//!
//! Maintenance comes before the update in any case: a drained server still gets users that are bound to it
//! by a cookie. It is left through `drain`, so that HAProxy's own checks pass before the first user comes.

use std::time::Duration;

use switchyard_runner::values::show_duration;
use switchyard_runner::{Failure, Kind};
use switchyard_servers::journal::Stage;
use switchyard_servers::plan::Task;
use switchyard_servers::{Admin, Process};

use super::health::Health;
use super::observe::{Quiet, Watch, cancelled};
use super::report::Fate;
use super::roll::Roll;

/// Most time to put a server back when the step has to end.
const HASTE: Duration = Duration::from_secs(3);

/// Updates one server.
///
/// # Errors
/// Where it stopped; the report and the state file say what has become of the server.
pub(super) async fn renew(
    roll: &Roll<'_>,
    task: &Task,
    processes: Vec<Process>,
) -> Result<(), Failure> {
    let longest_request = roll.inputs.longest_request;
    let mut watch = Watch::new(
        roll.context,
        roll.fleet,
        &task.name,
        processes,
        longest_request,
    );
    match task.left_at {
        None | Some(Stage::Draining | Stage::Done) => {
            roll.note(&task.name, Stage::Draining)?;
            if let Err(failure) = take_out(roll, task, &mut watch).await {
                put_back(roll, task, &mut watch).await?;
                return Err(failure);
            }
            update(roll, task, &mut watch).await?;
        }
        Some(Stage::Updating) => {
            roll.fate(&task.name, Fate::Out(Stage::Updating));
            roll.context.console.info(format_args!(
                "{}: an earlier run was stopped in its update, which is run again",
                task.name
            ));
            watch.tell(Admin::Maint, roll.inputs.timeout).await?;
            let quiet = watch.quiet(longest_request).await?;
            roll.quiet(&task.name, quiet);
            update(roll, task, &mut watch).await?;
        }
        Some(Stage::Verified) => {
            roll.fate(&task.name, Fate::Out(Stage::Verified));
            watch.tell(Admin::Drain, roll.inputs.timeout).await?;
        }
    }
    take_back(roll, task, &mut watch).await
}

/// From the old version's last new user to its last request.
async fn take_out(roll: &Roll<'_>, task: &Task, watch: &mut Watch<'_>) -> Result<(), Failure> {
    let inputs = roll.inputs;
    watch.tell(Admin::Drain, inputs.timeout).await?;
    let drained = watch.quiet(inputs.drain_timeout).await?;
    if let Quiet::Left(count) = drained {
        let limit = show_duration(inputs.drain_timeout);
        roll.warn(format_args!(
            "{}: {count} still under way after {limit} (`drain-timeout`): it goes into maintenance, and users bound to it go to other servers",
            task.name
        ));
    }
    watch.tell(Admin::Maint, inputs.timeout).await?;
    // What came between the last look and maintenance, and what outlived the limit.
    let quiet = match (drained, watch.quiet(inputs.longest_request).await?) {
        (Quiet::Unseen, Quiet::Seen) => Quiet::Unseen,
        (Quiet::Seen | Quiet::Unseen | Quiet::Left(_), quiet) => quiet,
    };
    if let Quiet::Left(count) = quiet {
        roll.warn(format_args!(
            "{}: {count} still under way after another {} (`longest-request`): the update cuts them",
            task.name,
            show_duration(inputs.longest_request)
        ));
    }
    roll.quiet(&task.name, quiet);
    if let Some(signal) = roll.context.cancel.requested() {
        return Err(cancelled(signal, &task.name));
    }
    Ok(())
}

/// The update itself and the proof that it is healthy; the server is out of the traffic meanwhile.
async fn update(roll: &Roll<'_>, task: &Task, watch: &mut Watch<'_>) -> Result<(), Failure> {
    roll.note(&task.name, Stage::Updating)?;
    roll.fate(&task.name, Fate::Out(Stage::Updating));
    roll.context
        .console
        .info(format_args!("{}: updating {}", task.name, task.address));
    watch
        .while_held(roll.update.run(task, roll.context, &roll.client))
        .await
}

/// From the new version's health to its first user.
async fn take_back(roll: &Roll<'_>, task: &Task, watch: &mut Watch<'_>) -> Result<(), Failure> {
    let limit = roll.inputs.timeout;
    let verified = verify(roll, task, watch).await;
    if let Err(failure) = verified {
        if task.left_at == Some(Stage::Verified) {
            // It was found healthy by an earlier run, and is not now: out, and to be updated again.
            roll.note(&task.name, Stage::Updating)?;
        }
        stay_out(roll, watch).await;
        return Err(failure);
    }
    roll.note(&task.name, Stage::Verified)?;
    roll.fate(&task.name, Fate::Out(Stage::Verified));
    watch.tell(Admin::Drain, limit).await?;
    if let Err(failure) = watch.until_well(limit).await {
        stay_out(roll, watch).await;
        return Err(failure);
    }
    watch.tell(Admin::Ready, limit).await?;
    watch.until_well(limit).await?;
    roll.note(&task.name, Stage::Done)?;
    roll.fate(&task.name, Fate::Updated);
    Ok(())
}

async fn verify(roll: &Roll<'_>, task: &Task, watch: &mut Watch<'_>) -> Result<(), Failure> {
    let health = Health::of(roll.inputs);
    let checked = async {
        tokio::select! {
            checked = health.wait(task, &roll.client, &roll.context.console) => checked,
            signal = roll.context.cancel.cancelled() => Err(cancelled(signal, &task.name)),
        }
    };
    watch.while_held(checked).await
}

/// A server that is not known to be good goes into maintenance, where it mostly is already.
async fn stay_out(roll: &Roll<'_>, watch: &mut Watch<'_>) {
    let limit = roll.haste(HASTE);
    if let Err(failure) = watch.tell(Admin::Maint, limit).await
        && !matches!(failure.kind(), Kind::Cancelled(_))
    {
        roll.warn(&failure);
    }
}

/// A server with its old version goes back to its users.
async fn put_back(roll: &Roll<'_>, task: &Task, watch: &mut Watch<'_>) -> Result<(), Failure> {
    if watch.put_back(roll.haste(HASTE)).await {
        roll.fate(&task.name, Fate::PutBack);
        return roll.forget(&task.name);
    }
    roll.fate(&task.name, Fate::Out(Stage::Draining));
    roll.warn(format_args!(
        "{}: it has its old version, and not every HAProxy confirms that it is back: one that did not answer may still take it out",
        task.name
    ));
    Ok(())
}
