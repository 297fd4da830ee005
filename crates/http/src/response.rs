//! One whole answer, already read within the size limit. It owns the turn from status and body into
//! a value or an error that can be shown.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde::de::DeserializeOwned;

use crate::error::Error;
use crate::redaction::{Redaction, excerpt};

/// An answer of a service, whatever its status.
#[derive(Debug, Clone)]
pub struct Response {
    pub(crate) host: String,
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) attempts: u32,
    pub(crate) redaction: Redaction,
}

impl Response {
    /// The status of the last answer.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The headers of the last answer.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The whole body. Untrusted: show only [`Response::excerpt`].
    #[must_use]
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// How often the request was sent.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// The first characters of the body, printable and without the request's secrets.
    #[must_use]
    pub fn excerpt(&self) -> String {
        excerpt(&self.body, &self.redaction)
    }

    /// A text of the service, printable, shortened, and without the request's secrets.
    #[must_use]
    pub fn displayable(&self, text: &str) -> String {
        excerpt(text.as_bytes(), &self.redaction)
    }

    /// This answer if its status is a success.
    ///
    /// # Errors
    /// [`Error::Status`] otherwise.
    pub fn require_success(self) -> Result<Self, Error> {
        if self.status.is_success() {
            return Ok(self);
        }
        Err(Error::Status {
            excerpt: self.excerpt(),
            host: self.host,
            status: self.status,
            attempts: self.attempts,
        })
    }

    /// The body read as JSON, whatever the status.
    ///
    /// # Errors
    /// [`Error::Body`] when it is not JSON of that shape.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Error> {
        serde_json::from_slice(&self.body).map_err(|source| Error::Body {
            host: self.host.clone(),
            status: self.status,
            excerpt: self.excerpt(),
            source,
        })
    }
}
