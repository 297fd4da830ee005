//! One stream to a port of a pod, and one HTTP request over it.
//! It refuses to choose the pod.

use std::{pin::Pin, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use kube::api::Portforwarder;
use tokio::io::DuplexStream;

use super::PodPort;
use crate::{
    connect::Cluster,
    error::{Error, Result},
    operation::{Operation, Verb},
    read::Deadline,
};

/// Most bytes of an answer's body that are kept.
pub const BODY_LIMIT: usize = 1024 * 1024;

/// A stream to a port of a pod.
pub struct PodStream {
    pub(super) stream: DuplexStream,
    pub(super) errors: Pin<Box<dyn Future<Output = Option<String>> + Send>>,
    pub(super) _forwarder: AbortOnDrop,
}

/// Ends the library's task, which would otherwise live as long as the API server keeps the
/// WebSocket open.
pub(super) struct AbortOnDrop(Portforwarder);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Cluster {
    /// Opens a stream to a port of a pod.
    ///
    /// # Errors
    /// [`Error::Forbidden`], [`Error::NotFound`] and those of the connection.
    pub async fn open_stream(&self, pod: &PodPort, deadline: Deadline) -> Result<PodStream> {
        let operation = Operation::on::<Pod>(Verb::Get, self.namespace())
            .named(&pod.pod)
            .subresource("portforward");
        let pods = self.api::<Pod>();
        let ports = [pod.port];
        let mut forwarder = self
            .read(&operation, deadline, || pods.portforward(&pod.pod, &ports))
            .await?;
        let stream = forwarder.take_stream(pod.port);
        let errors = forwarder.take_error(pod.port);
        match (stream, errors) {
            (Some(stream), Some(errors)) => Ok(PodStream {
                stream,
                errors: Box::pin(errors),
                _forwarder: AbortOnDrop(forwarder),
            }),
            (_, _) => Err(Error::PortForward {
                target: pod.to_string(),
                problem: "the stream has no such port".to_owned(),
            }),
        }
    }

    /// Sends one HTTP/1.1 request to a port of a pod and reads at most [`BODY_LIMIT`] bytes of
    /// the answer.
    ///
    /// # Errors
    /// [`Error::PortForward`] with the kubelet's own words, [`Error::TimedOut`] after `limit`,
    /// [`Error::Unreadable`] for answers that are not HTTP or too long.
    pub async fn http_through_pod(
        &self,
        pod: &PodPort,
        request: Request<Full<Bytes>>,
        limit: Duration,
    ) -> Result<Response<Bytes>> {
        let deadline = Deadline::after(limit);
        let what = format!("{} {} of {pod}", request.method(), request.uri().path());
        let timed_out = || Error::TimedOut {
            what: what.clone(),
            after: limit,
        };
        let stream = self.open_stream(pod, deadline).await?;
        let exchange = exchange(stream, request, pod, &what);
        tokio::time::timeout_at(deadline.instant(), exchange)
            .await
            .map_err(|_| timed_out())?
    }
}

async fn exchange(
    stream: PodStream,
    request: Request<Full<Bytes>>,
    pod: &PodPort,
    what: &str,
) -> Result<Response<Bytes>> {
    let PodStream {
        stream,
        mut errors,
        _forwarder,
    } = stream;
    let unreadable = |problem: String| Error::Unreadable {
        what: what.to_owned(),
        problem,
    };
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| unreadable(error.to_string()))?;
    let answer = async {
        let response = sender.send_request(request).await?;
        Ok::<_, hyper::Error>(response)
    };
    let exchange = async {
        let response = answer
            .await
            .map_err(|error| unreadable(error.to_string()))?;
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, BODY_LIMIT).collect().await;
        let body = body.map_err(|error| unreadable(format!("body: {error}")))?;
        Ok(Response::from_parts(parts, body.to_bytes()))
    };
    let mut connection = std::pin::pin!(connection);
    let mut exchange = std::pin::pin!(exchange);
    let mut is_connected = true;
    let mut kubelet_may_speak = true;
    loop {
        tokio::select! {
            biased;
            result = &mut exchange => {
                let Err(error) = result else { return result };
                // The kubelet's own words say more than "connection closed".
                let words = tokio::time::timeout(Duration::from_millis(200), &mut errors).await;
                return match words {
                    Ok(Some(problem)) if kubelet_may_speak => Err(refused(pod, &problem)),
                    Ok(_) | Err(_) => Err(error),
                };
            }
            _ = &mut connection, if is_connected => is_connected = false,
            problem = &mut errors, if kubelet_may_speak => {
                kubelet_may_speak = false;
                if let Some(problem) = problem {
                    return Err(refused(pod, &problem));
                }
            }
        }
    }
}

fn refused(pod: &PodPort, problem: &str) -> Error {
    Error::PortForward {
        target: pod.to_string(),
        problem: problem.trim().to_owned(),
    }
}
