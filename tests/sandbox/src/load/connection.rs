//! The generator's connections: one request at a time on each, kept or not. Counts nothing.

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::{FailureKind, KeepAlive, LoadPlan};

/// Idle connections to one server, and the request that is sent on them.
pub(super) struct Connections {
    authority: (String, u16),
    request: Request<Empty<Bytes>>,
    keep_alive: KeepAlive,
    version_header: header::HeaderName,
    idle: Mutex<Vec<SendRequest<Empty<Bytes>>>>,
}

/// A complete answer.
pub(super) struct Answered {
    pub(super) status: StatusCode,
    pub(super) version: Option<String>,
}

type Failed = (FailureKind, String);

impl Connections {
    pub(super) fn new(plan: &LoadPlan) -> Self {
        let host = plan.uri.host().unwrap_or_default().to_owned();
        let port = plan.uri.port_u16().unwrap_or(80);
        let path = plan.uri.path_and_query().map_or("/", |path| path.as_str());
        let mut request = Request::new(Empty::new());
        // The path was part of an address: it parses again.
        *request.uri_mut() = path.parse().unwrap_or_default();
        *request.headers_mut() = plan.headers.clone();
        if !plan.headers.contains_key(header::HOST)
            && let Ok(value) = format!("{host}:{port}").parse()
        {
            request.headers_mut().insert(header::HOST, value);
        }
        if plan.keep_alive == KeepAlive::Off {
            let close = header::HeaderValue::from_static("close");
            request.headers_mut().insert(header::CONNECTION, close);
        }
        Self {
            authority: (host, port),
            request,
            keep_alive: plan.keep_alive,
            version_header: plan.version_header.clone(),
            idle: Mutex::new(Vec::new()),
        }
    }

    /// Sends the request and reads the whole answer. Dropping the future closes its connection.
    pub(super) async fn exchange(&self) -> Result<Answered, Failed> {
        let mut request = self.request.clone();
        let (mut sender, sent, is_reused) = loop {
            let (mut sender, is_reused) = match self.take_idle() {
                Some(sender) => (sender, true),
                None => (self.connect().await?, false),
            };
            let mut sent = sender.try_send_request(request).await;
            // A server may close a connection that rests. What had not left yet goes on the next one.
            let unsent = sent.as_mut().err().and_then(TrySendError::take_message);
            match unsent.filter(|_| is_reused) {
                Some(unsent) => request = unsent,
                None => break (sender, sent, is_reused),
            }
        };
        let explain = |error: hyper::Error| {
            let reused = if is_reused {
                " on a kept connection"
            } else {
                ""
            };
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
            let detail = format!("{error}{}{reused}", cause.unwrap_or_default());
            let is_broken =
                error.is_incomplete_message() || error.is_closed() || error.is_canceled();
            let is_io = std::error::Error::source(&error).is_some_and(|e| e.is::<std::io::Error>());
            let kind = if is_broken || is_io {
                FailureKind::ConnectionBroken
            } else {
                FailureKind::Protocol
            };
            (kind, detail)
        };
        let response = sent.map_err(|error| explain(error.into_error()))?;
        let (head, body) = response.into_parts();
        body.collect().await.map_err(explain)?;
        if self.keep_alive == KeepAlive::On && sender.ready().await.is_ok() {
            self.idle
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(sender);
        }
        let version = head.headers.get(&self.version_header);
        Ok(Answered {
            status: head.status,
            version: version.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()),
        })
    }

    /// The connection used last that the server has not closed.
    fn take_idle(&self) -> Option<SendRequest<Empty<Bytes>>> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(sender) = idle.pop() {
            if sender.is_ready() {
                return Some(sender);
            }
        }
        None
    }

    async fn connect(&self) -> Result<SendRequest<Empty<Bytes>>, Failed> {
        let (host, port) = (self.authority.0.as_str(), self.authority.1);
        let failed = |error: &dyn std::fmt::Display| (FailureKind::Connect, error.to_string());
        let stream = TcpStream::connect((host, port))
            .await
            .map_err(|error| failed(&error))?;
        let _ = stream.set_nodelay(true);
        let handshake = http1::handshake(TokioIo::new(stream)).await;
        let (sender, connection) = handshake.map_err(|error| failed(&error))?;
        // It ends with its sender, or with the server; errors reach the sender.
        tokio::spawn(connection);
        Ok(sender)
    }
}
