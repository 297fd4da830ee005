//! One HTTP/1.1 request on one connection, over TCP or TLS with the sandbox's authority. Keeps
//! nothing open and repeats nothing: what a test sees is what the server did.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::error::{Context as _, Result, SandboxError};

/// How long one exchange may take, connection included.
const TIME_LIMIT: Duration = Duration::from_secs(20);

/// A client that trusts one authority.
#[derive(Debug, Clone)]
pub struct HttpClient {
    tls: Option<Arc<ClientConfig>>,
}

/// What a server answered.
#[derive(Debug, Clone)]
pub struct HttpAnswer {
    /// The status code.
    pub status: StatusCode,
    /// The header fields.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

impl HttpAnswer {
    /// The body as text, for messages and comparisons.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// The body is something else.
    pub fn json(&self) -> Result<serde_json::Value> {
        serde_json::from_slice(&self.body).context(|| format!("not JSON: {}", self.text()))
    }
}

/// A TLS configuration that trusts the authority of this PEM certificate and nobody else.
pub(crate) fn trusting(ca: &str) -> Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca.as_bytes()) {
        let certificate = certificate.context(|| "cannot read the authority's certificate")?;
        roots
            .add(certificate)
            .context(|| "cannot trust the authority's certificate")?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context(|| "no TLS version is left")?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

impl HttpClient {
    /// A client for `http` addresses only.
    #[must_use]
    pub fn plain() -> Self {
        Self { tls: None }
    }

    /// A client that also speaks `https` with servers of this authority (PEM).
    ///
    /// # Errors
    /// The certificate cannot be read.
    pub fn trusting(ca: &str) -> Result<Self> {
        Ok(Self {
            tls: Some(trusting(ca)?),
        })
    }

    /// Sends a GET request.
    ///
    /// # Errors
    /// No connection, no answer, or none within 20 s. A status is never an error.
    pub async fn get(&self, url: &str) -> Result<HttpAnswer> {
        self.send(Method::GET, url, &[], Bytes::new()).await
    }

    /// Sends a POST request with a JSON body.
    ///
    /// # Errors
    /// As for [`HttpClient::get`].
    pub async fn post_json(&self, url: &str, body: &serde_json::Value) -> Result<HttpAnswer> {
        let headers = [("content-type", "application/json")];
        self.send(Method::POST, url, &headers, body.to_string().into())
            .await
    }

    /// Sends any request.
    ///
    /// # Errors
    /// As for [`HttpClient::get`].
    pub async fn send(
        &self,
        method: Method,
        url: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<HttpAnswer> {
        let exchange = self.exchange(method, url, headers, body);
        match tokio::time::timeout(TIME_LIMIT, exchange).await {
            Ok(answer) => answer,
            Err(_) => Err(SandboxError::new(format!(
                "{url} did not answer within {} s",
                TIME_LIMIT.as_secs()
            ))),
        }
    }

    async fn exchange(
        &self,
        method: Method,
        url: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<HttpAnswer> {
        let uri: Uri = url
            .parse()
            .context(|| format!("`{url}` is not an address"))?;
        let is_tls = uri.scheme_str() == Some("https");
        let host = uri
            .host()
            .ok_or_else(|| SandboxError::new(format!("`{url}` has no host")))?;
        let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let mut request = Request::builder().method(method).uri(path);
        // A caller's own Host chooses the route; without one it is the address.
        if !headers
            .iter()
            .any(|(name, _)| name.eq_ignore_ascii_case("host"))
        {
            request = request.header("host", format!("{host}:{port}"));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request
            .body(Full::new(body))
            .context(|| "cannot build the request")?;
        let stream = TcpStream::connect((host, port)).await;
        let stream = stream.context(|| format!("cannot connect to {host}:{port}"))?;
        let _ = stream.set_nodelay(true);
        let answered = if is_tls {
            let tls = self.tls.clone().ok_or_else(|| {
                SandboxError::new(format!("{url} needs a client that trusts an authority"))
            })?;
            let name = ServerName::try_from(host.to_owned()).context(|| "not a server name")?;
            let stream = TlsConnector::from(tls).connect(name, stream).await;
            let stream = stream.context(|| format!("no TLS connection to {host}:{port}"))?;
            talk(TokioIo::new(stream), request).await
        } else {
            talk(TokioIo::new(stream), request).await
        };
        answered.context(|| format!("no answer from {url}"))
    }
}

async fn talk<S>(stream: S, request: Request<Full<Bytes>>) -> hyper::Result<HttpAnswer>
where
    S: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(stream).await?;
    let connection = tokio::spawn(connection);
    let response = sender.send_request(request).await?;
    let (head, body) = response.into_parts();
    let body = body.collect().await?.to_bytes();
    connection.abort();
    Ok(HttpAnswer {
        status: head.status,
        headers: head.headers,
        body,
    })
}
