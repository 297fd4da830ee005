//! `watch`: looks at pods, restarts and answers for a while and ends at the first breach.
//! It refuses to roll anything back; its exit code says what is wrong.

mod pods;
mod sampler;
mod tally;

use std::time::{Duration, Instant};

use switchyard_cluster::rollout::{RolloutWait, WaitEvent};
use switchyard_cluster::{Cluster, Deadline};
use switchyard_deployment::{Connection, connect};
use switchyard_record::{Evidence, EvidenceLevel, Verification};
use switchyard_runner::{Console, Context, Failure, Kind, values};

use self::pods::{SizeOf, lost_pods, nothing_to_watch};
use self::sampler::Sampler;
use self::tally::{Limits, Tally};
use crate::connection::{failure, http_client};
use crate::diagnosis::diagnose;
use crate::inputs::WatchInputs;
use crate::preflight::{Needs, require_access};
use crate::record::Recorder;
use crate::report::Report;
use crate::rollout::{cancelled, interrupted, names_workloads, target};
use crate::version::VersionRule;

const TITLE: &str = "health-wait watch";
/// Time to read the workloads and to ask for permissions.
const BEGIN_LIMIT: Duration = Duration::from_secs(60);

/// Runs the subcommand.
///
/// # Errors
/// The first breach, too little data, and whatever keeps the watch from watching.
pub(crate) async fn run(inputs: WatchInputs, context: &Context) -> Result<(), Failure> {
    refuse_nonsense(&inputs)?;
    let started = Instant::now();
    let connection = connect(&inputs.deployment, &context.environment).await?;
    let cluster = connection.cluster.clone();
    let http = http_client(context, inputs.request_timeout)?;
    let mut recorder = tokio::select! {
        recorder = prepare(&inputs, &connection, context) => recorder?,
        signal = context.cancel.cancelled() => return Err(cancelled(signal)),
    };
    let mut report = Report::default();
    let version = VersionRule {
        header: inputs.checks.version_header.clone(),
        expected: inputs.checks.expect_version.clone(),
    };
    let mut watch = Watch {
        inputs: &inputs,
        cluster: &cluster,
        console: &context.console,
        sampler: Sampler {
            cluster: &cluster,
            http: &http,
            inputs: &inputs,
            version: &version,
        },
        limits: Limits {
            max_error_rate: inputs.max_error_rate.share(),
            min_samples: u64::from(inputs.min_samples),
        },
        tally: Tally::default(),
        started: Instant::now(),
    };
    let stop = recorder.ordered_to_stop();
    let ended = tokio::select! {
        ended = watch.run(&mut report) => ended,
        order = stop => Err(order),
        signal = context.cancel.cancelled() => Err(cancelled(signal)),
    };
    report.versions = watch.tally.versions();
    let ended = match ended {
        Ok(()) => write_down(&mut recorder, &watch, report.healthy, context).await,
        Err(failure) => Err(failure),
    };
    recorder.close().await;
    match ended {
        Ok(()) => report.conclude(TITLE, started, context),
        Err(failure) => Err(report.conclude_failed(failure, TITLE, started, context)),
    }
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
    let mut jobs = jobs.filter(|one| one.kind == switchyard_cluster::workloads::WorkloadKind::Job);
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
    watch: &Watch<'_>,
    healthy: bool,
    context: &Context,
) -> Result<(), Failure> {
    let has_probes = watch.inputs.verify_url.is_some() && watch.tally.requests() > 0;
    let verification = match (healthy, samples(watch.inputs)) {
        (true, true) => Verification::Verified,
        (true, false) => Verification::Unverifiable,
        (false, _) => Verification::Pending,
    };
    recorder
        .evidence(
            |at| Evidence {
                at,
                step: "watch".to_owned(),
                verification,
                level: has_probes.then_some(EvidenceLevel::FrontDoor),
                probes: watch.tally.requests(),
                lost: watch.tally.errors(),
                bound: watch.tally.bound(),
                replicas: None,
            },
            context,
        )
        .await
}

struct Watch<'run> {
    inputs: &'run WatchInputs,
    cluster: &'run Cluster,
    console: &'run Console,
    sampler: Sampler<'run>,
    limits: Limits,
    tally: Tally,
    started: Instant,
}

/// What ended the watch before its time.
struct Breach {
    what: String,
    reason: String,
}

impl Watch<'_> {
    /// Watches; the verdict goes into the report.
    async fn run(&mut self, report: &mut Report) -> Result<(), Failure> {
        let mut wait = None;
        if names_workloads(&self.inputs.workloads) {
            let target = target(&self.inputs.workloads);
            let deadline = Deadline::after(BEGIN_LIMIT);
            let begun = RolloutWait::begin(self.cluster, target, deadline).await;
            wait = Some(begun.map_err(failure)?);
        }
        self.started = Instant::now();
        let before = wait.as_ref().map(sizes).unwrap_or_default();
        let breach = match nothing_to_watch(&before, &self.inputs.workloads.workloads) {
            Some((workload, reason)) => Some(Breach {
                what: workload.to_string(),
                reason,
            }),
            None => self.watch(&mut wait, &before).await?,
        };
        if let Some(wait) = &wait {
            report.take_workloads(wait);
        }
        let breach = breach.or_else(|| self.lack_of_data());
        if let (None, Some(blind)) = (&breach, wait.as_ref().and_then(RolloutWait::blind_for)) {
            let text = format!(
                "the API server could not be watched for the last {}, so the pods are not verified",
                values::show_duration(blind)
            );
            return Err(Failure::message(Kind::Remote, text)
                .hint("run the step again when the API server answers"));
        }
        match breach {
            Some(Breach { what, reason }) => {
                report.fail(what, reason);
                if let Some(wait) = &wait {
                    let lines = self.inputs.workloads.log_lines;
                    report.diagnoses = diagnose(self.cluster, wait, lines).await;
                }
            }
            None => {
                report.healthy = true;
                report.reason = self.success(report);
            }
        }
        Ok(())
    }

    fn success(&self, report: &Report) -> String {
        let watched = values::show_duration(self.inputs.duration);
        let pods: usize = report.workloads.iter().map(|one| one.ready).sum();
        let mut text = format!("watched for {watched}");
        if !report.workloads.is_empty() {
            text.push_str(&format!(
                ": {pods} pods ready, {} restarts",
                report.restarts
            ));
        }
        if samples(self.inputs) {
            text.push_str(&format!("; {}", self.tally.line()));
        } else {
            text.push_str("; no requests were sent, so answers are not verified");
        }
        if let Some(bound) = self.tally.bound() {
            text.push_str(&format!(
                "; loss below {:.2}% at 95% confidence",
                bound * 100.0
            ));
        }
        text
    }

    fn lack_of_data(&self) -> Option<Breach> {
        if !samples(self.inputs) {
            return None;
        }
        let reason = self.tally.missing(&self.limits)?;
        Some(Breach {
            what: "min-samples".to_owned(),
            reason,
        })
    }

    async fn watch(
        &mut self,
        wait: &mut Option<RolloutWait>,
        before: &[SizeOf],
    ) -> Result<Option<Breach>, Failure> {
        loop {
            let left = self.inputs.duration.saturating_sub(self.started.elapsed());
            if left.is_zero() {
                return Ok(None);
            }
            // The watch keeps its length: the last look is cut to what is left of it.
            let span = self.inputs.interval.min(left);
            let ends = tokio::time::Instant::now() + span;
            let breach = self.look(span, wait, before).await?;
            let breach = match breach {
                None => {
                    let pause = tokio::time::sleep_until(ends);
                    guard(pause, wait, before, self.console).await?.1
                }
                Some(breach) => Some(breach),
            };
            self.tell(wait.as_ref());
            if breach.is_some() {
                return Ok(breach);
            }
        }
    }

    /// Sends one look's requests while the pods are watched, and judges both.
    async fn look(
        &mut self,
        span: Duration,
        wait: &mut Option<RolloutWait>,
        before: &[SizeOf],
    ) -> Result<Option<Breach>, Failure> {
        let looked = guard(self.sampler.look(span), wait, before, self.console).await?;
        let (samples, breach) = looked;
        for sample in samples.iter().flatten() {
            self.tally.add(sample);
        }
        if breach.is_some() {
            return Ok(breach);
        }
        Ok(self.tally.breach(&self.limits).map(|reason| Breach {
            what: "max-error-rate".to_owned(),
            reason,
        }))
    }

    fn tell(&self, wait: Option<&RolloutWait>) {
        let elapsed = self.started.elapsed().as_secs();
        let mut parts = Vec::new();
        for one in wait.map(sizes).unwrap_or_default() {
            let (ready, wanted) = (one.size.ready, one.size.wanted);
            parts.push(format!("{} {ready}/{wanted} ready", one.workload));
        }
        if let Some(wait) = wait {
            parts.push(format!("{} restarts", wait.restarts()));
        }
        if samples(self.inputs) {
            parts.push(self.tally.line());
        }
        let clock = format!("{:02}:{:02}", elapsed / 60, elapsed % 60);
        self.console
            .progress(format_args!("{clock}  {}", parts.join(" · ")));
    }
}

/// Does `work` while the pods are watched; a breach among them ends it at once.
async fn guard<T>(
    work: impl Future<Output = T>,
    wait: &mut Option<RolloutWait>,
    before: &[SizeOf],
    console: &Console,
) -> Result<(Option<T>, Option<Breach>), Failure> {
    let Some(wait) = wait else {
        return Ok((Some(work.await), None));
    };
    tokio::select! {
        done = work => Ok((Some(done), None)),
        breach = until_breach(wait, before, console) => Ok((None, Some(breach?))),
    }
}

async fn until_breach(
    wait: &mut RolloutWait,
    before: &[SizeOf],
    console: &Console,
) -> Result<Breach, Failure> {
    loop {
        if let Some((workload, lost)) = wait.failure() {
            return Ok(Breach {
                what: workload.to_string(),
                reason: lost.reason.clone(),
            });
        }
        if let Some((workload, reason)) = lost_pods(before, &sizes(wait)) {
            return Ok(Breach {
                what: workload.to_string(),
                reason,
            });
        }
        let event = wait.next(Deadline::after(BEGIN_LIMIT)).await;
        if let WaitEvent::Interrupted(error) = event.map_err(failure)? {
            console.progress(interrupted(&error));
        }
    }
}

fn sizes(wait: &RolloutWait) -> Vec<SizeOf> {
    let workloads = wait.states().map(|(workload, _)| SizeOf {
        workload: workload.clone(),
        size: wait.size_of(workload),
    });
    workloads.collect()
}
