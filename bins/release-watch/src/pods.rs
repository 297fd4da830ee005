//! The watched pods: a watch that reports at once, and what a look sees of them.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use switchyard_cluster::rollout::{RolloutTarget, RolloutWait, WaitEvent};
use switchyard_cluster::{Cluster, Deadline};
use switchyard_health::connection::failure;
use switchyard_health::diagnosis::{Diagnosis, Patience, diagnose};
use switchyard_health::pods::{SizeOf, gone_pods, lost_pods, nothing_to_watch};
use switchyard_runner::{Console, Failure, values};
use switchyard_verdict::Measurement;

use crate::plan::Watched;

/// Time to read the workloads, and for one step of the watch.
pub(crate) const BEGIN_LIMIT: Duration = Duration::from_secs(60);

/// Time for the warnings of a look: they decide nothing.
const WARNINGS_LIMIT: Duration = Duration::from_secs(5);

/// The pods of both sides that are under watch.
#[derive(Default)]
pub(crate) struct Sides {
    pub(crate) version: Option<Pods>,
    pub(crate) baseline: Option<Pods>,
}

impl Sides {
    pub(crate) fn of(&self, watched: Watched) -> Option<&Pods> {
        match watched {
            Watched::Version => self.version.as_ref(),
            Watched::Baseline => self.baseline.as_ref(),
        }
    }

    /// Waits until something is wrong with a side that is `guarded`.
    ///
    /// # Errors
    /// Those that no waiting mends.
    pub(crate) async fn until_unhealthy(
        &mut self,
        is_guarded: impl Fn(Watched) -> bool,
        console: &Console,
    ) -> Result<(), Failure> {
        let version = self.version.as_mut();
        let version = version.filter(|_| is_guarded(Watched::Version));
        let baseline = self.baseline.as_mut();
        let baseline = baseline.filter(|_| is_guarded(Watched::Baseline));
        tokio::select! {
            reported = until_unhealthy(version, console) => reported,
            reported = until_unhealthy(baseline, console) => reported,
        }
    }
}

/// Never returns where nothing is watched.
async fn until_unhealthy(pods: Option<&mut Pods>, console: &Console) -> Result<(), Failure> {
    match pods {
        Some(pods) => pods.until_unhealthy(console).await,
        None => std::future::pending().await,
    }
}

/// Pods of one side under watch.
pub(crate) struct Pods {
    watched: Watched,
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
        watched: Watched,
        target: RolloutTarget,
        log_lines: u16,
    ) -> Result<Self, Failure> {
        let begun = RolloutWait::begin(cluster, target.clone(), Deadline::after(BEGIN_LIMIT));
        let wait = begun.await.map_err(failure)?;
        Ok(Self {
            watched,
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
    async fn until_unhealthy(&mut self, console: &Console) -> Result<(), Failure> {
        loop {
            if self.trouble().is_some() {
                return Ok(());
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
    pub(crate) async fn diagnoses(&self, patience: Patience) -> Vec<Diagnosis> {
        let blamed = self.trouble().map(|(workload, _)| workload);
        diagnose(
            &self.cluster,
            &self.wait,
            blamed.as_deref(),
            self.log_lines,
            patience,
        )
        .await
    }

    fn trouble(&self) -> Option<(String, String)> {
        let now = sizes(&self.wait);
        let told = |(workload, reason): (_, String)| {
            let workload = format!("{workload}");
            let reason = format!("{workload}: {reason}");
            (workload, reason)
        };
        match self.watched {
            Watched::Version => {
                let lost = self.wait.failure();
                let lost = lost.map(|(workload, lost)| (workload.clone(), lost.reason.clone()));
                lost.or_else(|| lost_pods(&self.before, &now))
                    .or_else(|| nothing_to_watch(&self.before, &self.named.workloads))
            }
            // How well each of its pods is says nothing of the new version.
            Watched::Baseline => gone_pods(&self.before, &now),
        }
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
