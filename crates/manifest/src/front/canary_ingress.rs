//! The traffic fields of a canary Ingress, which are annotations. Refuses to know whether a controller
//! heeds them.

use serde_json::Value;

use crate::kind::Kind;
use crate::object::{Object, member, member_of, metadata_entry, set_text};

const CANARY: &str = "nginx.ingress.kubernetes.io/canary";
const WEIGHT: &str = "nginx.ingress.kubernetes.io/canary-weight";
const TOTAL: &str = "nginx.ingress.kubernetes.io/canary-weight-total";
/// A smaller total counts as this.
const LEAST_TOTAL: u64 = 100;

/// How a canary Ingress and the main one beside it divide the traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CanaryIngress {
    /// The weight of the Services that the canary names.
    pub canary: u64,
    /// What is left for the main Ingress.
    pub main: u64,
}

impl CanaryIngress {
    /// Reads a route; `None` for anything but a canary Ingress.
    #[must_use]
    pub fn of(kind: Kind, route: &Value) -> Option<Self> {
        let text = |key: &str| metadata_entry(route, "annotations", key);
        let is_canary = text(CANARY).is_some_and(|text| text.eq_ignore_ascii_case("true"));
        if kind != Kind::Ingress || !is_canary {
            return None;
        }
        let number = |key: &str| text(key).and_then(|text| text.parse::<u64>().ok());
        let whole = number(TOTAL).unwrap_or(LEAST_TOTAL).max(LEAST_TOTAL);
        let canary = number(WEIGHT).unwrap_or(0).min(whole);
        Some(Self {
            canary,
            main: whole - canary,
        })
    }
}

/// Whether a canary Ingress stands beside what a main one sends to this Service: one path that both have
/// is enough, because the weight holds for everything that goes to the Service's port.
#[must_use]
pub fn is_beside(canary: &Value, main: &Value, service: &str) -> bool {
    let of_canary = paths(canary);
    paths(main).iter().any(|path| {
        path.service == service && of_canary.iter().any(|other| other.place == path.place)
    })
}

/// One path of an Ingress.
struct IngressPath<'a> {
    /// Host, path and path type.
    place: [&'a str; 3],
    service: &'a str,
}

fn paths(ingress: &Value) -> Vec<IngressPath<'_>> {
    let mut paths = Vec::new();
    for rule in list(ingress, "/spec/rules") {
        for path in list(rule, "/http/paths") {
            let of_path = |pointer: &str| {
                path.pointer(pointer)
                    .and_then(Value::as_str)
                    .unwrap_or_default()
            };
            paths.push(IngressPath {
                place: [
                    rule.get("host").and_then(Value::as_str).unwrap_or_default(),
                    of_path("/path"),
                    of_path("/pathType"),
                ],
                service: of_path("/backend/service/name"),
            });
        }
    }
    paths
}

fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    let list = value.pointer(pointer).and_then(Value::as_array);
    list.map_or(&[], Vec::as_slice)
}

/// Puts the live weight into the manifest's canary: to apply it again must not move traffic.
pub(super) fn keep_weight(front: &mut Object, live: &Value) {
    if CanaryIngress::of(front.kind(), front.value()).is_none() {
        return;
    }
    let annotations = member_of(member(front.value_mut(), "metadata"), "annotations");
    for key in [WEIGHT, TOTAL] {
        match metadata_entry(live, "annotations", key) {
            Some(text) => set_text(annotations, key, text),
            None => drop(annotations.remove(key)),
        }
    }
}
