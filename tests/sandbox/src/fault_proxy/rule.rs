//! Which requests get which fault, as plain data.

use std::time::Duration;

use http::{Method, StatusCode};

/// What happens to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Answered with 429 and, if given, `Retry-After` in seconds. The server never sees it.
    TooManyRequests {
        /// The header's value.
        retry_after: Option<u32>,
    },
    /// Answered with this status and a Kubernetes `Status` object. The server never sees it.
    Status(StatusCode),
    /// The connection closes without an answer. The server never sees the request.
    CutBefore,
    /// The server gets the request and acts; the connection closes instead of its answer: what a
    /// time-out after a write looks like.
    CutAfter,
    /// The connection closes without an answer, and the request is kept back until
    /// [`FaultProxy::deliver`](super::FaultProxy::deliver): what a write looks like that got stuck on
    /// its way and arrives after its sender has given it up.
    Late,
    /// The request reaches the server later.
    Delay(Duration),
    /// Never answered; the server never sees it.
    Hang,
}

/// Which requests get a fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FaultRule {
    pub(super) method: Option<Method>,
    pub(super) path: String,
    pub(super) fault: Fault,
    pub(super) remaining: Option<u32>,
}

impl FaultRule {
    /// The fault for every request, until the rules are cleared.
    #[must_use]
    pub fn every(fault: Fault) -> Self {
        Self {
            method: None,
            path: String::new(),
            fault,
            remaining: None,
        }
    }

    /// Only requests with this method.
    #[must_use]
    pub fn method(mut self, method: Method) -> Self {
        self.method = Some(method);
        self
    }

    /// Only requests whose path and query contain this text, e.g. `/services/` or `watch=true`.
    #[must_use]
    pub fn path(mut self, part: impl Into<String>) -> Self {
        self.path = part.into();
        self
    }

    /// Only the next so many matching requests.
    #[must_use]
    pub fn times(mut self, count: u32) -> Self {
        self.remaining = Some(count);
        self
    }

    pub(super) fn matches(&self, method: &Method, path: &str) -> bool {
        self.remaining != Some(0)
            && self.method.as_ref().is_none_or(|wanted| wanted == method)
            && path.contains(&self.path)
    }
}
