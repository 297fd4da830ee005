//! The one HTTP client of all binaries: TLS roots, proxies, time limits, repeats, size limits, and
//! errors that can be shown. It knows nothing of Kubernetes, of any service it talks to, or of where
//! its settings come from: environment and clock arrive as data.

mod client;
mod error;
mod proxy;
mod redaction;
mod repeat;
mod request;
mod response;
mod safe_url;

pub use client::{Client, ClientIdentity, ClientSettings};
pub use error::{BuildError, Error};
pub use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
pub use proxy::ProxySettings;
pub use redaction::Redaction;
pub use repeat::{Repeat, retry_after};
pub use request::Request;
pub use response::Response;
pub use safe_url::{DisplaySafeUrl, InvalidUrl};
