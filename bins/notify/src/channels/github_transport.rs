//! octocrab's way to GitHub through the one HTTP client of this workspace, so that proxies, extra
//! authorities, limits, waits and redaction hold there, too. It knows no endpoint.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use octocrab::{AuthState, OctoBody, Octocrab, OctocrabBuilder};
use switchyard_http::{Client, DisplaySafeUrl, HeaderValue, Repeat, Request, header};
use switchyard_runner::Secret;

/// Sends octocrab's requests.
#[derive(Clone)]
pub(crate) struct Transport {
    client: Client,
    base: DisplaySafeUrl,
    token: Secret,
    /// The last error, kept because octocrab boxes it without its type.
    last_error: LastError,
}

/// Where a transport leaves what went wrong.
#[derive(Clone, Default)]
pub(crate) struct LastError(Arc<Mutex<Option<switchyard_http::Error>>>);

impl LastError {
    pub(crate) fn take(&self) -> Option<switchyard_http::Error> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn put(&self, error: switchyard_http::Error) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }
}

/// A client for GitHub's REST API at `base`, and where it leaves transport errors. Call inside a
/// runtime: octocrab starts a task.
pub(crate) fn octocrab(
    client: Client,
    base: DisplaySafeUrl,
    token: Secret,
) -> (Octocrab, LastError) {
    let last_error = LastError::default();
    let transport = Transport {
        client,
        base,
        token,
        last_error: last_error.clone(),
    };
    let built = OctocrabBuilder::new_empty()
        .with_service(transport)
        .with_auth(AuthState::None)
        .build();
    match built {
        Ok(octocrab) => (octocrab, last_error),
        Err(never) => match never {},
    }
}

/// The error of a request whose details went into [`LastError`].
#[derive(Debug, thiserror::Error)]
#[error("the request to GitHub failed")]
pub(crate) struct TransportFailed;

impl tower::Service<http::Request<OctoBody>> for Transport {
    type Response = http::Response<Full<Bytes>>;
    type Error = TransportFailed;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<OctoBody>) -> Self::Future {
        let transport = self.clone();
        Box::pin(async move {
            let request = transport.request(request).await?;
            let answer = transport.client.send(&request).await.map_err(|error| {
                transport.last_error.put(error);
                TransportFailed
            })?;
            let mut response = http::Response::new(Full::new(answer.body().clone()));
            *response.status_mut() = answer.status();
            *response.headers_mut() = answer.headers().clone();
            Ok(response)
        })
    }
}

impl Transport {
    async fn request(&self, request: http::Request<OctoBody>) -> Result<Request, TransportFailed> {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        let url = self.base.with_path_and_query(path).ok_or(TransportFailed)?;
        let body = body
            .collect()
            .await
            .map_err(|_| TransportFailed)?
            .to_bytes();
        // GitHub's rate limits answer 403 or 429 before anything is done.
        let repeat = if parts.method.is_idempotent() {
            Repeat::Idempotent
        } else {
            Repeat::WhenRefused
        };
        let accept = HeaderValue::from_static("application/vnd.github+json");
        let mut request = Request::new(parts.method, url).body(body).repeat(repeat);
        for (name, value) in &parts.headers {
            if name != header::CONTENT_LENGTH {
                request = request.header(name.clone(), value.clone());
            }
        }
        Ok(request
            .header(header::ACCEPT, accept)
            .bearer(self.token.expose()))
    }
}
