//! `nginx`: the weight of a canary Ingress, by ingress-nginx's annotations.
//! Refuses to write the Ingress that the canary stands beside, and to know whose reading of the
//! annotations carries the traffic: ingress-nginx's own, or Traefik's.
//!
//! The two Ingresses stay with their sides: the main one names the Service of one side, the canary that
//! of the other, and the weight alone decides. So one write moves traffic, and ingress-nginx takes a
//! weight without a reload, which a changed backend costs it.

use std::collections::BTreeMap;

use kube::api::ApiResource;
use serde_json::{Map, Value, json};
use switchyard_record::{Side, Slot};

use super::weighted::{self, elements};
use super::{Capability, Goal, Owned, Provider, ProviderKind, Refusal, escape};
use crate::evidence::{Expectation, TraefikExpectation, WeightedService};
use crate::ingress_nginx::NginxExpectation;
use crate::roles::Roles;
use crate::routing::{Entry, Place, Routing};
use crate::share::{Percent, divide};

/// What makes an Ingress a canary.
const CANARY: &str = "nginx.ingress.kubernetes.io/canary";
/// The annotation that is ours.
const WEIGHT: &str = "nginx.ingress.kubernetes.io/canary-weight";
/// What weights are parts of.
const TOTAL: &str = "nginx.ingress.kubernetes.io/canary-weight-total";
/// Keeps clients on the side that answered them first.
const AFFINITY: &str = "nginx.ingress.kubernetes.io/affinity";
const CLASS: &str = "kubernetes.io/ingress.class";
/// A smaller total counts as this.
const LEAST_TOTAL: u32 = 100;
const PLACE: &str = "canary";

/// The provider.
#[derive(Debug)]
pub struct Nginx;

impl Provider for Nginx {
    fn kind(&self) -> ProviderKind {
        ProviderKind::Nginx
    }

    fn capability(&self) -> Capability {
        Capability::Weighted
    }

    fn resource(&self) -> ApiResource {
        ApiResource {
            group: "networking.k8s.io".to_owned(),
            version: "v1".to_owned(),
            api_version: "networking.k8s.io/v1".to_owned(),
            kind: "Ingress".to_owned(),
            plural: "ingresses".to_owned(),
        }
    }

    fn owned_path(&self) -> &'static [&'static str] {
        &["metadata", "annotations", WEIGHT]
    }

    fn read(&self, object: &Value, roles: &Roles) -> Result<Owned, Refusal> {
        refuse_main(object)?;
        let canary = canary_of(object, roles)?;
        let weights = Weights::of(object)?;
        let entry = |weight: u32| Entry {
            weight,
            port: canary.port.clone(),
            rest: Map::new(),
        };
        let place = Place::from([
            (canary.main.clone(), entry(weights.whole - weights.canary)),
            (canary.service.clone(), entry(weights.canary)),
        ]);
        Ok(Owned {
            routing: Routing::Backends {
                places: BTreeMap::from([(PLACE.to_owned(), place)]),
            },
            pointers: BTreeMap::from([(PLACE.to_owned(), pointer_to(WEIGHT))]),
            foreign: BTreeMap::new(),
            shares_unverifiable: None,
        })
    }

    fn aim(&self, owned: &Owned, goal: &Goal, roles: &Roles) -> Result<Routing, Refusal> {
        match goal {
            // Both Ingresses name their sides all the time.
            Goal::Prepare => Ok(owned.routing.clone()),
            Goal::Share(share) | Goal::Settle(share) => shared(&owned.routing, *share, roles),
            Goal::Return(prior) | Goal::Restore(prior) => Ok(prior.clone()),
        }
    }

    fn is_prepared(&self, owned: &Owned, roles: &Roles) -> bool {
        weighted::is_prepared(owned, roles)
    }

    fn edit(&self, object: &Value, after: &Routing, roles: &Roles) -> Result<Vec<Value>, Refusal> {
        let canary = canary_of(object, roles)?;
        let mut operations: Vec<Value> = [CANARY, WEIGHT, TOTAL]
            .into_iter()
            .filter_map(|key| {
                let value = annotation(object, key)?;
                Some(json!({"op": "test", "path": pointer_to(key), "value": value}))
            })
            .collect();
        let places = weighted::places_of(after);
        let wanted = places
            .get(PLACE)
            .and_then(|place| place.get(&canary.service));
        if let Some(entry) = wanted {
            let weight = entry.weight.to_string();
            if annotation(object, WEIGHT) != Some(&weight) {
                let path = pointer_to(WEIGHT);
                operations.push(json!({"op": "add", "path": path, "value": weight}));
            }
        }
        Ok(operations)
    }

    fn expectation(&self, object: &Value, routing: &Routing, roles: &Roles) -> Expectation {
        let nothing = Place::new();
        let place = weighted::places_of(routing).get(PLACE).unwrap_or(&nothing);
        let weights: BTreeMap<String, u32> = place
            .iter()
            .map(|(service, entry)| (service.clone(), entry.weight))
            .collect();
        let canary = canary_of(object, roles).ok();
        let traefik = canary.as_ref().map(|canary| TraefikExpectation {
            services: vec![WeightedService::Canary {
                namespace: roles.namespace.clone(),
                main: canary.main.clone(),
                canary: canary.service.clone(),
                place: PLACE.to_owned(),
            }],
            weights: BTreeMap::from([(PLACE.to_owned(), weights.clone())]),
            is_native: false,
        });
        let nginx = canary.map(|canary| NginxExpectation {
            namespace: roles.namespace.clone(),
            port: text_of(&canary.port),
            main: canary.main,
            canary: canary.service,
            weights,
        });
        Expectation {
            front_service: None,
            kube_proxy: false,
            parents_generation: None,
            traefik,
            envoy: None,
            nginx,
        }
    }

    fn shares(&self, routing: &Routing, _roles: &Roles) -> BTreeMap<String, BTreeMap<String, f64>> {
        weighted::shares(routing)
    }

    /// ingress-nginx asks the main Service's endpoints before it looks at the canary: without any it
    /// answers 503, whatever the weight is.
    fn needs_endpoints(&self, object: &Value, roles: &Roles) -> Option<String> {
        canary_of(object, roles).ok().map(|canary| canary.main)
    }
}

/// What a canary Ingress's weight is a part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Weights {
    canary: u32,
    whole: u32,
}

impl Weights {
    /// As both readers take them: an unset weight is none, one above the total is all.
    fn of(object: &Value) -> Result<Self, Refusal> {
        let number = |key: &str| -> Result<Option<u32>, Refusal> {
            let Some(text) = annotation(object, key) else {
                return Ok(None);
            };
            text.parse().map(Some).map_err(|_| {
                unsuitable(
                    object,
                    format!("has the annotation `{key}: {text}`, which is no whole number"),
                    "put a whole number there; ingress-nginx ignores what is none",
                )
            })
        };
        let whole = number(TOTAL)?.unwrap_or(LEAST_TOTAL).max(LEAST_TOTAL);
        let canary = number(WEIGHT)?.unwrap_or(0).min(whole);
        Ok(Self { canary, whole })
    }
}

/// The two Services between which a canary Ingress's weight decides.
struct Canary {
    /// The one that it names.
    service: String,
    /// The one that has the rest.
    main: String,
    /// The port of both, as written.
    port: Value,
}

/// The one Service to which everything in the canary Ingress goes: its weight holds for all of it.
fn canary_of(object: &Value, roles: &Roles) -> Result<Canary, Refusal> {
    let mut found: Option<Canary> = None;
    for path in paths_of(object) {
        let name = path.service();
        if !roles.own_services.iter().any(|service| service == name) {
            return Err(unsuitable(
                object,
                format!(
                    "sends `{}` to `{name}`, which is no side of this application; a weight would move that too",
                    path.place()
                ),
                "give what is not this application's a canary Ingress of its own, or name the Services' base: nginx/NAME:BASE",
            ));
        }
        let port = path.port();
        let is_same = |known: &Canary| known.service == name && known.port == port;
        if found.as_ref().is_some_and(|known| !is_same(known)) {
            return Err(unsuitable(
                object,
                format!(
                    "names more than one Service or port (`{}` goes to `{name}`)",
                    path.place()
                ),
                "give each Service and port a canary Ingress of its own: one weight holds for all of its paths",
            ));
        }
        let main = main_of(name, roles).ok_or_else(|| {
            unsuitable(
                object,
                format!(
                    "sends `{}` to `{name}`, which cannot stand beside a main side",
                    path.place()
                ),
                "let the canary Ingress name the Service of one slot, or of the canary",
            )
        })?;
        found = Some(Canary {
            service: name.to_owned(),
            main,
            port,
        });
    }
    found.ok_or_else(|| {
        unsuitable(
            object,
            "has no path".to_owned(),
            "write the host and paths of the main Ingress into it, with the other side's Service",
        )
    })
}

/// The side that has what a canary Ingress of this one leaves: the main workload of a canary, the other
/// slot of a slot.
fn main_of(canary: &str, roles: &Roles) -> Option<String> {
    let slots = Slot::ALL.map(|slot| (Side::Slot(slot), Side::Slot(slot.other())));
    let pairs = slots.into_iter().chain([(Side::Canary, Side::Stable)]);
    let mut mains = pairs.filter_map(|(side, other)| {
        let base = canary.strip_suffix(side.as_str())?.strip_suffix('-')?;
        Some(other.object_name(base))
    });
    mains.find(|main| roles.own_services.contains(main))
}

fn shared(routing: &Routing, share: Percent, roles: &Roles) -> Result<Routing, Refusal> {
    let (taking, giving) = (&roles.taking.service, &roles.giving.service);
    let mut places = weighted::places_of(routing).clone();
    for place in places.values_mut() {
        let third = place
            .iter()
            .find(|(service, entry)| *service != taking && *service != giving && entry.weight > 0);
        if let Some((service, _)) = third {
            return Err(Refusal::ThirdSide {
                object: "the canary Ingress".to_owned(),
                service: service.clone(),
            });
        }
        let whole = place.values().map(|entry| entry.weight).sum();
        let (true, true) = (place.contains_key(taking), place.contains_key(giving)) else {
            return Err(Refusal::NothingOwned {
                object: "the canary Ingress".to_owned(),
                giving: giving.clone(),
                taking: taking.clone(),
            });
        };
        let (taken, given) = divide(whole, share).ok_or_else(|| Refusal::Unsuitable {
            object: "the canary Ingress".to_owned(),
            problem: format!(
                "divides traffic by {whole} (`{TOTAL}`), which cannot give one side {share}"
            ),
            hint: "make the total a multiple of 100, or leave it out".to_owned(),
        })?;
        for (service, weight) in [(taking, taken), (giving, given)] {
            if let Some(entry) = place.get_mut(service) {
                entry.weight = weight;
            }
        }
    }
    Ok(Routing::Backends { places })
}

/// Sees that the Ingresses of the namespace make the canary what the routing says: a canary of the
/// main side, and of nothing else. Returns why shares cannot be checked by counting, when that is so.
///
/// # Errors
/// A path of the canary has no main Ingress, one that sends elsewhere, or a second canary.
pub fn check_beside(
    canary: &Value,
    ingresses: &[Value],
    roles: &Roles,
) -> Result<Option<String>, Refusal> {
    let main = canary_of(canary, roles)?.main;
    let others = || {
        ingresses.iter().filter(|other| {
            name_of(other) != name_of(canary) && class_of(other) == class_of(canary)
        })
    };
    let mut unverifiable = None;
    for path in paths_of(canary) {
        let place = path.place();
        if let Some(second) =
            others().find(|other| is_canary(other) && path_like(other, &path).is_some())
        {
            return Err(unsuitable(
                canary,
                format!(
                    "is not the only canary of `{place}`: {} is one too, and controllers heed one",
                    name_of(second)
                ),
                "delete one of the two",
            ));
        }
        let beside = others()
            .filter(|other| !is_canary(other))
            .find_map(|other| Some((other, path_like(other, &path)?)));
        let Some((ingress, found)) = beside else {
            return Err(unsuitable(
                canary,
                format!(
                    "has no main Ingress beside it: none of its class sends `{place}` (the same path type, too)"
                ),
                "a canary Ingress works only beside one without the annotation, with the same host and path",
            ));
        };
        if found.service() != main {
            return Err(unsuitable(
                canary,
                format!(
                    "stands beside {}, which sends `{place}` to `{}` and not to `{main}`",
                    name_of(ingress),
                    found.service()
                ),
                "point one of the two Ingresses at each side; their weight alone is switched",
            ));
        }
        if annotation(ingress, AFFINITY).is_some() {
            unverifiable = Some(format!(
                "{} has session affinity, so clients keep their side whatever the weights are",
                name_of(ingress)
            ));
        }
    }
    Ok(unverifiable)
}

/// One path of an Ingress.
struct Path<'object> {
    host: &'object str,
    path: &'object Value,
}

impl Path<'_> {
    fn text(&self, pointer: &str) -> &str {
        let text = self.path.pointer(pointer).and_then(Value::as_str);
        text.unwrap_or_default()
    }

    /// `shop.example/api`.
    fn place(&self) -> String {
        format!("{}{}", self.host, self.text("/path"))
    }

    fn service(&self) -> &str {
        self.text("/backend/service/name")
    }

    /// Its number, else its name.
    fn port(&self) -> Value {
        let port = |field: &str| {
            let pointer = format!("/backend/service/port/{field}");
            self.path.pointer(&pointer).cloned()
        };
        port("number").or_else(|| port("name")).unwrap_or_default()
    }

    /// Whether both readers take the two for the same path.
    fn is_alike(&self, other: &Path<'_>) -> bool {
        let alike = |pointer: &str| self.text(pointer) == other.text(pointer);
        self.host == other.host && alike("/path") && alike("/pathType")
    }
}

fn paths_of(object: &Value) -> Vec<Path<'_>> {
    let rules = elements(object.pointer("/spec/rules")).iter();
    let paths = rules.flat_map(|rule| {
        let host = rule.get("host").and_then(Value::as_str).unwrap_or_default();
        let paths = elements(rule.pointer("/http/paths")).iter();
        paths.map(move |path| Path { host, path })
    });
    paths.collect()
}

/// The path of an Ingress that is the same one.
fn path_like<'other>(other: &'other Value, path: &Path<'_>) -> Option<Path<'other>> {
    let mut paths = paths_of(other).into_iter();
    paths.find(|one| one.is_alike(path))
}

fn refuse_main(object: &Value) -> Result<(), Refusal> {
    if is_canary(object) {
        return Ok(());
    }
    Err(unsuitable(
        object,
        format!("is no canary: it has no annotation `{CANARY}: \"true\"`"),
        "name the canary Ingress, which has the weight; the main one beside it stays as it is",
    ))
}

fn is_canary(object: &Value) -> bool {
    annotation(object, CANARY).is_some_and(|text| text.eq_ignore_ascii_case("true"))
}

/// The class by which a controller takes an Ingress for its own.
fn class_of(object: &Value) -> Option<&str> {
    let named = object
        .pointer("/spec/ingressClassName")
        .and_then(Value::as_str);
    named.or_else(|| annotation(object, CLASS).map(String::as_str))
}

fn annotation<'object>(object: &'object Value, key: &str) -> Option<&'object String> {
    match object.pointer(&pointer_to(key)) {
        Some(Value::String(text)) => Some(text),
        Some(_) | None => None,
    }
}

fn pointer_to(annotation: &str) -> String {
    format!("/metadata/annotations/{}", escape(annotation))
}

fn text_of(port: &Value) -> String {
    match port {
        Value::String(name) => name.clone(),
        Value::Null => String::new(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => port.to_string(),
    }
}

fn unsuitable(object: &Value, problem: String, hint: &str) -> Refusal {
    Refusal::Unsuitable {
        object: name_of(object),
        problem,
        hint: hint.to_owned(),
    }
}

fn name_of(object: &Value) -> String {
    super::titled("ingress", object)
}
