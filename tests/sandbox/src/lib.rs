//! A real single-node Kubernetes in a network namespace of its own: etcd, the control plane,
//! kubelet on containerd, kube-proxy, a registry and Traefik, with demo applications to deploy,
//! load to put on them and faults to order.
//!
//! It knows nothing of the programs under test: they see a kubeconfig and an address, as they
//! would anywhere.

mod authority;
mod components;
mod definitions;
mod description;
mod down;
mod error;
mod foreign;
mod further;
mod http_client;
mod identity;
mod images;
mod instance;
mod istio;
mod kubectl;
mod namespace;
mod network;
mod process;
mod publish;
mod readiness;
mod sandbox;
mod steps;
mod tls;
mod traefik;
mod up;

pub mod cli;
pub mod fault_proxy;
pub mod load;
/// Stand-ins for services that need an account.
pub mod standins;

pub use error::{Result, SandboxError};
pub use further::FurtherSandbox;
pub use http_client::{HttpAnswer, HttpClient};
pub use identity::{AccessEntryGuard, DIRECT_AUDIENCE, EKS_CLUSTER};
pub use instance::{
    FRONT_DOOR_PORT, InstanceName, NODE_ADDRESS, NODE_NAME, SANDBOX_NAMESPACE, User,
};
pub use istio::Istio;
pub use namespace::TestNamespace;
pub use sandbox::{BrokenKubeconfig, KEEP_VARIABLE, SANDBOX_VARIABLE, Sandbox};
pub use tls::TlsAuthority;
pub use traefik::TraefikReplica;
pub use up::Ending;
