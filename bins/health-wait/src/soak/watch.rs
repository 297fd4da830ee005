//! The watching itself: looks, judgements, and the first breach. The verdict goes into the report.
//! It refuses to know records and outputs.

use std::time::{Duration, Instant};

use switchyard_cluster::rollout::{RolloutWait, WaitEvent};
use switchyard_cluster::{Cluster, Deadline};
use switchyard_runner::{Console, Failure, Kind, values};

use super::sampler::Sampler;
use super::tally::{Limits, Tally};
use super::{BEGIN_LIMIT, samples};
use crate::inputs::WatchInputs;
use crate::report::Report;
use crate::rollout::{interrupted, names_workloads, target};
use switchyard_health::connection::failure;
use switchyard_health::diagnosis::diagnose;
use switchyard_health::pods::{SizeOf, lost_pods, nothing_to_watch};

/// A watch under way.
pub(super) struct Watch<'run> {
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

impl<'run> Watch<'run> {
    /// A watch that has not begun.
    pub(super) fn new(
        inputs: &'run WatchInputs,
        cluster: &'run Cluster,
        console: &'run Console,
        sampler: Sampler<'run>,
    ) -> Self {
        Self {
            inputs,
            cluster,
            console,
            sampler,
            limits: Limits {
                max_error_rate: inputs.max_error_rate.share(),
                min_samples: u64::from(inputs.min_samples),
            },
            tally: Tally::default(),
            started: Instant::now(),
        }
    }

    /// What was counted so far.
    pub(super) fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Watches; the verdict goes into the report.
    pub(super) async fn run(&mut self, report: &mut Report) -> Result<(), Failure> {
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
                if let Some(wait) = &wait {
                    let lines = self.inputs.workloads.log_lines;
                    report.diagnoses = diagnose(self.cluster, wait, Some(&what), lines).await;
                }
                report.fail(what, reason);
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
