//! One query, one answer: `POST /api/v1/query`, so that no query is too long for a URL.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use switchyard_http::{Client, DisplaySafeUrl, HeaderValue, Repeat, Request, header};
use zeroize::Zeroizing;

use crate::answer::{Answer, Unread, parse};
use crate::error::Error;

/// Who asks.
#[derive(Clone, Default)]
pub enum Credentials {
    /// Nobody in particular.
    #[default]
    None,
    /// Whoever has this token.
    Bearer(Zeroizing<String>),
    /// A user with a password.
    Basic {
        /// The user.
        user: String,
        /// The password.
        password: Zeroizing<String>,
    },
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::None => "none",
            Self::Bearer(_) | Self::Basic { .. } => "[redacted]",
        })
    }
}

/// A Prometheus.
#[derive(Clone, Debug)]
pub struct Prometheus {
    http: Client,
    url: DisplaySafeUrl,
    credentials: Credentials,
    limit: Duration,
}

impl Prometheus {
    /// The one below `base`; each query is given `limit`, in Prometheus and on the way.
    #[must_use]
    pub fn new(
        http: Client,
        base: &DisplaySafeUrl,
        credentials: Credentials,
        limit: Duration,
    ) -> Self {
        Self {
            http,
            url: base.join_segments(["api", "v1", "query"]),
            credentials,
            limit,
        }
    }

    /// Asks.
    ///
    /// # Errors
    /// There is no whole answer, it is a refusal, or it is none of Prometheus.
    pub async fn query(&self, promql: &str) -> Result<Answer, Error> {
        let encoded = utf8_percent_encode(promql, NON_ALPHANUMERIC);
        let limit = self.limit.as_secs_f64();
        let mut request = Request::new(switchyard_http::Method::POST, self.url.clone())
            .header(
                header::CONTENT_TYPE,
                HeaderValue::from_static("application/x-www-form-urlencoded"),
            )
            .header(header::ACCEPT, HeaderValue::from_static("application/json"))
            .body(format!("query={encoded}&timeout={limit}s"))
            // It changes nothing, so it may be sent again.
            .repeat(Repeat::Idempotent)
            .within(self.limit);
        request = match &self.credentials {
            Credentials::None => request,
            Credentials::Bearer(token) => request.bearer(token),
            Credentials::Basic { user, password } => basic(request, user, password),
        };
        let response = self.http.send(&request).await?;
        let status = response.status().as_u16();
        let host = self.url.host();
        if matches!(status, 401 | 403) {
            return Err(Error::Unauthorized { host, status });
        }
        parse(response.body()).map_err(|unread| match unread {
            Unread::Refused { kind, message } => Error::Refused {
                host,
                kind: response.displayable(&kind),
                message: response.displayable(&message),
            },
            Unread::Foreign(_) if response.body().is_empty() => Error::Foreign {
                host,
                status,
                problem: "nothing".to_owned(),
            },
            Unread::Foreign(problem) => Error::Foreign {
                host,
                status,
                problem: format!("{}: {}", response.displayable(&problem), response.excerpt()),
            },
        })
    }
}

fn basic(request: Request, user: &str, password: &str) -> Request {
    let encoded = Zeroizing::new(STANDARD.encode(format!("{user}:{password}")));
    // Base64 has no character that a header may not have.
    let Ok(mut value) = HeaderValue::from_str(&format!("Basic {}", *encoded)) else {
        return request;
    };
    value.set_sensitive(true);
    let request = request.header(header::AUTHORIZATION, value);
    request.redact(password).redact(&encoded)
}
