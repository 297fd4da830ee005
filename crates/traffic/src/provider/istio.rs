//! `istio`: the destinations of a VirtualService (networking.istio.io/v1).
//! Refuses to know which Envoys load it, beyond how istiod names what it makes of it.

use std::collections::BTreeMap;

use kube::api::ApiResource;
use serde_json::{Map, Value, json};

use super::weighted::{self, Backend, Layout, Rules};
use super::{Capability, Goal, Owned, Provider, ProviderKind, Refusal};
use crate::envoy::{EnvoyExpectation, ExpectedRoute};
use crate::evidence::Expectation;
use crate::roles::Roles;
use crate::routing::Routing;

// A `consistentHash` of a DestinationRule leaves the shares as they are: istiod gives it to the route as
// a hash policy, by which Envoy chooses a host, and chooses the weighted cluster at random all the same
// (`use_hash_policy` of the weights is never set; checked in Istio 1.31).

/// What a destination that is alone in its route gets, whatever its weight says.
const ALONE: u32 = 100;

/// The HTTP rules of a VirtualService.
const RULES: Rules = Rules {
    pointer: "/spec/http",
    list: "route",
    matches: "match",
    describe: match_text,
    anything: "any request",
};

/// The provider.
#[derive(Debug)]
pub struct Istio;

impl Provider for Istio {
    fn kind(&self) -> ProviderKind {
        ProviderKind::Istio
    }

    fn capability(&self) -> Capability {
        Capability::Weighted
    }

    fn resource(&self) -> ApiResource {
        ApiResource {
            group: "networking.istio.io".to_owned(),
            version: "v1".to_owned(),
            api_version: "networking.istio.io/v1".to_owned(),
            kind: "VirtualService".to_owned(),
            plural: "virtualservices".to_owned(),
        }
    }

    fn owned_path(&self) -> &'static [&'static str] {
        &["spec", "http"]
    }

    fn read(&self, object: &Value, roles: &Roles) -> Result<Owned, Refusal> {
        if object.pointer("/spec/http").is_none() {
            return Err(Refusal::Unsuitable {
                object: name_of(object),
                problem: "has no `spec.http`".to_owned(),
                hint: "only HTTP routes can be switched: list the live side there, `tls` and `tcp` stay as they are"
                    .to_owned(),
            });
        }
        refuse_subsets(object, roles)?;
        weighted::read(RULES.lists(object), &Destinations, roles, &name_of(object))
    }

    fn aim(&self, owned: &Owned, goal: &Goal, roles: &Roles) -> Result<Routing, Refusal> {
        weighted::aim(owned, goal, roles, "the VirtualService")
    }

    fn is_prepared(&self, owned: &Owned, roles: &Roles) -> bool {
        weighted::is_prepared(owned, roles)
    }

    fn edit(&self, object: &Value, after: &Routing, roles: &Roles) -> Result<Vec<Value>, Refusal> {
        let owned = self.read(object, roles)?;
        Ok(RULES.edit(object, &owned, after, &Destinations, roles))
    }

    fn expectation(&self, object: &Value, routing: &Routing, roles: &Roles) -> Expectation {
        let owned = self.read(object, roles).ok();
        let pointers = owned.map(|owned| owned.pointers).unwrap_or_default();
        let routes = weighted::places_of(routing).iter().map(|(key, place)| {
            let rule = pointers
                .get(key)
                .and_then(|pointer| object.pointer(pointer.strip_suffix("/route")?));
            ExpectedRoute {
                place: key.clone(),
                rule: rule
                    .and_then(|rule| rule.get("name"))
                    .and_then(Value::as_str)
                    .map(str::to_owned),
                weights: place
                    .iter()
                    .map(|(service, entry)| (service.clone(), entry.weight))
                    .collect(),
                ports: place
                    .iter()
                    .filter_map(|(service, entry)| Some((service.clone(), port_of(&entry.port)?)))
                    .collect(),
            }
        });
        // A delegate has no hosts: istiod makes its routes part of whatever delegates to it.
        let has_hosts = object
            .pointer("/spec/hosts")
            .and_then(Value::as_array)
            .is_some_and(|hosts| !hosts.is_empty());
        let name = text_at(object, "/metadata/name");
        Expectation {
            front_service: None,
            kube_proxy: false,
            parents_generation: None,
            traefik: None,
            envoy: Some(EnvoyExpectation {
                namespace: roles.namespace.clone(),
                virtual_service: has_hosts.then(|| name.to_owned()),
                routes: routes.collect(),
            }),
            nginx: None,
        }
    }

    fn shares(&self, routing: &Routing, _roles: &Roles) -> BTreeMap<String, BTreeMap<String, f64>> {
        weighted::shares(routing)
    }
}

/// Elements of `route`: `{destination: {host, subset, port: {number}}, weight, headers}`.
struct Destinations;

impl Layout for Destinations {
    fn backend(&self, element: &Value, roles: &Roles) -> Backend {
        let host = text_at(element, "/destination/host");
        let (name, rest) = split_host(host);
        if is_here(rest, &roles.namespace)
            && roles.own_services.iter().any(|service| service == name)
        {
            Backend::Ours(name.to_owned())
        } else {
            Backend::Foreign(host.to_owned())
        }
    }

    fn identity_fields(&self) -> &'static [&'static str] {
        &["destination"]
    }

    /// As istiod reads it: alone a destination gets everything, among others an unset weight is 0.
    fn weight(&self, written: Option<u32>, listed: usize) -> u32 {
        match (written, listed) {
            (None | Some(0), 1) => ALONE,
            (written, _) => written.unwrap_or(0),
        }
    }

    fn port(&self, element: &Value) -> Value {
        element
            .pointer("/destination/port/number")
            .cloned()
            .unwrap_or(Value::Null)
    }

    fn point(
        &self,
        element: &mut Map<String, Value>,
        service: &str,
        port: &Value,
        model: Option<&Value>,
    ) {
        let model = model.map(|model| text_at(model, "/destination/host"));
        let (_, rest) = split_host(model.unwrap_or_default());
        let mut destination = json!({"host": format!("{service}{rest}")});
        if !port.is_null() {
            destination["port"] = json!({"number": port});
        }
        element.insert("destination".to_owned(), destination);
    }
}

/// A host as the Service's name and what follows it: `web-blue` and `.shop.svc.cluster.local`.
fn split_host(host: &str) -> (&str, &str) {
    host.find('.').map_or((host, ""), |dot| host.split_at(dot))
}

/// Whether what follows the Service's name leads to this namespace.
fn is_here(rest: &str, namespace: &str) -> bool {
    let Some(rest) = rest.strip_prefix('.') else {
        return rest.is_empty();
    };
    let mut labels = rest.split('.');
    labels.next() == Some(namespace) && labels.next().is_none_or(|label| label == "svc")
}

/// Sides that are subsets of one host hang on a DestinationRule, which nothing here writes.
fn refuse_subsets(object: &Value, roles: &Roles) -> Result<(), Refusal> {
    for list in RULES.lists(object) {
        for element in list.elements {
            let subset = text_at(element, "/destination/subset");
            let is_ours = matches!(Destinations.backend(element, roles), Backend::Ours(_));
            if is_ours && !subset.is_empty() {
                let host = text_at(element, "/destination/host");
                return Err(Refusal::Unsuitable {
                    object: name_of(object),
                    problem: format!(
                        "sends to subset `{subset}` of `{host}` in {}: sides that are subsets are not supported",
                        list.key
                    ),
                    hint: format!(
                        "give each side a Service of its own (`{}`, `{}`) and name those as destinations, without `subset`",
                        roles.giving.service, roles.taking.service
                    ),
                });
            }
        }
    }
    Ok(())
}

/// `uri prefix /api, headers x-user exact dana`: every word and value, in an order of their own.
fn match_text(condition: &Value) -> String {
    let mut parts = Vec::new();
    describe(condition, &mut Vec::new(), &mut parts);
    parts.sort();
    parts.join(", ")
}

fn describe(value: &Value, path: &mut Vec<String>, parts: &mut Vec<String>) {
    match value {
        Value::Object(members) if !members.is_empty() => {
            for (name, member) in members {
                path.push(name.clone());
                describe(member, path, parts);
                path.pop();
            }
        }
        Value::String(text) => parts.push(format!("{} {text}", path.join(" "))),
        Value::Object(_) => parts.push(path.join(" ")),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => {
            parts.push(format!("{} {value}", path.join(" ")));
        }
    }
}

fn port_of(port: &Value) -> Option<u16> {
    port.as_u64().and_then(|number| u16::try_from(number).ok())
}

fn text_at<'value>(value: &'value Value, pointer: &str) -> &'value str {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

fn name_of(object: &Value) -> String {
    super::titled("virtualservice", object)
}
