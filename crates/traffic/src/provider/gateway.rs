//! `gateway`: the backend references of an HTTPRoute (gateway.networking.k8s.io/v1).
//! Refuses to know the implementation behind it, beyond what Traefik calls its services.

use std::collections::BTreeMap;

use kube::api::ApiResource;
use serde_json::Value;

use super::weighted::{self, Backend, Layout, Rules};
use super::{Capability, Goal, Owned, Provider, ProviderKind, Refusal};
use crate::evidence::{Expectation, TraefikExpectation, WeightedService};
use crate::roles::Roles;
use crate::routing::{Place, Routing};

/// The rules of an HTTPRoute.
const RULES: Rules = Rules {
    pointer: "/spec/rules",
    list: "backendRefs",
    matches: "matches",
    describe: match_text,
    anything: "PathPrefix /",
};

/// The provider.
#[derive(Debug)]
pub struct Gateway;

impl Provider for Gateway {
    fn kind(&self) -> ProviderKind {
        ProviderKind::Gateway
    }

    fn capability(&self) -> Capability {
        Capability::Weighted
    }

    fn resource(&self) -> ApiResource {
        ApiResource {
            group: "gateway.networking.k8s.io".to_owned(),
            version: "v1".to_owned(),
            api_version: "gateway.networking.k8s.io/v1".to_owned(),
            kind: "HTTPRoute".to_owned(),
            plural: "httproutes".to_owned(),
        }
    }

    fn owned_path(&self) -> &'static [&'static str] {
        &["spec", "rules"]
    }

    fn read(&self, object: &Value, roles: &Roles) -> Result<Owned, Refusal> {
        let mut owned = weighted::read(RULES.lists(object), &References, roles, &name_of(object))?;
        let is_sticky = RULES
            .of(object)
            .iter()
            .any(|rule| rule.get("sessionPersistence").is_some());
        if is_sticky {
            owned.shares_unverifiable =
                Some("a rule has session persistence, so clients keep their side whatever the weights are".to_owned());
        }
        Ok(owned)
    }

    fn aim(&self, owned: &Owned, goal: &Goal, roles: &Roles) -> Result<Routing, Refusal> {
        weighted::aim(owned, goal, roles, "the HTTPRoute")
    }

    fn is_prepared(&self, owned: &Owned, roles: &Roles) -> bool {
        weighted::is_prepared(owned, roles)
    }

    fn edit(&self, object: &Value, after: &Routing, roles: &Roles) -> Result<Vec<Value>, Refusal> {
        let owned = self.read(object, roles)?;
        Ok(RULES.edit(object, &owned, after, &References, roles))
    }

    fn expectation(&self, object: &Value, routing: &Routing, roles: &Roles) -> Expectation {
        let name = object
            .pointer("/metadata/name")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let owned = self.read(object, roles).ok();
        let pointers = owned.map(|owned| owned.pointers).unwrap_or_default();
        let mut services = Vec::new();
        let mut weights = BTreeMap::new();
        for (key, place) in weighted::places_of(routing) {
            let pointer = pointers.get(key).map_or("", String::as_str);
            let rule = pointer
                .split('/')
                .nth(3)
                .and_then(|index| index.parse().ok())
                .unwrap_or(0);
            services.push(WeightedService::Route {
                namespace: roles.namespace.clone(),
                name: name.to_owned(),
                rule,
                place: key.clone(),
            });
            weights.insert(key.clone(), weights_of(place));
        }
        Expectation {
            front_service: None,
            kube_proxy: false,
            parents_generation: object
                .pointer("/metadata/generation")
                .and_then(Value::as_i64),
            traefik: Some(TraefikExpectation {
                services,
                weights,
                is_native: false,
            }),
            envoy: None,
            nginx: None,
        }
    }

    fn shares(&self, routing: &Routing, _roles: &Roles) -> BTreeMap<String, BTreeMap<String, f64>> {
        weighted::shares(routing)
    }
}

fn weights_of(place: &Place) -> BTreeMap<String, u32> {
    place
        .iter()
        .map(|(service, entry)| (service.clone(), entry.weight))
        .collect()
}

/// Elements of `backendRefs`: `{group, kind, namespace, name, port, weight, filters}`.
struct References;

impl Layout for References {
    fn backend(&self, element: &Value, roles: &Roles) -> Backend {
        let text = |field: &str| element.get(field).and_then(Value::as_str);
        let name = text("name").unwrap_or_default();
        let is_service = text("group").is_none_or(str::is_empty)
            && text("kind").is_none_or(|kind| kind == "Service");
        let is_here = text("namespace").is_none_or(|namespace| namespace == roles.namespace);
        if is_service && is_here && roles.own_services.iter().any(|service| service == name) {
            Backend::Ours(name.to_owned())
        } else {
            Backend::Foreign(name.to_owned())
        }
    }

    fn identity_fields(&self) -> &'static [&'static str] {
        &["name", "group", "kind", "namespace"]
    }
}

fn match_text(condition: &Value) -> String {
    let text = |pointer: &str| condition.pointer(pointer).and_then(Value::as_str);
    let path = format!(
        "{} {}",
        text("/path/type").unwrap_or("PathPrefix"),
        text("/path/value").unwrap_or("/")
    );
    let mut parts = vec![path];
    parts.extend(text("/method").map(str::to_owned));
    for (field, label) in [("headers", "header"), ("queryParams", "query")] {
        let conditions = condition
            .get(field)
            .and_then(Value::as_array)
            .map_or(&[][..], Vec::as_slice);
        for one in conditions {
            let member = |name: &str| one.get(name).and_then(Value::as_str).unwrap_or_default();
            parts.push(format!("{label} {}={}", member("name"), member("value")));
        }
    }
    parts.join(" ")
}

fn name_of(object: &Value) -> String {
    super::titled("httproute", object)
}
