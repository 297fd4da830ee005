//! Reads the errors of the API server and of the transport in the light of what was asked.
//! It refuses to know what to do about them.

use std::{error::Error as StdError, time::Duration};

use kube::{client::AuthError, core::Status};

use super::{Error, Source};
use crate::{operation::Operation, transport::ResponseTimedOut};

impl Error {
    /// Reads the client library's error in the light of what was asked.
    pub fn from_kube(error: kube::Error, operation: &Operation) -> Self {
        let unreadable = |problem: String| Self::Unreadable {
            what: operation.to_string(),
            problem,
        };
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "the client library's other errors are all of the transport"
        )]
        match error {
            kube::Error::Api(status) => Self::from_status(&status, operation),
            kube::Error::SerdeError(problem) => unreadable(problem.to_string()),
            kube::Error::FromUtf8(problem) => unreadable(problem.to_string()),
            kube::Error::Auth(problem) => Self::Credential {
                problem: credential_problem(&problem),
            },
            other => Self::from_transport(Box::new(other), &operation.to_string()),
        }
    }

    /// Reads an error of the transport: TLS, time-out, or a lost connection.
    pub(crate) fn from_transport(source: Source, what: &str) -> Self {
        if let Some(timed_out) = find_cause::<ResponseTimedOut>(source.as_ref()) {
            return Self::TimedOut {
                what: what.to_owned(),
                after: timed_out.after,
            };
        }
        let tls = find_cause::<rustls::Error>(source.as_ref());
        if let Some(problem) = tls.and_then(certificate_problem) {
            return Self::Certificate { problem };
        }
        if let Some(problem) = find_cause::<AuthError>(source.as_ref()) {
            return Self::Credential {
                problem: credential_problem(problem),
            };
        }
        if is_refused_by_proxy(source.as_ref()) {
            return Self::ProxyUnauthorized {
                what: what.to_owned(),
            };
        }
        Self::Connection {
            what: what.to_owned(),
            source,
        }
    }

    /// Reads the API server's `Status`.
    pub fn from_status(status: &Status, operation: &Operation) -> Self {
        let operation = Box::new(operation.clone());
        let message = status.message.clone();
        match status.code {
            401 => Self::Unauthorized { operation },
            403 if message.contains(" cannot ") => Self::Forbidden { operation, message },
            404 => not_found(status, operation),
            409 if status.is_already_exists() => Self::AlreadyExists { operation },
            409 => Self::Conflict {
                managers: conflicting_managers(status),
                operation,
                message,
            },
            429 => Self::TooManyRequests {
                operation,
                retry_after: retry_after(status),
            },
            400 | 403 | 405 | 413 | 415 | 422 => Self::Refused {
                operation,
                message,
                causes: causes(status),
            },
            code => Self::Server {
                operation,
                code,
                message,
            },
        }
    }
}

fn not_found(status: &Status, operation: Box<Operation>) -> Error {
    let of_namespace = status
        .details
        .as_ref()
        .is_some_and(|details| details.kind == "namespaces" && operation.resource != "namespaces");
    match (of_namespace, &operation.namespace) {
        (true, Some(namespace)) => Error::NamespaceMissing {
            namespace: namespace.clone(),
        },
        (true, None) | (false, _) => Error::NotFound { operation },
    }
}

/// Server-side apply names who stands in the way: `conflict with "kubectl-edit" using apps/v1`.
fn conflicting_managers(status: &Status) -> Vec<String> {
    let mut managers: Vec<String> = Vec::new();
    for cause in status.details.iter().flat_map(|details| &details.causes) {
        let Some(name) = cause
            .message
            .strip_prefix("conflict with \"")
            .and_then(|rest| rest.split_once('"'))
        else {
            continue;
        };
        if !managers.iter().any(|known| known == name.0) {
            managers.push(name.0.to_owned());
        }
    }
    managers
}

fn causes(status: &Status) -> Vec<String> {
    status
        .details
        .iter()
        .flat_map(|details| &details.causes)
        .map(|cause| {
            if cause.field.is_empty() {
                cause.message.clone()
            } else {
                format!("{}: {}", cause.field, cause.message)
            }
        })
        .collect()
}

pub(crate) fn retry_after(status: &Status) -> Option<Duration> {
    let seconds = status.details.as_ref()?.retry_after_seconds;
    (seconds > 0).then(|| Duration::from_secs(u64::from(seconds)))
}

fn credential_problem(problem: &AuthError) -> String {
    // The plugin's output may hold a token: name the command and its exit only.
    if let AuthError::AuthExecRun { cmd, out } = problem {
        return format!("`{cmd}` ended with {}", out.status);
    }
    if let AuthError::AuthExecParse(_) = problem {
        return "the plugin's answer is not an ExecCredential".to_owned();
    }
    problem.to_string()
}

fn certificate_problem(error: &rustls::Error) -> Option<String> {
    if let rustls::Error::InvalidCertificate(problem) = error {
        return Some(problem.to_string());
    }
    matches!(error, rustls::Error::NoCertificatesPresented)
        .then(|| "the server presents none".to_owned())
}

/// Whether a proxy did not open the way, or could not be reached.
pub(super) fn is_of_tunnel(error: &(dyn StdError + 'static)) -> bool {
    causes_of(error).any(|cause| cause.starts_with("tunnel error: "))
}

fn is_refused_by_proxy(error: &(dyn StdError + 'static)) -> bool {
    causes_of(error).any(|cause| cause == "tunnel error: proxy authorization required")
}

/// The texts of a chain: the tunnel's error type is not public, so its words have to tell.
fn causes_of(error: &(dyn StdError + 'static)) -> impl Iterator<Item = String> {
    std::iter::successors(Some(error), |cause| (*cause).source()).map(ToString::to_string)
}

/// Finds a typed cause in a chain; `io::Error` hides what it wraps from `source()`, so it is
/// opened by hand.
pub(crate) fn find_cause<'error, T: StdError + 'static>(
    error: &'error (dyn StdError + 'static),
) -> Option<&'error T> {
    let mut current = Some(error);
    while let Some(cause) = current {
        if let Some(found) = cause.downcast_ref::<T>() {
            return Some(found);
        }
        if let Some(inner) = cause
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::get_ref)
        {
            return find_cause::<T>(inner);
        }
        current = cause.source();
    }
    None
}
