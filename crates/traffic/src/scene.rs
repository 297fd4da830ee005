//! The sides' pods and endpoints as they are now, followed by one watch a kind.
//! Refuses to decide: it says what is routable, and wakes whoever waits when that changes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use switchyard_cluster::endpoints::{
    Address, PortRef, Routable, SideQuestion, routable, service_port,
};
use switchyard_cluster::rollout::{is_ready, is_terminating};
use switchyard_cluster::watch::{Change, KindWatch, WatchOptions};
use switchyard_cluster::{Cluster, Error};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::traefik_api::server_address;

const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// Pods and EndpointSlices at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Pods of any side.
    pub pods: Vec<Pod>,
    /// EndpointSlices of any Service that matters.
    pub slices: Vec<EndpointSlice>,
    /// Whether both copies have been complete once.
    pub is_complete: bool,
    /// Why the copies may be stale, while they may be.
    pub interrupted: Option<String>,
}

/// One side behind one Service.
#[derive(Clone, Debug)]
pub struct SideView {
    /// The Service whose EndpointSlices count.
    pub service: Service,
    /// Labels that all pods of the side carry.
    pub labels: BTreeMap<String, String>,
    /// Ports that traffic uses; empty means all of the Service's.
    pub ports: Vec<PortRef>,
}

impl SideView {
    /// The Service's name.
    pub fn service_name(&self) -> &str {
        self.service.metadata.name.as_deref().unwrap_or_default()
    }

    /// Ports to be asked about.
    fn asked_ports(&self) -> Vec<PortRef> {
        if !self.ports.is_empty() {
            return self.ports.clone();
        }
        let ports = self
            .service
            .spec
            .as_ref()
            .and_then(|spec| spec.ports.as_deref())
            .unwrap_or_default();
        let numbers = ports
            .iter()
            .filter_map(|port| u16::try_from(port.port).ok());
        numbers.map(PortRef::Number).collect()
    }

    /// What of the side can take traffic, on its worst port.
    pub fn routable(&self, snapshot: &Snapshot, needed: usize) -> Routable {
        let slices = snapshot.slices_of(self.service_name());
        let ask = |port: Option<&PortRef>| {
            routable(&SideQuestion {
                service: &self.service,
                slices: &slices,
                pods: &snapshot.pods,
                side: &self.labels,
                port,
                needed,
            })
        };
        let answers = self.asked_ports().into_iter().map(|port| ask(Some(&port)));
        answers
            .min_by_key(|answer| (answer.is_enough(), answer.addresses.len()))
            .unwrap_or_else(|| ask(None))
    }

    /// Servers as a proxy that sends to pods would list them, for the first port.
    pub fn servers(&self, snapshot: &Snapshot) -> BTreeSet<String> {
        let answer = self.routable(snapshot, 1);
        self.servers_of(&answer.addresses)
    }

    /// These addresses as a proxy would list them.
    pub fn servers_of(&self, addresses: &[Address]) -> BTreeSet<String> {
        let ports = self.asked_ports();
        let name = service_port(&self.service, ports.first())
            .and_then(|port| port.name.clone())
            .unwrap_or_default();
        let server = |address: &Address| {
            let port = address.ports.get(&name)?;
            Some(server_address(&address.ip, *port))
        };
        addresses.iter().filter_map(server).collect()
    }

    /// Pods of the side that are not on their way out, and how many of them are ready.
    pub fn pods(&self, snapshot: &Snapshot) -> PodCount {
        let own = snapshot
            .pods
            .iter()
            .filter(|pod| carries(pod, &self.labels) && !is_terminating(pod));
        let mut count = PodCount::default();
        for pod in own {
            count.all += 1;
            count.ready += u32::from(is_ready(pod));
        }
        count
    }

    /// UIDs of the side's ready pods.
    pub fn ready_uids(&self, snapshot: &Snapshot) -> BTreeSet<String> {
        let own = snapshot
            .pods
            .iter()
            .filter(|pod| carries(pod, &self.labels) && !is_terminating(pod) && is_ready(pod));
        own.filter_map(|pod| pod.metadata.uid.clone()).collect()
    }
}

/// How many pods a side has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PodCount {
    /// That are not on their way out.
    pub all: u32,
    /// That are ready too.
    pub ready: u32,
}

impl Snapshot {
    /// The slices of one Service.
    pub fn slices_of(&self, service: &str) -> Vec<EndpointSlice> {
        let of_service = |slice: &&EndpointSlice| service_of(slice) == Some(service);
        self.slices.iter().filter(of_service).cloned().collect()
    }
}

fn service_of(slice: &EndpointSlice) -> Option<&str> {
    slice
        .metadata
        .labels
        .as_ref()?
        .get(SERVICE_NAME)
        .map(String::as_str)
}

/// Whether a pod carries all of these labels.
pub fn carries(pod: &Pod, labels: &BTreeMap<String, String>) -> bool {
    let own = pod.metadata.labels.as_ref();
    labels
        .iter()
        .all(|(key, value)| own.and_then(|own| own.get(key)) == Some(value))
}

/// A running pair of watches. Dropping it ends them.
#[derive(Debug)]
pub struct Scene {
    receiver: watch::Receiver<Arc<Snapshot>>,
    failure: watch::Receiver<Option<String>>,
    _stop: DropGuard,
}

/// What to follow.
#[derive(Clone, Debug, Default)]
pub struct Interest {
    /// Services whose slices matter.
    pub services: BTreeSet<String>,
    /// Label sets; a pod that carries all of one matters.
    pub pods: Vec<BTreeMap<String, String>>,
}

impl Scene {
    /// Begins to follow; the first snapshot is not complete yet.
    pub fn follow(cluster: &Cluster, interest: Interest) -> Self {
        let (sender, receiver) = watch::channel(Arc::new(Snapshot::default()));
        let (failed, failure) = watch::channel(None);
        let stop = CancellationToken::new();
        let services = interest.services;
        let slices = KindWatch::new(
            &cluster.objects::<EndpointSlice>(),
            WatchOptions {
                keep: Box::new(move |slice: &EndpointSlice| {
                    service_of(slice).is_some_and(|name| services.contains(name))
                }),
                trim: |slice| slice.metadata.managed_fields = None,
                ..WatchOptions::default()
            },
        );
        let wanted = interest.pods;
        let pods = KindWatch::new(
            &cluster.objects::<Pod>(),
            WatchOptions {
                keep: Box::new(move |pod: &Pod| wanted.iter().any(|labels| carries(pod, labels))),
                trim: |pod| {
                    pod.metadata.managed_fields = None;
                    pod.spec = None;
                },
                ..WatchOptions::default()
            },
        );
        tokio::spawn(run(slices, pods, sender, failed, stop.clone()));
        Self {
            receiver,
            failure,
            _stop: stop.drop_guard(),
        }
    }

    /// What is known now.
    pub fn now(&self) -> Arc<Snapshot> {
        self.receiver.borrow().clone()
    }

    /// Why following has ended for good, if it has.
    pub fn failure(&self) -> Option<String> {
        self.failure.borrow().clone()
    }

    /// Waits until something changed; for ever once following has ended.
    pub async fn changed(&self) {
        let mut receiver = self.receiver.clone();
        receiver.mark_unchanged();
        if receiver.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Waits until the copies are complete.
    ///
    /// # Errors
    /// In words: why they cannot be had.
    pub async fn complete(&self) -> Result<(), String> {
        let mut receiver = self.receiver.clone();
        let mut failure = self.failure.clone();
        tokio::select! {
            seen = receiver.wait_for(|snapshot| snapshot.is_complete) => {
                seen.map(drop).map_err(|_| self.failure().unwrap_or_else(|| "the watch ended".to_owned()))
            }
            failed = failure.wait_for(Option::is_some) => {
                Err(failed.ok().and_then(|reason| reason.clone()).unwrap_or_else(|| "the watch ended".to_owned()))
            }
        }
    }
}

async fn run(
    mut slices: KindWatch<EndpointSlice>,
    mut pods: KindWatch<Pod>,
    sender: watch::Sender<Arc<Snapshot>>,
    failed: watch::Sender<Option<String>>,
    stop: CancellationToken,
) {
    let mut gaps: [Option<String>; 2] = [None, None];
    loop {
        let seen = tokio::select! {
            () = stop.cancelled() => return,
            change = slices.next() => follow_gap(&mut gaps[0], change),
            change = pods.next() => follow_gap(&mut gaps[1], change),
        };
        if let Err(error) = seen {
            let _ = failed.send(Some(error.to_string()));
            return;
        }
        let snapshot = Snapshot {
            pods: pods.objects().map(|pod| pod.as_ref().clone()).collect(),
            slices: slices
                .objects()
                .map(|slice| slice.as_ref().clone())
                .collect(),
            is_complete: pods.is_synced() && slices.is_synced(),
            interrupted: gaps.iter().flatten().next().cloned(),
        };
        if sender.send(Arc::new(snapshot)).is_err() {
            return;
        }
    }
}

/// Notes from when to when a copy may be stale.
fn follow_gap<K>(gap: &mut Option<String>, change: Result<Change<K>, Error>) -> Result<(), Error> {
    match change? {
        Change::Interrupted(error) => *gap = Some(error.to_string()),
        Change::Resumed | Change::Synced => *gap = None,
        Change::Applied(_) | Change::Deleted(_) => {}
    }
    Ok(())
}
