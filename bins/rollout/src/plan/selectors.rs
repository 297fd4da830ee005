//! Live objects that would select pods of a new side although they are not part of it: a Service
//! would send them live traffic as soon as they are ready, a second PodDisruptionBudget blocks every
//! eviction, an autoscaler counts them as its own.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use switchyard_manifest::{Kind, LabelSelector, Place, names, object, references};

use super::traffic::name_of;

/// Pods that an apply will make.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct NewPods {
    /// The workload, `kind/name`.
    pub workload: String,
    /// Labels of its pods.
    pub labels: BTreeMap<String, String>,
}

/// What selects pods in the namespace now.
#[derive(Clone, Debug, Default)]
pub(crate) struct LiveSelectors {
    /// Services.
    pub services: Vec<Value>,
    /// PodDisruptionBudgets.
    pub budgets: Vec<Value>,
    /// HorizontalPodAutoscalers.
    pub autoscalers: Vec<Value>,
    /// Deployments and StatefulSets, for what autoscalers size.
    pub workloads: Vec<(Kind, Value)>,
}

/// What is ours: names that the plan writes itself, and the marks of what earlier plans wrote.
#[derive(Clone, Debug)]
pub(crate) struct Ours<'a> {
    /// Kinds and names of all objects of the plan that are written as slotted or new.
    pub planned: BTreeSet<(Kind, String)>,
    /// The application.
    pub application: Option<&'a str>,
    /// The place that is deployed.
    pub place: Place,
}

/// A live object that selects new pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Foreign {
    /// `kind/name`.
    pub object: String,
    /// What it selects by.
    pub selector: String,
    /// The workload whose pods it selects.
    pub workload: String,
    /// What follows from it.
    pub consequence: Consequence,
}

/// What follows when new pods are selected by somebody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Consequence {
    /// They get live traffic.
    Traffic,
    /// They cannot be evicted.
    Eviction,
    /// They are counted by an autoscaler.
    Autoscaling,
}

impl Foreign {
    /// The finding in words.
    pub(crate) fn describe(&self) -> String {
        let Self {
            object,
            selector,
            workload,
            consequence,
        } = self;
        let follows = match consequence {
            Consequence::Traffic => "they would get live traffic as soon as they are ready",
            Consequence::Eviction => "two budgets for one pod block its eviction",
            Consequence::Autoscaling => {
                "it would count them and shrink the live side while it takes all traffic"
            }
        };
        format!("{object} (selector {selector}) selects the pods of {workload}: {follows}")
    }

    /// What to do about it.
    pub(crate) fn hint(&self) -> String {
        match self.consequence {
            Consequence::Traffic | Consequence::Eviction => format!(
                "if {} is the live application's, run `rollout adopt` first; else give one of both a label of its own",
                self.object
            ),
            Consequence::Autoscaling => format!(
                "fix the live side's size before the switch: delete {} (its workload keeps its present size; the new slot brings its own autoscaler)",
                self.object
            ),
        }
    }
}

/// Finds every live object outside the plan that selects new pods.
pub(crate) fn foreign(pods: &[NewPods], live: &LiveSelectors, ours: &Ours<'_>) -> Vec<Foreign> {
    let mut found = Vec::new();
    for service in &live.services {
        let selector = LabelSelector::of_service(service);
        let finding = Finding {
            kind: Kind::Service,
            kind_name: "service",
            consequence: Consequence::Traffic,
        };
        found.extend(finding.check(service, selector, pods, ours));
    }
    for budget in &live.budgets {
        let selector = budget
            .pointer("/spec/selector")
            .and_then(LabelSelector::parse);
        let finding = Finding {
            kind: Kind::PodDisruptionBudget,
            kind_name: "poddisruptionbudget",
            consequence: Consequence::Eviction,
        };
        found.extend(finding.check(budget, selector, pods, ours));
    }
    for autoscaler in &live.autoscalers {
        let finding = Finding {
            kind: Kind::HorizontalPodAutoscaler,
            kind_name: "horizontalpodautoscaler",
            consequence: Consequence::Autoscaling,
        };
        let selector = selector_of_target(autoscaler, live);
        found.extend(finding.check(autoscaler, selector, pods, ours));
    }
    found
}

struct Finding {
    kind: Kind,
    kind_name: &'static str,
    consequence: Consequence,
}

impl Finding {
    fn check(
        &self,
        live: &Value,
        selector: Option<LabelSelector>,
        pods: &[NewPods],
        ours: &Ours<'_>,
    ) -> Option<Foreign> {
        let selector = selector?;
        if self.is_ours(live, ours) {
            return None;
        }
        let selected = pods.iter().find(|pods| selector.matches(&pods.labels))?;
        Some(Foreign {
            object: format!("{}/{}", self.kind_name, name_of(live)),
            selector: selector.to_string(),
            workload: selected.workload.clone(),
            consequence: self.consequence,
        })
    }

    /// Ours is what this plan writes, and what an earlier plan wrote for the same slot.
    fn is_ours(&self, live: &Value, ours: &Ours<'_>) -> bool {
        let label = |key| object::metadata_entry(live, "labels", key);
        let is_of_slot = label(names::SLOT) == Some(ours.place.as_str())
            && label(names::APPLICATION) == ours.application;
        is_of_slot
            || ours
                .planned
                .contains(&(self.kind, name_of(live).to_owned()))
    }
}

fn selector_of_target(autoscaler: &Value, live: &LiveSelectors) -> Option<LabelSelector> {
    let (kind, name) = references::scale_target(Kind::HorizontalPodAutoscaler, autoscaler)?;
    let (_, workload) = live
        .workloads
        .iter()
        .find(|(candidate, value)| *candidate == kind && name_of(value) == name)?;
    workload
        .pointer("/spec/selector")
        .and_then(LabelSelector::parse)
}

#[cfg(test)]
mod tests {
    use super::super::traffic::{labels_in_slot, tests::service, tests::web};
    use super::*;
    use serde_json::json;
    use switchyard_manifest::Slot;

    fn new_pods() -> Vec<NewPods> {
        vec![NewPods {
            workload: "deployment/web-blue".to_owned(),
            labels: labels_in_slot(&web(), Slot::Blue),
        }]
    }

    fn found(live: &LiveSelectors) -> Vec<String> {
        let ours = Ours {
            planned: BTreeSet::from([(Kind::Service, "web-blue".to_owned())]),
            application: Some("shop"),
            place: Place::Slot(Slot::Blue),
        };
        foreign(&new_pods(), live, &ours)
            .iter()
            .map(|foreign| format!("{}\nhint: {}", foreign.describe(), foreign.hint()))
            .collect()
    }

    #[test]
    fn a_service_a_budget_and_an_autoscaler_of_the_live_side_are_found() {
        let selector = json!({"matchLabels": {"app": "web"}});
        let live = LiveSelectors {
            services: vec![service("web", &json!({}), &json!({"app": "web"}))],
            budgets: vec![json!({"metadata": {"name": "web"}, "spec": {"selector": selector}})],
            autoscalers: vec![
                json!({"metadata": {"name": "web"}, "spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}}}),
            ],
            workloads: vec![(
                Kind::Deployment,
                json!({"metadata": {"name": "web"}, "spec": {"selector": selector}}),
            )],
        };
        insta::assert_snapshot!(found(&live).join("\n"));
    }

    #[test]
    fn a_pinned_service_the_other_slot_and_our_own_are_not_found() {
        let per_slot = |slot: &str| {
            service(
                &format!("web-{slot}"),
                &json!({"switchyard.dev/slot": slot, "switchyard.dev/application": "shop"}),
                &json!({"app": "web", "switchyard.dev/slot": slot}),
            )
        };
        let pinned = json!({"app": "web", "pod-template-hash": "abc"});
        let live = LiveSelectors {
            services: vec![
                per_slot("blue"),
                per_slot("green"),
                service("web", &json!({}), &pinned),
                service("headless", &json!({}), &json!({})),
            ],
            ..LiveSelectors::default()
        };
        assert_eq!(found(&live), Vec::<String>::new());
    }

    #[test]
    fn a_per_slot_service_of_another_application_is_found() {
        let labels = json!({"switchyard.dev/slot": "blue", "switchyard.dev/application": "other"});
        let live = LiveSelectors {
            services: vec![service(
                "x-blue",
                &labels,
                &json!({"switchyard.dev/slot": "blue"}),
            )],
            ..LiveSelectors::default()
        };
        assert_eq!(found(&live).len(), 1);
    }
}
