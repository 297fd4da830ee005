//! One request as data: what to send, whether it may be sent twice, until when, and what of it is
//! secret. It does not know how it is sent.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};

use crate::redaction::Redaction;
use crate::repeat::Repeat;
use crate::safe_url::DisplaySafeUrl;

/// A request to send with [`crate::Client::send`].
#[derive(Debug, Clone)]
pub struct Request {
    pub(crate) method: Method,
    pub(crate) url: DisplaySafeUrl,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) repeat: Repeat,
    pub(crate) within: Option<Duration>,
    pub(crate) attempt_within: Option<Duration>,
    pub(crate) redaction: Redaction,
}

impl Request {
    /// A request without a body. `GET`, `HEAD`, `PUT` and `DELETE` may be repeated, being idempotent
    /// by their definition (RFC 9110, 9.2.2); anything else is sent once unless told otherwise.
    #[must_use]
    pub fn new(method: Method, url: DisplaySafeUrl) -> Self {
        let repeat = if method.is_idempotent() {
            Repeat::Idempotent
        } else {
            Repeat::Never
        };
        Self {
            method,
            url,
            headers: HeaderMap::new(),
            body: Bytes::new(),
            repeat,
            within: None,
            attempt_within: None,
            redaction: Redaction::default(),
        }
    }

    /// A `GET`.
    #[must_use]
    pub fn get(url: DisplaySafeUrl) -> Self {
        Self::new(Method::GET, url)
    }

    /// A `POST` of a JSON document with the media type `application/json; charset=utf-8`.
    #[must_use]
    pub fn post_json(url: DisplaySafeUrl, document: &serde_json::Value) -> Self {
        let content_type = HeaderValue::from_static("application/json; charset=utf-8");
        Self::new(Method::POST, url)
            .header(header::CONTENT_TYPE, content_type)
            .body(document.to_string())
    }

    /// Sets a header.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// Sets `Authorization: Bearer`, marked as sensitive and hidden from every error.
    ///
    /// A token with characters that no header may hold is left out; the service then says that
    /// there is none. Tokens are to be checked where they are read.
    #[must_use]
    pub fn bearer(mut self, token: &str) -> Self {
        if let Ok(mut value) = HeaderValue::from_str(&format!("Bearer {token}")) {
            value.set_sensitive(true);
            self.headers.insert(header::AUTHORIZATION, value);
        }
        self.redact(token)
    }

    /// Sets the body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// Says what a second delivery would do.
    #[must_use]
    pub fn repeat(mut self, repeat: Repeat) -> Self {
        self.repeat = repeat;
        self
    }

    /// Bounds the whole exchange: every attempt and every wait between them. Without it, the
    /// client's own limit holds.
    #[must_use]
    pub fn within(mut self, limit: Duration) -> Self {
        self.within = Some(limit);
        self
    }

    /// Bounds one attempt, so that time is left for the next one. Without it, the client's own limit
    /// holds.
    #[must_use]
    pub fn attempt_within(mut self, limit: Duration) -> Self {
        self.attempt_within = Some(limit);
        self
    }

    /// Names a text that no error may repeat, such as a key inside the body.
    #[must_use]
    pub fn redact(mut self, secret: &str) -> Self {
        self.redaction.add(secret);
        self
    }

    /// Everything to hide from what is shown of the answer: named texts, sensitive headers, and the
    /// secrets of the URL.
    pub(crate) fn full_redaction(&self) -> Redaction {
        let mut redaction = self.redaction.clone();
        for secret in self.url.secrets() {
            redaction.add(&secret);
        }
        for value in self.headers.values().filter(|value| value.is_sensitive()) {
            if let Ok(text) = value.to_str() {
                redaction.add(text);
                redaction.add(
                    text.split_once(' ')
                        .map_or(text, |(_, credential)| credential),
                );
            }
        }
        redaction
    }
}
