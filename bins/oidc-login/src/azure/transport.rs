//! What `azure_identity` sends goes through our client, and what came back is kept: the library's own
//! errors lose what Entra said.

use std::sync::{Arc, Mutex, PoisonError};

use azure_core::error::{Error, ErrorKind};
use azure_core::http::headers::Headers;
use azure_core::http::{AsyncRawResponse, Body, HttpClient, StatusCode};
use azure_identity::ClientAssertion;
use switchyard_http::{DisplaySafeUrl, HeaderName, HeaderValue, Method, Repeat, Request, Response};

use crate::github::{Claims, RequestError};
use crate::session::Session;

/// What happened during one exchange.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// What GitHub's token says.
    pub(super) claims: Option<Claims>,
    /// Why there was no token to show.
    pub(super) not_given: Option<RequestError>,
    /// Why there was no answer.
    pub(super) unanswered: Option<switchyard_http::Error>,
    /// The last answer, whatever its status.
    pub(super) answer: Option<Response>,
}

/// One exchange's way to GitHub and to Entra. Clones share what was seen.
#[derive(Debug, Clone)]
pub(super) struct Transport {
    session: Session,
    audience: String,
    seen: Arc<Mutex<Seen>>,
}

impl Transport {
    pub(super) fn new(session: &Session, audience: &str) -> Self {
        Self {
            session: session.clone(),
            audience: audience.to_owned(),
            seen: Arc::default(),
        }
    }

    /// What was seen since this was asked last.
    pub(super) fn seen(&self) -> Seen {
        std::mem::take(&mut self.lock())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same request for our client. A body that is no plain text is nothing that Entra is sent.
    fn translated(&self, request: &azure_core::http::Request) -> Option<Request> {
        let Body::Bytes(body) = request.body() else {
            return None;
        };
        let url = DisplaySafeUrl::parse(request.url().as_str()).ok()?;
        let method = Method::from_bytes(request.method().as_ref().as_bytes()).ok()?;
        let mut translated = Request::new(method, url)
            .body(body.clone())
            // An exchange leaves nothing behind that a second one could double.
            .repeat(Repeat::IdempotentAfterAnyServerError)
            .within(self.session.left());
        for (name, value) in request.headers().iter() {
            let name = HeaderName::from_bytes(name.as_str().as_bytes()).ok()?;
            translated = translated.header(name, HeaderValue::from_str(value.as_str()).ok()?);
        }
        for (name, value) in url::form_urlencoded::parse(body) {
            if name == "client_assertion" {
                translated = translated.redact(&value);
            }
        }
        Some(translated)
    }
}

#[async_trait::async_trait]
impl ClientAssertion for Transport {
    async fn secret(
        &self,
        _options: Option<azure_core::http::ClientMethodOptions<'_>>,
    ) -> azure_core::Result<String> {
        match self.session.jwt(&self.audience).await {
            Ok(jwt) => {
                self.lock().claims = Some(jwt.claims().clone());
                Ok(jwt.token().expose().to_owned())
            }
            Err(cause) => {
                self.lock().not_given = Some(cause);
                Err(Error::with_message(
                    ErrorKind::Credential,
                    "no identity token",
                ))
            }
        }
    }
}

#[async_trait::async_trait]
impl HttpClient for Transport {
    async fn execute_request(
        &self,
        request: &azure_core::http::Request,
    ) -> azure_core::Result<AsyncRawResponse> {
        let request = self.translated(request).ok_or_else(|| {
            Error::with_message(ErrorKind::DataConversion, "a request that cannot be sent")
        })?;
        match self.session.client.send(&request).await {
            Ok(answer) => {
                let status = StatusCode::from(answer.status().as_u16());
                let body = answer.body().clone();
                self.lock().answer = Some(answer);
                // Nothing of Entra's headers matters to the library.
                Ok(AsyncRawResponse::from_bytes(status, Headers::new(), body))
            }
            Err(cause) => {
                self.lock().unanswered = Some(cause);
                Err(Error::with_message(ErrorKind::Io, "no answer"))
            }
        }
    }
}
