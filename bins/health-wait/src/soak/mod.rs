//! `watch`: looks at pods, restarts and answers for a while and ends at the first breach.
//! It refuses to roll anything back; its exit code says what is wrong.

mod sampler;
mod tally;
mod watch;

use std::time::{Duration, Instant};

use switchyard_cluster::Deadline;
use switchyard_cluster::workloads::WorkloadKind;
use switchyard_deployment::{Connection, Recorder, connect};
use switchyard_record::{Evidence, EvidenceLevel, Verification};
use switchyard_runner::{Context, Failure, Kind, values};

use self::sampler::Sampler;
use self::tally::Tally;
use self::watch::Watch;
use crate::inputs::WatchInputs;
use crate::report::Report;
use crate::rollout::{cancelled, names_workloads};
use switchyard_health::access::{Needs, require_access};
use switchyard_health::connection::http_client;
use switchyard_health::version::VersionRule;

const TITLE: &str = "health-wait watch";
/// Time to read the workloads and to ask for permissions.
const BEGIN_LIMIT: Duration = Duration::from_secs(60);

/// Runs the subcommand.
///
/// # Errors
/// The first breach, too little data, and whatever keeps the watch from watching.
pub(crate) async fn run(inputs: WatchInputs, context: &Context) -> Result<(), Failure> {
    let started = Instant::now();
    let mut report = Report::default();
    match execute(&inputs, context, &mut report).await {
        Ok(()) => report.conclude(TITLE, started, context),
        Err(failure) => Err(report.conclude_failed(failure, TITLE, started, context)),
    }
}

async fn execute(
    inputs: &WatchInputs,
    context: &Context,
    report: &mut Report,
) -> Result<(), Failure> {
    refuse_nonsense(inputs)?;
    let connection = connect(&inputs.deployment, &context.environment).await?;
    let http = http_client("switchyard-health-wait", context, inputs.request_timeout)?;
    let mut recorder = tokio::select! {
        recorder = prepare(inputs, &connection, context) => recorder?,
        signal = context.cancel.cancelled() => return Err(cancelled(signal)),
    };
    let version = VersionRule {
        header: inputs.checks.version_header.clone(),
        expected: inputs.checks.expect_version.clone(),
    };
    let sampler = Sampler {
        cluster: &connection.cluster,
        http: &http,
        inputs,
        version: &version,
    };
    let mut watch = Watch::new(inputs, &connection.cluster, &context.console, sampler);
    let stop = recorder.ordered_to_stop();
    let ended = tokio::select! {
        ended = watch.run(report) => ended,
        order = stop => Err(order),
        signal = context.cancel.cancelled() => Err(cancelled(signal)),
    };
    report.versions = watch.tally().versions();
    let ended = match ended {
        Ok(()) => {
            write_down(
                &mut recorder,
                inputs,
                watch.tally(),
                (report.healthy, context),
            )
            .await
        }
        Err(failure) => Err(failure),
    };
    recorder.close().await;
    ended
}

fn refuse_nonsense(inputs: &WatchInputs) -> Result<(), Failure> {
    let samples = samples(inputs);
    if !names_workloads(&inputs.workloads) && !samples {
        return Err(Failure::message(
            Kind::Input,
            "nothing to watch: none of `workloads`, `selector`, `checks`, `verify-url` is given",
        ));
    }
    if inputs.interval > inputs.duration {
        let text = format!(
            "input `interval` is {}, longer than `duration` ({})",
            values::show_duration(inputs.interval),
            values::show_duration(inputs.duration)
        );
        return Err(Failure::message(Kind::Input, text));
    }
    let jobs = inputs.workloads.workloads.iter();
    let mut jobs = jobs.filter(|one| one.kind == WorkloadKind::Job);
    if let Some(job) = jobs.next() {
        let text = format!("input `workloads`: `{job}` ends by itself and cannot be watched");
        return Err(Failure::message(Kind::Input, text)
            .hint("use `rollout` to wait until a job is complete"));
    }
    Ok(())
}

/// Whether any requests are sent at all.
fn samples(inputs: &WatchInputs) -> bool {
    inputs.verify_url.is_some() || !inputs.checks.checks.is_empty()
}

async fn prepare(
    inputs: &WatchInputs,
    connection: &Connection,
    context: &Context,
) -> Result<Recorder, Failure> {
    let targets = inputs.checks.checks.iter();
    let needs = Needs {
        workloads: &inputs.workloads.workloads,
        by_selector: inputs.workloads.selector.is_some(),
        targets: targets
            .filter_map(|check| Some(check.target.in_cluster()?.0))
            .collect(),
    };
    require_access(&connection.cluster, &needs, Deadline::after(BEGIN_LIMIT)).await?;
    let mut recorder = Recorder::open(&inputs.deployment, connection, context).await?;
    if let Err(failure) = recorder.soak(context).await {
        recorder.close().await;
        return Err(failure);
    }
    Ok(recorder)
}

async fn write_down(
    recorder: &mut Recorder,
    inputs: &WatchInputs,
    tally: &Tally,
    (is_healthy, context): (bool, &Context),
) -> Result<(), Failure> {
    let has_probes = inputs.verify_url.is_some() && tally.requests() > 0;
    let verification = match (is_healthy, samples(inputs)) {
        (true, true) => Verification::Verified,
        (true, false) => Verification::Unverifiable,
        (false, _) => Verification::Pending,
    };
    let evidence = |at| Evidence {
        at,
        step: "watch".to_owned(),
        verification,
        level: has_probes.then_some(EvidenceLevel::FrontDoor),
        probes: tally.requests(),
        lost: tally.errors(),
        bound: tally.bound(),
        replicas: None,
    };
    recorder.evidence(evidence, context).await
}
