//! What every traffic provider can do, and the closed list of providers.
//! Pure: a provider reads and writes JSON; it refuses to know the network, the clock and records.

pub mod gateway;
pub mod istio;
pub mod nginx;
pub mod service;
pub mod traefik;
mod weighted;

use std::collections::BTreeMap;
use std::fmt;

use clap::ValueEnum;
use json_patch::Patch;
use kube::api::ApiResource;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use thiserror::Error;

use crate::evidence::Expectation;
use crate::roles::Roles;
use crate::routing::Routing;
use crate::share::Percent;

/// Who decides where requests go. The file that implements one is named as the input value.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum ProviderKind {
    /// A Service's selector.
    Service,
    /// A TraefikService's weighted services.
    Traefik,
    /// An HTTPRoute's backend references.
    Gateway,
    /// A VirtualService's destinations.
    Istio,
    /// A canary Ingress's weight, by ingress-nginx's annotations.
    Nginx,
}

impl ProviderKind {
    /// The implementation.
    pub fn provider(self) -> &'static dyn Provider {
        match self {
            Self::Service => &service::Service,
            Self::Traefik => &traefik::Traefik,
            Self::Gateway => &gateway::Gateway,
            Self::Istio => &istio::Istio,
            Self::Nginx => &nginx::Nginx,
        }
    }

    /// The input value.
    pub fn name(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Traefik => "traefik",
            Self::Gateway => "gateway",
            Self::Istio => "istio",
            Self::Nginx => "nginx",
        }
    }

    /// The provider that an input value names.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::value_variants()
            .iter()
            .copied()
            .find(|kind| kind.name() == name)
    }

    /// All input values.
    pub fn names() -> Vec<&'static str> {
        Self::value_variants()
            .iter()
            .map(|kind| kind.name())
            .collect()
    }
}

impl fmt::Display for ProviderKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// How finely a provider can divide traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capability {
    /// All or nothing.
    Binary,
    /// Any whole percentage.
    Weighted,
}

/// What one write is to bring about.
#[derive(Clone, Debug, PartialEq)]
pub enum Goal {
    /// Proxies are to know both sides before traffic moves: the taking side is listed at weight 0,
    /// or selected beside the giving one.
    Prepare,
    /// The taking side gets this share; both sides stay listed with explicit weights.
    Share(Percent),
    /// As [`Goal::Share`], and entries without weight are dropped.
    Settle(Percent),
    /// As it was before the deployment, with the giving side still listed at weight 0 so that
    /// proxies go on reporting what it has in flight.
    Return(Routing),
    /// Exactly as it was before the deployment.
    Restore(Routing),
}

/// A front object as read: what we own, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owned {
    /// What we own, by meaning.
    pub routing: Routing,
    /// JSON pointer of each place's list, in the object it was read from.
    pub pointers: BTreeMap<String, String>,
    /// Backends of others, by place; their weights stay as they are.
    pub foreign: BTreeMap<String, Vec<String>>,
    /// Why shares cannot be checked by counting, when that is so (session affinity).
    pub shares_unverifiable: Option<String>,
}

/// Annotations that a write leaves on the object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marks {
    /// The fence of the writer; an object with a higher one belongs to somebody later.
    pub fence: u64,
    /// The deployment on whose behalf the write happens.
    pub deployment: String,
}

/// Why a provider will not do what it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// The object lacks what the provider needs.
    #[error("{object} {problem}")]
    Unsuitable {
        /// The object, `traefikservice/web`.
        object: String,
        /// What is wrong with it, as the rest of a sentence.
        problem: String,
        /// What to do.
        hint: String,
    },
    /// A binary provider was asked for a part of the traffic.
    #[error("{object} can only send all traffic to one side, not {asked}")]
    NotWeighted {
        /// The object.
        object: String,
        /// The share asked for.
        asked: Percent,
    },
    /// Whole weights cannot say the share.
    #[error(
        "{object}: {place} gives our sides a weight of {whole}, which cannot be divided to give one of them {asked}"
    )]
    NotDivisible {
        /// The object.
        object: String,
        /// The list.
        place: String,
        /// The sum of our weights there.
        whole: u32,
        /// The share asked for.
        asked: Percent,
    },
    /// Neither side is there, so there is no traffic of ours to move.
    #[error("{object} sends nothing to `{giving}` or `{taking}`")]
    NothingOwned {
        /// The object.
        object: String,
        /// The Service of the side that was to give.
        giving: String,
        /// The Service of the side that was to take.
        taking: String,
    },
    /// Traffic goes to a third side of the application.
    #[error(
        "{object} also sends traffic to `{service}`, which is neither the old side nor the new one"
    )]
    ThirdSide {
        /// The object.
        object: String,
        /// The Service of the third side.
        service: String,
    },
}

impl Refusal {
    /// What to do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::Unsuitable { hint, .. } => hint.clone(),
            Self::NotWeighted { .. } => {
                "leave out `weight` and `steps`, or use a weighted target (traefik, gateway, istio, nginx)".to_owned()
            }
            Self::NotDivisible { .. } => {
                "give our side a weight of 100 in that list (others' weights in proportion), or switch 100 % at once"
                    .to_owned()
            }
            Self::NothingOwned { giving, .. } => format!(
                "point the route at `{giving}` first, or name the Services' base: PROVIDER/NAME:BASE"
            ),
            Self::ThirdSide { service, .. } => {
                format!("finish or roll back the deployment that sent traffic to `{service}` first")
            }
        }
    }
}

/// One kind of front object.
///
/// Adding a provider: one file that implements this, one variant of [`ProviderKind`], one arm in
/// each of its matches.
pub trait Provider: Send + Sync + fmt::Debug {
    /// Which one it is.
    fn kind(&self) -> ProviderKind;

    /// How finely it divides traffic.
    fn capability(&self) -> Capability;

    /// The API resource of its front objects.
    fn resource(&self) -> ApiResource;

    /// Where the owned fields are, as plain field names from the root, to look up their writer.
    fn owned_path(&self) -> &'static [&'static str];

    /// Reads what we own out of a live object.
    fn read(&self, object: &Value, roles: &Roles) -> Result<Owned, Refusal>;

    /// What we own once `goal` is reached. Reaching a goal twice changes nothing.
    fn aim(&self, owned: &Owned, goal: &Goal, roles: &Roles) -> Result<Routing, Refusal>;

    /// Whether proxies already know both sides well enough for traffic to move.
    fn is_prepared(&self, owned: &Owned, roles: &Roles) -> bool;

    /// Operations that turn the owned fields of `object` into `after`, each element preceded by a
    /// `test` of what it was. Nothing else on the object is touched.
    fn edit(&self, object: &Value, after: &Routing, roles: &Roles) -> Result<Vec<Value>, Refusal>;

    /// What every proxy must show once `routing` is in effect.
    fn expectation(&self, object: &Value, routing: &Routing, roles: &Roles) -> Expectation;

    /// The share of the owned traffic that goes to each side's Service, per place.
    fn shares(&self, routing: &Routing, roles: &Roles) -> BTreeMap<String, BTreeMap<String, f64>>;

    /// The Service without whose endpoints nobody is answered, although it may get no traffic.
    fn needs_endpoints(&self, _object: &Value, _roles: &Roles) -> Option<String> {
        None
    }

    /// The patch that brings about `after`: preconditions on the object's resourceVersion and on
    /// every owned element, the annotations of the writer, then [`Provider::edit`].
    fn patch(
        &self,
        object: &Value,
        after: &Routing,
        roles: &Roles,
        marks: &Marks,
    ) -> Result<Patch, Refusal> {
        let mut operations = preconditions(object);
        operations.extend(annotate(object, marks));
        operations.extend(self.edit(object, after, roles)?);
        Ok(into_patch(operations))
    }

    /// The patch that changes nothing but the object's version, by an annotation of this value.
    fn seal(&self, object: &Value, marks: &Marks, value: &str) -> Patch {
        let mut operations = preconditions(object);
        operations.extend(annotate(object, marks));
        let path = format!(
            "/metadata/annotations/{}",
            escape(switchyard_cluster::names::SEAL)
        );
        operations.push(json!({"op": "add", "path": path, "value": value}));
        into_patch(operations)
    }
}

/// The fence that a live object carries; 0 when it has none.
pub fn fence_of(object: &Value) -> u64 {
    object
        .pointer("/metadata/annotations")
        .and_then(|annotations| annotations.get(switchyard_cluster::names::FENCE))
        .and_then(Value::as_str)
        .and_then(|text| text.parse().ok())
        .unwrap_or(0)
}

fn preconditions(object: &Value) -> Vec<Value> {
    let version = object
        .pointer("/metadata/resourceVersion")
        .cloned()
        .unwrap_or(Value::Null);
    vec![json!({"op": "test", "path": "/metadata/resourceVersion", "value": version})]
}

fn annotate(object: &Value, marks: &Marks) -> Vec<Value> {
    let mut operations = Vec::new();
    if object.pointer("/metadata/annotations").is_none() {
        operations.push(json!({"op": "add", "path": "/metadata/annotations", "value": {}}));
    }
    let pairs = [
        (switchyard_cluster::names::FENCE, marks.fence.to_string()),
        (
            switchyard_cluster::names::DEPLOYMENT,
            marks.deployment.clone(),
        ),
    ];
    for (key, value) in pairs {
        let path = format!("/metadata/annotations/{}", escape(key));
        operations.push(json!({"op": "add", "path": path, "value": value}));
    }
    operations
}

/// A key as one token of a JSON pointer (RFC 6901).
pub(crate) fn escape(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

fn into_patch(operations: Vec<Value>) -> Patch {
    // Every operation above is built from literals of the right shape.
    serde_json::from_value(Value::Array(operations)).unwrap_or_default()
}

/// An object for messages, by its kind, namespace and name: ``httproute `shop/web` ``.
pub(crate) fn titled(kind: &str, object: &Value) -> String {
    let part = |pointer| {
        object
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    format!(
        "{kind} `{}/{}`",
        part("/metadata/namespace"),
        part("/metadata/name")
    )
}

/// Splits an object into its members, or nothing when it is none.
pub(crate) fn members(value: &Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_provider_answers_to_its_own_name() {
        for kind in ProviderKind::value_variants() {
            assert_eq!(kind.provider().kind(), *kind);
            assert_eq!(ProviderKind::from_name(kind.name()), Some(*kind));
            let value = kind.to_possible_value().unwrap();
            assert_eq!(value.get_name(), kind.name());
        }
    }

    #[test]
    fn annotation_keys_become_pointer_tokens() {
        assert_eq!(escape("switchyard.dev/fence~x"), "switchyard.dev~1fence~0x");
    }
}
