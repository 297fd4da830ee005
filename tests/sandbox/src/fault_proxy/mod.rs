//! A TLS proxy in front of the API server that fails on request: it answers 429, cuts, delays,
//! hangs, drops an answer after the server has already acted, or delivers a request long after its
//! sender was cut off. Knows nothing of objects.

mod rule;
mod serve;

use std::{
    fmt,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::Full;
use rustls::ClientConfig;
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};
use tokio_rustls::TlsAcceptor;

pub use rule::{Fault, FaultRule};

use crate::{
    error::{Context as _, Result, read},
    http_client::trusting,
    sandbox::Sandbox,
    tls::TlsAuthority,
};
use serve::{accept, deliver};

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
    /// Requests whose senders were cut off, in the order in which they came.
    late: Mutex<Vec<Request<Full<Bytes>>>>,
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
        let authority = TlsAuthority::of(sandbox.layout())?;
        let tls = authority.server("fault-proxy", Ipv4Addr::LOCALHOST.into())?;
        let tls = TlsAcceptor::from(tls);
        let listener = TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.context(|| "cannot open a port")?;
        let address = listener
            .local_addr()
            .context(|| "the port has no address")?;
        let shared = Arc::new(Shared {
            rules: Mutex::default(),
            seen: Mutex::default(),
            late: Mutex::default(),
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

    /// How many requests are kept back.
    #[must_use]
    pub fn kept_back(&self) -> usize {
        locked(&self.shared.late).len()
    }

    /// Sends the requests that were kept back to the server, one after the other, and returns what
    /// it answered to each.
    ///
    /// # Errors
    /// The server cannot be reached.
    pub async fn deliver(&self) -> Result<Vec<StatusCode>> {
        let late = std::mem::take(&mut *locked(&self.shared.late));
        let mut answers = Vec::new();
        for request in late {
            let answer = deliver(request, &self.shared).await;
            answers.push(answer.context(|| "cannot deliver a request that was kept back")?);
        }
        Ok(answers)
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
