//! The demo applications `api` and `web`: small HTTP servers whose failures are chosen by the
//! environment at start and by a control endpoint while they run.
//!
//! They know nothing of Kubernetes or of switchyard: an image, a port, a health check and a
//! version header are all that a deployment ever sees of them.

pub mod behaviour;
pub mod metrics;
mod routes;
mod server;

pub use routes::App;
pub use server::run;
