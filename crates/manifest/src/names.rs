//! The labels and annotations that mark whose an object is and which slot it belongs to.
//! This module owns their spelling for manifests; it knows nothing of who writes them.

/// Label on every object of an application; the value is the application's name.
pub const APPLICATION: &str = "switchyard.dev/application";
/// Label on slotted objects, on their pods and in their selectors; `blue` or `green`.
pub const SLOT: &str = "switchyard.dev/slot";
/// Annotation on a slotted object: its name in the manifest, without the slot's suffix.
pub const BASE_NAME: &str = "switchyard.dev/base-name";
/// Annotation read from manifests: `front`, `after-switch` or `per-slot`.
pub const ROLE: &str = "switchyard.dev/role";
/// Annotation on slotted pods: digest of the ConfigMaps that they read, so that a changed
/// ConfigMap reaches pods that already run.
pub const CONFIG_DIGEST: &str = "switchyard.dev/config-digest";
/// Annotation on a slotted HorizontalPodAutoscaler whose `minReplicas` was raised for a switch:
/// the value that the manifest asked for, to be restored afterwards.
pub const MIN_REPLICAS: &str = "switchyard.dev/min-replicas";
/// Annotation written by whoever holds the application's lease; rises with every holder.
pub const FENCE: &str = "switchyard.dev/fence";
/// Annotation that is changed to give an object another version, so that no late write is carried out.
pub const SEAL: &str = "switchyard.dev/seal";
/// Label that the Deployment controller puts on the pods of one ReplicaSet.
pub const POD_TEMPLATE_HASH: &str = "pod-template-hash";
