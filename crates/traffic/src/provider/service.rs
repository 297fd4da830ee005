//! `service`: the selector of a Service. Binary, with an overlap that selects both sides.
//! Refuses every selector key but the two that tell the sides apart.

use std::collections::BTreeMap;

use kube::api::ApiResource;
use serde_json::{Value, json};
use switchyard_cluster::names::{POD_TEMPLATE_HASH, SLOT};

use super::{Capability, Goal, Owned, Provider, ProviderKind, Refusal, escape};
use crate::evidence::Expectation;
use crate::roles::Roles;
use crate::routing::Routing;
use crate::share::Percent;

/// Selector keys that a switch may write.
const OWNED_KEYS: [&str; 2] = [SLOT, POD_TEMPLATE_HASH];
const PLACE: &str = "selector";

/// The provider.
#[derive(Debug)]
pub struct Service;

impl Provider for Service {
    fn kind(&self) -> ProviderKind {
        ProviderKind::Service
    }

    fn capability(&self) -> Capability {
        Capability::Binary
    }

    fn resource(&self) -> ApiResource {
        ApiResource {
            group: String::new(),
            version: "v1".to_owned(),
            api_version: "v1".to_owned(),
            kind: "Service".to_owned(),
            plural: "services".to_owned(),
        }
    }

    fn owned_path(&self) -> &'static [&'static str] {
        &["spec", "selector"]
    }

    fn read(&self, object: &Value, _roles: &Roles) -> Result<Owned, Refusal> {
        let selector = selector_of(object)?;
        let keys: BTreeMap<String, String> = selector
            .into_iter()
            .filter(|(key, _)| OWNED_KEYS.contains(&key.as_str()))
            .collect();
        let is_sticky = object
            .pointer("/spec/sessionAffinity")
            .and_then(Value::as_str)
            == Some("ClientIP");
        Ok(Owned {
            routing: Routing::Selector { keys },
            pointers: BTreeMap::from([(PLACE.to_owned(), "/spec/selector".to_owned())]),
            foreign: BTreeMap::new(),
            shares_unverifiable: is_sticky.then(|| {
                "the Service has session affinity, so clients keep their pod while it lives"
                    .to_owned()
            }),
        })
    }

    fn aim(&self, owned: &Owned, goal: &Goal, roles: &Roles) -> Result<Routing, Refusal> {
        let one_side = |keys: &BTreeMap<String, String>| Routing::Selector { keys: keys.clone() };
        match goal {
            Goal::Prepare if self.is_final(&owned.routing, roles) => Ok(owned.routing.clone()),
            Goal::Prepare => Ok(one_side(&BTreeMap::new())),
            Goal::Share(Percent::ALL) | Goal::Settle(Percent::ALL) => {
                Ok(one_side(&roles.taking.selector))
            }
            Goal::Share(asked) | Goal::Settle(asked) => Err(Refusal::NotWeighted {
                object: "a Service".to_owned(),
                asked: *asked,
            }),
            Goal::Return(prior) | Goal::Restore(prior) => Ok(prior.clone()),
        }
    }

    fn is_prepared(&self, owned: &Owned, roles: &Roles) -> bool {
        match &owned.routing {
            Routing::Selector { keys } => keys.is_empty() || self.is_final(&owned.routing, roles),
            Routing::Backends { .. } => false,
        }
    }

    fn edit(&self, object: &Value, after: &Routing, _roles: &Roles) -> Result<Vec<Value>, Refusal> {
        let selector = selector_of(object)?;
        let nothing = BTreeMap::new();
        let wanted = match after {
            Routing::Selector { keys } => keys,
            Routing::Backends { .. } => &nothing,
        };
        let path = |key: &str| format!("/spec/selector/{}", escape(key));
        let (mut tests, mut changes) = (Vec::new(), Vec::new());
        for key in OWNED_KEYS {
            let (current, next) = (selector.get(key), wanted.get(key));
            if let Some(current) = current {
                tests.push(json!({"op": "test", "path": path(key), "value": current}));
            }
            match (current, next) {
                (Some(current), Some(next)) if current == next => {}
                (_, Some(next)) => {
                    changes.push(json!({"op": "add", "path": path(key), "value": next}))
                }
                (Some(_), None) => changes.push(json!({"op": "remove", "path": path(key)})),
                (None, None) => {}
            }
        }
        Ok([tests, changes].concat())
    }

    fn expectation(&self, object: &Value, _routing: &Routing, _roles: &Roles) -> Expectation {
        let name = object
            .pointer("/metadata/name")
            .and_then(Value::as_str)
            .unwrap_or_default();
        Expectation {
            front_service: Some(name.to_owned()),
            kube_proxy: true,
            parents_generation: None,
            traefik: None,
            envoy: None,
            nginx: None,
        }
    }

    fn shares(&self, routing: &Routing, roles: &Roles) -> BTreeMap<String, BTreeMap<String, f64>> {
        let Routing::Selector { keys } = routing else {
            return BTreeMap::new();
        };
        let holds = |selector: &BTreeMap<String, String>| {
            keys.iter()
                .all(|(key, value)| selector.get(key) == Some(value))
        };
        let selected: Vec<_> = [&roles.taking, &roles.giving]
            .into_iter()
            .filter(|side| holds(&side.selector))
            .collect();
        let share = 1.0 / selected.len().max(1) as f64;
        let shares = selected
            .iter()
            .map(|side| (side.service.clone(), share))
            .collect();
        BTreeMap::from([(PLACE.to_owned(), shares)])
    }
}

impl Service {
    /// Whether the selector already holds the taking side alone.
    fn is_final(&self, routing: &Routing, roles: &Roles) -> bool {
        *routing
            == Routing::Selector {
                keys: roles.taking.selector.clone(),
            }
    }
}

/// The selector without the keys that tell the sides apart: what an overlap selects.
pub fn overlap_selector(object: &Value) -> Result<BTreeMap<String, String>, Refusal> {
    let mut selector = selector_of(object)?;
    selector.retain(|key, _| !OWNED_KEYS.contains(&key.as_str()));
    Ok(selector)
}

fn selector_of(object: &Value) -> Result<BTreeMap<String, String>, Refusal> {
    let unsuitable = |problem: &str, hint: &str| Refusal::Unsuitable {
        object: name_of(object),
        problem: problem.to_owned(),
        hint: hint.to_owned(),
    };
    if object.pointer("/spec/type").and_then(Value::as_str) == Some("ExternalName") {
        return Err(unsuitable(
            "is an ExternalName",
            "switch the Service that selects the pods",
        ));
    }
    let selector = object
        .pointer("/spec/selector")
        .and_then(Value::as_object)
        .filter(|map| !map.is_empty());
    let selector = selector.ok_or_else(|| {
        unsuitable(
            "has no selector",
            "a Service whose endpoints somebody else writes cannot be switched here",
        )
    })?;
    let pairs = selector
        .iter()
        .map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned()));
    Ok(pairs.collect())
}

fn name_of(object: &Value) -> String {
    super::titled("service", object)
}
