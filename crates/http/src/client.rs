//! The client itself: built once from settings, sends requests until their deadline. It owns TLS
//! roots, redirects and limits; what may be repeated is decided in `repeat`.

use std::path::PathBuf;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Method, StatusCode, header};
use jiff::Timestamp;
use reqwest::redirect::Policy;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tokio::time::Instant;

use crate::error::{BuildError, Error};
use crate::proxy::ProxySettings;
use crate::repeat::{Next, Outcome, next, retry_after};
use crate::request::Request;
use crate::response::Response;
use crate::safe_url::DisplaySafeUrl;

/// Redirects followed for one attempt, as few as a moved repository or a trailing slash needs.
const MOST_REDIRECTS: usize = 5;

/// What a client is built from.
#[derive(Debug, Clone)]
pub struct ClientSettings {
    /// The `User-Agent`, `product/version`.
    pub user_agent: String,
    /// Time to get a connection, TLS included.
    pub connect_timeout: Duration,
    /// Time for one attempt, from the connection to the last byte of the answer.
    pub attempt_timeout: Duration,
    /// Time for a request with all its attempts and waits, where the request names none.
    pub total_timeout: Duration,
    /// The pause before the second attempt; it doubles from then on.
    pub first_pause: Duration,
    /// Largest body read, in bytes.
    pub body_limit: usize,
    /// A PEM file of certificate authorities trusted besides the system's own. (On Linux,
    /// `SSL_CERT_FILE` and `SSL_CERT_DIR` replace the system's own.)
    pub extra_ca: Option<PathBuf>,
    /// PEM text of the only certificate authorities trusted, such as those of one cluster: neither the
    /// system's own nor `extra_ca` count then.
    pub only_ca: Option<String>,
    /// PEM text of a certificate and its private key to show to the server. Never printed.
    pub identity: Option<ClientIdentity>,
    /// The proxies to use.
    pub proxy: ProxySettings,
}

/// A certificate with its private key, as PEM text; its `Debug` shows neither.
#[derive(Clone)]
pub struct ClientIdentity(String);

impl ClientIdentity {
    /// The identity of a certificate (or a chain) and its key, both PEM text.
    #[must_use]
    pub fn new(certificate: &str, key: &str) -> Self {
        Self(format!("{certificate}\n{key}"))
    }
}

impl std::fmt::Debug for ClientIdentity {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("[redacted]")
    }
}

impl ClientSettings {
    /// Settings for `product` in its `version`: 10 s to connect, 30 s an attempt, 60 s in total,
    /// bodies of up to 8 MiB, no proxy.
    #[must_use]
    pub fn new(product: &str, version: &str) -> Self {
        Self {
            user_agent: format!("{product}/{version}"),
            connect_timeout: Duration::from_secs(10),
            attempt_timeout: Duration::from_secs(30),
            total_timeout: Duration::from_secs(60),
            first_pause: Duration::from_millis(500),
            body_limit: 8 * 1024 * 1024,
            extra_ca: None,
            only_ca: None,
            identity: None,
            proxy: ProxySettings::default(),
        }
    }
}

/// An HTTP client. Cheap to clone; clones share their connections.
#[derive(Debug, Clone)]
pub struct Client {
    inner: reqwest::Client,
    attempt_timeout: Duration,
    total_timeout: Duration,
    first_pause: Duration,
    body_limit: usize,
}

impl Client {
    /// Builds the client.
    ///
    /// # Errors
    /// When the CA file or a proxy setting is unusable, or the machine has no root certificates.
    pub fn new(settings: &ClientSettings) -> Result<Self, BuildError> {
        // rustls keeps its provider per process; a second installation fails and is not needed.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = reqwest::Client::builder()
            .user_agent(&settings.user_agent)
            .connect_timeout(settings.connect_timeout)
            .redirect(Policy::none())
            .no_proxy();
        builder = match &settings.only_ca {
            Some(pem) => builder.tls_certs_only(
                certificates(pem.as_bytes()).map_err(|reason| BuildError::OnlyCa { reason })?,
            ),
            None => builder.tls_certs_merge(extra_certificates(settings)?),
        };
        if let Some(ClientIdentity(pem)) = &settings.identity {
            // The cause may name what stands in the key's PEM text.
            let identity = reqwest::Identity::from_pem(pem.as_bytes());
            builder = builder.identity(identity.map_err(|_| BuildError::Identity)?);
        }
        for proxy in settings.proxy.proxies()? {
            builder = builder.proxy(proxy);
        }
        Ok(Self {
            inner: builder
                .build()
                .map_err(|source| BuildError::Tls(source.without_url()))?,
            attempt_timeout: settings.attempt_timeout,
            total_timeout: settings.total_timeout,
            first_pause: settings.first_pause,
            body_limit: settings.body_limit,
        })
    }

    /// Sends a request, again where [`crate::Repeat`] allows it and the deadline leaves time, and returns
    /// the last answer whatever its status.
    ///
    /// # Errors
    /// When there is no whole answer, or the service asks to wait beyond the deadline.
    pub async fn send(&self, request: &Request) -> Result<Response, Error> {
        let total = request.within.unwrap_or(self.total_timeout);
        let deadline = Instant::now() + total;
        let mut attempt = 0;
        loop {
            let result = self.attempt(request, deadline, attempt).await;
            let left = deadline.saturating_duration_since(Instant::now());
            let Some(outcome) = outcome(&result) else {
                return result;
            };
            match next(request.repeat, outcome, attempt, self.first_pause, left) {
                Next::Stop => return result,
                Next::TooLong(wait) => return Err(too_late(result, wait, left)?),
                Next::After(pause) => tokio::time::sleep(pause).await,
            }
            attempt += 1;
        }
    }

    /// One attempt with the redirects it needs.
    async fn attempt(
        &self,
        request: &Request,
        deadline: Instant,
        attempt: u32,
    ) -> Result<Response, Error> {
        let limit = request.attempt_within.unwrap_or(self.attempt_timeout);
        let end = deadline.min(Instant::now() + limit);
        let mut url = request.url.clone();
        let mut followed = 0;
        loop {
            let response = self.exchange(request, &url, end, attempt).await?;
            match redirect_target(request, &url, &response) {
                Some(target) if followed < MOST_REDIRECTS => url = target,
                _ => return Ok(response),
            }
            followed += 1;
        }
    }

    /// Sends once to `url` and reads the whole answer until `end`.
    async fn exchange(
        &self,
        request: &Request,
        url: &DisplaySafeUrl,
        end: Instant,
        attempt: u32,
    ) -> Result<Response, Error> {
        let started = Instant::now();
        let within = end.saturating_duration_since(started);
        let host = url.host();
        let sending = self
            .inner
            .request(request.method.clone(), url.expose().clone())
            .headers(request.headers.clone())
            .body(request.body.clone())
            .send();
        let timeout = |sent| Error::Timeout {
            host: url.host(),
            after: within,
            sent,
        };
        let mut answer = match tokio::time::timeout_at(end, sending).await {
            // Whether the time ran out before or after the request left is not told: assume it left.
            Err(_) => return Err(timeout(true)),
            Ok(Err(source)) => return Err(transport_error(host, source, started.elapsed())),
            Ok(Ok(answer)) => answer,
        };
        let (status, headers) = (answer.status(), std::mem::take(answer.headers_mut()));
        let body = tokio::time::timeout_at(end, self.read(&mut answer, &host))
            .await
            .map_err(|_| timeout(true))??;
        Ok(Response {
            host,
            status,
            headers,
            body,
            attempts: attempt + 1,
            redaction: request.full_redaction(),
        })
    }

    async fn read(&self, answer: &mut reqwest::Response, host: &str) -> Result<Bytes, Error> {
        let mut body = BytesMut::new();
        loop {
            let chunk = answer.chunk().await.map_err(|source| Error::Interrupted {
                host: host.to_owned(),
                source: source.without_url(),
            })?;
            let Some(chunk) = chunk else {
                return Ok(body.freeze());
            };
            if body.len() + chunk.len() > self.body_limit {
                return Err(Error::TooLarge {
                    host: host.to_owned(),
                    limit: self.body_limit,
                });
            }
            body.extend_from_slice(&chunk);
        }
    }
}

/// Reads the authorities to trust besides the system's own; each is parsed here, so that a bad file
/// is named instead of surfacing as a TLS failure.
fn extra_certificates(settings: &ClientSettings) -> Result<Vec<reqwest::Certificate>, BuildError> {
    let Some(path) = &settings.extra_ca else {
        return Ok(Vec::new());
    };
    let read = |source| BuildError::ReadCa {
        path: path.clone(),
        source,
    };
    let pem = std::fs::read(path).map_err(read)?;
    certificates(&pem).map_err(|reason| BuildError::ParseCa {
        path: path.clone(),
        reason,
    })
}

/// The certificates of a PEM text, or what is wrong with it.
fn certificates(pem: &[u8]) -> Result<Vec<reqwest::Certificate>, String> {
    let mut certificates = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|cause| cause.to_string())?;
        RootCertStore::empty()
            .add(certificate.clone())
            .map_err(|cause| cause.to_string())?;
        let certificate = reqwest::Certificate::from_der(&certificate);
        certificates.push(certificate.map_err(|cause| cause.to_string())?);
    }
    if certificates.is_empty() {
        return Err("it has no block `BEGIN CERTIFICATE`".to_owned());
    }
    Ok(certificates)
}

fn transport_error(host: String, source: reqwest::Error, after: Duration) -> Error {
    let source = source.without_url();
    if source.is_timeout() {
        // Only connecting has a time limit inside the transport.
        Error::Timeout {
            host,
            after,
            sent: false,
        }
    } else if source.is_connect() {
        Error::Connect { host, source }
    } else if source.is_builder() {
        Error::Request { host, source }
    } else {
        Error::Interrupted { host, source }
    }
}

/// What the attempt means for a repeat; `None` where a repeat would change nothing.
fn outcome(result: &Result<Response, Error>) -> Option<Outcome> {
    match result {
        Ok(response) => Some(Outcome::Answered {
            status: response.status,
            retry_after: retry_after(&response.headers, Timestamp::now()),
        }),
        Err(Error::Connect { .. } | Error::Timeout { sent: false, .. }) => Some(Outcome::NotSent),
        Err(Error::Interrupted { .. } | Error::Timeout { sent: true, .. }) => {
            Some(Outcome::Ambiguous)
        }
        Err(
            Error::Status { .. }
            | Error::RetryTooLate { .. }
            | Error::TooLarge { .. }
            | Error::Body { .. }
            | Error::Request { .. },
        ) => None,
    }
}

/// The error when no time is left for the repeat: the wait asked for where there was an answer, else
/// what the last attempt met.
fn too_late(
    result: Result<Response, Error>,
    wait: Duration,
    left: Duration,
) -> Result<Error, Error> {
    let response = result?;
    Ok(Error::RetryTooLate {
        host: response.host,
        status: response.status,
        wait,
        left,
    })
}

/// Where to go on to: only within the same origin, since body and headers hold credentials, and only
/// with the same method, since a `POST` that turns into a `GET` would look like a success.
fn redirect_target(
    request: &Request,
    from: &DisplaySafeUrl,
    response: &Response,
) -> Option<DisplaySafeUrl> {
    let keeps_method = match response.status {
        StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT => true,
        StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND | StatusCode::SEE_OTHER => {
            request.method == Method::GET || request.method == Method::HEAD
        }
        _ => false,
    };
    let location = response.headers.get(header::LOCATION)?.to_str().ok()?;
    from.resolve(location)
        .filter(|target| keeps_method && target.same_origin(from))
}
