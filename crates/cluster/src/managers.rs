//! Who wrote what: field managers out of `metadata.managedFields`. Pure.
//! It refuses to judge whether a writer was right to write.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta};
use serde_json::Value;

/// One step from an object to one of its fields.
#[derive(Clone, Debug, PartialEq)]
pub enum FieldStep {
    /// A field of an object or a key of a map: `spec`, `replicas`.
    Field(String),
    /// An item of a list that is keyed by some of its fields, such as `name` of a container.
    Key(serde_json::Map<String, Value>),
    /// An item of a set, by its value.
    Item(Value),
}

impl FieldStep {
    /// A path of plain fields: `fields(["spec", "replicas"])`.
    pub fn fields<'step>(names: impl IntoIterator<Item = &'step str>) -> Vec<Self> {
        let steps = names.into_iter();
        steps.map(|name| Self::Field(name.to_owned())).collect()
    }
}

/// The manager that last wrote the field at `path`, or anything below or above it that the API
/// server treats as one value (an atomic list is owned whole).
///
/// `None` when nobody is on record, which is so for objects written without server-side field
/// tracking.
pub fn manager_of(meta: &ObjectMeta, path: &[FieldStep]) -> Option<String> {
    latest(meta, |entry| {
        entry
            .fields_v1
            .as_ref()
            .is_some_and(|fields| owns(&fields.0, path))
    })
}

/// The manager that last wrote anything in the object's main resource, other than `ourselves`.
///
/// Status writers are left out: a controller's status update is nobody's edit.
pub fn last_writer(meta: &ObjectMeta, ourselves: &str) -> Option<String> {
    latest(meta, |entry| {
        entry.subresource.as_deref().unwrap_or_default().is_empty()
            && entry.manager.as_deref() != Some(ourselves)
    })
}

/// Everybody but `ourselves` who has written the main resource between two readings of it.
///
/// Times in managed fields are whole seconds, so the last of several writers in one second cannot
/// be told; what has changed between two readings can. Who has only lost fields to another writer
/// keeps the time of its last write, and has written nothing.
pub fn writers_between(before: &ObjectMeta, after: &ObjectMeta, ourselves: &str) -> Vec<String> {
    let known = before.managed_fields.as_deref().unwrap_or_default();
    let was_there = |entry: &ManagedFieldsEntry| known.iter().any(|known| covers(known, entry));
    let mut writers: Vec<String> = Vec::new();
    for entry in after.managed_fields.iter().flatten() {
        let Some(manager) = &entry.manager else {
            continue;
        };
        let is_of_status = !entry.subresource.as_deref().unwrap_or_default().is_empty();
        if !is_of_status && manager != ourselves && !was_there(entry) && !writers.contains(manager)
        {
            writers.push(manager.clone());
        }
    }
    writers
}

/// Whether `after` is what `before` was, but for fields that others took over.
fn covers(before: &ManagedFieldsEntry, after: &ManagedFieldsEntry) -> bool {
    let fields = |entry: &ManagedFieldsEntry| {
        let fields = entry.fields_v1.as_ref();
        fields.map_or(Value::Null, |fields| fields.0.clone())
    };
    let without_fields = |entry: &ManagedFieldsEntry| ManagedFieldsEntry {
        fields_v1: None,
        ..entry.clone()
    };
    without_fields(before) == without_fields(after) && holds(&fields(before), &fields(after))
}

/// Whether every field of the set `after` is in the set `before`.
fn holds(before: &Value, after: &Value) -> bool {
    let Some(after) = after.as_object() else {
        return before == after;
    };
    after
        .iter()
        .all(|(key, below)| before.get(key).is_some_and(|before| holds(before, below)))
}

fn latest(meta: &ObjectMeta, wanted: impl Fn(&ManagedFieldsEntry) -> bool) -> Option<String> {
    meta.managed_fields
        .iter()
        .flatten()
        .filter(|entry| wanted(entry))
        .max_by_key(|entry| entry.time.as_ref().map(|time| time.0))
        .and_then(|entry| entry.manager.clone())
}

/// Walks a `fieldsV1` set (`f:field`, `k:{"name":"x"}`, `v:"x"`).
///
/// Ends early at an empty set: the manager owns everything from there down, as one value.
fn owns(fields: &Value, path: &[FieldStep]) -> bool {
    let Some(fields) = fields.as_object() else {
        return false;
    };
    let Some((step, rest)) = path.split_first() else {
        return true;
    };
    let found = fields.iter().find(|(key, _)| matches_step(key, step));
    match found {
        Some((_, below)) if below.as_object().is_some_and(serde_json::Map::is_empty) => true,
        Some((_, below)) => owns(below, rest),
        None => false,
    }
}

fn matches_step(key: &str, step: &FieldStep) -> bool {
    match step {
        FieldStep::Field(name) => key.strip_prefix("f:") == Some(name),
        FieldStep::Key(wanted) => key
            .strip_prefix("k:")
            .and_then(|json| serde_json::from_str::<serde_json::Map<_, _>>(json).ok())
            .is_some_and(|key| key == *wanted),
        FieldStep::Item(wanted) => key
            .strip_prefix("v:")
            .and_then(|json| serde_json::from_str::<Value>(json).ok())
            .is_some_and(|item| item == *wanted),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta() -> ObjectMeta {
        serde_json::from_value(serde_json::json!({
            "managedFields": [
                {"manager": "switchyard", "operation": "Apply", "time": "2026-01-01T10:00:00Z",
                 "fieldsType": "FieldsV1",
                 "fieldsV1": {"f:spec": {"f:rules": {}, "f:template": {"f:spec": {"f:containers":
                    {"k:{\"name\":\"app\"}": {".": {}, "f:image": {}}}}}}}},
                {"manager": "kubectl-edit", "operation": "Update", "time": "2026-01-01T11:00:00Z",
                 "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:replicas": {}}}},
                {"manager": "kube-controller-manager", "operation": "Update", "subresource": "status",
                 "time": "2026-01-01T12:00:00Z", "fieldsType": "FieldsV1",
                 "fieldsV1": {"f:status": {"f:replicas": {}}}}
            ]
        }))
        .unwrap()
    }

    #[test]
    fn a_field_names_its_writer() {
        let path = FieldStep::fields(["spec", "replicas"]);
        assert_eq!(manager_of(&meta(), &path).as_deref(), Some("kubectl-edit"));
        let path = FieldStep::fields(["spec", "paused"]);
        assert_eq!(manager_of(&meta(), &path), None);
    }

    #[test]
    fn an_atomic_list_is_owned_whole() {
        let path = FieldStep::fields(["spec", "rules", "anything", "below"]);
        assert_eq!(manager_of(&meta(), &path).as_deref(), Some("switchyard"));
    }

    #[test]
    fn a_keyed_list_item_is_found_by_its_key() {
        let key = serde_json::json!({"name": "app"});
        let mut path = FieldStep::fields(["spec", "template", "spec", "containers"]);
        path.push(FieldStep::Key(key.as_object().unwrap().clone()));
        path.push(FieldStep::Field("image".to_owned()));
        assert_eq!(manager_of(&meta(), &path).as_deref(), Some("switchyard"));
    }

    #[test]
    fn who_wrote_between_two_readings_is_told_by_what_has_changed() {
        let before = meta();
        let mut after = meta();
        let entries = after.managed_fields.as_mut().unwrap();
        let mut other = entries[1].clone();
        other.manager = Some("autoscaler".to_owned());
        entries.push(other);
        assert_eq!(
            writers_between(&before, &after, "switchyard"),
            ["autoscaler"]
        );
        assert!(writers_between(&before, &before, "switchyard").is_empty());
    }

    #[test]
    fn who_has_only_lost_fields_to_another_writer_wrote_nothing() {
        let before = meta();
        let mut after = meta();
        let entries = after.managed_fields.as_mut().unwrap();
        let mut other = entries[1].clone();
        other.manager = Some("autoscaler".to_owned());
        entries[1].fields_v1.as_mut().unwrap().0 = serde_json::json!({"f:spec": {}});
        entries.push(other);
        let writers = writers_between(&before, &after, "switchyard");
        assert_eq!(writers, ["autoscaler"]);
        // The same second, and a field more: that is a write.
        let mut after = meta();
        let entries = after.managed_fields.as_mut().unwrap();
        entries[1].fields_v1.as_mut().unwrap().0 =
            serde_json::json!({"f:spec": {"f:replicas": {}, "f:paused": {}}});
        let writers = writers_between(&before, &after, "switchyard");
        assert_eq!(writers, ["kubectl-edit"]);
    }

    #[test]
    fn the_last_writer_is_neither_us_nor_a_status_controller() {
        assert_eq!(
            last_writer(&meta(), "switchyard").as_deref(),
            Some("kubectl-edit")
        );
    }
}
