//! Gathers what belongs to workloads: their ConfigMaps, Services, autoscalers, budgets, and the routes
//! in front of them. Secrets are never read.

use std::collections::BTreeSet;

use serde_json::Value;
use switchyard_deployment::cluster_failure;
use switchyard_manifest::references::{self, ConfigKind};
use switchyard_manifest::{Identity, Kind, LabelSelector, ObjectName, clean, front, order, pods};
use switchyard_runner::Failure;

use crate::objects::AnyObjects;
use crate::plan::traffic::{LiveObject, name_of};
use crate::sides;
use crate::survey::{Survey, revision_of};

/// An object as it is saved.
#[derive(Clone, Debug)]
pub(super) struct Saved {
    /// What this project knows the kind as.
    pub kind: Kind,
    /// `kind/name`
    pub title: String,
    /// The cleaned object.
    pub value: Value,
    /// Its revision, when it is a workload.
    pub revision: Option<String>,
}

/// Gathers and cleans everything that belongs to these workloads, in the order of writing.
pub(super) async fn collect(
    objects: &AnyObjects,
    survey: &Survey,
    workloads: &[ObjectName],
) -> Result<Vec<Saved>, Failure> {
    let mut saved = Vec::new();
    let mut config_maps: BTreeSet<String> = BTreeSet::new();
    let mut services: BTreeSet<String> = BTreeSet::new();
    for name in workloads {
        let kind = sides::kind_of(name);
        let Some(live) = survey.workload(kind, &name.name) else {
            continue;
        };
        saved.push(save(kind, live));
        let configs = references::configs(kind, live);
        config_maps.extend(
            configs
                .into_iter()
                .filter(|(config, _)| *config == ConfigKind::ConfigMap)
                .map(|(_, name)| name),
        );
        let labels = pods::labels(kind, live);
        for service in selecting(
            &survey.selectors.services,
            LabelSelector::of_service,
            &labels,
        ) {
            if services.insert(name_of(service).to_owned()) {
                saved.push(save(Kind::Service, service));
            }
        }
        let by_budget = |budget: &Value| {
            budget
                .pointer("/spec/selector")
                .and_then(LabelSelector::parse)
        };
        for budget in selecting(&survey.selectors.budgets, by_budget, &labels) {
            saved.push(save(Kind::PodDisruptionBudget, budget));
        }
        if let Some(autoscaler) = survey.autoscaler_of(kind, &name.name) {
            saved.push(save(Kind::HorizontalPodAutoscaler, autoscaler));
        }
    }
    for name in config_maps {
        saved.extend(config_map(objects, &name).await?);
    }
    for route in &survey.routes {
        let is_in_front = front::backends(route.kind, &route.value)
            .iter()
            .any(|backend| services.contains(&backend.service));
        if is_in_front {
            saved.push(save(route.kind, &route.value));
        }
    }
    let mut seen = BTreeSet::new();
    saved.retain(|object| seen.insert(object.title.clone()));
    saved.sort_by_key(|object| order::rank(object.kind));
    Ok(saved)
}

/// Objects whose selector matches these labels. One that asks for no slot may select several sides; it
/// belongs to each of them.
fn selecting<'a>(
    candidates: &'a [Value],
    selector: impl Fn(&Value) -> Option<LabelSelector> + 'a,
    labels: &'a std::collections::BTreeMap<String, String>,
) -> impl Iterator<Item = &'a Value> {
    candidates.iter().filter(move |candidate| {
        selector(candidate).is_some_and(|selector| {
            // An adopted application's Services are pinned to one ReplicaSet.
            selector
                .without(switchyard_manifest::names::POD_TEMPLATE_HASH)
                .matches(labels)
        })
    })
}

async fn config_map(objects: &AnyObjects, name: &str) -> Result<Option<Saved>, Failure> {
    let identity = Identity {
        api_version: "v1".to_owned(),
        kind: "ConfigMap".to_owned(),
        namespace: None,
        name: name.to_owned(),
    };
    let kind = objects.kind_of(&identity).await.map_err(cluster_failure)?;
    let live = objects.find(&kind, name).await.map_err(cluster_failure)?;
    // An optional reference may name one that is not there.
    Ok(live.map(|live| save(Kind::ConfigMap, &live)))
}

fn save(kind: Kind, live: &Value) -> Saved {
    let kind_name = live.get("kind").and_then(Value::as_str).unwrap_or_default();
    Saved {
        kind,
        title: LiveObject::new(kind, kind_name, live.clone()).title,
        value: clean::for_backup(kind, live),
        revision: kind.is_workload().then(|| revision_of(live)).flatten(),
    }
}
