//! Which pods live traffic can reach: the Services and routes of the namespace, read together.

use std::collections::BTreeMap;

use serde_json::Value;
use switchyard_manifest::front::CanaryIngress;
use switchyard_manifest::{Kind, LabelSelector, Slot, front, names, object};

/// A live object with the kind that it was read as.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LiveObject {
    /// What this project knows the kind as.
    pub kind: Kind,
    /// `kind/name`, for messages.
    pub title: String,
    /// The object.
    pub value: Value,
}

impl LiveObject {
    /// A live object; its title is made of its own kind and name.
    pub(crate) fn new(kind: Kind, kind_name: &str, value: Value) -> Self {
        let title = format!("{}/{}", kind_name.to_lowercase(), name_of(&value));
        Self { kind, title, value }
    }
}

/// `metadata.name` of a value.
pub(crate) fn name_of(value: &Value) -> &str {
    value
        .pointer("/metadata/name")
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// One way by which live traffic reaches pods.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    /// The object that decides, `kind/name`.
    pub decided_by: String,
    /// The Service that selects the pods.
    pub service: String,
    selector: LabelSelector,
}

impl Entry {
    /// Whether it reaches one slot only.
    pub(crate) fn asks_for_slot(&self) -> bool {
        self.selector.names_label(names::SLOT)
    }
}

/// All ways by which live traffic reaches pods of a namespace.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct TrafficView {
    entries: Vec<Entry>,
}

impl TrafficView {
    /// Reads Services and routes. A Service of no slot takes traffic by itself: anybody may call it by
    /// name. One of a slot takes traffic where a route sends it more than none.
    pub(crate) fn of(services: &[Value], routes: &[LiveObject]) -> Self {
        let mut entries = Vec::new();
        for service in services {
            let Some(selector) = LabelSelector::of_service(service) else {
                continue;
            };
            let name = name_of(service).to_owned();
            let is_per_slot = is_per_slot(service, &name);
            let deciders: Vec<String> = if is_per_slot {
                routes
                    .iter()
                    .filter(|route| sends_traffic_to(route, &name, routes))
                    .map(|route| route.title.clone())
                    .collect()
            } else {
                vec![format!("service/{name}")]
            };
            entries.extend(deciders.into_iter().map(|decided_by| Entry {
                decided_by,
                service: name.clone(),
                selector: selector.clone(),
            }));
        }
        Self { entries }
    }

    /// The first way by which traffic reaches pods with these labels.
    pub(crate) fn reaches(&self, labels: &BTreeMap<String, String>) -> Option<&Entry> {
        self.all_reaching(labels).next()
    }

    /// Every way by which traffic reaches pods with these labels.
    pub(crate) fn all_reaching(
        &self,
        labels: &BTreeMap<String, String>,
    ) -> impl Iterator<Item = &Entry> {
        self.entries
            .iter()
            .filter(|entry| entry.selector.matches(labels))
    }

    /// As [`Self::reaches`], for pods of a workload without slots of which only the template is known:
    /// a Service that is pinned to one ReplicaSet counts, one that asks for a slot does not.
    pub(crate) fn reaches_unslotted(&self, labels: &BTreeMap<String, String>) -> Option<&Entry> {
        self.all_reaching_unslotted(labels).next()
    }

    /// Every way by which traffic reaches pods of a workload without slots.
    pub(crate) fn all_reaching_unslotted(
        &self,
        labels: &BTreeMap<String, String>,
    ) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| {
            !entry.selector.names_label(names::SLOT)
                && entry
                    .selector
                    .without(names::POD_TEMPLATE_HASH)
                    .matches(labels)
        })
    }
}

/// Whether a Service is one that stands once in each slot: it says so by its label, or, made by hand, by
/// a name and a selector of the same slot.
fn is_per_slot(service: &Value, name: &str) -> bool {
    let is_labelled = object::metadata_entry(service, "labels", names::SLOT).is_some();
    let selected = service
        .pointer("/spec/selector")
        .and_then(|selector| selector.get(names::SLOT))
        .and_then(Value::as_str);
    let named = Slot::split(name).map(|(_, slot)| slot.as_str());
    is_labelled || (named.is_some() && named == selected)
}

fn sends_traffic_to(route: &LiveObject, service: &str, routes: &[LiveObject]) -> bool {
    let mut canaries = canaries_beside(route, service, routes);
    let has_nothing_left = canaries.any(|(_, shares)| shares.main == 0);
    !has_nothing_left
        && front::backends(route.kind, &route.value)
            .iter()
            .any(|backend| backend.service == service && backend.takes_traffic())
}

/// The canary Ingresses beside what a main one sends to a Service, with their weights.
pub(crate) fn canaries_beside<'a>(
    main: &'a LiveObject,
    service: &'a str,
    routes: &'a [LiveObject],
) -> impl Iterator<Item = (&'a LiveObject, CanaryIngress)> {
    let is_main = main.kind == Kind::Ingress && CanaryIngress::of(main.kind, &main.value).is_none();
    routes
        .iter()
        .filter(move |_| is_main)
        .filter_map(move |route| {
            let shares = CanaryIngress::of(route.kind, &route.value)?;
            front::is_beside(&route.value, &main.value, service).then_some((route, shares))
        })
}

/// Labels of a workload's pods as they are in a slot.
pub(crate) fn labels_in_slot(
    labels: &BTreeMap<String, String>,
    slot: Slot,
) -> BTreeMap<String, String> {
    let mut labels = labels.clone();
    labels.insert(names::SLOT.to_owned(), slot.as_str().to_owned());
    labels
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use serde_json::json;

    pub(crate) fn service(name: &str, labels: &Value, selector: &Value) -> Value {
        json!({"metadata": {"name": name, "labels": labels}, "spec": {"selector": selector}})
    }

    pub(crate) fn traefik(name: &str, backends: &[(&str, u64)]) -> LiveObject {
        let services: Vec<Value> = backends
            .iter()
            .map(|(name, weight)| json!({"name": name, "weight": weight}))
            .collect();
        LiveObject::new(
            Kind::TraefikService,
            "TraefikService",
            json!({"metadata": {"name": name}, "spec": {"weighted": {"services": services}}}),
        )
    }

    pub(crate) fn web() -> BTreeMap<String, String> {
        BTreeMap::from([("app".to_owned(), "web".to_owned())])
    }

    fn per_slot(slot: &str) -> Value {
        service(
            &format!("web-{slot}"),
            &json!({"switchyard.dev/slot": slot}),
            &json!({"app": "web", "switchyard.dev/slot": slot}),
        )
    }

    #[test]
    fn a_per_slot_service_takes_traffic_only_where_a_route_sends_some() {
        let services = [per_slot("blue"), per_slot("green")];
        let route = traefik("shop", &[("web-blue", 100), ("web-green", 0)]);
        let view = TrafficView::of(&services, &[route]);
        let decided = |slot| {
            view.reaches(&labels_in_slot(&web(), slot))
                .map(|entry| entry.decided_by.as_str())
        };
        assert_eq!(decided(Slot::Blue), Some("traefikservice/shop"));
        assert_eq!(decided(Slot::Green), None);
    }

    /// An Ingress at `shop.test/`; with a weight, a canary.
    pub(crate) fn ingress(name: &str, service: &str, weight: Option<&str>) -> LiveObject {
        let annotations = weight.map_or_else(
            || json!({}),
            |weight| {
                json!({"nginx.ingress.kubernetes.io/canary": "true",
                    "nginx.ingress.kubernetes.io/canary-weight": weight})
            },
        );
        LiveObject::new(
            Kind::Ingress,
            "Ingress",
            json!({"metadata": {"name": name, "annotations": annotations}, "spec": {"rules": [
                {"host": "shop.test", "http": {"paths": [{"path": "/", "pathType": "Prefix",
                    "backend": {"service": {"name": service, "port": {"number": 80}}}}]}}]}}),
        )
    }

    #[test]
    fn a_canary_ingress_takes_what_its_weight_says_and_leaves_the_main_one_the_rest() {
        let services = [per_slot("blue"), per_slot("green")];
        let decided = |weight: &str| {
            let routes = [
                ingress("shop", "web-blue", None),
                ingress("shop-next", "web-green", Some(weight)),
            ];
            let view = TrafficView::of(&services, &routes);
            [Slot::Blue, Slot::Green].map(|slot| {
                let entry = view.reaches(&labels_in_slot(&web(), slot));
                entry.map(|entry| entry.decided_by.clone())
            })
        };
        let (main, canary) = ("ingress/shop".to_owned(), "ingress/shop-next".to_owned());
        assert_eq!(decided("0"), [Some(main.clone()), None]);
        assert_eq!(decided("50"), [Some(main), Some(canary.clone())]);
        assert_eq!(decided("100"), [None, Some(canary)]);
    }

    #[test]
    fn a_per_slot_service_made_by_hand_is_one_by_its_name_and_selector() {
        let selector = json!({"app": "web", "switchyard.dev/slot": "blue"});
        let reached = |name: &str| {
            TrafficView::of(&[service(name, &json!({}), &selector)], &[])
                .reaches(&labels_in_slot(&web(), Slot::Blue))
                .is_some()
        };
        assert!(!reached("web-blue"));
        assert!(
            reached("web-green"),
            "a name of the other slot is no claim to be one"
        );
        assert!(reached("web"));
    }

    #[test]
    fn a_service_of_no_slot_takes_traffic_by_itself() {
        let selector = json!({"app": "web", "switchyard.dev/slot": "green"});
        let view = TrafficView::of(&[service("web", &json!({}), &selector)], &[]);
        assert!(view.reaches(&labels_in_slot(&web(), Slot::Green)).is_some());
        assert!(view.reaches(&labels_in_slot(&web(), Slot::Blue)).is_none());
        assert!(view.reaches_unslotted(&web()).is_none());
    }

    #[test]
    fn a_pinned_service_reaches_the_unslotted_side() {
        let selector = json!({"app": "web", "pod-template-hash": "abc"});
        let view = TrafficView::of(&[service("web", &json!({}), &selector)], &[]);
        assert!(view.reaches_unslotted(&web()).is_some());
        assert!(view.reaches(&labels_in_slot(&web(), Slot::Blue)).is_none());
    }
}
