//! Kubeconfigs: what we take from the one that a cloud gives, and the one that we write.
//! It refuses to know how a cluster was found, and to take over a command that somebody else chose.

mod answer;
mod document;

pub(crate) use answer::{Answer, Credential, InvalidAnswer};
pub(crate) use document::{ClientCertificate, Cluster, PluginCall, User, document};
