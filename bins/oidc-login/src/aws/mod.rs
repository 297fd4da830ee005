//! AWS's side of a login: STS, which gives a role's session for GitHub's token, and EKS, which knows the
//! clusters.

mod command;
mod ecr;
mod eks;
mod export;
mod names;
mod process;
mod profile;
mod refusal;
mod session;
mod signing;
mod sts;

pub(crate) use command::run;
pub(crate) use ecr::registry_password;
pub(crate) use names::{
    ClusterName, ProfileName, Region, RoleArn, Service, SessionLength, SessionName,
};
pub(crate) use process::{CredentialProcess, WORD as PROCESS};
pub(crate) use session::cluster_token;
pub(crate) use sts::AUDIENCE;
