//! `status`: where traffic goes, in one request a target and one for the record.
//! Takes no lease, asks for no API discovery, changes nothing.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use switchyard_cluster::{Cluster, Deadline};
use switchyard_deployment::{cluster_failure, connect, record_failure};
use switchyard_record::{
    ApplicationRecord, Chain, DeploymentId, DeploymentRecord, Promotion, Side, Store,
};
use switchyard_runner::{Context, Failure, Kind};
use switchyard_traffic::engine::{SidePair, kind_of, roles_of};
use switchyard_traffic::provider::fence_of;
use switchyard_traffic::roles::Target;
use switchyard_traffic::routing::Routing;

use crate::inputs::StatusInputs;
use crate::sides::{READ_LIMIT, recorded_targets};

pub(crate) async fn run(inputs: StatusInputs, context: &mut Context) -> Result<(), Failure> {
    let application = inputs.deployment.application.clone();
    if inputs.targets.is_empty() && application.is_none() {
        return Err(Failure::message(
            Kind::Input,
            "inputs `targets` and `application` are both empty",
        )
        .hint(
            "name a target, such as `service/web`, or the application whose record is to be shown",
        ));
    }
    let connection = connect(&inputs.deployment, &context.environment).await?;
    let cluster = &connection.cluster;
    let store = Store::new(cluster.client(), cluster.namespace());
    let fail = |error| record_failure(error, None);
    let mut targets = inputs.targets.to_vec();
    let mut latest_record = None;
    let mut lines = Vec::new();
    if let Some(name) = &application {
        match store.application(name).await.map_err(fail)? {
            Some(stored) => {
                lines.extend(record_lines(&stored.record));
                let latest = latest_of(&stored.record);
                if let Some(id) = latest {
                    let stored = store.deployment(id).await.map_err(fail)?;
                    latest_record = stored.map(|stored| stored.record);
                }
                if let (true, Some(record)) = (targets.is_empty(), &latest_record) {
                    targets = recorded_targets(record);
                }
                lines.extend(latest_record.iter().filter_map(progress_line));
            }
            None => lines.push(format!("application {name}: no record")),
        }
    }
    let mut all = Map::new();
    let mut shares: Vec<BTreeMap<Side, u8>> = Vec::new();
    for target in &targets {
        let (line, of_target) = one(cluster, target, latest_record.as_ref()).await?;
        lines.push(line);
        let weights: Map<String, Value> = of_target
            .iter()
            .map(|(side, percent)| (side.to_string(), Value::from(*percent)))
            .collect();
        all.insert(target.to_string(), weights.into());
        shares.push(of_target);
    }
    context.console.info(lines.join("\n"));
    let active = shares
        .first()
        .and_then(|shares| shares.iter().max_by_key(|(_, percent)| **percent))
        .map(|(side, _)| *side);
    let is_same = shares.windows(2).all(|pair| pair[0] == pair[1]);
    let weights = match all.values().next() {
        Some(first) if is_same => first.to_string(),
        _several => Value::Object(all).to_string(),
    };
    context.outputs.set(
        "active",
        active.map_or_else(String::new, |side| side.to_string()),
    )?;
    context.outputs.set("weights", weights)?;
    context.outputs.set("changed", false)
}

/// The deployment that tells most of what is to be seen.
fn latest_of(record: &ApplicationRecord) -> Option<&DeploymentId> {
    let active = record.active.as_ref().map(|active| &active.deployment);
    let live = record.live.as_ref();
    let last = record.index.last().filter(|entry| !entry.is_pruned);
    active
        .or_else(|| live.and_then(|live| live.deployment.as_ref()))
        .or_else(|| last.map(|entry| &entry.deployment))
}

fn record_lines(record: &ApplicationRecord) -> Vec<String> {
    let version = |version: &Option<String>| {
        version
            .clone()
            .unwrap_or_else(|| "unknown version".to_owned())
    };
    let mut lines = Vec::new();
    match &record.live {
        Some(live) => lines.push(format!("live: {} ({})", live.side, version(&live.version))),
        None => lines.push("live: nothing on record".to_owned()),
    }
    if let Some(good) = &record.last_good {
        lines.push(format!(
            "last good: {} ({})",
            good.side,
            version(&good.version)
        ));
    }
    if let Some(active) = &record.active {
        lines.push(format!(
            "active: {} of {} since {}",
            active.deployment, active.by, active.since
        ));
    }
    if let Some(preempt) = &record.preempt {
        lines.push(format!(
            "told to stop by {}: {}",
            preempt.by, preempt.reason
        ));
    }
    lines
}

/// How far a deployment that has not ended has come.
fn progress_line(record: &DeploymentRecord) -> Option<String> {
    if record.phase.is_terminal() {
        return None;
    }
    let promotion = match record.promotion {
        None => "",
        Some(Promotion::Begun) => ", update of the main workload begun",
        Some(Promotion::Done) => ", main workload updated",
        Some(Promotion::Undone) => ", main workload undone",
    };
    Some(format!(
        "phase: {} of a deployment ({}){promotion}",
        record.phase, record.chain
    ))
}

/// Percent by side that a target sends now.
///
/// # Errors
/// The target cannot be read.
pub(crate) async fn shares(
    cluster: &Cluster,
    target: &Target,
    record: Option<&DeploymentRecord>,
) -> Result<BTreeMap<Side, u8>, Failure> {
    one(cluster, target, record).await.map(|(_, shares)| shares)
}

async fn one(
    cluster: &Cluster,
    target: &Target,
    record: Option<&DeploymentRecord>,
) -> Result<(String, BTreeMap<Side, u8>), Failure> {
    let objects = cluster.dynamic_objects(&kind_of(target.provider));
    let live = objects
        .get(&target.name, Deadline::after(READ_LIMIT))
        .await
        .map_err(cluster_failure)?;
    let object = serde_json::to_value(&live).unwrap_or_default();
    let pair = SidePair {
        taking: Side::GREEN,
        giving: Side::BLUE,
    };
    let roles = roles_of(target, cluster.namespace(), &pair, &BTreeMap::new());
    let provider = target.provider.provider();
    let owned = provider.read(&object, &roles).map_err(|refusal| {
        let hint = refusal.hint();
        Failure::gate(refusal).hint(hint)
    })?;
    let sides = sides_of(target, &owned.routing, record);
    let shares = shares_of(target, &owned.routing, sides);
    let fence = match fence_of(&object) {
        0 => String::new(),
        fence => format!(", fence {fence}"),
    };
    Ok((
        format!("{target}: {}{fence}", owned.routing.describe()),
        shares,
    ))
}

/// The sides that a target's Services are called by: the plain one is the main workload's where
/// there is a canary, or where the latest deployment had one.
fn sides_of(
    target: &Target,
    routing: &Routing,
    record: Option<&DeploymentRecord>,
) -> &'static [Side] {
    let lists_canary = match routing {
        Routing::Selector { .. } => false,
        Routing::Backends { places } => {
            let canary = target.backend(Side::Canary);
            places.values().any(|place| place.contains_key(&canary))
        }
    };
    let had_canary = record.is_some_and(|record| record.chain == Chain::Canary);
    if lists_canary || had_canary {
        &[Side::Stable, Side::Canary, Side::BLUE, Side::GREEN]
    } else {
        &[Side::BLUE, Side::GREEN, Side::Unslotted]
    }
}

/// Percent by side, on the place where each has least.
fn shares_of(target: &Target, routing: &Routing, sides: &[Side]) -> BTreeMap<Side, u8> {
    let mut shares = BTreeMap::new();
    for side in sides.iter().copied() {
        let percent = match routing {
            Routing::Selector { keys } => selector_share(keys, side),
            Routing::Backends { places } => {
                let service = target.backend(side);
                let of_places = places.values().map(|place| {
                    switchyard_traffic::routing::share_of(place, &service).unwrap_or(0.0)
                });
                (of_places.fold(1.0_f64, f64::min) * 100.0).round() as u8
            }
        };
        if percent > 0 {
            shares.insert(side, percent);
        }
    }
    shares
}

fn selector_share(keys: &BTreeMap<String, String>, side: Side) -> u8 {
    let slot = keys
        .get(switchyard_cluster::names::SLOT)
        .map(String::as_str);
    let is_pinned = keys.contains_key(switchyard_cluster::names::POD_TEMPLATE_HASH);
    let is_selected = match side {
        Side::Slot(own) => slot == Some(own.as_str()),
        Side::Unslotted => slot.is_none() && is_pinned,
        Side::Stable | Side::Canary => false,
    };
    if is_selected { 100 } else { 0 }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn seen(services: &Value, record: Option<&DeploymentRecord>) -> String {
        let routing =
            Routing::from_value(&json!({"kind": "backends", "places": {"services": services}}));
        let routing = routing.unwrap();
        let target: Target = "traefik/front:web".parse().unwrap();
        let shares = shares_of(&target, &routing, sides_of(&target, &routing, record));
        let words = shares
            .iter()
            .map(|(side, percent)| format!("{side} {percent}"));
        words.collect::<Vec<_>>().join(", ")
    }

    fn weight(weight: u32) -> Value {
        json!({"weight": weight, "port": 80})
    }

    #[test]
    fn the_plain_service_is_the_main_workloads_where_there_is_a_canary() {
        let alone = json!({"web": weight(100)});
        assert_eq!(seen(&alone, None), "unslotted 100");
        let both = json!({"web": weight(90), "web-canary": weight(10)});
        assert_eq!(seen(&both, None), "stable 90, canary 10");
        let slots = json!({"web-blue": weight(1), "web-green": weight(0)});
        assert_eq!(seen(&slots, None), "blue 100");
    }

    #[test]
    fn the_record_tells_that_there_was_a_canary_when_none_is_listed_any_more() {
        let id = DeploymentId::new(switchyard_record::DeploymentIdParts {
            repository: "example/shop".to_owned(),
            run_id: "1".to_owned(),
            environment: "production".to_owned(),
            cluster: "main".to_owned(),
            namespace: "shop".to_owned(),
            application: "web".to_owned(),
        });
        let record: DeploymentRecord = serde_json::from_value(json!({
            "schema": 1, "id": id.unwrap(), "kind": "deploy", "chain": "canary",
            "run": {"repository": "example/shop", "run_id": "1", "attempts": []},
            "actor": "dana", "phase": "soaking", "phases": [], "promotion": "done",
        }))
        .unwrap();
        let alone = json!({"web": weight(100)});
        assert_eq!(seen(&alone, Some(&record)), "stable 100");
        assert_eq!(
            progress_line(&record).unwrap(),
            "phase: soaking of a deployment (canary), main workload updated"
        );
    }
}
