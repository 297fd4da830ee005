//! The layer between the Kubernetes client and the wire: no answer may take for ever,
//! `Retry-After` survives, and an API server that has just come back is not taken at its word when
//! it knows nobody. It refuses to know what a request means beyond its URL.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use kube::client::Body;
use thiserror::Error;
use tower::{BoxError, Layer, Service};

/// No answer arrived in time.
#[derive(Debug, Error)]
#[error("no answer within {}s", .after.as_secs())]
pub(crate) struct ResponseTimedOut {
    pub(crate) after: Duration,
}

/// How long after it could not be reached an API server may still answer 401 and 403 to everybody:
/// it serves before it has read accounts and roles.
const RECOVERY: Duration = Duration::from_secs(30);

/// When the API server could not be reached last.
#[derive(Debug, Default)]
struct Outage(Mutex<Option<Instant>>);

impl Outage {
    fn note(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    fn is_recent(&self) -> bool {
        let last = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.is_some_and(|last| last.elapsed() < RECOVERY)
    }
}

/// Puts a time limit on every answer, and on its whole body unless the body is a stream.
///
/// kube has a read time-out on the socket only, which cannot be used: it would also end watches
/// and port-forwards that are rightly silent.
#[derive(Clone, Debug)]
pub(crate) struct TransportLayer {
    pub(crate) response_limit: Duration,
}

impl<S> Layer<S> for TransportLayer {
    type Service = Transport<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Transport {
            inner,
            response_limit: self.response_limit,
            outage: Arc::default(),
        }
    }
}

/// See [`TransportLayer`].
#[derive(Clone, Debug)]
pub(crate) struct Transport<S> {
    inner: S,
    response_limit: Duration,
    outage: Arc<Outage>,
}

impl<S, B> Service<Request<Body>> for Transport<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<UnsyncBoxBody<Bytes, BoxError>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let limit = self.response_limit;
        let is_stream = is_stream(request.uri().query().unwrap_or_default());
        let answer = self.inner.call(request);
        let outage = Arc::clone(&self.outage);
        Box::pin(async move {
            let exchange = async {
                let response = answer.await.map_err(|error| {
                    outage.note();
                    error.into()
                })?;
                if response.status() == StatusCode::SWITCHING_PROTOCOLS
                    || (is_stream && response.status().is_success())
                {
                    return Ok(response.map(|body| body.map_err(Into::into).boxed_unsync()));
                }
                let (parts, body) = response.into_parts();
                let body = body.collect().await.map_err(Into::into)?.to_bytes();
                let mut answer = keep_retry_after(Response::from_parts(parts, body));
                if outage.is_recent() {
                    answer = doubt_a_refusal(answer);
                }
                Ok(answer.map(|body| {
                    Full::from(body)
                        .map_err(|never| match never {})
                        .boxed_unsync()
                }))
            };
            match tokio::time::timeout(limit, exchange).await {
                Ok(result) => result,
                Err(_) => Err(ResponseTimedOut { after: limit }.into()),
            }
        })
    }
}

/// A watch or a followed log: the answer's body has no end.
fn is_stream(query: &str) -> bool {
    query
        .split('&')
        .any(|pair| matches!(pair, "watch=true" | "watch=1" | "follow=true"))
}

/// Moves `Retry-After` from the header into the `Status` body, the only part the client keeps.
fn keep_retry_after(response: Response<Bytes>) -> Response<Bytes> {
    let (parts, body) = response.into_parts();
    let seconds = parts
        .headers
        .get(header::RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.trim().parse::<u32>().ok())
        .filter(|seconds| *seconds > 0);
    let (Some(seconds), true) = (seconds, is_overload(parts.status)) else {
        return Response::from_parts(parts, body);
    };
    let mut status = serde_json::from_slice(&body).unwrap_or_else(|_| {
        serde_json::json!({
            "kind": "Status",
            "apiVersion": "v1",
            "status": "Failure",
            "message": String::from_utf8_lossy(&body).trim(),
            "reason": "TooManyRequests",
            "code": parts.status.as_u16(),
        })
    });
    if let Some(object) = status.as_object_mut() {
        let details = object
            .entry("details")
            .or_insert_with(|| serde_json::json!({}));
        if let Some(details) = details.as_object_mut() {
            details
                .entry("retryAfterSeconds")
                .or_insert_with(|| seconds.into());
        }
    }
    let mut response = Response::from_parts(parts, Bytes::from(status.to_string()));
    response.headers_mut().remove(header::CONTENT_LENGTH);
    response
}

/// Turns "I do not know you" into "not now", which is as true of a mutation: it was not carried out.
fn doubt_a_refusal(response: Response<Bytes>) -> Response<Bytes> {
    let status = response.status();
    if !matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let said = serde_json::from_slice::<serde_json::Value>(&body).unwrap_or_default();
    let said = said.get("message").and_then(serde_json::Value::as_str);
    let said = said.unwrap_or("no reason is given").to_owned();
    let code = StatusCode::SERVICE_UNAVAILABLE;
    let doubted = serde_json::json!({
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "message": format!("it was away and answers {} since: {said}", status.as_u16()),
        "reason": "ServiceUnavailable",
        "code": code.as_u16(),
    });
    parts.status = code;
    parts.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(parts, Bytes::from(doubted.to_string()))
}

fn is_overload(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overloaded(body: &'static str, status: u16) -> kube::core::Status {
        let response = Response::builder()
            .status(status)
            .header("retry-after", "7")
            .body(Bytes::from_static(body.as_bytes()))
            .unwrap();
        serde_json::from_slice(keep_retry_after(response).body()).unwrap()
    }

    #[test]
    fn retry_after_of_a_plain_text_answer_is_kept() {
        let status = overloaded("Too many requests, please try again later.\n", 429);
        assert_eq!(
            crate::error::retry_after(&status),
            Some(Duration::from_secs(7))
        );
        assert_eq!(status.code, 429);
        assert_eq!(status.message, "Too many requests, please try again later.");
    }

    #[test]
    fn retry_after_of_a_status_answer_is_kept() {
        let status = overloaded(
            r#"{"kind":"Status","status":"Failure","code":429,"message":"busy","reason":"TooManyRequests"}"#,
            429,
        );
        assert_eq!(
            crate::error::retry_after(&status),
            Some(Duration::from_secs(7))
        );
        assert_eq!(status.message, "busy");
    }

    #[test]
    fn a_refusal_right_after_an_outage_is_no_verdict() {
        let refusal = r#"{"kind":"Status","code":403,"message":"User \"deployer\" cannot get it"}"#;
        let of = |status: u16| {
            let response = Response::builder().status(status);
            doubt_a_refusal(response.body(Bytes::from(refusal)).unwrap())
        };
        let doubted = of(403);
        assert_eq!(doubted.status(), 503);
        let status: kube::core::Status = serde_json::from_slice(doubted.body()).unwrap();
        assert_eq!(status.code, 503);
        assert_eq!(
            status.message,
            "it was away and answers 403 since: User \"deployer\" cannot get it"
        );
        assert_eq!(of(404).status(), 404);

        let outage = Outage::default();
        assert!(!outage.is_recent());
        outage.note();
        assert!(outage.is_recent());
    }

    #[test]
    fn watches_and_followed_logs_are_streams() {
        assert!(is_stream("watch=true&allowWatchBookmarks=true"));
        assert!(is_stream("&container=app&follow=true"));
        assert!(!is_stream("limit=500"));
        assert!(!is_stream("labelSelector=watch%3Dtrue"));
    }
}
