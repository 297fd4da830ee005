//! One run of the program: connections, the record, the watch, and what is told of it.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use switchyard_cluster::{Cluster, Deadline};
use switchyard_deployment::{Aftermath, Connection, Recorder, connect};
use switchyard_health::access::{Needs, require_access};
use switchyard_health::connection::http_client;
use switchyard_health::diagnosis::Patience;
use switchyard_health::version::VersionRule;
use switchyard_http::{Client, ClientSettings, ProxySettings};
use switchyard_prometheus::{Credentials, Prometheus};
use switchyard_record::{Evidence, EvidenceLevel, Verification};
use switchyard_runner::{Context, Failure, Kind, Signal};
use switchyard_verdict::{Action, Verdict, test_alpha};
use zeroize::Zeroizing;

use crate::ask::Asker;
use crate::chart;
use crate::checklist::Kept;
use crate::inputs::ReleaseWatch;
use crate::leave;
use crate::plan::{
    Planned, Source, Watched, baseline_target, measuring_limit, on_side, plan, pods_check, target,
    watches_pods,
};
use crate::pods::{BEGIN_LIMIT, Pods, Sides};
use crate::report::Report;
use crate::running::{Means, Running};
use crate::samples::Samples;
use crate::scale_up::Scaler;
use crate::watch::{Outcome, Watch, loss_bound};

const PRODUCT: &str = "switchyard-release-watch";

/// Runs the program.
///
/// # Errors
/// The verdict, and whatever keeps it from being reached.
pub(crate) async fn run(inputs: ReleaseWatch, context: &Context) -> Result<(), Failure> {
    let started = Instant::now();
    let mut report = Report::default();
    match execute(&inputs, context, &mut report).await {
        Ok(outcome) => report.conclude(&outcome, started, context),
        Err(failure) => Err(report.conclude_failed(failure, started, context)),
    }
}

async fn execute(
    inputs: &ReleaseWatch,
    context: &Context,
    report: &mut Report,
) -> Result<Outcome, Failure> {
    // The inputs are judged before anything is reached; the namespace of a kubeconfig's context comes later.
    let namespace = inputs.deployment.namespace.clone();
    plan(inputs, namespace.as_deref().unwrap_or("default"))?;
    let connection = if needs_cluster(inputs) {
        Some(connect(&inputs.deployment, &context.environment).await?)
    } else {
        None
    };
    let named = connection
        .as_ref()
        .map(|one| one.cluster.namespace().to_owned());
    let mut planned = plan(inputs, named.or(namespace).as_deref().unwrap_or("default"))?;
    let http = http_client(PRODUCT, context, inputs.request_timeout)?;
    let asker = asker(inputs, context)?;
    let mut samples = Samples::create(&folder(inputs, context))?;
    report.evidence = Some(samples.path());
    let (mut recorder, pods) = match &connection {
        Some(connection) => tokio::select! {
            begun = begin(inputs, &planned, connection, context) => begun?,
            signal = context.cancel.cancelled() => return Err(cancelled(signal)),
        },
        None => (Recorder::none(), Sides::default()),
    };
    if pods.baseline.is_some() {
        planned.push(pods_check(inputs, Watched::Baseline));
    }
    // Both versions answer while a canary is watched: a check that wants one says so itself.
    let version = VersionRule {
        header: inputs.version_header.clone(),
        expected: None,
    };
    let means = Means {
        cluster: connection.as_ref().map(|connection| &connection.cluster),
        http: &http,
        asker: asker.as_ref(),
        version: &version,
        limit: measuring_limit(inputs),
    };
    let begun = async {
        let kept = begin_checklist(inputs, &planned, &recorder, connection.as_ref(), context);
        let kept = kept.await?;
        let way_out = match &connection {
            Some(connection) if inputs.leave_at_once => {
                leave::prepare(&mut recorder, &connection.cluster, context).await?
            }
            Some(_) | None => None,
        };
        Ok((kept, way_out))
    };
    let ((checklist, aftermath), way_out) = match begun.await {
        Ok(begun) => begun,
        Err(failure) => {
            recorder.close().await;
            return Err(failure);
        }
    };
    let mut watch = Watch::new(
        inputs,
        context,
        means,
        (running(planned), pods),
        &mut samples,
    );
    watch.checklist = checklist;
    let stop = recorder.ordered_to_stop();
    let cluster = connection.as_ref().map(|connection| &connection.cluster);
    let mut scaler = scaler(inputs, cluster, &mut recorder, context);
    let mut ended = tokio::select! {
        ended = watch.run(scaler.as_mut()) => ended,
        order = stop => Err(order),
        signal = context.cancel.cancelled() => Err(cancelled(signal)),
    };
    if let Ok(outcome) = &mut ended {
        leave::take(way_out, outcome, &mut recorder, http.clone(), context).await;
    }
    report.take_checks(&watch.running);
    if let Ok(outcome) = &ended {
        let blamed = outcome.because_of.as_deref();
        let mut sides = [Watched::Version, Watched::Baseline].into_iter();
        let side = sides.find(|watched| blamed == Some(watched.name()));
        if let Some(pods) = side.and_then(|watched| watch.pods.of(watched)) {
            let patience = match outcome.action {
                Action::Rollback | Action::CircuitBreak => Patience::Scarce,
                Action::None | Action::Alert | Action::ScaleUp => Patience::Ample,
            };
            report.diagnoses = pods.diagnoses(patience).await;
        }
    }
    let probed = watch.probed();
    let judged_answers = watch.judged_answers();
    report.checklist = watch.checklist.as_ref().map(Kept::markdown);
    let kept = (watch.checklist.as_ref(), aftermath.as_ref());
    let ended = keep_checklist(&mut recorder, kept, ended, context).await;
    let ended = match ended {
        Ok(outcome) => {
            let seen = (probed, judged_answers);
            let written = write_down(&mut recorder, &outcome, seen, context).await;
            written.map(|()| outcome)
        }
        Err(failure) => Err(failure),
    };
    let weights = recorder.record().and_then(|record| record.weights.last());
    let weights = weights.map(|entry| entry.weights.iter());
    let weights = weights.into_iter().flatten();
    let weights: Vec<_> = weights
        .map(|(side, percent)| (side.to_string(), *percent))
        .collect();
    samples.set_weights(&weights);
    recorder.close().await;
    draw(&samples, report, context);
    ended
}

/// The checklist, and the deployment that has ended and whose first hour it goes on for, where none is under way.
async fn begin_checklist(
    inputs: &ReleaseWatch,
    planned: &[Planned],
    recorder: &Recorder,
    connection: Option<&Connection>,
    context: &Context,
) -> Result<(Option<Kept>, Option<Aftermath>), Failure> {
    if !inputs.checklist {
        return Ok((None, None));
    }
    let aftermath = match (recorder.record(), connection) {
        (None, Some(connection)) => {
            let version = inputs.expect_version.as_deref();
            Aftermath::find(&inputs.deployment, version, connection, context).await?
        }
        (Some(_), _) | (None, None) => None,
    };
    if let Some(ended) = &aftermath {
        let id = &ended.record().id;
        context.console.info(format_args!(
            "the checklist of deployment {id}, which has ended, goes on in its record"
        ));
    }
    let ended = aftermath.as_ref().map(Aftermath::record);
    let kept = Kept::begin(planned, recorder.record().or(ended), &inputs.checked)?;
    Ok((Some(kept), aftermath))
}

/// A watch that was ended by an order or a signal has lost its say, not what it saw: the record is left as it is.
async fn keep_checklist(
    recorder: &mut Recorder,
    (checklist, aftermath): (Option<&Kept>, Option<&Aftermath>),
    ended: Result<Outcome, Failure>,
    context: &Context,
) -> Result<Outcome, Failure> {
    let (Ok(_), Some(checklist)) = (&ended, checklist) else {
        return ended;
    };
    if let Some(aftermath) = aftermath {
        let entries = checklist.entries(Timestamp::now());
        aftermath.checklist(&entries, context).await?;
    }
    recorder
        .checklist(|at| checklist.entries(at), context)
        .await?;
    ended
}

/// What gives a workload more pods, where that is asked for.
fn scaler<'run>(
    inputs: &ReleaseWatch,
    cluster: Option<&'run Cluster>,
    recorder: &'run mut Recorder,
    context: &'run Context,
) -> Option<Scaler<'run>> {
    Some(Scaler {
        cluster: cluster?,
        recorder,
        context,
        workload: on_side(inputs, inputs.scale_up.as_ref()?),
        step: i32::from(inputs.scale_up_step),
        most: i32::from(inputs.max_replicas?),
        grown: None,
    })
}

fn needs_cluster(inputs: &ReleaseWatch) -> bool {
    let in_cluster = |one: &crate::written::Written| match &one.ask {
        crate::written::Ask::Http(check) => check.target.in_cluster().is_some(),
        crate::written::Ask::Value { .. } | crate::written::Ask::Counts { .. } => false,
    };
    watches_pods(inputs)
        || inputs.scale_up.is_some()
        || inputs.deployment.application.is_some()
        || inputs.deployment.deployment_id.is_some()
        || inputs.checks.0.iter().any(in_cluster)
}

/// Each test gets its part of what a release may be wrongly rolled back for.
fn running(planned: Vec<Planned>) -> Vec<Running> {
    // What only tells takes nothing from the budget of what decides.
    let decides = |one: &&Planned| one.action != Some(Action::None);
    let rules = planned.iter().filter(decides);
    let rules: Vec<_> = rules.map(|one| one.rule.clone()).collect();
    let running = planned.into_iter().map(|one| {
        let alpha = test_alpha(&one.rule, &rules);
        Running::new(one, alpha)
    });
    running.collect()
}

async fn begin(
    inputs: &ReleaseWatch,
    planned: &[Planned],
    connection: &Connection,
    context: &Context,
) -> Result<(Recorder, Sides), Failure> {
    let target = target(inputs);
    let targets = planned.iter().filter_map(|one| match &one.source {
        Source::Http(check) => Some(check.target.in_cluster()?.0),
        Source::Pods(_) | Source::FrontDoor(_) | Source::Value { .. } | Source::Counts { .. } => {
            None
        }
    });
    let scaled = inputs.scale_up.as_ref();
    let needs = Needs {
        workloads: &target.workloads,
        by_selector: target.selector.is_some(),
        targets: targets.collect(),
        resized: scaled.map(|workload| on_side(inputs, workload)),
    };
    require_access(&connection.cluster, &needs, Deadline::after(BEGIN_LIMIT)).await?;
    let mut recorder = Recorder::open(&inputs.deployment, connection, context).await?;
    let begun = async {
        recorder.soak(context).await?;
        let begin =
            |watched, target| Pods::begin(&connection.cluster, watched, target, inputs.log_lines);
        let mut pods = Sides::default();
        if watches_pods(inputs) {
            pods.version = Some(begin(Watched::Version, target.clone()).await?);
        }
        if let Some(target) = recorder.record().and_then(baseline_target) {
            pods.baseline = Some(begin(Watched::Baseline, target).await?);
        }
        Ok(pods)
    };
    match begun.await {
        Ok(pods) => Ok((recorder, pods)),
        Err(failure) => {
            recorder.close().await;
            Err(failure)
        }
    }
}

fn asker(inputs: &ReleaseWatch, context: &Context) -> Result<Option<Asker>, Failure> {
    let Some(url) = &inputs.prometheus_url else {
        return Ok(None);
    };
    let mut settings = ClientSettings::new(PRODUCT, env!("CARGO_PKG_VERSION"));
    settings.attempt_timeout = inputs.query_timeout;
    settings.total_timeout = inputs.query_timeout;
    settings.first_pause = Duration::from_millis(250);
    settings.extra_ca.clone_from(&inputs.extra_ca);
    let environment = &context.environment;
    settings.proxy = ProxySettings::from_lookup(|name| environment.get(name).map(str::to_owned));
    let client = Client::new(&settings).map_err(Failure::input)?;
    let secret = |text: &str| Zeroizing::new(text.to_owned());
    let credentials = match (
        &inputs.prometheus_token,
        &inputs.prometheus_user,
        &inputs.prometheus_password,
    ) {
        (Some(token), _, _) => Credentials::Bearer(secret(token.expose())),
        (None, Some(user), Some(password)) => Credentials::Basic {
            user: user.clone(),
            password: secret(password.expose()),
        },
        (None, _, _) => Credentials::None,
    };
    Ok(Some(Asker {
        prometheus: Prometheus::new(client, &url.0, credentials, inputs.query_timeout),
        max_age: inputs.max_age,
    }))
}

/// A folder of this watch's own: a job may watch several times.
fn folder(inputs: &ReleaseWatch, context: &Context) -> PathBuf {
    if let Some(folder) = &inputs.folder {
        return folder.clone();
    }
    let temporary = context.environment.get("RUNNER_TEMP");
    let parent = temporary.map_or_else(std::env::temp_dir, PathBuf::from);
    let now = Timestamp::now().strftime("%Y%m%dT%H%M%S%3f");
    parent.join(format!("release-watch-{now}"))
}

fn cancelled(signal: Signal) -> Failure {
    let text = format!("{} while watching; nothing was changed", signal.name());
    Failure::message(Kind::Cancelled(signal), text)
}

async fn write_down(
    recorder: &mut Recorder,
    outcome: &Outcome,
    ((probes, lost), judged_answers): ((u64, u64), bool),
    context: &Context,
) -> Result<(), Failure> {
    let verification = match (outcome.verdict, judged_answers) {
        (Verdict::Pass, true) => Verification::Verified,
        (Verdict::Fail, _) => Verification::Pending,
        // Pods that keep well say nothing of what they answer.
        (Verdict::Pass, false) | (Verdict::NoData | Verdict::Error, _) => {
            Verification::Unverifiable
        }
    };
    let evidence = |at| Evidence {
        at,
        step: "watch".to_owned(),
        verification,
        level: (probes > 0).then_some(EvidenceLevel::FrontDoor),
        probes,
        lost,
        bound: loss_bound(probes, lost),
        replicas: None,
    };
    recorder.evidence(evidence, context).await
}

/// A chart that cannot be drawn is warned of: it decides nothing.
fn draw(samples: &Samples, report: &mut Report, context: &Context) {
    if samples.points().is_empty() {
        return;
    }
    let path = samples.folder().join("chart.svg");
    match std::fs::write(&path, chart::svg(samples.points())) {
        Ok(()) => report.chart = Some(path),
        Err(cause) => {
            let text = format!("the chart could not be written: {cause}");
            context.console.warning(crate::report::TITLE, text);
        }
    }
    report.mermaid = Some(chart::mermaid(samples.points()));
}
