//! The watched pods: a watch that reports at once, and what a look sees of them.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use switchyard_cluster::rollout::{RolloutTarget, RolloutWait, WaitEvent};
use switchyard_cluster::{Cluster, Deadline};
use switchyard_health::connection::failure;
use switchyard_health::diagnosis::{Diagnosis, diagnose};
use switchyard_health::pods::{SizeOf, lost_pods, nothing_to_watch};
use switchyard_runner::{Console, Failure, values};
use switchyard_verdict::Measurement;

/// Time to read the workloads, and for one step of the watch.
pub(crate) const BEGIN_LIMIT: Duration = Duration::from_secs(60);

/// Time for the warnings of a look: they decide nothing.
const WARNINGS_LIMIT: Duration = Duration::from_secs(5);

/// Pods under watch.
pub(crate) struct Pods {
    cluster: Cluster,
    wait: RolloutWait,
    named: RolloutTarget,
    before: Vec<SizeOf>,
    log_lines: u16,
    started: Timestamp,
}

impl Pods {
    /// Reads the workloads and takes their sizes and restarts as where the watch begins.
    ///
    /// # Errors
    /// One of them is not there, or the API server does not answer.
    pub(crate) async fn begin(
        cluster: &Cluster,
        target: RolloutTarget,
        log_lines: u16,
    ) -> Result<Self, Failure> {
        let begun = RolloutWait::begin(cluster, target.clone(), Deadline::after(BEGIN_LIMIT));
        let wait = begun.await.map_err(failure)?;
        Ok(Self {
            cluster: cluster.clone(),
            before: sizes(&wait),
            named: target,
            log_lines,
            started: Timestamp::now(),
            wait,
        })
    }

    /// Waits until something is wrong.
    ///
    /// # Errors
    /// Those that no waiting mends.
    pub(crate) async fn until_unhealthy(&mut self, console: &Console) -> Result<String, Failure> {
        loop {
            if let Some((_, reason)) = self.trouble() {
                return Ok(reason);
            }
            let event = self.wait.next(Deadline::after(BEGIN_LIMIT)).await;
            if let WaitEvent::Interrupted(error) = event.map_err(failure)? {
                console.progress(format_args!(
                    "the watch of the cluster is interrupted: {error}"
                ));
            }
        }
    }

    /// What is seen of them now. A watch that has been blind for a whole `interval` sees nothing.
    pub(crate) async fn measured(&self, interval: Duration) -> Measurement {
        if let Some(blind) = self.wait.blind_for().filter(|blind| *blind >= interval) {
            return Measurement::Error(format!(
                "the API server could not be watched for the last {}",
                values::show_duration(blind)
            ));
        }
        match self.trouble() {
            Some((_, reason)) => Measurement::Unhealthy(reason),
            None => Measurement::Healthy(format!("{}{}", self.line(), self.warnings().await)),
        }
    }

    /// Warnings that the cluster gave of these pods since the start, for the line: by themselves they decide nothing, a
    /// pod that is not ready or restarts does.
    async fn warnings(&self) -> String {
        let deadline = Deadline::after(WARNINGS_LIMIT);
        let Ok(warnings) = self.cluster.pod_warnings(deadline).await else {
            return String::new();
        };
        let workloads = self.wait.states().map(|(workload, _)| workload.clone());
        let pods: Vec<_> = workloads
            .flat_map(|workload| self.wait.pods_of(&workload))
            .collect();
        let is_ours = |uid: &str| {
            pods.iter()
                .any(|pod| pod.metadata.uid.as_deref() == Some(uid))
        };
        let ours = warnings
            .into_iter()
            .filter(|(uid, event)| is_ours(uid) && event.at.is_none_or(|at| at >= self.started));
        let mut counts: BTreeMap<String, u32> = BTreeMap::new();
        for (_, event) in ours {
            *counts.entry(event.reason).or_default() += event.count;
        }
        if counts.is_empty() {
            return String::new();
        }
        let counts = counts
            .iter()
            .map(|(reason, count)| format!("{reason} ×{count}"));
        let counts: Vec<_> = counts.collect();
        format!(", warnings: {}", counts.join(", "))
    }

    /// Why the pod to blame is in trouble: its events and its log.
    pub(crate) async fn diagnoses(&self) -> Vec<Diagnosis> {
        let blamed = self.trouble().map(|(workload, _)| workload);
        diagnose(&self.cluster, &self.wait, blamed.as_deref(), self.log_lines).await
    }

    fn trouble(&self) -> Option<(String, String)> {
        let now = sizes(&self.wait);
        let told = |(workload, reason): (_, String)| {
            let workload = format!("{workload}");
            let reason = format!("{workload}: {reason}");
            (workload, reason)
        };
        let lost = self.wait.failure();
        let lost = lost.map(|(workload, lost)| (workload.clone(), lost.reason.clone()));
        lost.or_else(|| lost_pods(&self.before, &now))
            .or_else(|| nothing_to_watch(&self.before, &self.named.workloads))
            .map(told)
    }

    fn line(&self) -> String {
        let ready = sizes(&self.wait).into_iter().map(|one| {
            let size = one.size;
            format!(
                "{} {} of {} pods ready",
                one.workload, size.ready, size.wanted
            )
        });
        let ready: Vec<_> = ready.collect();
        format!(
            "{}, {} restarts since the start",
            ready.join(", "),
            self.wait.restarts()
        )
    }
}

fn sizes(wait: &RolloutWait) -> Vec<SizeOf> {
    let workloads = wait.states().map(|(workload, _)| SizeOf {
        workload: workload.clone(),
        size: wait.size_of(workload),
    });
    workloads.collect()
}
