//! What can go wrong, told so that it can be shown: host, status and the beginning of the body, never
//! a credential. It refuses to hold a URL with its secrets or an error that prints one.

use std::path::PathBuf;
use std::time::Duration;

use http::StatusCode;

/// Why a client could not be made from its settings.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The file of extra certificate authorities cannot be read.
    #[error("cannot read the CA file `{path}`")]
    ReadCa {
        /// The file as given.
        path: PathBuf,
        /// Why it cannot be read.
        source: std::io::Error,
    },
    /// The file of extra certificate authorities holds no usable certificate.
    #[error("the CA file `{path}` cannot be used: {reason}")]
    ParseCa {
        /// The file as given.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The only certificate authorities to trust cannot be used.
    #[error("the certificate authority of the server cannot be used: {reason}")]
    OnlyCa {
        /// What is wrong with it.
        reason: String,
    },
    /// The certificate and key to show to the server cannot be used.
    #[error("the client certificate and its key cannot be used")]
    Identity,
    /// A proxy variable cannot be understood. Its value is not repeated: it may hold a password.
    #[error("the value of `{variable}` is not a proxy URL")]
    Proxy {
        /// The environment variable.
        variable: &'static str,
        /// What the parser said, without the value.
        source: reqwest::Error,
    },
    /// The TLS set-up failed; mostly a machine without any root certificates.
    #[error("cannot set up the TLS client")]
    Tls(#[source] reqwest::Error),
}

/// Why a request has no usable answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No connection was made: nothing was sent.
    #[error("cannot connect to {host}")]
    Connect {
        /// Host and port of the request.
        host: String,
        /// The transport's own words, without the URL.
        source: reqwest::Error,
    },
    /// The time ran out.
    #[error("no answer from {host} within {}{}", seconds(*after), if *sent { "" } else { ", not even a connection" })]
    Timeout {
        /// Host and port of the request.
        host: String,
        /// The time given.
        after: Duration,
        /// Whether the request may have reached the service, so that it may have acted on it.
        sent: bool,
    },
    /// The connection broke after the request was sent, before the whole answer came.
    #[error("the connection to {host} broke before its answer was complete")]
    Interrupted {
        /// Host and port of the request.
        host: String,
        /// The transport's own words, without the URL.
        source: reqwest::Error,
    },
    /// The service answered with a status that is not a success.
    #[error("{host} answered {status}{}", body_suffix(excerpt))]
    Status {
        /// Host and port of the request.
        host: String,
        /// The status of the last answer.
        status: StatusCode,
        /// The first characters of the body: one printable line, redacted.
        excerpt: String,
        /// How often the request was sent.
        attempts: u32,
    },
    /// The service asks to wait longer than the time left.
    #[error("{host} answered {status} and asks to wait {}, but only {} are left", seconds(*wait), seconds(*left))]
    RetryTooLate {
        /// Host and port of the request.
        host: String,
        /// The status of the last answer.
        status: StatusCode,
        /// The wait asked for.
        wait: Duration,
        /// The time left of what was given.
        left: Duration,
    },
    /// The body is larger than the limit; reading stopped there.
    #[error("the answer of {host} is larger than {limit} bytes")]
    TooLarge {
        /// Host and port of the request.
        host: String,
        /// The limit in bytes.
        limit: usize,
    },
    /// The body is not what the status and the interface promise.
    #[error(
        "{host} answered {status} with a body that cannot be understood{}",
        body_suffix(excerpt)
    )]
    Body {
        /// Host and port of the request.
        host: String,
        /// The status of the answer.
        status: StatusCode,
        /// The first characters of the body: one printable line, redacted.
        excerpt: String,
        /// What the parser said.
        source: serde_json::Error,
    },
    /// The request cannot be sent as it is; a defect of the caller.
    #[error("the request to {host} cannot be built")]
    Request {
        /// Host and port of the request.
        host: String,
        /// The client's own words, without the URL.
        source: reqwest::Error,
    },
}

impl Error {
    /// Whether the service may have acted on the request although no success was seen, so that
    /// sending it again could do it twice.
    #[must_use]
    pub fn is_ambiguous(&self) -> bool {
        match self {
            Self::Interrupted { .. } | Self::TooLarge { .. } => true,
            Self::Body { status, .. } => status.is_success(),
            Self::Timeout { sent, .. } => *sent,
            Self::Status { status, .. } => matches!(status.as_u16(), 502 | 504),
            Self::Connect { .. } | Self::RetryTooLate { .. } | Self::Request { .. } => false,
        }
    }

    /// The status of the last answer, where there was one.
    #[must_use]
    pub fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Status { status, .. }
            | Self::RetryTooLate { status, .. }
            | Self::Body { status, .. } => Some(*status),
            Self::Connect { .. }
            | Self::Timeout { .. }
            | Self::Interrupted { .. }
            | Self::TooLarge { .. }
            | Self::Request { .. } => None,
        }
    }
}

fn body_suffix(excerpt: &str) -> String {
    if excerpt.is_empty() {
        String::new()
    } else {
        format!(": {excerpt}")
    }
}

/// A duration for people: whole seconds where it is one or more, else milliseconds.
fn seconds(duration: Duration) -> String {
    if duration >= Duration::from_secs(1) {
        format!("{}s", duration.as_secs())
    } else {
        format!("{}ms", duration.as_millis())
    }
}
