//! The kubeconfig that we write: several clusters, each with a user of its own.
//! JSON, which every reader of YAML reads; pure.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use switchyard_http::DisplaySafeUrl;
use switchyard_runner::Secret;

/// One cluster, and who we are to it. The context has the cluster's name.
#[derive(Debug, Clone)]
pub(crate) struct Cluster {
    pub(crate) name: String,
    pub(crate) server: DisplaySafeUrl,
    /// PEM text; without it, the system's own authorities count.
    pub(crate) authority: Option<String>,
    pub(crate) user: User,
}

/// How a client becomes somebody to the cluster.
#[derive(Debug, Clone)]
pub(crate) enum User {
    /// By asking our exec plugin.
    Plugin(PluginCall),
    /// By a certificate.
    Certificate(ClientCertificate),
}

/// How our exec plugin is started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PluginCall {
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<String>,
}

/// A certificate with its key, PEM texts.
#[derive(Debug, Clone)]
pub(crate) struct ClientCertificate {
    pub(crate) certificate: String,
    pub(crate) key: Secret,
}

/// Version of the plugin interface that the kubeconfig asks for. Every kubectl and helm that is still
/// maintained knows it; a client that asks for the older one is answered in that.
const EXEC_VERSION: &str = "client.authentication.k8s.io/v1";

/// The text of a kubeconfig whose current context is the first cluster's.
pub(crate) fn document(clusters: &[Cluster]) -> String {
    let named = |key: &str, value: fn(&Cluster) -> Value| -> Vec<Value> {
        let entries = clusters.iter();
        entries
            .map(|cluster| json!({ "name": cluster.name, key: value(cluster) }))
            .collect()
    };
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": clusters.first().map_or("", |cluster| cluster.name.as_str()),
        "clusters": named("cluster", cluster_entry),
        "contexts": named("context", |cluster| json!({ "cluster": cluster.name, "user": cluster.name })),
        "users": named("user", user_entry),
    });
    format!("{config:#}\n")
}

fn cluster_entry(cluster: &Cluster) -> Value {
    let mut entry = json!({ "server": cluster.server.expose().as_str().trim_end_matches('/') });
    if let Some(authority) = &cluster.authority {
        entry["certificate-authority-data"] = STANDARD.encode(authority).into();
    }
    entry
}

fn user_entry(cluster: &Cluster) -> Value {
    match &cluster.user {
        User::Plugin(call) => json!({ "exec": {
            "apiVersion": EXEC_VERSION,
            "command": call.program,
            "args": call.arguments,
            "interactiveMode": "Never",
            "provideClusterInfo": false,
        }}),
        User::Certificate(certificate) => json!({
            "client-certificate-data": STANDARD.encode(&certificate.certificate),
            "client-key-data": STANDARD.encode(certificate.key.expose()),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(name: &str) -> Cluster {
        Cluster {
            name: name.to_owned(),
            server: DisplaySafeUrl::parse("https://10.10.0.1:6443").unwrap(),
            authority: Some("-----BEGIN CERTIFICATE-----".to_owned()),
            user: User::Plugin(PluginCall {
                program: "/opt/switchyard/oidc-login".into(),
                arguments: vec!["credential".to_owned(), "azure".to_owned()],
            }),
        }
    }

    #[test]
    fn every_cluster_has_a_context_of_its_name_and_the_first_is_current() {
        let text = document(&[cluster("eu"), cluster("us")]);
        insta::assert_snapshot!(text);
    }
}
