//! The kubeconfig that AKS gives out, with each kind of user that is found in the field.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::ManagedCluster;
use crate::standins::entra::{AKS_SERVER, Cloud, TENANT};

/// The application that kubelogin signs people in with.
const KUBELOGIN_CLIENT: &str = "80faf920-1908-4b52-b5ef-a8e7bedfc67a";

/// The user in a cluster's kubeconfig.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UserKind {
    /// kubelogin as an exec plugin: a cluster with Entra.
    Exec(Cloud),
    /// A client certificate and key (PEM): a cluster with local accounts, whatever format is asked.
    ClientCertificate {
        /// The certificate.
        certificate: String,
        /// The key.
        key: String,
    },
    /// A command that nobody should run, as an exec plugin.
    ForeignExec {
        /// The program.
        command: String,
        /// Its arguments.
        arguments: Vec<String>,
    },
}

/// The kubeconfig as YAML, in AKS's order and layout.
pub(super) fn render(cluster: &ManagedCluster, server: &str) -> String {
    let (name, group) = (&cluster.name, &cluster.resource_group);
    let user = format!("clusterUser_{group}_{name}");
    format!(
        "apiVersion: v1\nclusters:\n- cluster:\n    certificate-authority-data: {ca}\n    server: {server}\n  name: {name}\n\
         contexts:\n- context:\n    cluster: {name}\n    user: {user}\n  name: {name}\ncurrent-context: {name}\n\
         kind: Config\npreferences: {{}}\nusers:\n- name: {user}\n  user:\n{credentials}",
        ca = STANDARD.encode(&cluster.ca),
        credentials = credentials(&cluster.user),
    )
}

fn credentials(user: &UserKind) -> String {
    match user {
        UserKind::ClientCertificate { certificate, key } => format!(
            "    client-certificate-data: {}\n    client-key-data: {}\n",
            STANDARD.encode(certificate),
            STANDARD.encode(key)
        ),
        UserKind::Exec(cloud) => {
            let arguments = [
                "get-token",
                "--environment",
                cloud.environment(),
                "--server-id",
                AKS_SERVER,
                "--client-id",
                KUBELOGIN_CLIENT,
                "--tenant-id",
                TENANT,
                "--login",
                "devicecode",
            ];
            exec("kubelogin", &arguments.map(str::to_owned))
        }
        UserKind::ForeignExec { command, arguments } => exec(command, arguments),
    }
}

fn exec(command: &str, arguments: &[String]) -> String {
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let lines: String = arguments
        .iter()
        .map(|text| format!("      - {}\n", quoted(text)))
        .collect();
    format!(
        "    exec:\n      apiVersion: client.authentication.k8s.io/v1beta1\n      args:\n{lines}      \
         command: {}\n      env: null\n      installHint: \"\\nkubelogin is not installed which is required to connect to AAD enabled cluster.\\n\"\n      \
         interactiveMode: IfAvailable\n      provideClusterInfo: false\n",
        quoted(command)
    )
}
