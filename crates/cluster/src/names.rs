//! Labels and annotations by which the programs of this project know their objects.
//! It refuses to know who writes which of them and when.

/// Label: the application an object belongs to.
pub const APPLICATION: &str = "switchyard.dev/application";
/// Label on slotted objects and their pods, and key of front selectors: `blue` or `green`.
pub const SLOT: &str = "switchyard.dev/slot";
/// Annotation: the highest fence of a writer; a writer with a lower one has been replaced.
pub const FENCE: &str = "switchyard.dev/fence";
/// Annotation: the deployment that last wrote the object.
pub const DEPLOYMENT: &str = "switchyard.dev/deployment";
/// Annotation that is changed to give an object another version, so that a write that got no answer
/// cannot be carried out late.
pub const SEAL: &str = "switchyard.dev/seal";
/// Annotation: the version that the object runs.
pub const VERSION: &str = "switchyard.dev/version";
/// Annotation: the name of a slotted object without its suffix.
pub const BASE_NAME: &str = "switchyard.dev/base-name";
/// Annotation in manifests: `front`, `after-switch` or `per-slot`.
pub const ROLE: &str = "switchyard.dev/role";
/// Label that Kubernetes gives the pods of one ReplicaSet.
pub const POD_TEMPLATE_HASH: &str = "pod-template-hash";
