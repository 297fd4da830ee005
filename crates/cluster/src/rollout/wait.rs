//! Waits for any number of rollouts with one watch per kind.
//! It refuses to decide what a state means: [`super::status`] does.

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
    apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta},
};
use kube::{Api, api::PartialObjectMeta};
use tokio::time::Instant;

use super::{
    Expectation, Observation, PodHistory, RolloutFailure, STUCK_GRACE, Size, Status, current_pods,
    current_replica_sets, deployment, needs_pods, owner_uid, size, status,
};
use crate::{
    connect::Cluster,
    error::{Error, Result},
    operation::{Operation, Verb},
    read::Deadline,
    watch::{Change, KindWatch, WatchOptions, next_of},
    workloads::{Workload, WorkloadKind, WorkloadRef, parse_selector, selector_text, selects},
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

    /// All workloads with their states, by kind and name.
    pub fn states(&self) -> impl Iterator<Item = (&WorkloadRef, &Status)> {
        self.states.iter()
    }

    /// Whether everything is done at this moment.
    pub fn is_done(&self) -> bool {
        !self.states.is_empty() && self.states.values().all(|status| *status == Status::Done)
    }

    /// The first workload that is lost.
    pub fn failure(&self) -> Option<(&WorkloadRef, &RolloutFailure)> {
        self.states
            .iter()
            .find_map(|(workload, status)| match status {
                Status::Failed(failure) => Some((workload, failure)),
                Status::Done | Status::Progressing { .. } => None,
            })
    }

    /// Every workload that is lost.
    pub fn failures(&self) -> impl Iterator<Item = (&WorkloadRef, &RolloutFailure)> {
        self.states
            .iter()
            .filter_map(|(workload, status)| match status {
                Status::Failed(failure) => Some((workload, failure)),
                Status::Done | Status::Progressing { .. } => None,
            })
    }

    /// Pods of the version being rolled out, without those on their way out, by name.
    pub fn pods_of(&self, workload: &WorkloadRef) -> Vec<Arc<Pod>> {
        let names = self.observe(workload, |observation| {
            current_pods(observation)
                .into_iter()
                .filter_map(|pod| pod.metadata.name.clone())
                .collect::<BTreeSet<_>>()
        });
        let names = names.unwrap_or_default();
        let watch = self.pods.as_ref();
        let pods = names.iter().filter_map(|name| watch?.get(name).cloned());
        pods.collect()
    }

    /// How many pods a workload wants and how many of them are ready.
    pub fn size_of(&self, workload: &WorkloadRef) -> Size {
        self.observe(workload, size).unwrap_or_default()
    }

    /// Objects other than pods whose events tell about a workload: itself and its ReplicaSet, as
    /// (`kind/name`, UID).
    pub fn related_objects(&self, workload: &WorkloadRef) -> Vec<(String, String)> {
        let related = self.observe(workload, |observation| {
            let itself = (workload.to_string(), observation.workload.uid().to_owned());
            let sets = current_replica_sets(observation).into_iter();
            let sets = sets.map(|(name, uid)| (format!("replicaset/{name}"), uid));
            std::iter::once(itself).chain(sets).collect()
        });
        related.unwrap_or_default()
    }

    fn observe<T>(
        &self,
        workload: &WorkloadRef,
        look: impl FnOnce(&Observation<'_>) -> T,
    ) -> Option<T> {
        let object = self.workload(workload)?;
        let index = Index::new(self);
        Some(index.observe(&object, &self.history, self.started.elapsed(), look))
    }

    /// The workload as last seen.
    pub fn workload(&self, workload: &WorkloadRef) -> Option<Workload> {
        let name = workload.name.as_str();
        match workload.kind {
            WorkloadKind::Deployment => {
                let object = self.deployments.as_ref()?.get(name)?;
                Some(Workload::Deployment(object.clone()))
            }
            WorkloadKind::StatefulSet => {
                let object = self.stateful_sets.as_ref()?.get(name)?;
                Some(Workload::StatefulSet(object.clone()))
            }
            WorkloadKind::DaemonSet => {
                let object = self.daemon_sets.as_ref()?.get(name)?;
                Some(Workload::DaemonSet(object.clone()))
            }
            WorkloadKind::Job => {
                let object = self.jobs.as_ref()?.get(name)?;
                Some(Workload::Job(object.clone()))
            }
        }
    }

    /// For how long the wait has been blind: since when one of its watches is interrupted.
    pub fn blind_for(&self) -> Option<Duration> {
        let since = [
            self.deployments
                .as_ref()
                .and_then(KindWatch::interrupted_since),
            self.stateful_sets
                .as_ref()
                .and_then(KindWatch::interrupted_since),
            self.daemon_sets
                .as_ref()
                .and_then(KindWatch::interrupted_since),
            self.jobs.as_ref().and_then(KindWatch::interrupted_since),
            self.replica_sets
                .as_ref()
                .and_then(KindWatch::interrupted_since),
            self.pods.as_ref().and_then(KindWatch::interrupted_since),
        ];
        since
            .into_iter()
            .flatten()
            .min()
            .map(|since| since.elapsed())
    }

    /// Restarts of all pods of the versions being rolled out, since the wait began.
    pub fn restarts(&self) -> u32 {
        let pods = self
            .states
            .keys()
            .filter(|workload| workload.kind != WorkloadKind::Job);
        let pods = pods.flat_map(|workload| self.pods_of(workload));
        pods.map(|pod| self.history.restarts_of(&pod)).sum()
    }

    /// Restarts of one pod since the wait began.
    pub fn restarts_of(&self, pod: &Pod) -> u32 {
        self.history.restarts_of(pod)
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

/// Pods and ReplicaSets by their owner, so that judging many workloads does not take a look at
/// every pod for each of them.
struct Index<'wait> {
    replica_sets: HashMap<&'wait str, Vec<&'wait ObjectMeta>>,
    pods: HashMap<&'wait str, Vec<&'wait Pod>>,
}

impl<'wait> Index<'wait> {
    fn new(wait: &'wait RolloutWait) -> Self {
        let mut replica_sets: HashMap<&str, Vec<&ObjectMeta>> = HashMap::new();
        for set in wait.replica_sets.iter().flat_map(KindWatch::objects) {
            if let Some(owner) = owner_uid(&set.metadata) {
                replica_sets.entry(owner).or_default().push(&set.metadata);
            }
        }
        let mut pods: HashMap<&str, Vec<&Pod>> = HashMap::new();
        for pod in wait.pods.iter().flat_map(KindWatch::objects) {
            if let Some(owner) = owner_uid(&pod.metadata) {
                pods.entry(owner).or_default().push(pod);
            }
        }
        Self { replica_sets, pods }
    }

    /// Hands everything that concerns `workload` to `judge`.
    fn observe<T>(
        &self,
        workload: &Workload,
        history: &PodHistory,
        elapsed: Duration,
        judge: impl FnOnce(&Observation<'_>) -> T,
    ) -> T {
        let of = |owner: &str| self.pods.get(owner).into_iter().flatten().copied();
        let replica_sets = self.replica_sets.get(workload.uid());
        let replica_sets = replica_sets.cloned().unwrap_or_default();
        let by_set = replica_sets
            .iter()
            .flat_map(|set| of(set.uid.as_deref().unwrap_or_default()));
        let pods: Vec<&Pod> = of(workload.uid()).chain(by_set).collect();
        judge(&Observation {
            workload,
            replica_sets: &replica_sets,
            pods: &pods,
            history,
            elapsed,
        })
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

/// Watches the named objects of a kind, or those the selector matches; nothing when there is
/// neither. A single name is left to the server to select.
fn watch_kind<K>(
    cluster: &Cluster,
    names: BTreeSet<String>,
    selector: Option<&str>,
) -> Option<KindWatch<K>>
where
    K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>
        + Clone
        + serde::de::DeserializeOwned
        + std::fmt::Debug
        + Send
        + Sync
        + 'static,
{
    let mut options = WatchOptions::<K>::default();
    match (names.len(), selector) {
        (0, None) => return None,
        (0, Some(selector)) => options.labels = Some(selector.to_owned()),
        (1, None) => {
            options.fields = names.first().map(|name| format!("metadata.name={name}"));
        }
        // Names and a selector at once: the server can only do either.
        (_, _) => {
            let selector = selector.and_then(|text| parse_selector(text).ok());
            options.keep = Box::new(move |object: &K| {
                let meta = object.meta();
                meta.name.as_ref().is_some_and(|name| names.contains(name))
                    || selector
                        .as_ref()
                        .is_some_and(|selector| selects(selector, meta.labels.as_ref()))
            });
        }
    }
    Some(KindWatch::new(&cluster.objects::<K>(), options))
}

/// Only metadata: name, owner and revision tell which pods are new.
fn watch_replica_sets(cluster: &Cluster) -> KindWatch<PartialObjectMeta<ReplicaSet>> {
    let api: Api<PartialObjectMeta<ReplicaSet>> =
        Api::namespaced(cluster.client(), cluster.namespace());
    let operation = Operation::on::<ReplicaSet>(Verb::Watch, cluster.namespace());
    KindWatch::on(api, operation, WatchOptions::default())
}

fn watch_pods(cluster: &Cluster, selectors: &BTreeMap<String, LabelSelector>) -> KindWatch<Pod> {
    let mut options = WatchOptions::<Pod> {
        trim: trim_pod,
        ..WatchOptions::default()
    };
    if selectors.len() == 1 {
        options.labels = selectors.keys().next().cloned();
    } else {
        let selectors: Vec<_> = selectors.values().cloned().collect();
        options.keep = Box::new(move |pod: &Pod| {
            let labels = pod.metadata.labels.as_ref();
            selectors.iter().any(|selector| selects(selector, labels))
        });
    }
    KindWatch::new(&cluster.objects(), options)
}

/// Keeps of a pod what the judgement, the report and the HTTP checks read.
fn trim_pod(pod: &mut Pod) {
    pod.metadata.annotations = None;
    let Some(spec) = pod.spec.as_mut() else {
        return;
    };
    spec.volumes = None;
    spec.tolerations = None;
    spec.affinity = None;
    let init = spec.init_containers.iter_mut().flatten();
    for container in spec.containers.iter_mut().chain(init) {
        container.env = None;
        container.env_from = None;
        container.args = None;
        container.command = None;
        container.volume_mounts = None;
        container.liveness_probe = None;
        container.readiness_probe = None;
        container.startup_probe = None;
        container.lifecycle = None;
        container.security_context = None;
    }
}
