//! What has to be pinned to which ReplicaSet, so that pods of a slot with the same labels are not
//! selected.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use switchyard_deployment::cluster_failure;
use switchyard_manifest::{Identity, LabelSelector, ObjectName, names, pods};
use switchyard_record::Projection;
use switchyard_runner::{Failure, Kind as FailureKind};

use super::Adopting;
use crate::plan::traffic::name_of;
use crate::sides;
use crate::subject::{Change, Write};
use crate::survey::{Survey, name_in_inputs};

/// A Service or budget that will be pinned.
pub(super) struct Pin {
    pub identity: Identity,
    pub kind: Selecting,
    pub hash: String,
}

impl Adopting<'_> {
    /// The hash of the one ReplicaSet whose pods run. In the middle of a rollout there are two.
    pub(super) async fn hash_of(
        &self,
        name: &ObjectName,
        survey: &Survey,
    ) -> Result<String, Failure> {
        let gate = |text: String| Failure::message(FailureKind::Gate, text);
        let live = survey
            .workload(sides::kind_of(name), &name.name)
            .ok_or_else(|| {
                gate(format!(
                    "{name} does not exist in namespace `{}`",
                    self.opened.namespace()
                ))
            })?;
        if switchyard_manifest::object::metadata_entry(live, "labels", names::SLOT).is_some() {
            return Err(gate(format!("{name} stands in a slot already")));
        }
        let uid = live.pointer("/metadata/uid").and_then(Value::as_str);
        let sets = self
            .opened
            .objects
            .list_if_served("apps", "v1", "ReplicaSet")
            .await
            .map_err(cluster_failure)?;
        let with_pods: BTreeSet<String> = sets
            .iter()
            .filter(|set| is_owned_by(set, uid))
            .filter(|set| {
                let count = |pointer: &str| set.pointer(pointer).and_then(Value::as_u64);
                count("/status/replicas").unwrap_or(0) > 0
                    || count("/spec/replicas").unwrap_or(0) > 0
            })
            .filter_map(|set| {
                switchyard_manifest::object::metadata_entry(set, "labels", names::POD_TEMPLATE_HASH)
                    .map(str::to_owned)
            })
            .collect();
        match with_pods.iter().collect::<Vec<_>>().as_slice() {
            [hash] => Ok((*hash).clone()),
            [] => Err(
                gate(format!("{name} has no pods, so there is nothing to adopt"))
                    .hint("deploy into a slot right away: the first slot needs no old side"),
            ),
            _ => Err(gate(format!("{name} is in the middle of a rollout"))
                .hint("wait until it is done: `health-wait rollout`")),
        }
    }

    /// Everything that selects pods of the adopted workloads and is not pinned yet.
    pub(super) fn pins(
        &self,
        survey: &Survey,
        hashes: &BTreeMap<ObjectName, String>,
    ) -> Result<Vec<Pin>, Failure> {
        let services = survey.selectors.services.iter();
        let services = services.map(|service| (Selecting::Service, service));
        let budgets = survey.selectors.budgets.iter();
        let budgets = budgets.map(|budget| (Selecting::Budget, budget));
        let mut pins = Vec::new();
        for (kind, object) in services.chain(budgets) {
            let Some(selector) = kind.selector(object) else {
                continue;
            };
            if selector.names_label(names::SLOT) {
                continue;
            }
            let selected = selected_hashes(survey, &selector, hashes);
            let identity = kind.identity(name_of(object));
            match selected.as_slice() {
                [] => {}
                [Selected::Adopted(hash)] => pins.push(Pin {
                    identity,
                    kind,
                    hash: hash.clone(),
                }),
                several => {
                    let list: Vec<String> = several.iter().map(Selected::describe).collect();
                    return Err(Failure::message(
                        FailureKind::Gate,
                        format!("{identity} selects pods of several workloads ({}), so it cannot be pinned to one", list.join(", ")),
                    )
                    .hint("give it a selector that tells them apart, or leave that workload out of the adoption"));
                }
            }
        }
        if pins.iter().any(|pin| pin.kind == Selecting::Service) {
            return Ok(pins);
        }
        Err(Failure::message(
            FailureKind::Gate,
            "no Service selects pods of these workloads, so they take no traffic that could be kept",
        )
        .hint("workloads without a Service are declared `after-switch` or `per-slot` at `rollout apply`"))
    }
}

impl Pin {
    /// Adds the hash to the selector; nothing when it is there. A merge leaves the rest of it alone.
    pub(super) fn change(&self, live: &Value) -> Option<Change> {
        let selector = live
            .pointer(self.kind.pointer())
            .cloned()
            .unwrap_or(json!({}));
        if selector
            .get(names::POD_TEMPLATE_HASH)
            .and_then(Value::as_str)
            == Some(&self.hash)
        {
            return None;
        }
        let mut pinned = selector.clone();
        pinned[names::POD_TEMPLATE_HASH] = json!(self.hash);
        let fields = match self.kind {
            Selecting::Service => json!({"spec": {"selector": pinned}}),
            Selecting::Budget => json!({"spec": {"selector": {"matchLabels": pinned}}}),
        };
        Some(Change {
            write: Write::Merge(fields),
            before: Projection::shown(&selector),
            after: Projection::shown(&pinned),
        })
    }
}

/// A workload whose pods something selects.
enum Selected {
    /// One that is adopted, by its hash.
    Adopted(String),
    /// Another one.
    Other(String),
}

impl Selected {
    fn describe(&self) -> String {
        match self {
            Self::Adopted(hash) => format!("ReplicaSet {hash}"),
            Self::Other(name) => name.clone(),
        }
    }
}

/// The workloads that a selector reaches: nothing when none of them is adopted.
fn selected_hashes(
    survey: &Survey,
    selector: &LabelSelector,
    hashes: &BTreeMap<ObjectName, String>,
) -> Vec<Selected> {
    let selector = selector.without(names::POD_TEMPLATE_HASH);
    let selected: Vec<Selected> = survey
        .selectors
        .workloads
        .iter()
        .filter(|(kind, value)| selector.matches(&pods::labels(*kind, value)))
        .map(|(kind, value)| name_in_inputs(*kind, value))
        .map(|name| match hashes.get(&name) {
            Some(hash) => Selected::Adopted(hash.clone()),
            None => Selected::Other(name.to_string()),
        })
        .collect();
    let has_adopted = selected
        .iter()
        .any(|selected| matches!(selected, Selected::Adopted(_)));
    if has_adopted { selected } else { Vec::new() }
}

/// What selects pods and can be pinned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Selecting {
    /// A Service.
    Service,
    /// A PodDisruptionBudget.
    Budget,
}

impl Selecting {
    fn selector(self, object: &Value) -> Option<LabelSelector> {
        match self {
            Self::Service => LabelSelector::of_service(object),
            Self::Budget => object
                .pointer("/spec/selector")
                .and_then(LabelSelector::parse),
        }
    }

    const fn pointer(self) -> &'static str {
        match self {
            Self::Service => "/spec/selector",
            Self::Budget => "/spec/selector/matchLabels",
        }
    }

    fn identity(self, name: &str) -> Identity {
        let (api_version, kind) = match self {
            Self::Service => ("v1", "Service"),
            Self::Budget => ("policy/v1", "PodDisruptionBudget"),
        };
        Identity {
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
            namespace: None,
            name: name.to_owned(),
        }
    }
}

fn is_owned_by(object: &Value, uid: Option<&str>) -> bool {
    let owners = object
        .pointer("/metadata/ownerReferences")
        .and_then(Value::as_array);
    owners.into_iter().flatten().any(|owner| {
        owner.get("controller") == Some(&Value::Bool(true))
            && owner.get("uid").and_then(Value::as_str) == uid
    })
}
