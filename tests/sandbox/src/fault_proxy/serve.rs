//! The proxy's connections: each request gets its fault or goes on to the API server.

use std::{convert::Infallible, io, sync::Arc};

use bytes::Bytes;
use http::{
    HeaderValue, Request, Response, StatusCode,
    header::{CONTENT_TYPE, RETRY_AFTER},
};
use http_body_util::{BodyExt as _, Full, combinators::BoxBody};
use hyper::{body::Incoming, client, server, service::service_fn, upgrade};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use serde_json::json;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::{Fault, SeenRequest, Shared, locked};
use crate::instance::NODE_ADDRESS;

/// The API server's port.
const API_SERVER_PORT: u16 = 6443;

/// Accepts connections until its task ends.
pub(super) async fn accept(listener: TcpListener, tls: TlsAcceptor, shared: Arc<Shared>) {
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
        Some(Fault::Late) => {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
            locked(&shared.late).push(Request::from_parts(parts, Full::new(body)));
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

/// Sends a request whose sender was cut off, and reads the answer to its end: only then has the
/// server surely done its work.
pub(super) async fn deliver(
    request: Request<Full<Bytes>>,
    shared: &Shared,
) -> io::Result<StatusCode> {
    let answer = forward(request, shared).await?;
    let status = answer.status();
    let _ = answer.into_body().collect().await;
    Ok(status)
}

/// Sends a request on and its answer back. An upgrade (exec, port-forward) becomes a tunnel.
async fn forward<B>(mut request: Request<B>, shared: &Shared) -> io::Result<Response<Body>>
where
    B: hyper::body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
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
