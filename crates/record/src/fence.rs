//! The fence: a number that only grows, raised by every process that takes the lease.
//!
//! Written as an annotation on every object that may be mutated, it changes the object's
//! resourceVersion, so that the conditional write of an older process fails.

use kube::api::{
    Api, ApiResource, DynamicObject, GroupVersionKind, ObjectMeta, Patch, PatchParams, TypeMeta,
};
use serde_json::{Value, json};
use switchyard_cluster::{FIELD_MANAGER, names};
use thiserror::Error;

use crate::error::{RecordError, Result};
use crate::journal::ObjectRef;
use crate::store::{api_error, no_answer, within};

/// Annotation that holds the fence of the latest process that may write the object.
pub const FENCE_ANNOTATION: &str = names::FENCE;
/// How often a raise is tried again after somebody else wrote the object in between.
const RAISE_ATTEMPTS: u32 = 5;

/// An object that belongs to a newer process.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{object} has fence {seen}, this process has {ours}: a newer process has taken over")]
pub struct StaleHolder {
    /// The object.
    pub object: String,
    /// The fence on it.
    pub seen: u64,
    /// The fence of this process.
    pub ours: u64,
}

/// The fence on an object; nothing when there is none, or one that is no number.
#[must_use]
pub fn fence_of(metadata: &ObjectMeta) -> Option<u64> {
    metadata
        .annotations
        .as_ref()?
        .get(FENCE_ANNOTATION)?
        .parse()
        .ok()
}

/// Checks that no newer process has put its fence on an object.
///
/// # Errors
/// The object's fence is greater than `ours`.
pub fn check_fence(
    object: &ObjectRef,
    metadata: &ObjectMeta,
    ours: u64,
) -> std::result::Result<(), StaleHolder> {
    match fence_of(metadata) {
        Some(seen) if seen > ours => Err(StaleHolder {
            object: object.to_string(),
            seen,
            ours,
        }),
        Some(_) | None => Ok(()),
    }
}

/// The merge patch that puts a fence on an object as it was read, and on no other state of it.
#[must_use]
pub fn fence_patch(resource_version: &str, fence: u64) -> Value {
    json!({
        "metadata": {
            "resourceVersion": resource_version,
            "annotations": { FENCE_ANNOTATION: fence.to_string() },
        }
    })
}

/// What raising the fence on an object has shown.
#[derive(Clone, Debug)]
pub enum Raised {
    /// The object as it is now, under our fence.
    Under(Box<DynamicObject>),
    /// There is no such object.
    Absent,
}

/// Puts a fence on an object and returns it as it is from then on.
///
/// # Errors
/// The object belongs to a newer process, or the API server fails or refuses.
pub async fn raise_fence(client: &kube::Client, object: &ObjectRef, fence: u64) -> Result<Raised> {
    let api = dynamic_api(client, object);
    let name = object.to_string();
    for _attempt in 0..RAISE_ATTEMPTS {
        let live = match within(api.get_opt(&object.name)).await {
            Some(Ok(Some(live))) => live,
            Some(Ok(None)) => return Ok(Raised::Absent),
            Some(Err(error)) => return Err(api_error("read", &name, error)),
            None => return Err(no_answer("read", &name)),
        };
        check_fence(object, &live.metadata, fence)?;
        if fence_of(&live.metadata) == Some(fence) {
            return Ok(Raised::Under(Box::new(live)));
        }
        let version = live
            .metadata
            .resource_version
            .as_deref()
            .unwrap_or_default();
        let patch = fence_patch(version, fence);
        let params = PatchParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let patch = Patch::Merge(&patch);
        match within(api.patch(&object.name, &params, &patch)).await {
            Some(Ok(live)) => return Ok(Raised::Under(Box::new(live))),
            Some(Err(kube::Error::Api(status))) if status.code == 409 => {}
            Some(Err(error)) => return Err(api_error("raise the fence on", &name, error)),
            None => return Err(no_answer("raise the fence on", &name)),
        }
    }
    Err(RecordError::Changed {
        object: name,
        writer: "another writer, again and again,".to_owned(),
    })
}

fn dynamic_api(client: &kube::Client, object: &ObjectRef) -> Api<DynamicObject> {
    let types = TypeMeta {
        api_version: object.api_version.clone(),
        kind: object.kind.clone(),
    };
    // A group version of more than two parts cannot be read; the API server then says so.
    let kind = GroupVersionKind::try_from(types)
        .unwrap_or_else(|_| GroupVersionKind::gvk("", &object.api_version, &object.kind));
    let resource = ApiResource::from_gvk(&kind);
    match &object.namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn fenced(value: &str) -> ObjectMeta {
        ObjectMeta {
            annotations: Some(BTreeMap::from([(
                FENCE_ANNOTATION.to_owned(),
                value.to_owned(),
            )])),
            ..ObjectMeta::default()
        }
    }

    fn check(metadata: &ObjectMeta, ours: u64) -> std::result::Result<(), StaleHolder> {
        check_fence(
            &ObjectRef::namespaced("v1", "Service", "shop", "web"),
            metadata,
            ours,
        )
    }

    #[test]
    fn an_object_of_a_newer_process_stops_an_older_one() {
        assert_eq!(check(&fenced("7"), 7), Ok(()));
        assert_eq!(check(&fenced("6"), 7), Ok(()));
        assert_eq!(check(&ObjectMeta::default(), 7), Ok(()));
        assert_eq!(
            check(&fenced("8"), 7).unwrap_err().to_string(),
            "Service `shop/web` has fence 8, this process has 7: a newer process has taken over"
        );
    }

    #[test]
    fn a_fence_is_put_on_the_state_that_was_read_only() {
        assert_eq!(
            fence_patch("41", 7),
            json!({"metadata": {"resourceVersion": "41", "annotations": {"switchyard.dev/fence": "7"}}})
        );
    }
}
