//! Which side is to get the traffic and which one has it, by the record and by what is live.
//! Refuses to guess: two answers that differ are shown, not weighed.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::ListParams;
use switchyard_cluster::workloads::{WorkloadKind, WorkloadRef};
use switchyard_cluster::{Cluster, Deadline};
use switchyard_deployment::{cluster_failure, record_failure};
use switchyard_record::{
    DeploymentRecord, ObjectRef, Session, Side, SideState, Slot, WorkloadState,
};
use switchyard_runner::{Context, Failure, Kind};
use switchyard_traffic::engine::{Front, SidePair, kind_of, roles_of};
use switchyard_traffic::provider::ProviderKind;
use switchyard_traffic::roles::Target;
use switchyard_traffic::routing::Routing;

use crate::inputs::ToSide;

/// How long reading everything that is live may take.
pub(crate) const READ_LIMIT: Duration = Duration::from_secs(30);

/// The side that is to get traffic, as the input and the record agree on it.
///
/// # Errors
/// The record names none, or another one than the input.
pub(crate) fn taking(to: ToSide, record: Option<&DeploymentRecord>) -> Result<Side, Failure> {
    let recorded = record
        .and_then(|record| record.sides.to.as_ref())
        .map(|side| side.side);
    match (to, recorded) {
        (ToSide::Side(asked), Some(recorded)) if asked != recorded => Err(Failure::message(
            Kind::Input,
            format!("input `to` is `{asked}`, but this deployment's new side is `{recorded}`"),
        )
        .hint("leave `to` out, or start a new deployment")),
        (ToSide::Side(asked), _) => Ok(asked),
        (ToSide::Auto, Some(recorded)) => Ok(recorded),
        (ToSide::Auto, None) => Err(Failure::message(Kind::Gate, "the record names no new side")
            .hint("run `rollout apply` with `slot: auto` first, or say which side with `to`")),
    }
}

/// Both sides. Where nobody else has traffic the other slot stands for it: it gives nothing.
pub(crate) fn pair(taking: Side, giving: Option<Side>) -> SidePair<Side> {
    SidePair {
        taking,
        giving: giving.unwrap_or_else(|| other_of(taking)),
    }
}

/// The side that has the traffic: the record's, else the one that the live routes name; nothing
/// when nobody else has any.
///
/// # Errors
/// The targets cannot be read, or name different sides.
pub(crate) async fn giving(
    cluster: &Cluster,
    targets: &[Target],
    taking: Side,
    record: Option<&DeploymentRecord>,
) -> Result<Option<Side>, Failure> {
    let recorded = record
        .and_then(|record| record.sides.from.as_ref())
        .map(|side| side.side);
    if let Some(side) = recorded.filter(|side| *side != taking) {
        return Ok(Some(side));
    }
    let deadline = Deadline::after(READ_LIMIT);
    let mut found: Option<(Side, String)> = None;
    for target in targets {
        let objects = cluster.dynamic_objects(&kind_of(target.provider));
        let live = objects
            .get(&target.name, deadline)
            .await
            .map_err(cluster_failure)?;
        let object = serde_json::to_value(&live).unwrap_or_default();
        let Some(side) = live_side(target, cluster.namespace(), &object, taking)? else {
            continue;
        };
        match &found {
            Some((known, by)) if *known != side => {
                return Err(Failure::message(
                    Kind::Gate,
                    format!(
                        "{by} sends its traffic to side `{known}`, and {target} to side `{side}`"
                    ),
                )
                .hint("switch targets that stand on different sides one by one"));
            }
            Some(_) => {}
            None => found = Some((side, target.to_string())),
        }
    }
    Ok(found.map(|(side, _)| side))
}

/// The side other than `taking` that a live route sends traffic to.
fn live_side(
    target: &Target,
    namespace: &str,
    object: &serde_json::Value,
    taking: Side,
) -> Result<Option<Side>, Failure> {
    let provider = target.provider.provider();
    for side in [Side::BLUE, Side::GREEN, Side::Unslotted] {
        if side == taking {
            continue;
        }
        let pair = SidePair {
            taking,
            giving: side,
        };
        let roles = roles_of(target, namespace, &pair, &BTreeMap::new());
        let owned = provider.read(object, &roles).map_err(|refusal| {
            let hint = refusal.hint();
            Failure::gate(refusal).hint(hint)
        })?;
        let is_named = match (&owned.routing, side) {
            (Routing::Selector { keys }, Side::Unslotted) => {
                keys.contains_key(switchyard_cluster::names::POD_TEMPLATE_HASH)
            }
            (Routing::Selector { keys }, _) => *keys == roles.giving.selector,
            (Routing::Backends { places }, _) => places.values().any(|place| {
                place
                    .get(&roles.giving.service)
                    .is_some_and(|entry| entry.weight > 0)
            }),
        };
        if is_named {
            return Ok(Some(side));
        }
    }
    Ok(None)
}

/// A Service whose selector tells no side from the other would already send to both.
///
/// # Errors
/// A target of that kind, before anything of this deployment was written.
pub(crate) fn refuse_open_selectors(
    fronts: &[Front],
    record: &DeploymentRecord,
) -> Result<(), Failure> {
    if record.may_have_moved_traffic() {
        return Ok(());
    }
    for front in fronts {
        let is_open = matches!(&front.routing, Routing::Selector { keys } if keys.is_empty());
        if front.target.provider == ProviderKind::Service && is_open {
            return Err(Failure::message(
                Kind::Gate,
                format!("{}: its selector tells the sides apart by nothing, so both already get traffic", front.target),
            )
            .hint("run `rollout adopt` first: it pins the selector to the pods that are live now"));
        }
    }
    Ok(())
}

fn other_of(side: Side) -> Side {
    match side {
        Side::Slot(slot) => Side::Slot(slot.other()),
        Side::Stable | Side::Canary | Side::Unslotted => Side::Slot(Slot::Blue),
    }
}

/// Writes the sides into the record where an earlier step has not, with the sizes that a way
/// back needs.
///
/// # Errors
/// The record cannot be written.
pub(crate) async fn keep(
    context: &Context,
    cluster: &Cluster,
    session: &mut Session,
    fronts: &[Front],
    pair: &SidePair<Side>,
) -> Result<(), Failure> {
    let fail = |error| record_failure(error, context.cancel.requested());
    let sides = session.record().map_err(fail)?.sides.clone();
    let is_sized =
        |side: &Option<SideState>| side.as_ref().is_some_and(|side| !side.workloads.is_empty());
    if is_sized(&sides.from) && is_sized(&sides.to) {
        return Ok(());
    }
    let all = match workloads(cluster).await {
        Ok(all) => all,
        Err(failure) => {
            context.console.warning(
                "traffic-switch",
                format!("the sizes of the sides could not be read, so a way back cannot scale the old side up: {failure}"),
            );
            return Ok(());
        }
    };
    let previous = session
        .application()
        .live
        .clone()
        .and_then(|live| live.version);
    let complete = |known: Option<SideState>, side: Side, labels: Vec<BTreeMap<String, String>>| {
        let mut state = known.unwrap_or_else(|| SideState::new(side));
        if state.workloads.is_empty() {
            let own = all
                .iter()
                .filter(|found| labels.iter().any(|labels| found.carries(labels)));
            state.workloads = own.map(|found| found.state.clone()).collect();
        }
        state
    };
    let labels = |pick: fn(&Front) -> &BTreeMap<String, String>| {
        fronts.iter().map(|front| pick(front).clone()).collect()
    };
    let to = complete(
        sides.to,
        pair.taking,
        labels(|front| &front.views.taking.labels),
    );
    let mut from = complete(
        sides.from,
        pair.giving,
        labels(|front| &front.views.giving.labels),
    );
    from.version = from.version.or(previous);
    let amended = session.amend(|record| {
        record.sides.to = Some(to);
        record.sides.from = Some(from);
    });
    amended.await.map_err(fail)
}

struct Found {
    labels: BTreeMap<String, String>,
    state: WorkloadState,
}

impl Found {
    fn carries(&self, labels: &BTreeMap<String, String>) -> bool {
        // The template knows no hash: that label comes with the ReplicaSet.
        let mut wanted = labels
            .iter()
            .filter(|(key, _)| *key != switchyard_cluster::names::POD_TEMPLATE_HASH);
        wanted.all(|(key, value)| self.labels.get(key) == Some(value))
    }
}

/// Every Deployment and StatefulSet of the namespace with its size.
async fn workloads(cluster: &Cluster) -> Result<Vec<Found>, Failure> {
    let deadline = Deadline::after(READ_LIMIT);
    let all = ListParams::default();
    let mut found = Vec::new();
    let deployments = cluster
        .objects::<Deployment>()
        .list(&all, deadline)
        .await
        .map_err(cluster_failure)?;
    for deployment in deployments {
        let spec = deployment.spec.unwrap_or_default();
        let labels = spec
            .template
            .metadata
            .and_then(|meta| meta.labels)
            .unwrap_or_default();
        found.push(one(
            cluster,
            WorkloadKind::Deployment,
            &deployment.metadata,
            spec.replicas,
            labels,
        ));
    }
    let sets = cluster
        .objects::<StatefulSet>()
        .list(&all, deadline)
        .await
        .map_err(cluster_failure)?;
    for set in sets {
        let spec = set.spec.unwrap_or_default();
        let labels = spec
            .template
            .metadata
            .and_then(|meta| meta.labels)
            .unwrap_or_default();
        found.push(one(
            cluster,
            WorkloadKind::StatefulSet,
            &set.metadata,
            spec.replicas,
            labels,
        ));
    }
    for found in &mut found {
        let Some(workload) = reference(&found.state.workload) else {
            continue;
        };
        let scale = cluster
            .scale_state(&workload, deadline)
            .await
            .map_err(cluster_failure)?;
        found.state.hpa_min = scale
            .autoscaler
            .and_then(|autoscaler| u32::try_from(autoscaler.min).ok());
    }
    Ok(found)
}

fn reference(object: &ObjectRef) -> Option<WorkloadRef> {
    Some(WorkloadRef {
        kind: WorkloadKind::parse(&object.kind)?,
        name: object.name.clone(),
    })
}

fn one(
    cluster: &Cluster,
    kind: WorkloadKind,
    meta: &ObjectMeta,
    replicas: Option<i32>,
    labels: BTreeMap<String, String>,
) -> Found {
    let name = meta.name.as_deref().unwrap_or_default();
    let annotations = meta.annotations.as_ref();
    Found {
        labels,
        state: WorkloadState {
            workload: ObjectRef::namespaced("apps/v1", kind.as_kind(), cluster.namespace(), name),
            uid: meta.uid.clone(),
            revision: annotations
                .and_then(|map| map.get("deployment.kubernetes.io/revision"))
                .cloned(),
            replicas: u32::try_from(replicas.unwrap_or(1)).ok(),
            hpa_min: None,
        },
    }
}

/// The targets that a record keeps, as the inputs would name them.
pub(crate) fn recorded_targets(record: &DeploymentRecord) -> Vec<Target> {
    record.targets.iter().filter_map(recorded_target).collect()
}

/// Everything that a way back has to write, read under the lease: all that these deployments have
/// recorded, and what was asked for on top. As given where both name it.
///
/// # Errors
/// A gate failure: a recorded object cannot be written by us, or traffic has moved and nothing
/// says through what.
pub(crate) fn targets_back(
    given: &[Target],
    records: &[&DeploymentRecord],
) -> Result<Vec<Target>, Failure> {
    let mut targets = given.to_vec();
    for record in records {
        for recorded in &record.targets {
            let target = recorded_target(recorded).ok_or_else(|| {
                let text = format!(
                    "deployment `{}` wrote {}, of which the record does not say enough to take it back",
                    record.id, recorded.object
                );
                Failure::message(Kind::Gate, text)
                    .hint("put its traffic right by hand, then start a new deployment")
            })?;
            let is_known =
                |known: &Target| known.provider == target.provider && known.name == target.name;
            if !targets.iter().any(is_known) {
                targets.push(target);
            }
        }
    }
    let moved = records
        .iter()
        .find(|record| record.may_have_moved_traffic());
    if let (true, Some(record)) = (targets.is_empty(), moved) {
        let text = format!(
            "deployment `{}` has moved traffic, and its record names no target",
            record.id
        );
        return Err(Failure::message(Kind::Gate, text).hint("name them with `targets`"));
    }
    Ok(targets)
}

fn recorded_target(target: &switchyard_record::Target) -> Option<Target> {
    let provider = [
        ProviderKind::Service,
        ProviderKind::Traefik,
        ProviderKind::Gateway,
    ]
    .into_iter()
    .find(|kind| kind.provider().resource().kind == target.object.kind)?;
    let routing = target
        .prior
        .values()
        .find_map(|value| Routing::from_value(value).ok())?;
    let base = match &routing {
        Routing::Selector { .. } => target.object.name.clone(),
        Routing::Backends { places } => {
            let service = places.values().flat_map(|place| place.keys()).next()?;
            let suffixes = [Side::BLUE, Side::GREEN, Side::Canary].map(|side| format!("-{side}"));
            let base = suffixes
                .iter()
                .find_map(|suffix| service.strip_suffix(suffix.as_str()));
            base.unwrap_or(service).to_owned()
        }
    };
    Some(Target {
        provider,
        name: target.object.name.clone(),
        base,
        port: None,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn recorded(kind: &str, prior: &serde_json::Value) -> Option<String> {
        let target = switchyard_record::Target {
            object: ObjectRef::namespaced("x/v1", kind, "shop", "front"),
            uid: "u".to_owned(),
            owned_paths: vec!["/spec".to_owned()],
            prior: BTreeMap::from([("/spec".to_owned(), prior.clone())]),
        };
        recorded_target(&target).map(|target| target.to_string())
    }

    fn record(phases: &[&str], fronts: &[&str]) -> DeploymentRecord {
        let phases: Vec<_> = phases
            .iter()
            .map(|name| json!({"name": name, "at": "2026-01-01T00:00:00Z", "attempt": 1}))
            .collect();
        let target = |name: &&str| {
            let prior = json!({"/spec/selector": {"kind": "selector", "keys": {"switchyard.dev/slot": "blue"}}});
            json!({
                "ref": {"api_version": "v1", "kind": "Service", "namespace": "shop", "name": name},
                "uid": "u", "owned_paths": ["/spec/selector"], "prior": prior
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
            "schema": 1, "id": id.unwrap(), "kind": "deploy", "chain": "slots",
            "run": {"repository": "example/shop", "run_id": "1", "attempts": []},
            "actor": "dana", "phase": phases.last().unwrap()["name"].clone(), "phases": phases,
            "targets": fronts.iter().map(target).collect::<Vec<_>>(),
        }))
        .unwrap()
    }

    #[test]
    fn the_way_back_writes_all_that_was_recorded_whatever_was_asked_for() {
        let moved = record(&["tested", "switching(1)"], &["web", "api"]);
        let names = |given: &[&str]| {
            let given: Vec<Target> = given.iter().map(|text| text.parse().unwrap()).collect();
            let targets = targets_back(&given, &[&moved]).unwrap();
            targets.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(names(&[]), ["service/web", "service/api"]);
        assert_eq!(names(&["service/api"]), ["service/api", "service/web"]);
        assert_eq!(
            names(&["traefik/x"]),
            ["traefik/x", "service/web", "service/api"]
        );
    }

    #[test]
    fn traffic_that_moved_through_unknown_targets_is_not_called_taken_back() {
        let moved = record(&["tested", "switching(1)"], &[]);
        let failure = targets_back(&[], &[&moved]).unwrap_err();
        assert_eq!(failure.kind(), Kind::Gate);
        let unmoved = record(&["tested"], &[]);
        assert_eq!(targets_back(&[], &[&unmoved]).unwrap(), []);
    }

    #[test]
    fn targets_are_found_again_by_what_the_record_keeps_of_them() {
        let selector = json!({"kind": "selector", "keys": {"switchyard.dev/slot": "blue"}});
        assert_eq!(
            recorded("Service", &selector).as_deref(),
            Some("service/front")
        );
        let backends = |name: &str| json!({"kind": "backends", "places": {"services": {name: {"weight": 1, "port": 80}}}});
        assert_eq!(
            recorded("TraefikService", &backends("web-blue")).as_deref(),
            Some("traefik/front:web")
        );
        assert_eq!(
            recorded("HTTPRoute", &backends("front")).as_deref(),
            Some("gateway/front")
        );
        assert_eq!(recorded("Gateway", &backends("front")), None);
    }
}
