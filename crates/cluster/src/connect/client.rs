//! The client below everything: sockets that notice a dead peer, time limits, no retries.
//! It refuses to know where its configuration comes from.

use std::time::Duration;

use hyper_util::{client::legacy::connect::HttpConnector, rt::TokioExecutor};
use kube::{
    Client, Config,
    client::{Body, ClientBuilder, ConfigExt},
};
use tower::{BoxError, Layer, ServiceExt, util::option_layer};

use crate::{
    error::{Error, Result},
    transport::TransportLayer,
};

/// Time for a TCP connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// Time for one whole answer that is not a stream; also the longest that sent bytes may stay
/// unacknowledged.
const RESPONSE_LIMIT: Duration = Duration::from_secs(30);
/// How often a silent connection is asked whether it lives.
const KEEPALIVE: Duration = Duration::from_secs(10);
/// Time for a credential plugin to print a token.
const CREDENTIAL_LIMIT: Duration = Duration::from_secs(60);
const TRANSPORT: TransportLayer = TransportLayer {
    response_limit: RESPONSE_LIMIT,
};

/// Makes ring the process's crypto provider, unless one is installed already.
///
/// rustls refuses to choose when two are compiled in, so the choice is stated.
pub(super) fn install_crypto_provider() {
    // An error means that somebody installed one before us, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Builds the client; may run a credential plugin that was allowed.
///
/// # Errors
/// TLS data that cannot be used, and a credential that cannot be had.
pub(super) async fn build_client(config: Config) -> Result<Client> {
    let what = format!("prepare the connection to {}", config.cluster_url);
    let runtime = tokio::runtime::Handle::current();
    // A credential plugin blocks.
    let building = tokio::task::spawn_blocking(move || {
        let _inside = runtime.enter();
        match config.proxy_url {
            Some(_) => through_proxy(config),
            None => direct(&config),
        }
    });
    match tokio::time::timeout(CREDENTIAL_LIMIT, building).await {
        Err(_) => Err(Error::TimedOut {
            what: "the kubeconfig's credential plugin".to_owned(),
            after: CREDENTIAL_LIMIT,
        }),
        Ok(Err(panicked)) => Err(Error::Connection {
            what,
            source: Box::new(panicked),
        }),
        Ok(Ok(Err(error))) => Err(client_error(error, &what)),
        Ok(Ok(Ok(client))) => Ok(client),
    }
}

/// A client on a socket of our own. The library's leaves Nagle's algorithm on, which costs every
/// new connection 40 ms (the request waits for a delayed acknowledgement of the handshake), and
/// keeps no dead connection from being waited on for ever.
fn direct(config: &Config) -> kube::Result<Client> {
    let mut socket = HttpConnector::new();
    socket.enforce_http(false);
    socket.set_nodelay(true);
    socket.set_connect_timeout(Some(CONNECT_LIMIT));
    socket.set_keepalive(Some(KEEPALIVE));
    socket.set_keepalive_interval(Some(KEEPALIVE));
    socket.set_keepalive_retries(Some(3));
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(RESPONSE_LIMIT));
    let connector = config.rustls_https_connector_with_connector(socket)?;
    let http = hyper_util::client::legacy::Client::builder(TokioExecutor::new())
        .build::<_, Body>(connector)
        .map_err(BoxError::from);
    let with_headers = config.extra_headers_layer()?.layer(http);
    let with_credential = option_layer(config.auth_layer()?).layer(with_headers);
    let service = config.base_uri_layer().layer(with_credential);
    let service = TRANSPORT.layer(service);
    Ok(Client::new(service, config.default_namespace.clone()))
}

/// The library's own client: it knows how to speak to proxies.
fn through_proxy(mut config: Config) -> kube::Result<Client> {
    // A mutation that is sent twice is a mutation whose outcome nobody knows.
    config.default_retry = false;
    config.connect_timeout = Some(CONNECT_LIMIT);
    config.write_timeout = Some(RESPONSE_LIMIT);
    let builder = ClientBuilder::try_from(config)?;
    Ok(builder.with_layer(&TRANSPORT).build())
}

fn client_error(error: kube::Error, what: &str) -> Error {
    if let kube::Error::RustlsTls(problem) = &error {
        return Error::KubeconfigInvalid {
            path: "TLS data".to_owned(),
            problem: problem.to_string(),
        };
    }
    if let kube::Error::InferKubeconfig(problem) = &error {
        return Error::KubeconfigInvalid {
            path: "credential".to_owned(),
            problem: problem.to_string(),
        };
    }
    Error::from_transport(Box::new(error), what)
}
