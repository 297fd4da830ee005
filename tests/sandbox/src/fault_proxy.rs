//! A TLS proxy in front of the API server that fails on request: it answers 429, cuts, delays,
//! hangs, or drops an answer after the server has already acted. Knows nothing of objects.

use std::{
    convert::Infallible,
    fmt, io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, Response, StatusCode,
    header::{CONTENT_TYPE, RETRY_AFTER},
};
use http_body_util::{BodyExt as _, Full, combinators::BoxBody};
use hyper::{body::Incoming, client, server, service::service_fn, upgrade};
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
};
use serde_json::json;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::{
    authority::{Authority, Purpose, node_names},
    error::{Context as _, Result, read},
    http_client::trusting,
    instance::NODE_ADDRESS,
    sandbox::Sandbox,
};

/// The API server's port.
const API_SERVER_PORT: u16 = 6443;

/// What happens to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Answered with 429 and, if given, `Retry-After` in seconds. The server never sees it.
    TooManyRequests {
        /// The header's value.
        retry_after: Option<u32>,
    },
    /// Answered with this status and a Kubernetes `Status` object. The server never sees it.
    Status(StatusCode),
    /// The connection closes without an answer. The server never sees the request.
    CutBefore,
    /// The server gets the request and acts; the connection closes instead of its answer: what a
    /// time-out after a write looks like.
    CutAfter,
    /// The request reaches the server later.
    Delay(Duration),
    /// Never answered; the server never sees it.
    Hang,
}

/// Which requests get a fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FaultRule {
    method: Option<Method>,
    path: String,
    fault: Fault,
    remaining: Option<u32>,
}

impl FaultRule {
    /// The fault for every request, until the rules are cleared.
    #[must_use]
    pub fn every(fault: Fault) -> Self {
        Self {
            method: None,
            path: String::new(),
            fault,
            remaining: None,
        }
    }

    /// Only requests with this method.
    #[must_use]
    pub fn method(mut self, method: Method) -> Self {
        self.method = Some(method);
        self
    }

    /// Only requests whose path and query contain this text, e.g. `/services/` or `watch=true`.
    #[must_use]
    pub fn path(mut self, part: impl Into<String>) -> Self {
        self.path = part.into();
        self
    }

    /// Only the next so many matching requests.
    #[must_use]
    pub fn times(mut self, count: u32) -> Self {
        self.remaining = Some(count);
        self
    }

    fn matches(&self, method: &Method, path: &str) -> bool {
        self.remaining != Some(0)
            && self.method.as_ref().is_none_or(|wanted| wanted == method)
            && path.contains(&self.path)
    }
}

/// One request that came to the proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenRequest {
    /// The method.
    pub method: Method,
    /// Path and query.
    pub path: String,
    /// The fault that it got.
    pub fault: Option<Fault>,
}

/// A running proxy. It ends when it is dropped, and its connections with it.
#[derive(Debug)]
pub struct FaultProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: JoinHandle<()>,
}

struct Shared {
    rules: Mutex<Vec<FaultRule>>,
    seen: Mutex<Vec<SeenRequest>>,
    /// Changes whenever all open connections have to be cut.
    generation: watch::Sender<u64>,
    reachable: watch::Sender<bool>,
    upstream: Arc<ClientConfig>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("rules", &self.rules)
            .finish_non_exhaustive()
    }
}

impl FaultProxy {
    /// Starts a proxy on a free port of the loopback, without faults.
    ///
    /// # Errors
    /// No certificate, or no port.
    pub async fn start(sandbox: &Sandbox) -> Result<Self> {
        sandbox.require_own_cluster("a fault proxy")?;
        let tls = TlsAcceptor::from(Arc::new(server_config(sandbox)?));
        let listener = TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.context(|| "cannot open a port")?;
        let address = listener
            .local_addr()
            .context(|| "the port has no address")?;
        let shared = Arc::new(Shared {
            rules: Mutex::default(),
            seen: Mutex::default(),
            generation: watch::Sender::new(0),
            reachable: watch::Sender::new(true),
            upstream: trusting(&read(sandbox.ca_certificate())?)?,
        });
        let acceptor = tokio::spawn(accept(listener, tls, shared.clone()));
        Ok(Self {
            address,
            shared,
            acceptor,
        })
    }

    /// The address of the proxy as an API server.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// Adds a rule. The first rule that matches a request decides.
    pub fn inject(&self, rule: FaultRule) {
        locked(&self.shared.rules).push(rule);
    }

    /// Removes all rules. Requests that hang go on hanging.
    pub fn clear(&self) {
        locked(&self.shared.rules).clear();
    }

    /// Cuts every open connection, watches included. New ones are served.
    pub fn cut_connections(&self) {
        self.shared
            .generation
            .send_modify(|generation| *generation += 1);
    }

    /// Cuts every connection and closes new ones as soon as they come, until
    /// [`FaultProxy::go_online`].
    pub fn go_offline(&self) {
        self.shared.reachable.send_replace(false);
        self.cut_connections();
    }

    /// Serves again.
    pub fn go_online(&self) {
        self.shared.reachable.send_replace(true);
    }

    /// All requests so far, in the order in which they came.
    #[must_use]
    pub fn requests(&self) -> Vec<SeenRequest> {
        locked(&self.shared.seen).clone()
    }

    /// Forgets the requests so far.
    pub fn forget_requests(&self) {
        locked(&self.shared.seen).clear();
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.acceptor.abort();
        self.cut_connections();
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn server_config(sandbox: &Sandbox) -> Result<ServerConfig> {
    let authority = Authority::load_or_create(sandbox.layout())?;
    let identity = authority.issue("fault-proxy", &Purpose::Server(node_names()))?;
    let certificate = CertificateDer::from_pem_slice(identity.certificate.as_bytes());
    let certificate = certificate.context(|| "cannot read the proxy's certificate")?;
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes());
    let key = key.context(|| "cannot read the proxy's key")?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context(|| "no TLS version is left")?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .context(|| "cannot use the proxy's certificate")?;
    // One request after the other on a connection: a cut then hits exactly one.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

async fn accept(listener: TcpListener, tls: TlsAcceptor, shared: Arc<Shared>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        if *shared.reachable.borrow() {
            tokio::spawn(serve(stream, tls.clone(), shared.clone()));
        }
    }
}

/// Serves one connection until it ends or is cut.
async fn serve(stream: TcpStream, tls: TlsAcceptor, shared: Arc<Shared>) {
    let mut generation = shared.generation.subscribe();
    let serving = async {
        let _ = stream.set_nodelay(true);
        let Ok(stream) = tls.accept(stream).await else {
            return;
        };
        let shared = shared.clone();
        let service = service_fn(move |request| handle(request, shared.clone()));
        let connection = server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        // Its error is the cut that was ordered, or the client's going away.
        let _ = connection.await;
    };
    tokio::select! {
        () = serving => {}
        _ = generation.changed() => {}
    }
}

type Body = BoxBody<Bytes, hyper::Error>;

/// An ordered cut, or an upstream that failed: both end the connection without an answer.
async fn handle(request: Request<Incoming>, shared: Arc<Shared>) -> io::Result<Response<Body>> {
    let fault = decide(&request, &shared);
    match fault {
        None => forward(request, &shared).await,
        Some(Fault::TooManyRequests { retry_after }) => {
            let mut answer = refusal(StatusCode::TOO_MANY_REQUESTS);
            if let Some(seconds) = retry_after {
                answer
                    .headers_mut()
                    .insert(RETRY_AFTER, HeaderValue::from(seconds));
            }
            Ok(answer)
        }
        Some(Fault::Status(status)) => Ok(refusal(status)),
        Some(Fault::CutBefore) => Err(io::ErrorKind::ConnectionAborted.into()),
        Some(Fault::CutAfter) => {
            let answer = forward(request, &shared).await?;
            // Read to the end: only then has the server surely done its work.
            let _ = answer.into_body().collect().await;
            Err(io::ErrorKind::ConnectionAborted.into())
        }
        Some(Fault::Delay(delay)) => {
            tokio::time::sleep(delay).await;
            forward(request, &shared).await
        }
        Some(Fault::Hang) => std::future::pending().await,
    }
}

/// Finds the fault of a request, uses one of its rule's times, and records the request.
fn decide(request: &Request<Incoming>, shared: &Shared) -> Option<Fault> {
    let path = request
        .uri()
        .path_and_query()
        .map_or("/", |path| path.as_str());
    let mut rules = locked(&shared.rules);
    let rule = rules
        .iter_mut()
        .find(|rule| rule.matches(request.method(), path));
    let fault = rule.map(|rule| {
        rule.remaining = rule.remaining.map(|count| count - 1);
        rule.fault.clone()
    });
    locked(&shared.seen).push(SeenRequest {
        method: request.method().clone(),
        path: path.to_owned(),
        fault: fault.clone(),
    });
    fault
}

/// A refusal in the form that the API server gives it.
fn refusal(status: StatusCode) -> Response<Body> {
    let reason = match status {
        StatusCode::TOO_MANY_REQUESTS => "TooManyRequests",
        StatusCode::INTERNAL_SERVER_ERROR => "InternalError",
        StatusCode::SERVICE_UNAVAILABLE => "ServiceUnavailable",
        StatusCode::FORBIDDEN => "Forbidden",
        StatusCode::UNAUTHORIZED => "Unauthorized",
        StatusCode::CONFLICT => "Conflict",
        _ => "Unknown",
    };
    let object = json!({
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": format!("{status}, ordered by a test"),
        "reason": reason,
        "code": status.as_u16(),
    });
    let body = Full::new(Bytes::from(object.to_string()));
    let mut response = Response::new(body.map_err(|never: Infallible| match never {}).boxed());
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

/// Sends a request on and its answer back. An upgrade (exec, port-forward) becomes a tunnel.
async fn forward(mut request: Request<Incoming>, shared: &Shared) -> io::Result<Response<Body>> {
    let stream = TcpStream::connect((NODE_ADDRESS, API_SERVER_PORT)).await?;
    let _ = stream.set_nodelay(true);
    let name = ServerName::try_from(NODE_ADDRESS).map_err(io::Error::other)?;
    let stream = TlsConnector::from(shared.upstream.clone())
        .connect(name, stream)
        .await?;
    let handshake = client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(io::Error::other)?;
    tokio::spawn(connection.with_upgrades());
    let downstream = upgrade::on(&mut request);
    let mut response = sender
        .send_request(request)
        .await
        .map_err(io::Error::other)?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let upstream = upgrade::on(&mut response);
        tokio::spawn(tunnel(downstream, upstream, shared.generation.subscribe()));
    }
    Ok(response.map(|body| body.boxed()))
}

async fn tunnel(
    downstream: upgrade::OnUpgrade,
    upstream: upgrade::OnUpgrade,
    mut generation: watch::Receiver<u64>,
) {
    let copying = async {
        let (Ok(downstream), Ok(upstream)) = tokio::join!(downstream, upstream) else {
            return;
        };
        let (mut downstream, mut upstream) = (TokioIo::new(downstream), TokioIo::new(upstream));
        let _ = tokio::io::copy_bidirectional(&mut downstream, &mut upstream).await;
    };
    tokio::select! {
        () = copying => {}
        _ = generation.changed() => {}
    }
}
