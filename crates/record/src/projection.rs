//! Projections: the fields of an object that we own, compared by meaning.
//!
//! Owns hashing and bounding of values; refuses to know which fields those are.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::identity::hex;

/// Longest value (bytes of compact JSON) that a record keeps beside its hash.
pub const MAX_SHOWN_BYTES: usize = 4096;

/// The state of the owned fields of one object: always a hash of their meaning, and the fields
/// themselves where they are short and fit to be shown.
///
/// The hash ignores the order of keys, and treats a field that is null like one that is absent:
/// the API server drops those. The order of list elements counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Projection {
    hash: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    shown: Option<Value>,
}

impl Projection {
    /// Hash of an object that does not exist.
    const ABSENT: &'static str = "absent";

    /// The projection of fields that hold no secrets, such as weights and selectors. Values
    /// above [`MAX_SHOWN_BYTES`] are kept as their hash only.
    #[must_use]
    pub fn shown(value: &Value) -> Self {
        let value = canonical(value);
        let text = value.to_string();
        Self {
            hash: hash(&text),
            shown: (text.len() <= MAX_SHOWN_BYTES).then_some(value),
        }
    }

    /// The projection of fields that must not be copied into a record (environment values, whole
    /// pod templates): the hash only. Not for Secrets, whose short values a hash gives away.
    #[must_use]
    pub fn hidden(value: &Value) -> Self {
        Self {
            hash: hash(&canonical(value).to_string()),
            shown: None,
        }
    }

    /// The projection of an object that does not exist.
    #[must_use]
    pub fn absent() -> Self {
        Self {
            hash: Self::ABSENT.to_owned(),
            shown: None,
        }
    }

    /// The hash: `sha256:…`, or `absent`.
    #[must_use]
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// The fields, where the record keeps them.
    #[must_use]
    pub fn value(&self) -> Option<&Value> {
        self.shown.as_ref()
    }

    /// Whether this is the projection of an object that does not exist.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        self.hash == Self::ABSENT
    }

    /// Whether both stand for the same meaning.
    #[must_use]
    pub fn agrees_with(&self, other: &Self) -> bool {
        self.hash == other.hash
    }

    /// For people: the fields in one line, else the hash.
    #[must_use]
    pub fn describe(&self) -> String {
        match &self.shown {
            Some(value) => value.to_string(),
            None => self.hash.clone(),
        }
    }

    /// Whether what was read is a projection at all, with a value that agrees with its hash.
    pub(crate) fn is_sound(&self) -> bool {
        match &self.shown {
            Some(value) => hash(&canonical(value).to_string()) == self.hash,
            None => {
                self.is_absent()
                    || self
                        .hash
                        .strip_prefix("sha256:")
                        .is_some_and(|digits| digits.len() == 64)
            }
        }
    }

    /// Forgets the fields and keeps their hash, for a record that grows too large.
    pub(crate) fn forget_value(&mut self) {
        self.shown = None;
    }
}

fn hash(text: &str) -> String {
    format!("sha256:{}", hex(&Sha256::digest(text.as_bytes())))
}

/// The same meaning in one form: sorted keys, no null fields.
fn canonical(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let mut sorted: Vec<_> = fields
                .iter()
                .filter(|(_, field)| !field.is_null())
                .map(|(key, field)| (key.clone(), canonical(field)))
                .collect();
            sorted.sort_by(|(a, _), (b, _)| a.cmp(b));
            Value::Object(sorted.into_iter().collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(canonical).collect()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn order_of_keys_and_null_fields_mean_nothing() {
        let one = Projection::shown(&json!({"a": 1, "b": {"c": [1, 2]}, "d": null}));
        let other = Projection::shown(&json!({"b": {"c": [1, 2], "e": null}, "a": 1}));
        assert!(one.agrees_with(&other));
    }

    #[test]
    fn order_of_elements_and_absence_mean_something() {
        let one = Projection::shown(&json!([1, 2]));
        assert!(!one.agrees_with(&Projection::shown(&json!([2, 1]))));
        assert!(!Projection::absent().agrees_with(&Projection::shown(&json!({}))));
    }

    #[test]
    fn hidden_fields_leave_only_a_hash() {
        let value = json!({"env": [{"name": "TOKEN", "value": "s3cret"}]});
        let hidden = Projection::hidden(&value);
        assert!(!serde_json::to_string(&hidden).unwrap().contains("s3cret"));
        assert!(hidden.agrees_with(&Projection::shown(&value)));
    }

    #[test]
    fn a_long_value_is_kept_as_its_hash() {
        let long = Projection::shown(&json!("x".repeat(MAX_SHOWN_BYTES)));
        assert_eq!(long.value(), None);
        assert!(long.is_sound());
    }

    #[test]
    fn a_value_that_was_edited_under_its_hash_is_unsound() {
        let mut projection = Projection::shown(&json!({"weight": 1}));
        assert!(projection.is_sound());
        projection.shown = Some(json!({"weight": 2}));
        assert!(!projection.is_sound());
    }
}
