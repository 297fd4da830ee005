//! `istio`: the destinations of a VirtualService (networking.istio.io/v1): a Service for each side, or a
//! subset for each side of one host.
//! Refuses to know which Envoys load it, beyond how istiod names what it makes of it.

use std::collections::BTreeMap;

use kube::api::ApiResource;
use serde_json::{Map, Value, json};
use switchyard_record::Side;

use super::weighted::{self, Backend, Layout, Rules};
use super::{Capability, Goal, Owned, Provider, ProviderKind, Refusal, members};
use crate::envoy::{EnvoyExpectation, ExpectedRoute, Subset};
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

/// The objects that say what a subset is.
pub(crate) fn destination_rules() -> ApiResource {
    ApiResource {
        kind: "DestinationRule".to_owned(),
        plural: "destinationrules".to_owned(),
        ..Istio.resource()
    }
}

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
        refuse_other_subsets(object, roles)?;
        subset_host(object, roles)?;
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
                subsets: subsets_in(object, routing, roles),
                routes: routes.collect(),
            }),
            nginx: None,
        }
    }

    fn shares(&self, routing: &Routing, _roles: &Roles) -> BTreeMap<String, BTreeMap<String, f64>> {
        weighted::shares(routing)
    }
}

/// The sides that are subsets, by what they are called.
fn subsets_in(object: &Value, routing: &Routing, roles: &Roles) -> BTreeMap<String, Subset> {
    let Ok(Some(host)) = subset_host(object, roles) else {
        return BTreeMap::new();
    };
    let sides = weighted::places_of(routing)
        .values()
        .flat_map(BTreeMap::keys);
    let subsets = sides.filter_map(|side| {
        let subset = Subset {
            host: host.clone(),
            name: subset_of(side, &host)?.to_owned(),
        };
        Some((side.clone(), subset))
    });
    subsets.collect()
}

/// Elements of `route`: `{destination: {host, subset, port: {number}}, weight, headers}`.
struct Destinations;

impl Layout for Destinations {
    fn backend(&self, element: &Value, roles: &Roles) -> Backend {
        let host = text_at(element, "/destination/host");
        let subset = text_at(element, "/destination/subset");
        let (name, rest) = split_host(host);
        let side = if subset.is_empty() {
            Some(name.to_owned())
        } else {
            side_of_subset(name, subset)
        };
        match side
            .filter(|side| is_here(rest, &roles.namespace) && roles.own_services.contains(side))
        {
            Some(side) => Backend::Ours(side),
            None => Backend::Foreign(host.to_owned()),
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
        let of_model = |pointer: &str| model.map_or("", |model| text_at(model, pointer));
        let host = of_model("/destination/host");
        let (name, rest) = split_host(host);
        let is_subset = !of_model("/destination/subset").is_empty();
        let mut destination = match subset_of(service, name).filter(|_| is_subset) {
            Some(subset) => json!({"host": host, "subset": subset}),
            None => json!({"host": format!("{service}{rest}")}),
        };
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

/// The host whose subsets are the sides; nothing when they are Services of their own.
///
/// # Errors
/// Some of the sides are subsets and some are Services.
pub(crate) fn subset_host(object: &Value, roles: &Roles) -> Result<Option<String>, Refusal> {
    let mut found: Option<(Option<&str>, String)> = None;
    for list in RULES.lists(object) {
        for element in list.elements {
            let Backend::Ours(key) = Destinations.backend(element, roles) else {
                continue;
            };
            let subset = text_at(element, "/destination/subset");
            let (name, _) = split_host(text_at(element, "/destination/host"));
            let host = (!subset.is_empty()).then_some(name);
            if let Some((known, other)) = &found
                && *known != host
            {
                return Err(Refusal::Unsuitable {
                    object: name_of(object),
                    problem: format!(
                        "sends to `{other}` and to `{key}`, of which one is a subset and one a Service"
                    ),
                    hint: "let both sides be subsets of one host, or both be Services".to_owned(),
                });
            }
            found = Some((host, key));
        }
    }
    Ok(found.and_then(|(host, _)| host.map(str::to_owned)))
}

/// The labels that DestinationRules of the namespace give the subset of each side of this host.
///
/// # Errors
/// A side has no subset: a VirtualService that names one that is not there loses every request to it.
pub(crate) fn subset_labels(
    host: &str,
    rules: &[Value],
    roles: &Roles,
) -> Result<BTreeMap<String, BTreeMap<String, String>>, Refusal> {
    let is_of_host = |rule: &&Value| {
        let (name, rest) = split_host(text_at(rule, "/spec/host"));
        name == host && is_here(rest, &roles.namespace)
    };
    let subsets: Vec<&Value> = rules
        .iter()
        .filter(is_of_host)
        .filter_map(|rule| rule.pointer("/spec/subsets")?.as_array())
        .flatten()
        .collect();
    let mut labels = BTreeMap::new();
    for key in [&roles.taking.service, &roles.giving.service] {
        let name = subset_of(key, host).unwrap_or_default();
        let subset = subsets
            .iter()
            .find(|subset| text_at(subset, "/name") == name);
        let subset = subset.ok_or_else(|| Refusal::Unsuitable {
            object: format!("host `{host}`"),
            problem: format!(
                "has no subset `{name}` in the DestinationRules of namespace `{}`",
                roles.namespace
            ),
            hint:
                "declare the subsets of both sides first, each with labels that only its pods carry"
                    .to_owned(),
        })?;
        let pairs = members(subset.get("labels").unwrap_or(&Value::Null))
            .into_iter()
            .filter_map(|(key, value)| Some((key, value.as_str()?.to_owned())));
        labels.insert(key.clone(), pairs.collect());
    }
    let holds = |one: &str, other: &str| {
        let (one, other): (&BTreeMap<_, _>, &BTreeMap<_, _>) = (&labels[one], &labels[other]);
        one.iter().all(|(key, value)| other.get(key) == Some(value))
    };
    let (taking, giving) = (&roles.taking.service, &roles.giving.service);
    if holds(taking, giving) || holds(giving, taking) {
        return Err(Refusal::Unsuitable {
            object: format!("host `{host}`"),
            problem:
                "has subsets whose labels do not tell the pods of one side from those of the other"
                    .to_owned(),
            hint: "give each subset labels that only its side's pods carry".to_owned(),
        });
    }
    Ok(labels)
}

/// The sides that may be subsets of a host, which are named as they are.
const SUBSETS: [Side; 4] = [Side::BLUE, Side::GREEN, Side::Canary, Side::Stable];

/// What a side is called that is this subset of a host: as a Service of its own would be.
fn side_of_subset(host: &str, subset: &str) -> Option<String> {
    let side = SUBSETS.into_iter().find(|side| side.as_str() == subset)?;
    Some(side.object_name(host))
}

/// The subset of a host that a side is.
fn subset_of(key: &str, host: &str) -> Option<&'static str> {
    let mut sides = SUBSETS.iter();
    let side = sides.find(|side| side.object_name(host) == key)?;
    Some(side.as_str())
}

/// A subset of one of our Services that is no side: its traffic is nobody's to move.
fn refuse_other_subsets(object: &Value, roles: &Roles) -> Result<(), Refusal> {
    for list in RULES.lists(object) {
        for element in list.elements {
            let subset = text_at(element, "/destination/subset");
            let host = text_at(element, "/destination/host");
            let (name, rest) = split_host(host);
            let is_our_host = is_here(rest, &roles.namespace)
                && roles.own_services.iter().any(|service| service == name);
            let is_side = matches!(Destinations.backend(element, roles), Backend::Ours(_));
            if !subset.is_empty() && is_our_host && !is_side {
                return Err(Refusal::Unsuitable {
                    object: name_of(object),
                    problem: format!(
                        "sends to subset `{subset}` of `{host}` in {}, which is no side",
                        list.key
                    ),
                    hint: "name the subsets of the application's host as the sides (blue, green, stable, canary), or give each side a Service of its own".to_owned(),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::roles::Backing;

    fn roles() -> Roles {
        let backing = |side: Side| Backing {
            side,
            service: side.object_name("web"),
            selector: BTreeMap::new(),
        };
        Roles {
            namespace: "shop".to_owned(),
            taking: backing(Side::Canary),
            giving: backing(Side::Stable),
            own_services: vec!["web".to_owned(), "web-canary".to_owned()],
            port: None,
        }
    }

    fn rule(host: &str, subsets: &[(&str, &Value)]) -> Value {
        let subsets: Vec<Value> = subsets
            .iter()
            .map(|(name, labels)| json!({"name": name, "labels": labels}))
            .collect();
        json!({"spec": {"host": host, "subsets": subsets}})
    }

    fn labels(rules: &[Value]) -> Result<BTreeMap<String, BTreeMap<String, String>>, String> {
        subset_labels("web", rules, &roles()).map_err(|refusal| refusal.to_string())
    }

    #[test]
    fn each_side_has_the_labels_that_its_subset_has_in_any_rule_of_the_host() {
        let (old, new) = (json!({"track": "stable"}), json!({"track": "canary"}));
        let found = labels(&[
            rule("other", &[("canary", &old)]),
            rule("web", &[("stable", &old)]),
            rule("web.shop.svc.cluster.local", &[("canary", &new)]),
        ])
        .unwrap();
        assert_eq!(found["web"]["track"], "stable");
        assert_eq!(found["web-canary"]["track"], "canary");
    }

    #[test]
    fn a_subset_that_is_missing_or_tells_no_side_apart_is_refused() {
        let (one, all) = (json!({"track": "stable"}), json!({}));
        let missing = labels(&[rule("web", &[("stable", &one)])]).unwrap_err();
        assert!(missing.contains("has no subset `canary`"), "{missing}");
        for (stable, canary) in [(&one, &one), (&all, &one), (&one, &all)] {
            let rules = [rule("web", &[("stable", stable), ("canary", canary)])];
            let same = labels(&rules).unwrap_err();
            assert!(same.contains("do not tell the pods"), "{same}");
        }
    }
}
