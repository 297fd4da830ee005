//! The routing of a front object: the fields that a switch may write, reduced to what they mean.
//! Refuses to know any one provider's layout, and everything else on the object.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use switchyard_record::Projection;

use crate::share::Percent;

/// The owned fields of one front object, equal when they send traffic the same way.
///
/// List order, whether a default weight is spelled out, defaulted fields and everything that belongs
/// to others are not part of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Routing {
    /// The selector keys that tell the sides apart, of a Service.
    Selector {
        /// Key and value; empty selects every side.
        keys: BTreeMap<String, String>,
    },
    /// The sides' entries in each weighted list.
    Backends {
        /// By place: the one list of a TraefikService, or the rules of an HTTPRoute or a
        /// VirtualService.
        places: BTreeMap<String, Place>,
    },
}

/// The sides' entries of one weighted list, by the name of their Service.
pub type Place = BTreeMap<String, Entry>;

/// One side's entry in a weighted list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its weight; what an unset one means to the provider is spelled out.
    pub weight: u32,
    /// Its port as written: a number, a name, or null.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub port: Value,
    /// The other fields of the element (filters, strategy), which a new entry copies.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub rest: Map<String, Value>,
}

impl Routing {
    /// Reads a routing back out of a record.
    pub fn from_value(value: &Value) -> Result<Self, serde_json::Error> {
        Self::deserialize(value)
    }

    /// The routing as JSON, for a record.
    pub fn to_value(&self) -> Value {
        // Maps with text keys and plain values always serialise.
        serde_json::to_value(self).unwrap_or(Value::Null)
    }

    /// What a record keeps of it: a digest of its meaning, and the fields while they are short.
    pub fn projection(&self) -> Projection {
        Projection::shown(&self.to_value())
    }

    /// One line for people: `web-blue 90, web-green 10`.
    pub fn describe(&self) -> String {
        match self {
            Self::Selector { keys } if keys.is_empty() => "every side".to_owned(),
            Self::Selector { keys } => {
                let pairs: Vec<_> = keys
                    .iter()
                    .map(|(key, value)| format!("{key}={value}"))
                    .collect();
                pairs.join(", ")
            }
            Self::Backends { places } if places.is_empty() => "neither side".to_owned(),
            Self::Backends { places } => describe_places(places),
        }
    }
}

fn describe_places(places: &BTreeMap<String, Place>) -> String {
    let mut grouped: Vec<(String, Vec<&str>)> = Vec::new();
    for (key, place) in places {
        let text = describe_place(place);
        match grouped.iter_mut().find(|(known, _)| *known == text) {
            Some((_, keys)) => keys.push(key),
            None => grouped.push((text, vec![key])),
        }
    }
    match grouped.as_slice() {
        [(text, _)] => text.clone(),
        several => {
            let parts: Vec<_> = several
                .iter()
                .map(|(text, keys)| format!("{}: {text}", keys.join(" and ")))
                .collect();
            parts.join("; ")
        }
    }
}

fn describe_place(place: &Place) -> String {
    let parts: Vec<_> = place
        .iter()
        .map(|(service, entry)| format!("{service} {}", entry.weight))
        .collect();
    parts.join(", ")
}

/// The share of the owned traffic of one place that goes to `service`; `None` when no owned entry
/// has a weight.
pub fn share_of(place: &Place, service: &str) -> Option<f64> {
    let whole: u64 = place.values().map(|entry| u64::from(entry.weight)).sum();
    let part = place
        .get(service)
        .map_or(0, |entry| u64::from(entry.weight));
    if whole == 0 {
        None
    } else {
        Some(part as f64 / whole as f64)
    }
}

/// Whether `share` (0 to 1) is exactly `percent`.
pub(crate) fn is_share(share: f64, percent: Percent) -> bool {
    (share * 100.0 - f64::from(percent.get())).abs() < 1e-9
}
