//! What is live in a namespace, as far as sides are concerned: selectors, workloads, autoscalers, and
//! who takes traffic. Reads only; what follows from it is decided elsewhere.

use serde_json::Value;
use switchyard_cluster::Error;
use switchyard_deployment::cluster_failure;
use switchyard_manifest::{Kind, ObjectName, Slot, names, object, references};
use switchyard_record::{ObjectRef, Side, SideState, WorkloadState};
use switchyard_runner::Failure;

use crate::objects::AnyObjects;
use crate::plan::selectors::LiveSelectors;
use crate::plan::traffic::{LiveObject, TrafficView, name_of};

/// What is live in a namespace.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    /// What selects pods, and the workloads.
    pub selectors: LiveSelectors,
    /// Who takes traffic.
    pub traffic: TrafficView,
    /// The routes that were read.
    pub routes: Vec<LiveObject>,
    /// Kinds of routes that may not be read.
    pub unreadable: Vec<String>,
}

impl Survey {
    /// Reads the namespace.
    ///
    /// # Errors
    /// The API server fails or refuses; routes that may not be read are no error.
    pub(crate) async fn read(objects: &AnyObjects) -> Result<Self, Failure> {
        let selectors = read_selectors(objects).await.map_err(cluster_failure)?;
        let (routes, unreadable) = objects.routes().await?;
        Ok(Self {
            traffic: TrafficView::of(&selectors.services, &routes),
            selectors,
            routes,
            unreadable,
        })
    }

    /// A live workload of the namespace.
    pub(crate) fn workload(&self, kind: Kind, name: &str) -> Option<&Value> {
        self.selectors
            .workloads
            .iter()
            .find(|(candidate, value)| *candidate == kind && name_of(value) == name)
            .map(|(_, value)| value)
    }

    /// Ready pods of a live workload; none when it is not there.
    pub(crate) fn ready(&self, kind: Kind, name: &str) -> u64 {
        self.workload(kind, name)
            .and_then(|workload| workload.pointer("/status/readyReplicas"))
            .and_then(Value::as_u64)
            .unwrap_or(0)
    }

    /// The live autoscaler that sizes a workload.
    pub(crate) fn autoscaler_of(&self, kind: Kind, name: &str) -> Option<&Value> {
        self.selectors.autoscalers.iter().find(|autoscaler| {
            references::scale_target(Kind::HorizontalPodAutoscaler, autoscaler)
                == Some((kind, name.to_owned()))
        })
    }

    /// Workloads of a slot, of this application where one is named.
    pub(crate) fn workloads_in(&self, slot: Slot, application: Option<&str>) -> Vec<ObjectName> {
        self.selectors
            .workloads
            .iter()
            .filter(|(_, value)| {
                let label = |key| object::metadata_entry(value, "labels", key);
                label(names::SLOT) == Some(slot.as_str())
                    && application
                        .is_none_or(|application| label(names::APPLICATION) == Some(application))
            })
            .map(|(kind, value)| name_in_inputs(*kind, value))
            .collect()
    }

    /// A side made of workloads that were read; those that are not there are left out.
    pub(crate) fn side(&self, namespace: &str, side: Side, workloads: &[ObjectName]) -> SideState {
        let workloads = self
            .selectors
            .workloads
            .iter()
            .filter(|(kind, value)| workloads.contains(&name_in_inputs(*kind, value)))
            .map(|(kind, value)| self.workload_state(namespace, *kind, value))
            .collect();
        SideState {
            workloads,
            ..SideState::new(side)
        }
    }

    fn workload_state(&self, namespace: &str, kind: Kind, value: &Value) -> WorkloadState {
        let number = |value: Option<&Value>| {
            value
                .and_then(Value::as_u64)
                .and_then(|number| u32::try_from(number).ok())
        };
        let name = name_of(value);
        // The floor before it was raised for a switch.
        let minimum = self.autoscaler_of(kind, name).and_then(|autoscaler| {
            object::metadata_entry(autoscaler, "annotations", names::MIN_REPLICAS)
                .and_then(|text| text.parse().ok())
                .or_else(|| number(autoscaler.pointer("/spec/minReplicas")))
        });
        WorkloadState {
            workload: ObjectRef::namespaced("apps/v1", &format!("{kind:?}"), namespace, name),
            uid: text(value, "/metadata/uid"),
            revision: revision_of(value),
            replicas: number(value.pointer("/spec/replicas")),
            hpa_min: minimum,
        }
    }
}

/// The revision of a workload: the Deployment controller's annotation, or the update revision of a
/// StatefulSet.
pub(crate) fn revision_of(workload: &Value) -> Option<String> {
    object::metadata_entry(workload, "annotations", "deployment.kubernetes.io/revision")
        .map(str::to_owned)
        .or_else(|| text(workload, "/status/updateRevision"))
}

/// A text inside a value.
pub(crate) fn text(value: &Value, pointer: &str) -> Option<String> {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .map(str::to_owned)
}

/// `deployment/web`
pub(crate) fn name_in_inputs(kind: Kind, value: &Value) -> ObjectName {
    ObjectName {
        kind: format!("{kind:?}").to_lowercase(),
        name: name_of(value).to_owned(),
    }
}

async fn read_selectors(objects: &AnyObjects) -> Result<LiveSelectors, Error> {
    let (services, budgets, autoscalers, deployments, stateful_sets, daemon_sets) = futures::try_join!(
        objects.list_if_served("", "v1", "Service"),
        objects.list_if_served("policy", "v1", "PodDisruptionBudget"),
        objects.list_if_served("autoscaling", "v2", "HorizontalPodAutoscaler"),
        objects.list_if_served("apps", "v1", "Deployment"),
        objects.list_if_served("apps", "v1", "StatefulSet"),
        objects.list_if_served("apps", "v1", "DaemonSet"),
    )?;
    let of_kind =
        |kind: Kind, values: Vec<Value>| values.into_iter().map(move |value| (kind, value));
    Ok(LiveSelectors {
        services,
        budgets,
        autoscalers,
        workloads: of_kind(Kind::Deployment, deployments)
            .chain(of_kind(Kind::StatefulSet, stateful_sets))
            .chain(of_kind(Kind::DaemonSet, daemon_sets))
            .collect(),
    })
}
