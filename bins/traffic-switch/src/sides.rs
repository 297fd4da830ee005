//! Which side is to get the traffic and which one has it, by the record and by what is live.
//! Refuses to guess: two answers that differ are shown, not weighed.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::ListParams;
use switchyard_cluster::workloads::WorkloadKind;
use switchyard_cluster::{Cluster, Deadline};
use switchyard_deployment::{cluster_failure, record_failure};
use switchyard_record::{
    Chain, DeploymentRecord, ObjectRef, Session, Side, SideState, Slot, WorkloadState,
};
use switchyard_runner::{Context, Failure, Kind};
use switchyard_traffic::engine::{Front, SidePair, kind_of, roles_of};
use switchyard_traffic::machine::Course;
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

/// What tells the sides of a switch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sides<'run> {
    pub(crate) to: ToSide,
    pub(crate) course: Course,
    pub(crate) record: Option<&'run DeploymentRecord>,
}

impl Sides<'_> {
    /// Who takes, and who gives where somebody else has traffic.
    ///
    /// # Errors
    /// The record and the input do not agree, or the targets cannot be read.
    pub(crate) async fn find(
        &self,
        cluster: &Cluster,
        targets: &[Target],
    ) -> Result<(Side, Option<Side>), Failure> {
        match self.course {
            Course::Promotion => Ok((Side::Stable, Some(Side::Canary))),
            Course::Takeover | Course::Canary | Course::Rollback => {
                let taking = taking(self.to, self.record)?;
                let giving = giving(cluster, targets, taking, self.record).await?;
                Ok((taking, giving))
            }
        }
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
    for side in others_of(taking) {
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

/// A canary gets its traffic from this deployment alone. One that has some already was left so by
/// another: its first share would send the rest to a main workload of which nothing is known.
///
/// # Errors
/// A target of that kind, before anything of this deployment was written.
pub(crate) fn refuse_busy_canary(
    fronts: &[Front],
    record: &DeploymentRecord,
) -> Result<(), Failure> {
    if record.chain != Chain::Canary || record.may_have_moved_traffic() {
        return Ok(());
    }
    for front in fronts {
        let shares = crate::outcome::shares(front);
        if let Some(percent) = shares.get(&Side::Canary) {
            return Err(Failure::message(
                Kind::Gate,
                format!(
                    "{} sends {percent} % to the canary already, which this deployment has not given it; nothing was switched",
                    front.target
                ),
            )
            .hint("see which version each side runs, and send all traffic to the good main workload by hand first"));
        }
    }
    Ok(())
}

fn other_of(side: Side) -> Side {
    match side {
        Side::Slot(slot) => Side::Slot(slot.other()),
        Side::Canary => Side::Stable,
        Side::Stable => Side::Canary,
        Side::Unslotted => Side::Slot(Slot::Blue),
    }
}

/// The sides that may have the traffic when this one is to get it.
fn others_of(taking: Side) -> Vec<Side> {
    match taking {
        Side::Canary => vec![Side::Stable],
        Side::Stable => vec![Side::Canary],
        Side::Slot(_) | Side::Unslotted => {
            let all = [Side::BLUE, Side::GREEN, Side::Unslotted];
            all.into_iter().filter(|side| *side != taking).collect()
        }
    }
}

/// Which sides a switch is about, and whether it has begun.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standing {
    pub(crate) taking: Side,
    /// Nothing on a first deployment: then there is no way back, and none is recorded.
    pub(crate) giving: Option<Side>,
    pub(crate) has_moved: bool,
}

/// Writes the sides into the record where an earlier step has not, with the sizes that a way
/// back needs.
///
/// # Errors
/// The record cannot be written; or, before anything has moved, the sizes cannot be read.
pub(crate) async fn keep(
    context: &Context,
    cluster: &Cluster,
    session: &mut Session,
    fronts: &[Front],
    standing: &Standing,
) -> Result<(), Failure> {
    let fail = |error| record_failure(error, context.cancel.requested());
    let sides = session.record().map_err(fail)?.sides.clone();
    let is_sized =
        |side: &Option<SideState>| side.as_ref().is_some_and(|side| !side.workloads.is_empty());
    let needs_old = standing.giving.is_some() || sides.from.is_some();
    if is_sized(&sides.to) && (is_sized(&sides.from) || !needs_old) {
        return Ok(());
    }
    let labels = |pick: fn(&Front) -> &BTreeMap<String, String>| -> Vec<BTreeMap<String, String>> {
        fronts.iter().map(|front| pick(front).clone()).collect()
    };
    let of_taking = labels(|front| &front.views.taking.labels);
    let of_giving = labels(|front| &front.views.giving.labels);
    let found = async {
        let survey = survey(cluster).await?;
        Ok((survey.of(&of_taking)?, survey.of(&of_giving)?))
    };
    let (taking, giving) = match found.await {
        Ok(found) => found,
        Err(failure) => without_sizes(context, failure, standing.has_moved)?,
    };
    let previous = session
        .application()
        .live
        .clone()
        .and_then(|live| live.version);
    let complete = |known: Option<SideState>, side: Side, workloads: Vec<WorkloadState>| {
        let mut state = known.unwrap_or_else(|| SideState::new(side));
        if state.workloads.is_empty() {
            state.workloads = workloads;
        }
        state
    };
    let to = complete(sides.to, standing.taking, taking);
    let from = match (sides.from, standing.giving) {
        (None, None) => None,
        (Some(known), _) => {
            let side = known.side;
            Some(complete(Some(known), side, giving))
        }
        (None, Some(side)) => Some(complete(None, side, giving)),
    };
    let from = from.map(|mut from| {
        from.version = from.version.or(previous);
        from
    });
    let amended = session.amend(|record| {
        record.sides.to = Some(to);
        record.sides.from = from;
    });
    amended.await.map_err(fail)
}

/// Before anything has moved, stopping costs nothing and a switch without a way back would; once
/// it has moved, the sides are worth more than their sizes.
fn without_sizes<T: Default>(
    context: &Context,
    failure: Failure,
    has_moved: bool,
) -> Result<T, Failure> {
    let text = format!("the sizes of the sides could not be read: {failure}");
    if has_moved {
        let text = format!("{text}; a way back cannot scale the old side up");
        context.console.warning(crate::run::TITLE, text);
        return Ok(T::default());
    }
    Err(
        Failure::message(failure.kind(), format!("{text}; nothing was switched")).hint(
            "run the step again when the cluster answers: without sizes there is no way back",
        ),
    )
}

/// The workloads of the namespace and their autoscalers.
struct Survey {
    found: Vec<Found>,
    autoscalers: Vec<HorizontalPodAutoscaler>,
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

impl Survey {
    /// The workloads whose pods carry one of these sets of labels, each with its floor.
    fn of(&self, labels: &[BTreeMap<String, String>]) -> Result<Vec<WorkloadState>, Failure> {
        let own = self
            .found
            .iter()
            .filter(|found| labels.iter().any(|labels| found.carries(labels)));
        own.map(|found| {
            let mut state = found.state.clone();
            state.hpa_min = self.minimum_of(&state.workload)?;
            Ok(state)
        })
        .collect()
    }

    /// The floor of a workload's autoscaler, as it was before a switch raised it.
    fn minimum_of(&self, workload: &ObjectRef) -> Result<Option<u32>, Failure> {
        let mut own = self.autoscalers.iter().filter(|autoscaler| {
            let target = &autoscaler.spec.scale_target_ref;
            target.kind == workload.kind && target.name == workload.name
        });
        let Some(autoscaler) = own.next() else {
            return Ok(None);
        };
        if own.next().is_some() {
            return Err(
                Failure::message(Kind::Gate, format!("two autoscalers claim {workload}"))
                    .hint("delete one of them"),
            );
        }
        let annotations = autoscaler.metadata.annotations.as_ref();
        let before = annotations
            .and_then(|map| map.get(switchyard_manifest::names::MIN_REPLICAS))
            .and_then(|text| text.parse().ok());
        let minimum = u32::try_from(autoscaler.spec.min_replicas.unwrap_or(1)).ok();
        Ok(before.or(minimum))
    }
}

/// Every Deployment and StatefulSet of the namespace with its size, and every autoscaler: three
/// lists, however many workloads there are.
async fn survey(cluster: &Cluster) -> Result<Survey, Failure> {
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
        found.push(one(
            cluster,
            WorkloadKind::Deployment,
            &deployment.metadata,
            spec.replicas,
            labels_of(spec.template.metadata),
        ));
    }
    let sets = cluster
        .objects::<StatefulSet>()
        .list(&all, deadline)
        .await
        .map_err(cluster_failure)?;
    for set in sets {
        let spec = set.spec.unwrap_or_default();
        let mut one = one(
            cluster,
            WorkloadKind::StatefulSet,
            &set.metadata,
            spec.replicas,
            labels_of(spec.template.metadata),
        );
        one.state.revision = set.status.and_then(|status| status.update_revision);
        found.push(one);
    }
    let autoscalers = cluster
        .objects::<HorizontalPodAutoscaler>()
        .list(&all, deadline)
        .await
        .map_err(cluster_failure)?;
    Ok(Survey { found, autoscalers })
}

fn labels_of(template: Option<ObjectMeta>) -> BTreeMap<String, String> {
    template.and_then(|meta| meta.labels).unwrap_or_default()
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
    record.targets.iter().filter_map(Target::recorded).collect()
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
            let target = Target::recorded(recorded).ok_or_else(|| {
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
        Target::recorded(&target).map(|target| target.to_string())
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
    fn a_canary_and_its_main_workload_are_each_others_only_other_side() {
        for (side, other) in [(Side::Canary, Side::Stable), (Side::Stable, Side::Canary)] {
            assert_eq!(other_of(side), other);
            assert_eq!(others_of(side), [other]);
        }
        assert_eq!(others_of(Side::GREEN), [Side::BLUE, Side::Unslotted]);
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
    fn only_the_workloads_of_a_side_are_asked_for_their_floor() {
        let found = |name: &str, slot: &str| Found {
            labels: BTreeMap::from([("slot".to_owned(), slot.to_owned())]),
            state: WorkloadState {
                workload: ObjectRef::namespaced("apps/v1", "Deployment", "shop", name),
                uid: None,
                revision: None,
                replicas: Some(1),
                hpa_min: None,
            },
        };
        let autoscaler = |name: &str, min: u32| -> HorizontalPodAutoscaler {
            serde_json::from_value(json!({
                "metadata": {"name": name},
                "spec": {"minReplicas": min, "maxReplicas": 9,
                    "scaleTargetRef": {"kind": "Deployment", "name": name}},
            }))
            .unwrap()
        };
        let survey = Survey {
            found: vec![
                found("web-blue", "blue"),
                found("web-green", "green"),
                found("other", "x"),
            ],
            // Somebody else's workload with two autoscalers is somebody else's trouble.
            autoscalers: vec![
                autoscaler("web-blue", 3),
                autoscaler("other", 1),
                autoscaler("other", 2),
            ],
        };
        let of = |slot: &str| survey.of(&[BTreeMap::from([("slot".to_owned(), slot.to_owned())])]);
        let blue = of("blue").unwrap();
        assert_eq!((blue.len(), blue[0].hpa_min), (1, Some(3)));
        assert_eq!(of("green").unwrap()[0].hpa_min, None);
        assert!(of("x").is_err());
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
            recorded("TraefikService", &backends("web-canary")).as_deref(),
            Some("traefik/front:web")
        );
        assert_eq!(
            recorded("HTTPRoute", &backends("front")).as_deref(),
            Some("gateway/front")
        );
        assert_eq!(
            recorded("VirtualService", &backends("web-green")).as_deref(),
            Some("istio/front:web")
        );
        assert_eq!(recorded("Gateway", &backends("front")), None);
    }
}
