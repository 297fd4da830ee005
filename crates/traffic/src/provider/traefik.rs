//! `traefik`: the weighted services of a TraefikService (traefik.io/v1alpha1).
//! Refuses to know how Traefik is asked what it has loaded.

use std::collections::BTreeMap;

use kube::api::ApiResource;
use serde_json::Value;

use super::weighted::{self, Backend, Layout, List};
use super::{Capability, Goal, Owned, Provider, ProviderKind, Refusal};
use crate::evidence::{Expectation, TraefikExpectation, WeightedService};
use crate::roles::Roles;
use crate::routing::{Place, Routing};

const LIST: &str = "/spec/weighted/services";
const PLACE: &str = "services";

/// The provider.
#[derive(Debug)]
pub struct Traefik;

impl Provider for Traefik {
    fn kind(&self) -> ProviderKind {
        ProviderKind::Traefik
    }

    fn capability(&self) -> Capability {
        Capability::Weighted
    }

    fn resource(&self) -> ApiResource {
        ApiResource {
            group: "traefik.io".to_owned(),
            version: "v1alpha1".to_owned(),
            api_version: "traefik.io/v1alpha1".to_owned(),
            kind: "TraefikService".to_owned(),
            plural: "traefikservices".to_owned(),
        }
    }

    fn owned_path(&self) -> &'static [&'static str] {
        &["spec", "weighted", "services"]
    }

    fn read(&self, object: &Value, roles: &Roles) -> Result<Owned, Refusal> {
        let list = list_of(object)?;
        let mut owned = weighted::read(vec![list], &Entries, roles, &name_of(object))?;
        if object.pointer("/spec/weighted/sticky").is_some() {
            owned.shares_unverifiable = Some(
                "the TraefikService is sticky, so clients keep their side whatever the weights are"
                    .to_owned(),
            );
        }
        Ok(owned)
    }

    fn aim(&self, owned: &Owned, goal: &Goal, roles: &Roles) -> Result<Routing, Refusal> {
        weighted::aim(owned, goal, roles, "the TraefikService")
    }

    fn is_prepared(&self, owned: &Owned, roles: &Roles) -> bool {
        weighted::is_prepared(owned, roles)
    }

    fn edit(&self, object: &Value, after: &Routing, roles: &Roles) -> Result<Vec<Value>, Refusal> {
        let list = list_of(object)?;
        let nothing = Place::new();
        let after = weighted::places_of(after).get(PLACE).unwrap_or(&nothing);
        Ok(weighted::edit(&list, after, &Entries, roles))
    }

    fn expectation(&self, object: &Value, routing: &Routing, roles: &Roles) -> Expectation {
        let name = object
            .pointer("/metadata/name")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let nothing = Place::new();
        let place = weighted::places_of(routing).get(PLACE).unwrap_or(&nothing);
        let weights = place
            .iter()
            .map(|(service, entry)| (service.clone(), entry.weight))
            .collect();
        let whole: Vec<_> = list_of(object)
            .map(|list| list.elements.to_vec())
            .unwrap_or_default();
        let is_native = whole
            .iter()
            .any(|element| element.get("nativeLB").and_then(Value::as_bool) == Some(true));
        Expectation {
            front_service: None,
            kube_proxy: false,
            parents_generation: None,
            traefik: Some(TraefikExpectation {
                services: vec![WeightedService::Crd {
                    namespace: roles.namespace.clone(),
                    name: name.to_owned(),
                }],
                weights: BTreeMap::from([(PLACE.to_owned(), weights)]),
                is_native,
            }),
            envoy: None,
            nginx: None,
        }
    }

    fn shares(&self, routing: &Routing, _roles: &Roles) -> BTreeMap<String, BTreeMap<String, f64>> {
        weighted::shares(routing)
    }
}

/// Elements of `spec.weighted.services`: `{name, kind, namespace, port, weight, …}`.
struct Entries;

impl Layout for Entries {
    fn backend(&self, element: &Value, roles: &Roles) -> Backend {
        let text = |field: &str| element.get(field).and_then(Value::as_str);
        let name = text("name").unwrap_or_default();
        let is_service = text("kind").is_none_or(|kind| kind == "Service");
        let is_here = text("namespace").is_none_or(|namespace| namespace == roles.namespace);
        if is_service && is_here && roles.own_services.iter().any(|service| service == name) {
            Backend::Ours(name.to_owned())
        } else {
            Backend::Foreign(name.to_owned())
        }
    }

    fn identity_fields(&self) -> &'static [&'static str] {
        &["name", "kind", "namespace"]
    }
}

fn list_of(object: &Value) -> Result<List<'_>, Refusal> {
    let elements = object.pointer(LIST).and_then(Value::as_array).ok_or_else(|| Refusal::Unsuitable {
        object: name_of(object),
        problem: "has no `spec.weighted.services`".to_owned(),
        hint: "only weighted TraefikServices can be switched: list the live side there with its port".to_owned(),
    })?;
    Ok(List {
        pointer: LIST.to_owned(),
        key: PLACE.to_owned(),
        elements,
    })
}

fn name_of(object: &Value) -> String {
    super::titled("traefikservice", object)
}
