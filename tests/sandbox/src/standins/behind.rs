//! Sends a request on to the server behind a stand-in, unchanged, and brings its answer back.

use std::{io, path::Path};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

use super::received::Received;

/// Asks the server behind, which listens on a socket of the file system: no port has to be free for it.
/// It learns by `X-Forwarded-Proto` how the client came.
pub(super) async fn ask(received: &Received, socket: &Path) -> io::Result<hyper::Response<Bytes>> {
    let stream = UnixStream::connect(socket).await?;
    let handshake = http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(io::Error::other)?;
    let connection = tokio::spawn(connection);
    let path = match received.raw_query.as_str() {
        "" => received.path.clone(),
        query => format!("{}?{query}", received.path),
    };
    let mut request = hyper::Request::builder()
        .method(received.method.as_str())
        .uri(path);
    for (name, value) in &received.headers {
        request = request.header(name, value);
    }
    let (scheme, _) = received.base_url.split_once(':').unwrap_or_default();
    let request = request.header("x-forwarded-proto", scheme);
    let request = request.body(Full::new(received.body.clone()));
    let request = request.map_err(io::Error::other)?;
    let response = sender
        .send_request(request)
        .await
        .map_err(io::Error::other)?;
    let (head, body) = response.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    connection.abort();
    Ok(hyper::Response::from_parts(head, body))
}
