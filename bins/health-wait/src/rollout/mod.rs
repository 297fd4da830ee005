//! `rollout`: workloads first, then the start delay, then the HTTP checks, then the warm-up, all
//! the while watching the workloads. It refuses to apply or change anything.

mod step;

use std::time::Instant;

use switchyard_cluster::Deadline;
use switchyard_cluster::rollout::RolloutTarget;
use switchyard_deployment::{Connection, Recorder, connect};
use switchyard_record::Phase;
use switchyard_runner::{Context, Failure, Kind};

use crate::inputs::{RolloutInputs, WorkloadInputs};
use crate::report::Report;
use switchyard_health::access::{Needs, require_access};
use switchyard_health::connection::http_client;

use self::step::Step;

const TITLE: &str = "health-wait rollout";

/// Runs the subcommand.
///
/// # Errors
/// The verdict, and whatever keeps it from being reached.
pub(crate) async fn run(inputs: RolloutInputs, context: &Context) -> Result<(), Failure> {
    let started = Instant::now();
    let mut report = Report::default();
    match execute(&inputs, context, &mut report).await {
        Ok(()) => report.conclude(TITLE, started, context),
        Err(failure) => Err(report.conclude_failed(failure, TITLE, started, context)),
    }
}

async fn execute(
    inputs: &RolloutInputs,
    context: &Context,
    report: &mut Report,
) -> Result<(), Failure> {
    refuse_nonsense(inputs)?;
    let deadline = Deadline::after(inputs.timeout);
    let connection = connect(&inputs.deployment, &context.environment).await?;
    let http = http_client("switchyard-health-wait", context, inputs.timeout)?;
    let mut recorder = tokio::select! {
        recorder = prepare(inputs, &connection, context, deadline) => recorder?,
        signal = context.cancel.cancelled() => return Err(cancelled(signal)),
    };
    let step = Step {
        inputs,
        cluster: &connection.cluster,
        http: &http,
        console: &context.console,
        deadline,
    };
    let stop = recorder.ordered_to_stop();
    let ended = tokio::select! {
        ended = step.wait(report) => ended,
        order = stop => Err(order),
        signal = context.cancel.cancelled() => Err(cancelled(signal)),
    };
    let ended = match ended {
        Ok(()) if report.healthy => recorder.advance(Phase::Ready, context).await,
        other => other,
    };
    recorder.close().await;
    ended
}

async fn prepare(
    inputs: &RolloutInputs,
    connection: &Connection,
    context: &Context,
    deadline: Deadline,
) -> Result<Recorder, Failure> {
    let targets = inputs.checks.checks.iter();
    let needs = Needs {
        workloads: &inputs.workloads.workloads,
        by_selector: inputs.workloads.selector.is_some(),
        targets: targets
            .filter_map(|check| Some(check.target.in_cluster()?.0))
            .collect(),
        ..Needs::default()
    };
    require_access(&connection.cluster, &needs, deadline).await?;
    Recorder::open(&inputs.deployment, connection, context).await
}

pub(crate) fn cancelled(signal: switchyard_runner::Signal) -> Failure {
    let text = format!("{} while waiting; nothing was changed", signal.name());
    Failure::message(Kind::Cancelled(signal), text)
}

fn refuse_nonsense(inputs: &RolloutInputs) -> Result<(), Failure> {
    let has_workloads = names_workloads(&inputs.workloads);
    if !has_workloads && inputs.checks.checks.is_empty() {
        return Err(Failure::message(
            Kind::Input,
            "nothing to wait for: none of `workloads`, `selector`, `checks` is given",
        ));
    }
    if inputs.warm_up > 0 && !inputs.checks.checks.reach_into_the_cluster() {
        return Err(Failure::message(
            Kind::Input,
            "input `warm-up` needs a check with a target in the cluster",
        )
        .hint("a check such as `service/web-green:http/` says where the requests go"));
    }
    Ok(())
}

/// Whether the inputs name workloads at all.
pub(crate) fn names_workloads(inputs: &WorkloadInputs) -> bool {
    !inputs.workloads.is_empty() || inputs.selector.is_some()
}

/// What to wait for, out of the inputs.
pub(crate) fn target(inputs: &WorkloadInputs) -> RolloutTarget {
    RolloutTarget {
        workloads: inputs.workloads.to_vec(),
        selector: inputs.selector.as_ref().map(|selector| selector.0.clone()),
        max_restarts: inputs.max_restarts,
    }
}
