//! Waits for any number of rollouts with one watch per kind.
//! It refuses to decide what a state means: [`super::status`] does.

mod index;
mod view;
mod watches;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use k8s_openapi::{
    api::{
        apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet},
        batch::v1::Job,
        core::v1::Pod,
    },
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};
use kube::api::PartialObjectMeta;
use tokio::time::Instant;

use self::{
    index::Index,
    watches::{watch_kind, watch_pods, watch_replica_sets},
};
use super::{Expectation, PodHistory, STUCK_GRACE, Status, deployment, needs_pods, status};
use crate::{
    connect::Cluster,
    error::{Error, Result},
    operation::{Operation, Verb},
    read::Deadline,
    watch::{Change, KindWatch, next_of},
    workloads::{Workload, WorkloadKind, WorkloadRef, selector_text},
};

/// Changes come in bursts; judging each one alone would cost more than it tells.
const BURST: Duration = Duration::from_millis(50);

/// How often an interruption that lasts is told again.
const TELL_EVERY: Duration = Duration::from_secs(30);

/// Which workloads to wait for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RolloutTarget {
    /// Workloads by name.
    pub workloads: Vec<WorkloadRef>,
    /// Label selector for Deployments, StatefulSets and DaemonSets. Jobs are named one by one:
    /// those of earlier deployments often carry the same labels.
    pub selector: Option<String>,
    /// Restarts a container may show since the wait began.
    pub max_restarts: u32,
}

/// Where one workload stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkloadState {
    /// The workload.
    pub workload: WorkloadRef,
    /// Its status.
    pub status: Status,
}

/// What a step of the wait brought.
#[derive(Debug)]
pub enum WaitEvent {
    /// Workloads whose status changed; may be empty.
    Changed(Vec<WorkloadState>),
    /// A watch is interrupted and being taken up again.
    Interrupted(Error),
}

/// A wait for rollouts.
pub struct RolloutWait {
    cluster: Cluster,
    target: RolloutTarget,
    deployments: Option<KindWatch<Deployment>>,
    stateful_sets: Option<KindWatch<StatefulSet>>,
    daemon_sets: Option<KindWatch<DaemonSet>>,
    jobs: Option<KindWatch<Job>>,
    replica_sets: Option<KindWatch<PartialObjectMeta<ReplicaSet>>>,
    pods: Option<KindWatch<Pod>>,
    pod_selectors: BTreeMap<String, LabelSelector>,
    takes_baseline: bool,
    history: PodHistory,
    expectations: HashMap<WorkloadRef, Expectation>,
    states: BTreeMap<WorkloadRef, Status>,
    started: Instant,
    told_interruption: Option<Instant>,
}

impl RolloutWait {
    /// Reads the workloads and takes what they are now as what is waited for: their UIDs, images
    /// and restart counts.
    ///
    /// # Errors
    /// [`Error::NotFound`] for the first named workload that is not there,
    /// [`Error::NamespaceMissing`] when that is why, [`Error::Unsuitable`] when the selector
    /// matches nothing, and those of the connection.
    pub async fn begin(
        cluster: &Cluster,
        target: RolloutTarget,
        deadline: Deadline,
    ) -> Result<Self> {
        let mut wait = Self::prepare(cluster, target);
        let synced = tokio::time::timeout_at(deadline.instant(), wait.sync_workloads()).await;
        synced.map_err(|_| timed_out("read the workloads", deadline))??;
        wait.require_workloads(deadline).await?;
        wait.adopt_workloads();
        let synced = tokio::time::timeout_at(deadline.instant(), wait.sync_pods()).await;
        synced.map_err(|_| timed_out("read the pods", deadline))??;
        wait.judge();
        Ok(wait)
    }

    /// Waits until something changes, at most until `deadline`.
    ///
    /// Safe to drop and call again. At the deadline it returns an empty change.
    ///
    /// # Errors
    /// Those that no waiting mends; see [`KindWatch::next`].
    pub async fn next(&mut self, deadline: Deadline) -> Result<WaitEvent> {
        let elapsed = self.started.elapsed();
        let expiry = self.history.next_expiry(STUCK_GRACE, elapsed);
        // A little later than the expiry, which counts only once it has passed.
        let expiry = expiry.map(|at| self.started + at + Duration::from_millis(10));
        let until = expiry.map_or(deadline.instant(), |at| at.min(deadline.instant()));
        match tokio::time::timeout_at(until, self.change()).await {
            Ok(Ok(None)) => {}
            Ok(Ok(Some(interruption))) => return Ok(self.interrupted(interruption)),
            Ok(Err(error)) => return Err(error),
            Err(_) => return Ok(WaitEvent::Changed(self.judge())),
        }
        let burst_ends = Instant::now() + BURST;
        let mut interruption = None;
        while let Ok(change) = tokio::time::timeout_at(burst_ends, self.change()).await {
            interruption = change?.or(interruption);
        }
        self.adopt_workloads();
        let changed = self.judge();
        Ok(match (changed.is_empty(), interruption) {
            (true, Some(interruption)) => self.interrupted(interruption),
            (true, None) | (false, _) => WaitEvent::Changed(changed),
        })
    }

    /// Tells of an outage when it begins and from time to time while it lasts, however many
    /// watches it hits and however often they try.
    fn interrupted(&mut self, error: Error) -> WaitEvent {
        let now = Instant::now();
        let is_told = self
            .told_interruption
            .is_some_and(|told| now.duration_since(told) < TELL_EVERY);
        if is_told {
            return WaitEvent::Changed(Vec::new());
        }
        self.told_interruption = Some(now);
        WaitEvent::Interrupted(error)
    }

    fn prepare(cluster: &Cluster, target: RolloutTarget) -> Self {
        let names = |kind: WorkloadKind| {
            let named = target.workloads.iter().filter(|one| one.kind == kind);
            named.map(|one| one.name.clone()).collect::<BTreeSet<_>>()
        };
        let by_selector = target.selector.as_deref();
        Self {
            deployments: watch_kind(cluster, names(WorkloadKind::Deployment), by_selector),
            stateful_sets: watch_kind(cluster, names(WorkloadKind::StatefulSet), by_selector),
            daemon_sets: watch_kind(cluster, names(WorkloadKind::DaemonSet), by_selector),
            jobs: watch_kind(cluster, names(WorkloadKind::Job), None),
            replica_sets: None,
            pods: None,
            pod_selectors: BTreeMap::new(),
            takes_baseline: false,
            history: PodHistory::default(),
            expectations: HashMap::new(),
            states: BTreeMap::new(),
            started: Instant::now(),
            told_interruption: None,
            cluster: cluster.clone(),
            target,
        }
    }

    fn workloads_are_synced(&self) -> bool {
        synced(&self.deployments)
            && synced(&self.stateful_sets)
            && synced(&self.daemon_sets)
            && synced(&self.jobs)
    }

    async fn sync_workloads(&mut self) -> Result<()> {
        while !self.workloads_are_synced() {
            self.change().await?;
        }
        Ok(())
    }

    async fn sync_pods(&mut self) -> Result<()> {
        while !(synced(&self.pods) && synced(&self.replica_sets)) {
            self.change().await?;
        }
        Ok(())
    }

    /// Waits for one change of any watch and takes note of it. Safe to drop and call again.
    async fn change(&mut self) -> Result<Option<Error>> {
        tokio::select! {
            change = next_of(&mut self.deployments) => {
                let change = change?;
                self.note_deployment(&change);
                Ok(interruption(change))
            }
            change = next_of(&mut self.stateful_sets) => change.map(interruption),
            change = next_of(&mut self.daemon_sets) => change.map(interruption),
            change = next_of(&mut self.jobs) => change.map(interruption),
            change = next_of(&mut self.replica_sets) => change.map(interruption),
            change = next_of(&mut self.pods) => {
                let change = change?;
                self.note_pod(&change);
                Ok(interruption(change))
            }
        }
    }

    fn note_deployment(&mut self, change: &Change<Deployment>) {
        let elapsed = self.started.elapsed();
        let changed: Vec<Arc<Deployment>> = match change {
            Change::Synced => {
                let watch = self.deployments.iter();
                watch.flat_map(|watch| watch.objects().cloned()).collect()
            }
            Change::Applied(object) => vec![object.clone()],
            Change::Deleted(_) | Change::Interrupted(_) | Change::Resumed => Vec::new(),
        };
        for object in changed {
            let uid = object.metadata.uid.as_deref().unwrap_or_default();
            let is_stuck = deployment::cannot_create(&object);
            self.history.note(uid, is_stuck, elapsed);
        }
    }

    fn note_pod(&mut self, change: &Change<Pod>) {
        let elapsed = self.started.elapsed();
        match change {
            Change::Synced => {
                let pods: Vec<_> = self
                    .pods
                    .iter()
                    .flat_map(|watch| watch.objects().cloned())
                    .collect();
                if std::mem::take(&mut self.takes_baseline) {
                    self.history.begin(pods.iter().map(|pod| &**pod));
                }
                for pod in &pods {
                    self.history.observe(pod, elapsed);
                }
            }
            Change::Applied(pod) => self.history.observe(pod, elapsed),
            Change::Deleted(pod) => self.history.forget(pod),
            Change::Interrupted(_) | Change::Resumed => {}
        }
    }

    /// Refuses named workloads that are not there and a selector that matches nothing.
    async fn require_workloads(&self, deadline: Deadline) -> Result<()> {
        let missing = self.target.workloads.iter();
        let mut missing = missing.filter(|one| self.workload(one).is_none());
        if let Some(workload) = missing.next() {
            self.cluster.require_namespace(deadline).await?;
            let operation = match workload.kind {
                WorkloadKind::Deployment => self.operation::<Deployment>(),
                WorkloadKind::StatefulSet => self.operation::<StatefulSet>(),
                WorkloadKind::DaemonSet => self.operation::<DaemonSet>(),
                WorkloadKind::Job => self.operation::<Job>(),
            };
            return Err(Error::NotFound {
                operation: Box::new(operation.named(&workload.name)),
            });
        }
        if self.seen_workloads().is_empty() {
            self.cluster.require_namespace(deadline).await?;
            let selector = self.target.selector.as_deref().unwrap_or_default();
            return Err(Error::Unsuitable {
                object: format!("namespace `{}`", self.cluster.namespace()),
                problem: format!(
                    "no Deployment, StatefulSet or DaemonSet matches selector `{selector}`"
                ),
            });
        }
        Ok(())
    }

    fn operation<K>(&self) -> Operation
    where
        K: kube::Resource<DynamicType = ()>,
    {
        Operation::on::<K>(Verb::Get, self.cluster.namespace())
    }

    fn seen_workloads(&self) -> Vec<Workload> {
        let mut seen = Vec::new();
        let deployments = self.deployments.iter().flat_map(KindWatch::objects);
        seen.extend(deployments.cloned().map(Workload::Deployment));
        let stateful_sets = self.stateful_sets.iter().flat_map(KindWatch::objects);
        seen.extend(stateful_sets.cloned().map(Workload::StatefulSet));
        let daemon_sets = self.daemon_sets.iter().flat_map(KindWatch::objects);
        seen.extend(daemon_sets.cloned().map(Workload::DaemonSet));
        let jobs = self.jobs.iter().flat_map(KindWatch::objects);
        seen.extend(jobs.cloned().map(Workload::Job));
        seen
    }

    /// Takes up workloads that are new (by selector) and starts watching pods where one needs it.
    fn adopt_workloads(&mut self) {
        let mut selectors = self.pod_selectors.clone();
        let mut needs_replica_sets = false;
        for workload in self.seen_workloads() {
            let reference = workload.reference();
            let expectation = Expectation::of(&workload, self.target.max_restarts);
            self.expectations.entry(reference).or_insert(expectation);
            if !needs_pods(&workload) {
                continue;
            }
            needs_replica_sets |= workload.kind() == WorkloadKind::Deployment;
            if let Some(selector) = workload.selector() {
                selectors.insert(selector_text(selector), selector.clone());
            }
        }
        if needs_replica_sets && self.replica_sets.is_none() {
            self.replica_sets = Some(watch_replica_sets(&self.cluster));
        }
        if selectors.len() != self.pod_selectors.len() {
            self.pods = Some(watch_pods(&self.cluster, &selectors));
            self.pod_selectors = selectors;
            self.takes_baseline = true;
        }
    }

    /// Judges everything and returns what changed.
    fn judge(&mut self) -> Vec<WorkloadState> {
        let elapsed = self.started.elapsed();
        let pods_are_synced = synced(&self.pods) && synced(&self.replica_sets);
        let index = Index::new(self);
        let mut changed = Vec::new();
        for (reference, expectation) in &self.expectations {
            let now = match self.workload(reference) {
                None => Status::failed("it was deleted during the wait"),
                Some(workload) if needs_pods(&workload) && !pods_are_synced => {
                    Status::progressing("reading its pods")
                }
                Some(workload) => index.observe(&workload, &self.history, elapsed, |observation| {
                    status(observation, expectation)
                }),
            };
            if self.states.get(reference) != Some(&now) {
                changed.push(WorkloadState {
                    workload: reference.clone(),
                    status: now,
                });
            }
        }
        changed.sort_by(|one, other| one.workload.cmp(&other.workload));
        for state in &changed {
            self.states
                .insert(state.workload.clone(), state.status.clone());
        }
        changed
    }
}

fn synced<K>(watch: &Option<KindWatch<K>>) -> bool
where
    K: kube::Resource
        + Clone
        + serde::de::DeserializeOwned
        + std::fmt::Debug
        + Send
        + Sync
        + 'static,
{
    watch.as_ref().is_none_or(KindWatch::is_synced)
}

fn interruption<K>(change: Change<K>) -> Option<Error> {
    match change {
        Change::Interrupted(error) => Some(error),
        Change::Synced | Change::Applied(_) | Change::Deleted(_) | Change::Resumed => None,
    }
}

fn timed_out(what: &str, deadline: Deadline) -> Error {
    Error::TimedOut {
        what: what.to_owned(),
        after: deadline.allowed(),
    }
}
