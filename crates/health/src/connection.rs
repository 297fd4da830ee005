//! The client for URLs, and what an error of the cluster means for a step that only looks.
//! It refuses to know what is asked.

use std::time::Duration;

use switchyard_cluster::Error;
use switchyard_deployment::cluster_failure;
use switchyard_http::{Client, ClientSettings, ProxySettings};
use switchyard_runner::{Context, Failure};

/// The client for URLs outside the API server, as `product`. One attempt a request: every check counts its own.
///
/// # Errors
/// The machine has no root certificates or a proxy variable is no proxy.
pub fn http_client(product: &str, context: &Context, limit: Duration) -> Result<Client, Failure> {
    let mut settings = ClientSettings::new(product, env!("CARGO_PKG_VERSION"));
    settings.attempt_timeout = limit;
    settings.total_timeout = limit;
    settings.body_limit = switchyard_cluster::port_forward::BODY_LIMIT;
    let environment = &context.environment;
    settings.proxy = ProxySettings::from_lookup(|name| environment.get(name).map(str::to_owned));
    Client::new(&settings).map_err(Failure::input)
}

/// The failure that an error of the cluster leads to. What is not there was named by an input.
pub fn failure(error: Error) -> Failure {
    if error.is_not_found() {
        let hint = error.hint();
        return Failure::input(error).maybe_hint(hint);
    }
    cluster_failure(error)
}
