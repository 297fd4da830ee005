//! Reads what is live before anything is decided: who takes traffic, how large the sides are, which
//! selectors there are.

use std::collections::BTreeMap;

use serde_json::Value;
use switchyard_deployment::cluster_failure;
use switchyard_manifest::slotting::{Part, SlottingOptions, classify};
use switchyard_manifest::{Kind, Object, ObjectName, Slot, names, object, pods};
use switchyard_record::{ObjectRef, Side, SideState, WorkloadState};
use switchyard_runner::Failure;

use super::{Applying, is_sized, side_of};
use crate::ledger::Ledger;
use crate::plan::selectors::LiveSelectors;
use crate::plan::slot_choice::KnownSides;
use crate::plan::traffic::{LiveObject, TrafficView, labels_in_slot, name_of};

/// What is live, as far as slots are concerned.
#[derive(Debug, Default)]
pub(super) struct Survey {
    /// What the choice of a slot depends on.
    pub sides: KnownSides,
    /// What selects pods.
    pub selectors: LiveSelectors,
    /// Who takes traffic.
    pub traffic: TrafficView,
}

impl Survey {
    /// A live workload of the namespace.
    pub(super) fn workload(&self, kind: Kind, name: &str) -> Option<&Value> {
        self.selectors
            .workloads
            .iter()
            .find(|(candidate, value)| *candidate == kind && name_of(value) == name)
            .map(|(_, value)| value)
    }

    /// Ready pods of a live workload; none when it is not there.
    pub(super) fn ready(&self, kind: Kind, name: &str) -> u64 {
        self.workload(kind, name)
            .and_then(|workload| workload.pointer("/status/readyReplicas"))
            .and_then(Value::as_u64)
            .unwrap_or(0)
    }

    /// Whether a live autoscaler sizes a workload.
    pub(super) fn is_autoscaled(&self, kind: Kind, name: &str) -> bool {
        self.selectors.autoscalers.iter().any(|autoscaler| {
            switchyard_manifest::references::scale_target(Kind::HorizontalPodAutoscaler, autoscaler)
                == Some((kind, name.to_owned()))
        })
    }
}

impl Applying<'_> {
    /// Reads what the choice of the slot and the checks depend on. In place nothing of it is needed but
    /// what decides over sizes.
    pub(super) async fn known_sides(&self, ledger: &Ledger) -> Result<Survey, Failure> {
        let mut survey = Survey {
            selectors: self.live_selectors().await?,
            ..Survey::default()
        };
        let (routes, unreadable) = self.objects.routes().await?;
        if !unreadable.is_empty() && self.first_candidate().is_some() {
            self.context.console.warning(
                "rollout",
                format!(
                    "routes of these kinds may not be read, so whether they send traffic to a slot is not known: {}",
                    unreadable.join(", ")
                ),
            );
        }
        survey.traffic = TrafficView::of(&survey.selectors.services, &routes);
        survey.sides.has_front = !routes.is_empty() || !self.args.front.is_empty();
        survey.sides.fixed = ledger
            .record()
            .and_then(|record| record.sides.to.as_ref())
            .map(|to| to.side);
        survey.sides.recorded = self.recorded_side(ledger).await?;
        if self.first_candidate().is_some() {
            self.see_sides(&mut survey)?;
        }
        Ok(survey)
    }

    /// The live side in the application's record; in a plan it is read without taking the lease.
    async fn recorded_side(&self, ledger: &Ledger) -> Result<Option<Side>, Failure> {
        let live = match (ledger.session(), &self.args.deployment.application) {
            (Some(session), _) => session.application().live.clone(),
            (None, Some(application)) => {
                let namespace = self.connection.cluster.namespace();
                let store =
                    switchyard_record::Store::new(self.connection.cluster.client(), namespace);
                let record = store.application(application).await.map_err(|error| {
                    switchyard_deployment::record_failure(error, self.context.cancel.requested())
                })?;
                record.and_then(|stored| stored.record.live)
            }
            (None, None) => None,
        };
        Ok(live.map(|live| live.side))
    }

    async fn live_selectors(&self) -> Result<LiveSelectors, Failure> {
        let list = async |group: &str, version: &str, kind: &str| {
            self.objects
                .list_if_served(group, version, kind)
                .await
                .map_err(cluster_failure)
        };
        let (services, budgets, autoscalers, deployments, stateful_sets) = futures::try_join!(
            list("", "v1", "Service"),
            list("policy", "v1", "PodDisruptionBudget"),
            list("autoscaling", "v2", "HorizontalPodAutoscaler"),
            list("apps", "v1", "Deployment"),
            list("apps", "v1", "StatefulSet"),
        )?;
        let deployments = deployments
            .into_iter()
            .map(|value| (Kind::Deployment, value));
        let stateful_sets = stateful_sets
            .into_iter()
            .map(|value| (Kind::StatefulSet, value));
        Ok(LiveSelectors {
            services,
            budgets,
            autoscalers,
            workloads: deployments.chain(stateful_sets).collect(),
        })
    }

    fn see_sides(&self, survey: &mut Survey) -> Result<(), Failure> {
        let options = SlottingOptions {
            slot: Slot::Blue,
            application: self.args.deployment.application.clone(),
            front: self.args.front.iter().cloned().collect(),
            after_switch: self.args.after_switch.iter().cloned().collect(),
            per_slot: self.args.per_slot.iter().cloned().collect(),
        };
        let parts = classify(&self.manifest, &options).map_err(|error| {
            let hint = error.hint();
            Failure::input(error).maybe_hint(hint)
        })?;
        let slotted = self
            .manifest
            .iter()
            .zip(parts)
            .filter(|(object, part)| *part == Part::Slotted && object.kind().is_workload());
        for (workload, _) in slotted {
            see_workload(workload, survey);
        }
        Ok(())
    }

    /// A side as the record keeps it, read from the live workloads.
    pub(super) async fn side_state(
        &self,
        side: Side,
        workloads: &[ObjectName],
    ) -> Result<SideState, Failure> {
        let selectors = self.live_selectors().await?;
        let survey = Survey {
            selectors,
            ..Survey::default()
        };
        Ok(SideState {
            version: self.args.version.clone(),
            ..self.side_from(&survey, side, workloads)
        })
    }

    /// A side made of workloads that were read.
    pub(super) fn side_from(
        &self,
        survey: &Survey,
        side: Side,
        workloads: &[ObjectName],
    ) -> SideState {
        let namespace = self.connection.cluster.namespace();
        let workloads = survey
            .selectors
            .workloads
            .iter()
            .filter(|(kind, value)| {
                let title = LiveObject::new(*kind, &format!("{kind:?}"), value.clone()).title;
                workloads.iter().any(|name| name.to_string() == title)
            })
            .map(|(kind, value)| workload_state(namespace, *kind, value, survey))
            .collect();
        SideState {
            workloads,
            ..SideState::new(side)
        }
    }
}

fn workload_state(namespace: &str, kind: Kind, value: &Value, survey: &Survey) -> WorkloadState {
    let number = |value: Option<&Value>| {
        value
            .and_then(Value::as_u64)
            .and_then(|number| u32::try_from(number).ok())
    };
    let text = |pointer: &str| {
        value
            .pointer(pointer)
            .and_then(Value::as_str)
            .map(str::to_owned)
    };
    let name = name_of(value);
    let autoscaler = survey.selectors.autoscalers.iter().find(|autoscaler| {
        switchyard_manifest::references::scale_target(Kind::HorizontalPodAutoscaler, autoscaler)
            == Some((kind, name.to_owned()))
    });
    WorkloadState {
        workload: ObjectRef::namespaced("apps/v1", &format!("{kind:?}"), namespace, name),
        uid: text("/metadata/uid"),
        revision: object::metadata_entry(value, "annotations", "deployment.kubernetes.io/revision")
            .map(str::to_owned)
            .or_else(|| text("/status/updateRevision")),
        replicas: number(value.pointer("/spec/replicas")),
        // The floor before it was raised for a switch.
        hpa_min: autoscaler.and_then(|autoscaler| {
            object::metadata_entry(autoscaler, "annotations", names::MIN_REPLICAS)
                .and_then(|text| text.parse().ok())
                .or_else(|| number(autoscaler.pointer("/spec/minReplicas")))
        }),
    }
}

/// Notes which sides of one workload live traffic reaches.
fn see_workload(workload: &Object, survey: &mut Survey) {
    let kind = workload.kind();
    let base = workload.base_name();
    let labels = pods::labels(kind, workload.value());
    let mut seen: BTreeMap<Side, String> = BTreeMap::new();
    for slot in Slot::ALL {
        let in_slot = labels_in_slot(&labels, slot);
        let is_running = survey.ready(kind, &slot.name_of(base)) > 0;
        survey.sides.are_slots_running |= is_running;
        // A Service that asks for no slot reaches both; it tells nothing of a slot without pods.
        let entry = survey
            .traffic
            .reaches(&in_slot)
            .filter(|entry| is_running || entry.asks_for_slot());
        if let Some(entry) = entry {
            seen.insert(side_of(Some(slot)), entry.decided_by.clone());
        }
    }
    let unslotted = survey.workload(kind, base).filter(|live| {
        is_sized(kind) && object::metadata_entry(live, "labels", names::SLOT).is_none()
    });
    if let Some(live) = unslotted
        && let Some(entry) = survey.traffic.reaches_unslotted(&pods::labels(kind, live))
    {
        seen.insert(Side::Unslotted, entry.decided_by.clone());
    }
    survey.sides.seen.extend(seen);
}
