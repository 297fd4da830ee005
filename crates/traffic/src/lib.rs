//! Moves traffic between the sides of an application without losing a request: what each provider
//! owns and writes, what proves that a write is in effect, and in which order to go about it.
//!
//! It refuses to know GitHub, inputs and outputs; deployments only as far as the record tells.

pub mod capacity;
pub mod engine;
pub mod envoy;
pub mod envoy_admin;
pub mod evidence;
pub mod ingress_nginx;
pub mod machine;
pub mod metrics;
pub mod probe;
pub mod provider;
pub mod proxies;
pub mod quiet;
pub mod roles;
pub mod routing;
pub mod scene;
pub mod share;
pub mod statistic;
pub mod traefik_api;
