//! The project's one way to a Kubernetes cluster: client, workloads, rollout status, endpoints,
//! scaling, port-forwards, access checks.
//!
//! It refuses to know GitHub, inputs, outputs, records, traffic providers and the process
//! environment: callers hand over plain data and get typed answers and typed errors.

mod connect;
mod discovery;
mod error;
mod objects;
mod operation;
mod proxy;
mod read;
mod transport;
mod version;

pub mod access;
pub mod endpoints;
pub mod events;
pub mod logs;
pub mod managers;
pub mod names;
pub mod port_forward;
pub mod rollout;
pub mod scale;
pub mod watch;
pub mod workloads;

pub use connect::{Cluster, ConnectOptions, InClusterEnvironment, OwnPlugin};
pub use discovery::DynamicKind;
pub use error::{Error, Result, with_causes};
pub use operation::{Operation, Verb};
pub use proxy::ProxyEnvironment;
pub use read::Deadline;
pub use version::ServerVersion;

/// The field manager under which this project writes.
pub const FIELD_MANAGER: &str = "switchyard";
