//! The connection to the cluster that the inputs and the environment name.

use std::path::PathBuf;

use switchyard_cluster::{
    Cluster, ConnectOptions, InClusterEnvironment, OwnPlugin, ProxyEnvironment,
};
use switchyard_record::DeploymentId;
use switchyard_runner::{DeploymentArgs, Environment, Failure, program};

use crate::failure::cluster_failure;

/// Name of the cluster in identities when we run inside it and nobody gave another.
const IN_CLUSTER: &str = "in-cluster";

/// A cluster and what it is called.
#[derive(Clone, Debug)]
pub struct Connection {
    /// The cluster, seen from the namespace that the inputs name.
    pub cluster: Cluster,
    /// Its name in the identity of deployments: the input, else the kubeconfig's context.
    pub cluster_name: String,
    /// The kubeconfig that was used; absent inside a cluster. For children that are asked to have it.
    pub kubeconfig: Option<PathBuf>,
}

/// Connects to the cluster that the inputs and the environment name. Sends nothing yet.
///
/// # Errors
/// A failure of kind input when the kubeconfig or the context cannot be used.
pub async fn connect(
    args: &DeploymentArgs,
    environment: &Environment,
) -> Result<Connection, Failure> {
    let kubeconfig = args.kubeconfig_path(environment);
    let options = ConnectOptions {
        kubeconfig: kubeconfig.clone(),
        context: args.context.clone(),
        namespace: args.namespace.clone().or_else(|| namespace_of_id(args)),
        allow_exec: args.allow_exec.to_vec(),
        own_plugin: own_plugin(environment),
        in_cluster: in_cluster(environment),
        proxy: ProxyEnvironment {
            https_proxy: first_of(environment, &["HTTPS_PROXY", "https_proxy"]),
            no_proxy: first_of(environment, &["NO_PROXY", "no_proxy"]),
        },
    };
    let cluster = Cluster::connect(&options).await.map_err(cluster_failure)?;
    Ok(Connection {
        cluster_name: cluster_name(args, &cluster),
        cluster,
        kubeconfig,
    })
}

/// A step that is only told the deployment's identity works where that deployment lives.
fn namespace_of_id(args: &DeploymentArgs) -> Option<String> {
    let id: DeploymentId = args.deployment_id.as_ref()?.parse().ok()?;
    Some(id.namespace().to_owned())
}

fn in_cluster(environment: &Environment) -> Option<InClusterEnvironment> {
    Some(InClusterEnvironment {
        host: environment.get("KUBERNETES_SERVICE_HOST")?.to_owned(),
        port: environment.get("KUBERNETES_SERVICE_PORT")?.parse().ok()?,
    })
}

/// The program whose kubeconfigs need no leave, installed with the running one.
const LOGIN: &str = "oidc-login";

fn own_plugin(environment: &Environment) -> Option<OwnPlugin> {
    Some(OwnPlugin {
        program: program::neighbour(LOGIN)?,
        folder: environment.get("RUNNER_TEMP")?.into(),
    })
}

fn first_of(environment: &Environment, names: &[&str]) -> Option<String> {
    names
        .iter()
        .find_map(|name| environment.get(name))
        .map(str::to_owned)
}

fn cluster_name(args: &DeploymentArgs, cluster: &Cluster) -> String {
    let given = args.cluster.as_deref().or(cluster.context());
    given.unwrap_or(IN_CLUSTER).to_owned()
}
