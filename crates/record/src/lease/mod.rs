//! The Lease that guards one process at a time, as `coordination.k8s.io/v1` means it.
//!
//! Owns taking, renewing and releasing it; refuses to know what the holder does with it. It
//! guards processes only: between the steps of a workflow the record's `active` claims the
//! application.

mod acquire;
mod keeper;
mod observe;

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};

use crate::error::LeaseHolder;

pub(crate) use acquire::{Acquire, acquire};
pub(crate) use keeper::{Keeper, KeeperParts};
pub use observe::{LeaseObserver, LeaseSeen, Standing};

/// Annotation with the actor of the holder's run.
const ACTOR_ANNOTATION: &str = "switchyard.dev/holder-actor";
/// Annotation with the link to the holder's run.
const RUN_ANNOTATION: &str = "switchyard.dev/holder-run";

/// The times of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseTimes {
    /// How long a lease that is not renewed stays its holder's.
    pub duration: Duration,
    /// How often the holder renews it.
    pub renew_every: Duration,
    /// How long a holder goes on without an answer from the API server. Nobody can have taken
    /// the lease unnoticed: every write, and the first renewal that gets through, is conditional
    /// on the resourceVersion and finds out.
    pub contact_limit: Duration,
}

impl Default for LeaseTimes {
    fn default() -> Self {
        Self {
            duration: Duration::from_secs(15),
            renew_every: Duration::from_secs(5),
            contact_limit: Duration::from_secs(60),
        }
    }
}

/// Who holds a lease, in its annotations for others to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claimant {
    pub(crate) holder: LeaseHolder,
    pub(crate) times: LeaseTimes,
}

impl Claimant {
    /// A claimant with a random identity: two processes of one run are two holders.
    pub(crate) fn new(actor: &str, run_url: Option<&str>, times: LeaseTimes) -> Self {
        Self {
            holder: LeaseHolder {
                identity: format!("switchyard-{:016x}", rand::random::<u64>()),
                actor: Some(actor.to_owned()),
                run_url: run_url.map(str::to_owned),
            },
            times,
        }
    }

    /// The lease object under this claimant. A change of the holder counts as a transition.
    fn lease(&self, name: &str, seen: Option<&Lease>, now: Timestamp) -> Lease {
        let spec = seen.and_then(|lease| lease.spec.as_ref());
        let is_renewal = spec.and_then(|spec| spec.holder_identity.as_deref())
            == Some(self.holder.identity.as_str());
        let transitions = spec.and_then(|spec| spec.lease_transitions).unwrap_or(0);
        let acquired = spec.and_then(|spec| spec.acquire_time.clone());
        Lease {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                resource_version: seen.and_then(|lease| lease.metadata.resource_version.clone()),
                annotations: Some(self.annotations()),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(self.holder.identity.clone()),
                lease_duration_seconds: Some(seconds(self.times.duration)),
                acquire_time: acquired.filter(|_| is_renewal).or(Some(MicroTime(now))),
                renew_time: Some(MicroTime(now)),
                lease_transitions: Some(match (is_renewal, seen) {
                    (true, _) | (false, None) => transitions,
                    (false, Some(_)) => transitions.saturating_add(1),
                }),
                ..LeaseSpec::default()
            }),
        }
    }

    fn annotations(&self) -> BTreeMap<String, String> {
        let pairs = [
            (ACTOR_ANNOTATION, &self.holder.actor),
            (RUN_ANNOTATION, &self.holder.run_url),
        ];
        pairs
            .into_iter()
            .filter_map(|(key, value)| Some((key.to_owned(), value.clone()?)))
            .collect()
    }
}

/// The lease object without a holder, over the state of it that was read.
fn released(name: &str, seen: &Lease, now: Timestamp) -> Lease {
    let spec = seen.spec.as_ref();
    Lease {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            resource_version: seen.metadata.resource_version.clone(),
            ..ObjectMeta::default()
        },
        spec: Some(LeaseSpec {
            holder_identity: None,
            lease_duration_seconds: Some(1),
            acquire_time: None,
            renew_time: Some(MicroTime(now)),
            lease_transitions: spec.and_then(|spec| spec.lease_transitions),
            ..LeaseSpec::default()
        }),
    }
}

/// The holder of a lease; nothing when it is free.
fn holder_of(lease: &Lease) -> Option<LeaseHolder> {
    let identity = lease.spec.as_ref()?.holder_identity.clone()?;
    let annotation = |key: &str| {
        let annotations = lease.metadata.annotations.as_ref()?;
        annotations.get(key).cloned()
    };
    (!identity.is_empty()).then(|| LeaseHolder {
        identity,
        actor: annotation(ACTOR_ANNOTATION),
        run_url: annotation(RUN_ANNOTATION),
    })
}

fn seconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_secs().max(1)).unwrap_or(i32::MAX)
}
