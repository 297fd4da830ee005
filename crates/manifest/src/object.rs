//! One object of a manifest: its JSON value, where it was written, and typed looks at its
//! metadata. Refuses to know what the rest of the object means.

use std::fmt;

use serde_json::{Map, Value};

use crate::identity::Identity;
use crate::kind::Kind;
use crate::names;

/// Where an object was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The file as it was named, or the program that printed the manifest.
    pub file: String,
    /// The YAML document within it, counted from 1.
    pub document: usize,
    /// The line at which the object begins, counted from 1.
    pub line: u64,
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{}, document {}, line {}",
            self.file, self.document, self.line
        )
    }
}

/// One object of a manifest. Invariant: `apiVersion`, `kind` and `metadata.name` are non-empty
/// strings; labels and annotations, where present, are maps of strings.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    value: Value,
    origin: Origin,
}

impl Object {
    /// Takes a value that was checked to have an identity; [`crate::parse`] makes these.
    pub(crate) fn checked(value: Value, origin: Origin) -> Self {
        Self { value, origin }
    }

    /// Where it was written.
    #[must_use]
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The whole object.
    #[must_use]
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// The whole object, to be changed. The identity must stay one.
    pub fn value_mut(&mut self) -> &mut Value {
        &mut self.value
    }

    /// Gives the value away.
    #[must_use]
    pub fn into_value(self) -> Value {
        self.value
    }

    /// What the object is called.
    #[must_use]
    pub fn identity(&self) -> Identity {
        let text = |pointer: &str| {
            self.value
                .pointer(pointer)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        Identity {
            api_version: text("/apiVersion"),
            kind: text("/kind"),
            namespace: self
                .value
                .pointer("/metadata/namespace")
                .and_then(Value::as_str)
                .map(str::to_owned),
            name: text("/metadata/name"),
        }
    }

    /// The object's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.value
            .pointer("/metadata/name")
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    /// What this project knows the kind as.
    #[must_use]
    pub fn kind(&self) -> Kind {
        let text = |key: &str| self.value.get(key).and_then(Value::as_str);
        Kind::of(
            text("apiVersion").unwrap_or_default(),
            text("kind").unwrap_or_default(),
        )
    }

    /// One label of the object.
    #[must_use]
    pub fn label(&self, key: &str) -> Option<&str> {
        metadata_entry(&self.value, "labels", key)
    }

    /// One annotation of the object.
    #[must_use]
    pub fn annotation(&self, key: &str) -> Option<&str> {
        metadata_entry(&self.value, "annotations", key)
    }

    /// The name without the slot's suffix: what the manifest called the object.
    #[must_use]
    pub fn base_name(&self) -> &str {
        self.annotation(names::BASE_NAME)
            .unwrap_or_else(|| self.name())
    }

    /// Renames the object.
    pub fn set_name(&mut self, name: &str) {
        member(&mut self.value, "metadata").insert("name".to_owned(), name.into());
    }

    /// States the namespace.
    pub fn set_namespace(&mut self, namespace: &str) {
        member(&mut self.value, "metadata").insert("namespace".to_owned(), namespace.into());
    }

    /// Sets one label.
    pub fn set_label(&mut self, key: &str, value: &str) {
        set_text(
            member_of(member(&mut self.value, "metadata"), "labels"),
            key,
            value,
        );
    }

    /// Sets one annotation.
    pub fn set_annotation(&mut self, key: &str, value: &str) {
        set_text(
            member_of(member(&mut self.value, "metadata"), "annotations"),
            key,
            value,
        );
    }
}

/// One entry of `metadata.labels` or `metadata.annotations` of any object.
#[must_use]
pub fn metadata_entry<'a>(value: &'a Value, part: &str, key: &str) -> Option<&'a str> {
    value.get("metadata")?.get(part)?.get(key)?.as_str()
}

/// The map under `key`, made when it is not there or not a map.
pub(crate) fn member<'a>(value: &'a mut Value, key: &str) -> &'a mut Map<String, Value> {
    member_of(map_of(value), key)
}

/// The map under `key` of a map, made when it is not there or not a map.
pub(crate) fn member_of<'a>(
    map: &'a mut Map<String, Value>,
    key: &str,
) -> &'a mut Map<String, Value> {
    map_of(map.entry(key).or_insert(Value::Null))
}

fn map_of(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    match value {
        Value::Object(map) => map,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            unreachable!("the value was made a map above")
        }
    }
}

pub(crate) fn set_text(map: &mut Map<String, Value>, key: &str, value: &str) {
    map.insert(key.to_owned(), Value::String(value.to_owned()));
}
