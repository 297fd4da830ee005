//! Azure's side of a login: Entra, which gives a token for GitHub's, and Azure Resource Manager, which
//! knows the clusters.

mod aks;
mod cloud;
mod command;
mod entra;
mod refusal;
mod transport;

pub(crate) use aks::ClusterRef;
pub(crate) use cloud::Cloud;
pub(crate) use command::run;
pub(crate) use entra::exchange;
