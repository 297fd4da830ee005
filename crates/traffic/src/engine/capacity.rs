//! Whether the side that is to get a share can carry it, before anything is written.

use std::time::Duration;

use switchyard_cluster::endpoints::Warning;
use switchyard_record::{Chain, DeploymentRecord, Side, WorkloadState};

use super::scaling::recorded_size;
use super::{Engine, Front, Stop};
use crate::capacity::{Baseline, Demand, pods_needed};
use crate::machine::Direction;
use crate::roles::Backing;
use crate::scene::Snapshot;
use crate::share::Percent;

/// How long endpoints may lag behind pods that a step before has seen ready.
const LAG: Duration = Duration::from_secs(10);

impl Engine<'_> {
    pub(crate) async fn capacity(&mut self, share: Percent) -> Result<(), Stop> {
        let snapshot = self.scene.now();
        for index in self.own() {
            let pods = self.fronts[index].views.giving.pods(&snapshot).all;
            let record = self.session.record()?;
            let found = found_with(record, &self.fronts[index].roles.giving);
            let front = &mut self.fronts[index];
            front.baseline = front.baseline.max(pods).max(found);
        }
        self.say_warnings(&snapshot);
        let wanted = match self.direction {
            Direction::Forward => LAG.min(self.settings.wait),
            Direction::Back => self.settings.wait,
        };
        let limit = self.limit(wanted);
        loop {
            let snapshot = self.scene.now();
            let problem = self
                .own_fronts()
                .find_map(|front| self.shortage(front, &snapshot, share));
            let Some(problem) = problem else {
                return Ok(());
            };
            if limit.has_passed() {
                return Err(Stop::gate(
                    problem,
                    Some("wait for the rollout first (health-wait), or lower `min-ready`"),
                ));
            }
            self.guard_return()?;
            self.progress(problem);
            self.tick().await?;
        }
    }

    /// Ready pods that all of the traffic needs while it goes back: as many as the side that it goes back to was
    /// found with.
    pub(crate) fn found_before(&self, front: &Front) -> Result<usize, Stop> {
        let found = was_found_with(self.session.record()?, &front.roles.taking);
        let demand = Demand {
            baseline: Some(Baseline {
                pods: found,
                share: Percent::ALL,
            }),
            share: Percent::ALL,
            min_ready: self.settings.min_ready,
        };
        Ok(usize::try_from(pods_needed(&demand)).unwrap_or(usize::MAX))
    }

    /// Ready pods that a side needs for a share on this target.
    pub(crate) fn needed(&self, front: &Front, share: Percent) -> usize {
        let demand = match self.direction {
            Direction::Forward => Demand {
                baseline: Some(Baseline {
                    pods: front.baseline,
                    share: Percent::ALL,
                }),
                share,
                min_ready: self.settings.min_ready,
            },
            // The old side was brought to its own size; how many pods the new one has says nothing.
            Direction::Back => Demand {
                baseline: None,
                share,
                min_ready: None,
            },
        };
        usize::try_from(pods_needed(&demand)).unwrap_or(usize::MAX)
    }

    /// Why the taking side cannot get its share through this target.
    fn shortage(&self, front: &Front, snapshot: &Snapshot, share: Percent) -> Option<String> {
        let side = front.roles.taking.side;
        let view = &front.views.taking;
        let needed = self.needed(front, share);
        if let Some(pod) = shared_pod(front, snapshot) {
            return Some(format!(
                "{}: pod `{pod}` belongs to side `{}` and to side `{side}`, so they cannot be told apart",
                front.target, front.roles.giving.side
            ));
        }
        if front.is_service() {
            // The new pods are in no slice of the front Service before the overlap; the overlap is
            // confirmed by its slices before anything is taken from the old side.
            let count = view.pods(snapshot);
            let ready = usize::try_from(count.ready).unwrap_or(usize::MAX);
            let enough = ready >= needed && (self.direction == Direction::Forward || ready > 0);
            return (!enough).then(|| {
                format!(
                    "{}: side `{side}` has {ready} of {needed} needed ready pods",
                    front.target
                )
            });
        }
        let answer = view.routable(snapshot, needed);
        if let Some(problem) = answer.problem() {
            return Some(format!(
                "service `{}` of side `{side}`: {problem}",
                view.service_name()
            ));
        }
        let is_local = answer
            .warnings
            .iter()
            .any(|warning| matches!(warning, Warning::LocalTrafficPolicy { .. }));
        let giving = front.views.giving.routable(snapshot, 1);
        let bare: Vec<_> = giving
            .nodes()
            .difference(&answer.nodes())
            .map(|node| (*node).to_owned())
            .collect();
        (is_local && !bare.is_empty()).then(|| {
            format!(
                "service `{}` has a Local traffic policy and side `{side}` has no pod on {}",
                view.service_name(),
                bare.join(", ")
            )
        })
    }

    fn say_warnings(&self, snapshot: &Snapshot) {
        for front in self.own_fronts() {
            for warning in front.views.taking.routable(snapshot, 1).warnings {
                self.warn(format!(
                    "service `{}`: {warning}",
                    front.views.taking.service_name()
                ));
            }
        }
    }
}

/// Pods that the giving side of a canary deployment was found with: an autoscaler may have taken
/// some of them away since, for it has carried less and less. Pure.
fn found_with(record: &DeploymentRecord, giving: &Backing) -> u32 {
    match record.chain {
        Chain::InPlace | Chain::Slots => return 0,
        Chain::Canary => {}
    }
    named_after(record, giving).unwrap_or(0)
}

/// Pods that a side was found with: of the workload that is called as its Service, else of its largest. Pure.
fn was_found_with(record: &DeploymentRecord, backing: &Backing) -> u32 {
    let all = workloads_of(record, backing.side).map(recorded_size);
    named_after(record, backing).or(all.max()).unwrap_or(0)
}

fn named_after(record: &DeploymentRecord, backing: &Backing) -> Option<u32> {
    workloads_of(record, backing.side)
        .filter(|workload| workload.workload.name == backing.service)
        .map(recorded_size)
        .max()
}

fn workloads_of(record: &DeploymentRecord, side: Side) -> impl Iterator<Item = &WorkloadState> {
    let recorded = record.sides.from.iter().chain(&record.sides.to);
    let own = recorded.filter(move |one| one.side == side);
    own.flat_map(|one| &one.workloads)
}

/// A pod that carries the labels of both sides.
fn shared_pod(front: &Front, snapshot: &Snapshot) -> Option<String> {
    let taking = front.views.taking.ready_uids(snapshot);
    let giving = front.views.giving.ready_uids(snapshot);
    let shared = taking.intersection(&giving).next()?;
    let pod = snapshot
        .pods
        .iter()
        .find(|pod| pod.metadata.uid.as_ref() == Some(shared));
    pod.and_then(|pod| pod.metadata.name.clone())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;

    fn record(chain: &str) -> DeploymentRecord {
        let workload = |name: &str, replicas: u32, hpa_min: Option<u32>| {
            json!({
                "workload": {"api_version": "apps/v1", "kind": "Deployment", "namespace": "shop", "name": name},
                "replicas": replicas, "hpa_min": hpa_min,
            })
        };
        let id = switchyard_record::DeploymentId::new(switchyard_record::DeploymentIdParts {
            repository: "example/shop".to_owned(),
            run_id: "1".to_owned(),
            environment: "production".to_owned(),
            cluster: "main".to_owned(),
            namespace: "shop".to_owned(),
            application: "web".to_owned(),
        });
        serde_json::from_value(json!({
            "schema": 1, "id": id.unwrap(), "kind": "deploy", "chain": chain,
            "run": {"repository": "example/shop", "run_id": "1", "attempts": []},
            "actor": "dana", "phase": "holding(1)", "phases": [],
            "sides": {
                "from": {"side": "stable", "workloads": [
                    workload("web", 3, Some(5)), workload("worker", 40, None),
                ]},
                "to": {"side": "canary", "workloads": [workload("web-canary", 1, None)]},
            },
        }))
        .unwrap()
    }

    fn giving(side: Side) -> Backing {
        Backing {
            side,
            service: side.object_name("web"),
            selector: BTreeMap::new(),
        }
    }

    #[test]
    fn a_canary_is_measured_by_the_main_workload_as_it_was_before_it_carried_less() {
        let canary = record("canary");
        assert_eq!(found_with(&canary, &giving(Side::Stable)), 5);
        assert_eq!(found_with(&canary, &giving(Side::Canary)), 1);
        assert_eq!(found_with(&record("slots"), &giving(Side::Stable)), 0);
    }

    #[test]
    fn a_side_that_is_dead_was_found_with_what_the_record_says() {
        let slots = record("slots");
        assert_eq!(was_found_with(&slots, &giving(Side::Stable)), 5);
        let called_otherwise = Backing {
            service: "front".to_owned(),
            ..giving(Side::Stable)
        };
        assert_eq!(was_found_with(&slots, &called_otherwise), 40);
        assert_eq!(was_found_with(&slots, &giving(Side::BLUE)), 0);
    }
}
