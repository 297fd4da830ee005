//! From inputs to a cluster, and from its errors to failures with an exit code.
//! It owns which errors are the user's; it refuses to know what the cluster is used for.

use std::time::Duration;

use switchyard_cluster::{Cluster, ConnectOptions, Error, InClusterEnvironment, ProxyEnvironment};
use switchyard_http::{Client, ClientSettings, ProxySettings};
use switchyard_runner::{Context, DeploymentArgs, Environment, Failure};

/// Connects as the inputs and the environment say; sends nothing yet.
///
/// # Errors
/// The kubeconfig cannot be used.
pub(crate) async fn connect(
    inputs: &DeploymentArgs,
    environment: &Environment,
) -> Result<Cluster, Failure> {
    let either = |lower: &str, upper: &str| {
        let value = environment.get(lower).or_else(|| environment.get(upper));
        value.map(str::to_owned)
    };
    let options = ConnectOptions {
        kubeconfig: inputs.kubeconfig_path(environment),
        context: inputs.context.clone(),
        namespace: inputs.namespace.clone(),
        allow_exec: inputs.allow_exec.to_vec(),
        in_cluster: in_cluster(environment),
        proxy: ProxyEnvironment {
            https_proxy: either("https_proxy", "HTTPS_PROXY"),
            no_proxy: either("no_proxy", "NO_PROXY"),
        },
    };
    Cluster::connect(&options).await.map_err(failure)
}

fn in_cluster(environment: &Environment) -> Option<InClusterEnvironment> {
    Some(InClusterEnvironment {
        host: environment.get("KUBERNETES_SERVICE_HOST")?.to_owned(),
        port: environment.get("KUBERNETES_SERVICE_PORT")?.parse().ok()?,
    })
}

/// The client for URLs outside the API server. One attempt a request: every check counts its own.
///
/// # Errors
/// The machine has no root certificates or a proxy variable is no proxy.
pub(crate) fn http_client(context: &Context, limit: Duration) -> Result<Client, Failure> {
    let mut settings = ClientSettings::new("switchyard-health-wait", env!("CARGO_PKG_VERSION"));
    settings.attempt_timeout = limit;
    settings.total_timeout = limit;
    settings.body_limit = switchyard_cluster::port_forward::BODY_LIMIT;
    let environment = &context.environment;
    settings.proxy = ProxySettings::from_lookup(|name| environment.get(name).map(str::to_owned));
    Client::new(&settings).map_err(Failure::input)
}

/// What an error of the cluster means for the step: 2 when an input is wrong, 3 when the cluster
/// failed or refused.
pub(crate) fn failure(error: Error) -> Failure {
    let hint = error.hint();
    let failure = if error.is_bad_input() || error.is_not_found() {
        Failure::input(error)
    } else {
        Failure::remote(error)
    };
    failure.maybe_hint(hint)
}
