//! From the inputs that every command about a deployment shares to what they mean: a cluster, the
//! deployment's identity, a session on its record.
//!
//! The one place that knows the runner's inputs, the cluster and the record at once, so that all
//! programs of a chain speak of the same deployment. Refuses to know what any of them does.

mod aftermath;
mod connection;
mod failure;
mod identity;
mod recorder;
mod session;

pub use aftermath::Aftermath;
pub use connection::{Connection, connect};
pub use failure::{cluster_failure, record_failure, resize_failure};
pub use identity::{DEFAULT_ENVIRONMENT, deployment_id};
pub use recorder::Recorder;
pub use session::{actor, open_session, session_options};
