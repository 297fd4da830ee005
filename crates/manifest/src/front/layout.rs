//! Where each kind of route keeps its backends, and how an entry names a Service.

use std::collections::BTreeSet;

use serde_json::Value;

use super::Kept;
use crate::kind::Kind;
use crate::slot::Slot;

/// The layout of one kind of route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    Ingress,
    TraefikService,
    IngressRoute,
    GatewayRoute,
    VirtualService,
    /// Not a route: no backends.
    None,
}

impl Layout {
    pub(super) const fn of(kind: Kind) -> Self {
        match kind {
            Kind::Ingress => Self::Ingress,
            Kind::TraefikService => Self::TraefikService,
            Kind::IngressRoute => Self::IngressRoute,
            Kind::GatewayRoute => Self::GatewayRoute,
            Kind::VirtualService => Self::VirtualService,
            Kind::Namespace
            | Kind::CustomResourceDefinition
            | Kind::ServiceAccount
            | Kind::Rbac
            | Kind::ConfigMap
            | Kind::Secret
            | Kind::PersistentVolumeClaim
            | Kind::Service
            | Kind::Deployment
            | Kind::StatefulSet
            | Kind::DaemonSet
            | Kind::ReplicaSet
            | Kind::ReplicationController
            | Kind::Pod
            | Kind::Job
            | Kind::CronJob
            | Kind::HorizontalPodAutoscaler
            | Kind::Autoscaler
            | Kind::PodDisruptionBudget
            | Kind::Other => Self::None,
        }
    }

    /// JSON pointers to the lists of weighted backends.
    pub(super) fn list_pointers(self, route: &Value) -> Vec<String> {
        match self {
            Self::TraefikService => [
                "/spec/weighted/services",
                "/spec/highestRandomWeight/services",
            ]
            .into_iter()
            .filter(|pointer| route.pointer(pointer).is_some())
            .map(str::to_owned)
            .collect(),
            Self::IngressRoute => each(route, "/spec/routes", "services"),
            Self::GatewayRoute => each(route, "/spec/rules", "backendRefs"),
            Self::VirtualService => ["http", "tcp", "tls"]
                .into_iter()
                .flat_map(|protocol| each(route, &format!("/spec/{protocol}"), "route"))
                .collect(),
            Self::Ingress | Self::None => Vec::new(),
        }
    }

    /// JSON pointers to backends that stand alone.
    pub(super) fn single_pointers(self, route: &Value) -> Vec<String> {
        match self {
            Self::Ingress => {
                let mut pointers = vec!["/spec/defaultBackend/service".to_owned()];
                for rule in each(route, "/spec/rules", "http/paths") {
                    let paths = route.pointer(&rule).and_then(Value::as_array);
                    let count = paths.map_or(0, Vec::len);
                    pointers.extend((0..count).map(|at| format!("{rule}/{at}/backend/service")));
                }
                pointers.retain(|pointer| route.pointer(pointer).is_some());
                pointers
            }
            Self::TraefikService => Some("/spec/mirroring")
                .filter(|pointer| route.pointer(pointer).is_some())
                .map(str::to_owned)
                .into_iter()
                .collect(),
            Self::IngressRoute | Self::GatewayRoute | Self::VirtualService | Self::None => {
                Vec::new()
            }
        }
    }

    /// The Service that an entry names; `None` when it names something else.
    pub(super) fn service(self, entry: &Value) -> Option<String> {
        let text = |key: &str| entry.get(key).and_then(Value::as_str);
        match self {
            Self::VirtualService => {
                let host = entry.pointer("/destination/host")?.as_str()?;
                // `web.shop.svc.cluster.local` is `web` in namespace `shop`.
                Some(host.split('.').next().unwrap_or(host).to_owned())
            }
            Self::TraefikService | Self::IngressRoute | Self::GatewayRoute | Self::Ingress => {
                let is_service = text("kind").is_none_or(|kind| kind == "Service")
                    && text("group").is_none_or(str::is_empty);
                text("name").filter(|_| is_service).map(str::to_owned)
            }
            Self::None => None,
        }
    }

    pub(super) fn set_service(self, entry: &mut Value, name: &str) {
        match self {
            Self::VirtualService => {
                if let Some(Value::String(host)) = entry.pointer_mut("/destination/host") {
                    let domain = host.split_once('.').map(|(_, domain)| domain.to_owned());
                    *host =
                        domain.map_or_else(|| name.to_owned(), |domain| format!("{name}.{domain}"));
                }
            }
            Self::TraefikService | Self::IngressRoute | Self::GatewayRoute | Self::Ingress => {
                entry["name"] = Value::from(name);
            }
            Self::None => {}
        }
    }

    /// The weight of an entry. All weighted routes read an absent one as 1, except Istio, where a
    /// single destination takes everything: also more than 0.
    pub(super) fn weight(self, entry: &Value) -> u64 {
        entry.get("weight").and_then(Value::as_u64).unwrap_or(1)
    }

    /// The base that an entry belongs to: it names the base itself or one of its slots.
    pub(super) fn base(self, entry: &Value, bases: &BTreeSet<String>) -> Option<String> {
        let service = self.service(entry)?;
        if bases.contains(&service) {
            return Some(service);
        }
        let (base, _) = Slot::split(&service)?;
        bases.contains(base).then(|| base.to_owned())
    }

    /// The live entries that answer for one list of the manifest: those of the live rule with the
    /// same conditions, then those of all others, as a switch writes the same share everywhere.
    pub(super) fn live_entries(self, wanted: &Value, pointer: &str, live: &Value) -> Vec<Value> {
        let identity = self.rule_identity(wanted, pointer);
        let (same, others): (Vec<String>, Vec<String>) = self
            .list_pointers(live)
            .into_iter()
            .partition(|candidate| self.rule_identity(live, candidate) == identity);
        same.iter()
            .chain(&others)
            .filter_map(|pointer| live.pointer(pointer)?.as_array())
            .map(|list| Value::Array(list.clone()))
            .collect()
    }

    /// What tells a rule from its neighbours: its name, else its conditions.
    fn rule_identity(self, route: &Value, pointer: &str) -> Value {
        let key = match self {
            Self::TraefikService => return Value::from(pointer),
            Self::GatewayRoute => "matches",
            Self::IngressRoute | Self::VirtualService | Self::Ingress | Self::None => "match",
        };
        let rule = pointer
            .rsplit_once('/')
            .and_then(|(rule, _)| route.pointer(rule));
        rule.and_then(|rule| rule.get("name").or_else(|| rule.get(key)))
            .cloned()
            .unwrap_or(Value::Null)
    }

    /// A manifest's list with the entries of slotted bases replaced: by the first of `live` lists
    /// that knows the base, else by one entry for `slot`.
    pub(super) fn with_live_entries(
        self,
        list: &[Value],
        live: &[Value],
        bases: &BTreeSet<String>,
        slot: Slot,
        kept: &mut Kept,
    ) -> Vec<Value> {
        let mut result = Vec::new();
        let mut done = BTreeSet::new();
        for entry in list {
            let Some(base) = self.base(entry, bases) else {
                result.push(entry.clone());
                continue;
            };
            if !done.insert(base.clone()) {
                continue;
            }
            let from_live = live.iter().find_map(|candidates| {
                let entries: Vec<Value> = candidates
                    .as_array()?
                    .iter()
                    .filter(|candidate| self.base(candidate, bases).as_ref() == Some(&base))
                    .cloned()
                    .collect();
                (!entries.is_empty()).then_some(entries)
            });
            match from_live {
                Some(entries) => {
                    kept.from_live.insert(base);
                    result.extend(entries);
                }
                None => {
                    result.push(self.entry_for_slot(entry, list, &base, (bases, slot)));
                    kept.new.insert(base);
                }
            }
        }
        result
    }

    /// One entry for the slot, with the weight that all entries of its base had together.
    fn entry_for_slot(
        self,
        entry: &Value,
        list: &[Value],
        base: &str,
        (bases, slot): (&BTreeSet<String>, Slot),
    ) -> Value {
        let mut entry = entry.clone();
        self.set_service(&mut entry, &slot.name_of(base));
        let of_base = |candidate: &&Value| self.base(candidate, bases).as_deref() == Some(base);
        let total: u64 = list
            .iter()
            .filter(of_base)
            .map(|candidate| self.weight(candidate))
            .sum();
        let stated = list
            .iter()
            .filter(of_base)
            .any(|entry| entry.get("weight").is_some());
        match self {
            // An explicit weight, so that a second backend can be weighed against it.
            Self::TraefikService | Self::GatewayRoute => entry["weight"] = total.max(1).into(),
            Self::VirtualService | Self::IngressRoute => {
                if stated {
                    entry["weight"] = total.max(1).into();
                }
            }
            Self::Ingress | Self::None => {}
        }
        entry
    }
}

/// Pointers to `inner` of every item of the list at `outer` that has one.
fn each(value: &Value, outer: &str, inner: &str) -> Vec<String> {
    let count = value
        .pointer(outer)
        .and_then(Value::as_array)
        .map_or(0, Vec::len);
    (0..count)
        .map(|at| format!("{outer}/{at}/{inner}"))
        .filter(|pointer| value.pointer(pointer).is_some())
        .collect()
}
