//! The loopback server under every stand-in: it records exchanges and commits faults on demand. It
//! knows HTTP, and nothing of what a service means by it.
//!
//! A process that is not the one which started a stand-in drives it over HTTP below `/_stand-in/`:
//! `GET exchanges`, `GET state`, `POST faults` (a [`FaultRule`]), `POST settings` (what a service lets
//! be set), `POST reset`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;

use super::behind;
use super::body::{CutOrdered, SentBody};
use super::received::Received;
use crate::tls::TlsAuthority;

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// Headers.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// The body.
    #[serde(default)]
    pub body: String,
}

impl Answer {
    /// A JSON answer.
    #[must_use]
    pub fn json(status: u16, document: &Value) -> Self {
        Self::typed(
            status,
            "application/json; charset=utf-8",
            document.to_string(),
        )
    }

    /// A plain text answer.
    #[must_use]
    pub fn text(status: u16, body: impl Into<String>) -> Self {
        Self::typed(status, "text/html", body.into())
    }

    fn typed(status: u16, media_type: &str, body: String) -> Self {
        let answer = Self {
            status,
            headers: BTreeMap::new(),
            body,
        };
        answer.with_header("content-type", media_type)
    }

    /// Adds a header.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.insert(name.to_owned(), value.into());
        self
    }
}

/// How an exchange goes wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// This answer instead of the service's; the service does not see the request.
    Answer(Answer),
    /// The service acts at once, its answer comes this many milliseconds later: to a client with a
    /// shorter time-out an ambiguous end.
    LateAnswer(u64),
    /// The connection is cut, the service does not see the request.
    Cut,
    /// The service acts, then the connection is cut.
    CutAfterActing,
    /// The service acts, then the connection is cut in the middle of its answer's body.
    CutWithin,
}

/// Which exchanges go wrong, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultRule {
    /// Only requests of this method; all when absent.
    #[serde(default)]
    pub method: Option<String>,
    /// Only requests whose path contains this text.
    #[serde(default)]
    pub path: String,
    /// How many of them.
    pub times: u32,
    /// What happens to them.
    pub fault: Fault,
}

impl FaultRule {
    /// A rule for the next `times` requests, whatever they are.
    #[must_use]
    pub fn next(times: u32, fault: Fault) -> Self {
        Self {
            method: None,
            path: String::new(),
            times,
            fault,
        }
    }

    /// The rule for one method only.
    #[must_use]
    pub fn method(mut self, method: &str) -> Self {
        self.method = Some(method.to_owned());
        self
    }

    /// The rule for paths that contain `part` only.
    #[must_use]
    pub fn path(mut self, part: &str) -> Self {
        self.path = part.to_owned();
        self
    }

    fn matches(&self, request: &Received) -> bool {
        self.times > 0
            && self
                .method
                .as_deref()
                .is_none_or(|method| method == request.method)
            && request.path.contains(&self.path)
    }
}

/// A request with the answer it got.
#[derive(Debug, Clone, Serialize)]
pub struct Exchange {
    /// The method.
    pub method: String,
    /// The path without the query.
    pub path: String,
    /// The query's pairs.
    pub query: Vec<(String, String)>,
    /// The request's headers by lower-case name.
    pub headers: BTreeMap<String, String>,
    /// The request's body as text.
    pub body: String,
    /// The status answered; absent where the connection was cut.
    pub status: Option<u16>,
    /// The body answered.
    pub answer: String,
}

impl Exchange {
    /// The request's body as JSON; `null` where it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or(Value::Null)
    }
}

/// What a stand-in does with a request.
pub trait Service: Send + Sync + 'static {
    /// Answers a request, as strictly as the real service.
    fn answer(&self, request: &Received) -> Answer;

    /// What the service holds, for assertions from another process.
    fn state(&self) -> Value;

    /// Changes settings from another process.
    ///
    /// # Errors
    /// What cannot be set.
    fn set(&self, settings: &Value) -> Result<(), String> {
        Err(format!("nothing can be set here: {settings}"))
    }

    /// The socket of the server behind this one that answers a request in its place.
    fn behind(&self, _request: &Received) -> Option<PathBuf> {
        None
    }
}

struct Shared<S> {
    service: S,
    base_url: String,
    exchanges: Mutex<Vec<Exchange>>,
    faults: Mutex<Vec<FaultRule>>,
}

/// A running stand-in. Dropping it closes its socket and ends its thread.
pub struct StandIn<S> {
    shared: Arc<Shared<S>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl<S: Service> StandIn<S> {
    /// Starts a stand-in on a free port of the loopback address.
    ///
    /// # Errors
    /// When no socket or thread can be had.
    pub fn start(service: S) -> std::io::Result<Self> {
        Self::start_at(service, SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    /// Starts a stand-in on an address of the caller's choice, in a thread of its own, so that
    /// synchronous and asynchronous callers use it alike.
    ///
    /// # Errors
    /// When the address cannot be bound, or no thread can be had.
    pub fn start_at(service: S, address: SocketAddr) -> std::io::Result<Self> {
        Self::serve(service, address, None)
    }

    /// Starts a stand-in that speaks TLS, with a certificate of this authority.
    ///
    /// # Errors
    /// As for [`StandIn::start_at`], and when no certificate can be had.
    pub fn start_tls(
        service: S,
        address: SocketAddr,
        authority: &TlsAuthority,
    ) -> std::io::Result<Self> {
        let tls = authority.server("stand-in", address.ip());
        Self::serve(service, address, Some(tls.map_err(std::io::Error::other)?))
    }

    fn serve(
        service: S,
        address: SocketAddr,
        tls: Option<Arc<ServerConfig>>,
    ) -> std::io::Result<Self> {
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let shared = Arc::new(Shared {
            service,
            base_url: format!("{scheme}://{}", listener.local_addr()?),
            exchanges: Mutex::default(),
            faults: Mutex::default(),
        });
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (stop, stopped) = oneshot::channel();
        let served = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("stand-in".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    tokio::select! {
                        () = serve(listener, tls.map(TlsAcceptor::from), served) => {}
                        _ = stopped => {}
                    }
                });
            })?;
        Ok(Self {
            shared,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// `http://ADDRESS:PORT`, or `https://…`, without a slash at its end.
    #[must_use]
    pub fn base_url(&self) -> &str {
        &self.shared.base_url
    }

    /// The service, for its own questions and switches.
    #[must_use]
    pub fn service(&self) -> &S {
        &self.shared.service
    }

    /// Every exchange so far, oldest first.
    #[must_use]
    pub fn exchanges(&self) -> Vec<Exchange> {
        lock(&self.shared.exchanges).clone()
    }

    /// Makes exchanges go wrong; rules are tried in the order they were given.
    pub fn fail(&self, rule: FaultRule) {
        lock(&self.shared.faults).push(rule);
    }
}

impl<S> Drop for StandIn<S> {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the server thread was already printed by it.
            let _ = thread.join();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve<S: Service>(
    listener: std::net::TcpListener,
    tls: Option<TlsAcceptor>,
    shared: Arc<Shared<S>>,
) {
    let Ok(listener) = TcpListener::from_std(listener) else {
        return;
    };
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let (tls, shared) = (tls.clone(), Arc::clone(&shared));
        tokio::spawn(async move {
            match tls {
                None => talk(stream, shared).await,
                Some(tls) => {
                    // A client that does not trust us goes away here.
                    if let Ok(stream) = tls.accept(stream).await {
                        talk(stream, shared).await;
                    }
                }
            }
        });
    }
}

async fn talk<S: Service>(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    shared: Arc<Shared<S>>,
) {
    let handle = service_fn(|request| handle(request, Arc::clone(&shared)));
    // An error is a client that went away, or a cut that was ordered.
    let _ = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), handle)
        .await;
}

async fn handle<S: Service>(
    request: hyper::Request<Incoming>,
    shared: Arc<Shared<S>>,
) -> Result<hyper::Response<SentBody>, CutOrdered> {
    let received = receive(request, &shared.base_url).await;
    if let Some(command) = received.path.strip_prefix("/_stand-in/") {
        return Ok(respond(&control(&shared, command, &received)));
    }
    let fault = take_fault(&shared, &received);
    if fault.is_none()
        && let Some(socket) = shared.service.behind(&received)
    {
        return forward(&shared, received, &socket).await;
    }
    let is_cut_within = fault == Some(Fault::CutWithin);
    let (answer, delay) = match fault {
        Some(Fault::Answer(answer)) => (Some(answer), None),
        Some(Fault::Cut) => (None, None),
        Some(Fault::CutAfterActing) => {
            shared.service.answer(&received);
            (None, None)
        }
        Some(Fault::LateAnswer(milliseconds)) => (
            Some(shared.service.answer(&received)),
            Some(Duration::from_millis(milliseconds)),
        ),
        None | Some(Fault::CutWithin) => (Some(shared.service.answer(&received)), None),
    };
    lock(&shared.exchanges).push(Exchange {
        method: received.method,
        path: received.path,
        query: received.query,
        headers: received.headers,
        body: String::from_utf8_lossy(&received.body).into_owned(),
        status: answer.as_ref().map(|answer| answer.status),
        answer: answer
            .as_ref()
            .map(|answer| answer.body.clone())
            .unwrap_or_default(),
    });
    if let Some(delay) = delay {
        tokio::time::sleep(delay).await;
    }
    let mut response = answer.map(|answer| respond(&answer)).ok_or(CutOrdered)?;
    if is_cut_within {
        response.body_mut().cut_within();
    }
    Ok(response)
}

/// Lets the server behind answer, and records that it did.
async fn forward<S: Service>(
    shared: &Shared<S>,
    received: Received,
    socket: &Path,
) -> Result<hyper::Response<SentBody>, CutOrdered> {
    // A server that cannot be reached cuts the connection, as a broken gateway may.
    let answered = behind::ask(&received, socket).await;
    let response = answered.map_err(|_: std::io::Error| CutOrdered)?;
    lock(&shared.exchanges).push(Exchange {
        method: received.method,
        path: received.path,
        query: received.query,
        headers: received.headers,
        body: String::new(),
        status: Some(response.status().as_u16()),
        answer: String::new(),
    });
    Ok(response.map(SentBody::whole))
}

async fn receive(request: hyper::Request<Incoming>, base_url: &str) -> Received {
    let (parts, body) = request.into_parts();
    let mut headers: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in &parts.headers {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        // A name that is sent several times means a list.
        headers
            .entry(name.as_str().to_owned())
            .and_modify(|list| *list = format!("{list}, {value}"))
            .or_insert(value);
    }
    let query = parts.uri.query().unwrap_or_default();
    Received {
        method: parts.method.to_string(),
        path: parts.uri.path().to_owned(),
        query: url::form_urlencoded::parse(query.as_bytes())
            .into_owned()
            .collect(),
        raw_query: query.to_owned(),
        headers,
        body: body
            .collect()
            .await
            .map(http_body_util::Collected::to_bytes)
            .unwrap_or_default(),
        base_url: base_url.to_owned(),
    }
}

fn take_fault<S>(shared: &Shared<S>, request: &Received) -> Option<Fault> {
    let mut faults = lock(&shared.faults);
    let rule = faults.iter_mut().find(|rule| rule.matches(request))?;
    rule.times -= 1;
    Some(rule.fault.clone())
}

fn control<S: Service>(shared: &Shared<S>, command: &str, request: &Received) -> Answer {
    match (request.method.as_str(), command) {
        ("GET", "exchanges") => Answer::json(200, &json!(*lock(&shared.exchanges))),
        ("GET", "state") => Answer::json(200, &shared.service.state()),
        ("POST", "faults") => match serde_json::from_slice(&request.body) {
            Ok(rule) => {
                lock(&shared.faults).push(rule);
                Answer::json(200, &json!({}))
            }
            Err(cause) => Answer::text(400, format!("not a fault rule: {cause}")),
        },
        ("POST", "settings") => {
            let settings = serde_json::from_slice(&request.body);
            let settings = settings.map_err(|cause| cause.to_string());
            match settings.and_then(|settings| shared.service.set(&settings)) {
                Ok(()) => Answer::json(200, &json!({})),
                Err(cause) => Answer::text(400, cause),
            }
        }
        ("POST", "reset") => {
            lock(&shared.exchanges).clear();
            lock(&shared.faults).clear();
            Answer::json(200, &json!({}))
        }
        _ => Answer::text(404, "exchanges, state, faults, settings, reset"),
    }
}

fn respond(answer: &Answer) -> hyper::Response<SentBody> {
    let mut builder = hyper::Response::builder().status(answer.status);
    for (name, value) in &answer.headers {
        builder = builder.header(name, value);
    }
    let body = SentBody::whole(Bytes::from(answer.body.clone()));
    builder.body(body).unwrap_or_else(|_: http::Error| {
        let mut broken = hyper::Response::new(SentBody::whole(Bytes::new()));
        *broken.status_mut() = hyper::StatusCode::INTERNAL_SERVER_ERROR;
        broken
    })
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::*;

    struct Echo;

    impl Service for Echo {
        fn answer(&self, request: &Received) -> Answer {
            Answer::text(200, request.path.clone())
        }

        fn state(&self) -> Value {
            json!({ "is": "an echo" })
        }
    }

    /// What comes back on a socket; empty where the connection is cut.
    fn ask(base_url: &str, method: &str, path: &str, body: &str) -> String {
        let address = base_url.trim_start_matches("http://");
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        // A connection that is cut may end in an error instead of an end of file.
        let _ = stream.read_to_string(&mut answer);
        answer
    }

    #[test]
    fn exchanges_are_recorded_and_faults_committed_as_often_as_ordered() {
        let echo = StandIn::start(Echo).unwrap();
        echo.fail(FaultRule::next(1, Fault::Cut).method("GET").path("/b"));
        echo.fail(FaultRule::next(1, Fault::Answer(Answer::text(503, "later"))).path("/b"));
        let url = echo.base_url();
        assert!(ask(url, "GET", "/a?x=1", "").ends_with("/a"));
        assert_eq!(ask(url, "GET", "/b", ""), "");
        assert!(ask(url, "GET", "/b", "").starts_with("HTTP/1.1 503"));
        assert!(ask(url, "GET", "/b", "").ends_with("/b"));
        let statuses: Vec<_> = echo
            .exchanges()
            .iter()
            .map(|exchange| exchange.status)
            .collect();
        assert_eq!(statuses, [Some(200), None, Some(503), Some(200)]);
        assert_eq!(
            echo.exchanges()[0].query,
            [("x".to_owned(), "1".to_owned())]
        );
    }

    #[test]
    fn another_process_drives_a_stand_in_over_http() {
        let echo = StandIn::start(Echo).unwrap();
        let url = echo.base_url();
        let rule = json!({ "times": 1, "fault": { "answer": { "status": 418, "body": "tea" } } });
        assert!(
            ask(url, "POST", "/_stand-in/faults", &rule.to_string()).starts_with("HTTP/1.1 200")
        );
        assert!(ask(url, "GET", "/a", "").ends_with("tea"));
        assert!(ask(url, "GET", "/_stand-in/exchanges", "").contains("418"));
        assert!(ask(url, "GET", "/_stand-in/state", "").contains("an echo"));
        assert!(ask(url, "POST", "/_stand-in/faults", "{}").contains("not a fault rule"));
        ask(url, "POST", "/_stand-in/reset", "");
        assert!(echo.exchanges().is_empty());
    }
}
