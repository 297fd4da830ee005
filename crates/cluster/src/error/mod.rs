//! The one error type of the crate: each variant is a cause a person can act on.
//! It refuses to know exit codes and how a message is shown.

mod reading;

use std::{error::Error as StdError, path::PathBuf, time::Duration};

use thiserror::Error;

use crate::operation::Operation;

#[cfg(test)]
pub(crate) use reading::retry_after;

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

type Source = Box<dyn StdError + Send + Sync>;

/// What went wrong between us and the cluster.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// No kubeconfig was given or found, and the process does not run in a pod.
    #[error("no kubeconfig: {}", .path.as_ref().map_or("none was given and this is not a pod".to_owned(), |path| format!("`{}` does not exist", path.display())))]
    KubeconfigMissing {
        /// The file that was looked for, if one was named.
        path: Option<PathBuf>,
    },

    /// A kubeconfig was found and cannot be used.
    #[error("kubeconfig {path} cannot be used: {problem}")]
    KubeconfigInvalid {
        /// The file or files, as they were given.
        path: String,
        /// What is wrong with it; never a credential.
        problem: String,
    },

    /// The context that was asked for is not in the kubeconfig.
    #[error("kubeconfig has no context `{context}`")]
    UnknownContext {
        /// What was asked for.
        context: String,
        /// What the kubeconfig has.
        known: Vec<String>,
    },

    /// The kubeconfig wants to start a program to get a token, and nobody allowed it.
    #[error("kubeconfig user `{user}` runs `{command}` to get a token, which is not allowed")]
    ExecNotAllowed {
        /// The kubeconfig's user entry.
        user: String,
        /// The program it would start.
        command: String,
    },

    /// A credential could not be had (token file unreadable, plugin failed).
    #[error("the kubeconfig's credential cannot be had: {problem}")]
    Credential {
        /// What is wrong; never the credential itself.
        problem: String,
    },

    /// The API server does not accept our credential (401).
    #[error("the API server does not accept the credential (401) for {operation}")]
    Unauthorized {
        /// What was tried.
        operation: Box<Operation>,
    },

    /// The API server's certificate does not stand up to the configured authority.
    #[error("the API server's certificate is not trusted: {problem}")]
    Certificate {
        /// rustls's reason.
        problem: String,
    },

    /// RBAC does not allow it (403).
    #[error("not allowed: {operation}")]
    Forbidden {
        /// What was tried.
        operation: Box<Operation>,
        /// The API server's own sentence.
        message: String,
    },

    /// Admission refused the object (quota, policy, webhook): 403 without an RBAC reason, 400, 422.
    #[error("the API server refuses to {operation}: {message}")]
    Refused {
        /// What was tried.
        operation: Box<Operation>,
        /// The API server's own sentence.
        message: String,
        /// Field and complaint, one per line.
        causes: Vec<String>,
    },

    /// The namespace does not exist.
    #[error("namespace `{namespace}` does not exist")]
    NamespaceMissing {
        /// The namespace asked for.
        namespace: String,
    },

    /// The object does not exist.
    #[error("{} does not exist", .operation.object())]
    NotFound {
        /// What was tried.
        operation: Box<Operation>,
    },

    /// The object exists already.
    #[error("{} exists already", .operation.object())]
    AlreadyExists {
        /// What was tried.
        operation: Box<Operation>,
    },

    /// The API server does not serve this kind.
    #[error("the cluster does not know the kind {kind} ({api_version})")]
    UnknownKind {
        /// `group/version`.
        api_version: String,
        /// Kind asked for.
        kind: String,
    },

    /// The API server does not serve this resource in the version that is needed.
    #[error("the cluster does not serve {resource} in version {version}{}", only_in(.served))]
    NotServed {
        /// `plural.group`.
        resource: String,
        /// The version asked for.
        version: String,
        /// The versions in which it is served; none when the kind is not installed.
        served: Vec<String>,
    },

    /// Somebody else wrote the object between our read and our write (409).
    #[error("conflict: {}: {message}", .operation)]
    Conflict {
        /// What was tried.
        operation: Box<Operation>,
        /// Field managers that stand in the way, best known first; empty when unknown.
        managers: Vec<String>,
        /// The API server's own sentence.
        message: String,
    },

    /// The API server sheds load (429).
    #[error("the API server sheds load (429) for {operation}")]
    TooManyRequests {
        /// What was tried.
        operation: Box<Operation>,
        /// How long the server asks to wait.
        retry_after: Option<Duration>,
    },

    /// No answer in time.
    #[error("no answer within {}s: {what}", .after.as_secs())]
    TimedOut {
        /// What was waited for.
        what: String,
        /// How long.
        after: Duration,
    },

    /// The API server could not be reached or hung up.
    #[error("connection to the API server failed: {what}")]
    Connection {
        /// What was tried.
        what: String,
        /// The transport's own error.
        #[source]
        source: Source,
    },

    /// The HTTP proxy on the way does not accept our credential for it (407).
    #[error("the HTTP proxy before the API server does not let us through (407): {what}")]
    ProxyUnauthorized {
        /// What was tried.
        what: String,
    },

    /// The API server answered with an error of its own (5xx).
    #[error("the API server failed ({code}) to {operation}: {message}")]
    Server {
        /// What was tried.
        operation: Box<Operation>,
        /// HTTP status.
        code: u16,
        /// The API server's own sentence.
        message: String,
    },

    /// The answer does not have the expected shape.
    #[error("unreadable answer: {what}: {problem}")]
    Unreadable {
        /// What was tried.
        what: String,
        /// What is wrong with the answer.
        problem: String,
    },

    /// The object is not in a state that allows what was asked for.
    #[error("{object}: {problem}")]
    Unsuitable {
        /// The object.
        object: String,
        /// Why not.
        problem: String,
    },

    /// The port-forward to a pod failed.
    #[error("port-forward to {target} failed: {problem}")]
    PortForward {
        /// Pod and port.
        target: String,
        /// What the kubelet or the stream said.
        problem: String,
    },
}

impl Error {
    /// What the reader can do about it, where there is something to do.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::KubeconfigMissing { .. } => Some(
                "name a kubeconfig file, set KUBECONFIG, or run in a pod with a service account".to_owned(),
            ),
            Self::KubeconfigInvalid { .. } => {
                Some("check the file with `kubectl --kubeconfig FILE config view`".to_owned())
            }
            Self::UnknownContext { known, .. } if known.is_empty() => {
                Some("the kubeconfig has no contexts at all".to_owned())
            }
            Self::UnknownContext { known, .. } => Some(format!("it has: {}", known.join(", "))),
            Self::ExecNotAllowed { command, .. } => Some(format!(
                "log in with `oidc-login`, whose kubeconfig is taken where it wrote it, or allow the plugin by name: `{command}`"
            )),
            Self::Credential { .. } | Self::Unauthorized { .. } => Some(
                "the token has expired or belongs to another cluster: log in again before this step".to_owned(),
            ),
            Self::Certificate { .. } => Some(
                "the kubeconfig's `certificate-authority-data` must be the authority of this API server; a wrong server address or `tls-server-name` shows the same way".to_owned(),
            ),
            Self::Forbidden { operation, .. } => Some(forbidden_hint(operation)),
            Self::Refused { causes, .. } if !causes.is_empty() => Some(causes.join("; ")),
            Self::Refused { message, .. } if message.contains("quota") => {
                Some("raise the namespace's ResourceQuota or ask for less".to_owned())
            }
            Self::NamespaceMissing { namespace } => Some(format!(
                "create it first (`kubectl create namespace {namespace}`), or check the name"
            )),
            Self::NotFound { .. } => Some("check name, kind and namespace".to_owned()),
            Self::UnknownKind { .. } => {
                Some("install the CustomResourceDefinition, or check apiVersion and kind".to_owned())
            }
            Self::NotServed { resource, served, .. } if served.is_empty() => Some(format!(
                "install what brings the CustomResourceDefinition {resource}, or check whether this is the cluster that was meant"
            )),
            Self::NotServed { version, .. } => Some(format!(
                "bring what installed it to a release whose CustomResourceDefinition serves {version}"
            )),
            Self::Conflict { managers, .. } if managers.is_empty() => {
                Some("somebody else changed the object in the meantime: look at it before trying again".to_owned())
            }
            Self::Conflict { managers, .. } => Some(format!(
                "last written by {}: agree on one writer, then try again",
                managers.join(", ")
            )),
            Self::TooManyRequests { .. } => {
                Some("the API server is overloaded or limits this client: try later".to_owned())
            }
            Self::Connection { source, .. } if reading::is_of_tunnel(source.as_ref()) => Some(
                "the way leads through the proxy of the kubeconfig's `proxy-url` or of HTTPS_PROXY: check that it can be reached and lets this server through, or name the server in NO_PROXY".to_owned(),
            ),
            Self::TimedOut { .. } | Self::Connection { .. } => {
                Some("check that the API server's address can be reached from this runner".to_owned())
            }
            Self::ProxyUnauthorized { .. } => Some(
                "give the proxy's user name and password in its address (`http://USER:PASSWORD@HOST:PORT`): the kubeconfig's `proxy-url`, or HTTPS_PROXY".to_owned(),
            ),
            Self::Refused { .. }
            | Self::AlreadyExists { .. }
            | Self::Server { .. }
            | Self::Unreadable { .. }
            | Self::Unsuitable { .. }
            | Self::PortForward { .. } => None,
        }
    }

    /// Whether the same read may well succeed a moment later.
    ///
    /// Says nothing about mutations: whether one of those was carried out is unknown after such
    /// an error and must be read back.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::TooManyRequests { .. }
            | Self::TimedOut { .. }
            | Self::Connection { .. }
            | Self::Server { .. } => true,
            Self::KubeconfigMissing { .. }
            | Self::KubeconfigInvalid { .. }
            | Self::UnknownContext { .. }
            | Self::ExecNotAllowed { .. }
            | Self::Credential { .. }
            | Self::Unauthorized { .. }
            | Self::Certificate { .. }
            | Self::ProxyUnauthorized { .. }
            | Self::Forbidden { .. }
            | Self::Refused { .. }
            | Self::NamespaceMissing { .. }
            | Self::NotFound { .. }
            | Self::AlreadyExists { .. }
            | Self::UnknownKind { .. }
            | Self::NotServed { .. }
            | Self::Conflict { .. }
            | Self::Unreadable { .. }
            | Self::Unsuitable { .. }
            | Self::PortForward { .. } => false,
        }
    }

    /// Whether a mutation that ended so may have been carried out all the same.
    pub fn leaves_outcome_unknown(&self) -> bool {
        // 503 is said before the request is looked at.
        matches!(self, Self::Server { code, .. } if *code != 503)
            || matches!(
                self,
                Self::TimedOut { .. } | Self::Connection { .. } | Self::Unreadable { .. }
            )
    }

    /// Whether the user gave something wrong, as opposed to the cluster failing.
    pub fn is_bad_input(&self) -> bool {
        matches!(
            self,
            Self::KubeconfigMissing { .. }
                | Self::KubeconfigInvalid { .. }
                | Self::UnknownContext { .. }
                | Self::ExecNotAllowed { .. }
                | Self::NamespaceMissing { .. }
        )
    }

    /// How long the API server asks to wait before the next try.
    pub fn retry_after(&self) -> Option<Duration> {
        if let Self::TooManyRequests { retry_after, .. } = self {
            *retry_after
        } else {
            None
        }
    }

    /// Whether this says that the object is not there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }
}

fn only_in(served: &[String]) -> String {
    if served.is_empty() {
        return String::new();
    }
    format!(", only in {}", served.join(", "))
}

fn forbidden_hint(operation: &Operation) -> String {
    let scope = match &operation.namespace {
        Some(namespace) => format!("a Role in namespace `{namespace}`"),
        None => "a ClusterRole".to_owned(),
    };
    format!(
        "grant `{}` on `{}` in {scope} and bind it to this user",
        operation.verb,
        operation.qualified_resource()
    )
}

/// An error and what caused it, in one line. A cause that the text before it says already is not said twice.
#[must_use]
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let line = error.to_string();
        if !text.contains(&line) {
            text = format!("{text}: {line}");
        }
        cause = error.source();
    }
    text
}
