//! Why a load balancer could not be asked or told, with what to do about it.

use std::time::Duration;

/// Why a load balancer could not be asked or told.
#[derive(Debug, thiserror::Error)]
pub enum ServersError {
    /// No connection was made: nothing was said to it.
    #[error("cannot connect to the runtime API at `{place}`")]
    Connect {
        /// Where it was asked.
        place: String,
        /// Why not.
        source: std::io::Error,
    },
    /// It did not answer in time.
    #[error("no answer to `{command}` from `{place}` within {} s", limit.as_secs())]
    TimedOut {
        /// Where it was asked.
        place: String,
        /// What it was asked.
        command: String,
        /// The time it had.
        limit: Duration,
    },
    /// The connection broke.
    #[error("`{place}` broke off before it had answered `{command}`")]
    Interrupted {
        /// Where it was asked.
        place: String,
        /// What it was asked.
        command: String,
        /// How it broke.
        source: std::io::Error,
    },
    /// It has no such backend.
    #[error("`{place}` knows no backend `{backend}`")]
    UnknownBackend {
        /// Where it was asked.
        place: String,
        /// The backend.
        backend: String,
    },
    /// The backend has no such server.
    #[error("`{place}` knows no server `{server}` in backend `{backend}`")]
    UnknownServer {
        /// Where it was asked.
        place: String,
        /// The backend.
        backend: String,
        /// The server.
        server: String,
    },
    /// The socket may not change anything.
    #[error("`{place}` does not allow `{command}`")]
    PermissionDenied {
        /// Where it was asked.
        place: String,
        /// What it was asked.
        command: String,
    },
    /// The balancing algorithm of the backend knows no weights at run time.
    #[error(
        "backend `{backend}` at `{place}` has a static algorithm, which takes no weight but 0 and all"
    )]
    StaticWeights {
        /// Where it was asked.
        place: String,
        /// The backend.
        backend: String,
    },
    /// It refused in words of its own.
    #[error("`{place}` refused `{command}`: {answer}")]
    Refused {
        /// Where it was asked.
        place: String,
        /// What it was asked.
        command: String,
        /// Its words, one printable line.
        answer: String,
    },
    /// It answered something else than it should.
    #[error("the answer of `{place}` to `{command}` cannot be understood: {reason}")]
    Unreadable {
        /// Where it was asked.
        place: String,
        /// What it was asked.
        command: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl ServersError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Connect { .. } => {
                "`haproxy-api` names the `stats socket` of a running HAProxy: a path that this user may open, or HOST:PORT"
            }
            Self::TimedOut { .. } | Self::Interrupted { .. } => {
                "is the process stopped, overloaded, or being replaced? `show info` on its socket tells"
            }
            Self::UnknownBackend { .. } => {
                "`backend` is the name after the keyword `backend` (or `listen`) in the configuration of every HAProxy"
            }
            Self::UnknownServer { .. } => {
                "server names stand after the keyword `server` in the backend; all HAProxies need the same ones"
            }
            Self::PermissionDenied { .. } => {
                "servers are changed through a socket with `level admin` (`stats socket PATH mode 660 level admin`)"
            }
            Self::StaticWeights { .. } => {
                "weights need `balance roundrobin`, `leastconn`, or a hash with `hash-type consistent`"
            }
            Self::Refused { .. } | Self::Unreadable { .. } => {
                "HAProxy 2.0 and later are known to answer as expected; `show info` on the socket tells the version"
            }
        }
    }

    /// Whether the load balancer may have done what it was told although it did not say so.
    #[must_use]
    pub fn may_have_acted(&self) -> bool {
        match self {
            Self::TimedOut { .. } | Self::Interrupted { .. } => true,
            Self::Connect { .. }
            | Self::UnknownBackend { .. }
            | Self::UnknownServer { .. }
            | Self::PermissionDenied { .. }
            | Self::StaticWeights { .. }
            | Self::Refused { .. }
            | Self::Unreadable { .. } => false,
        }
    }

    /// Whether another look may find it answering: it is away, busy, or being replaced.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        matches!(
            self,
            Self::Connect { .. } | Self::TimedOut { .. } | Self::Interrupted { .. }
        )
    }

    /// Whether it is what was asked that is wrong, not the load balancer.
    #[must_use]
    pub fn is_misuse(&self) -> bool {
        match self {
            Self::UnknownBackend { .. }
            | Self::UnknownServer { .. }
            | Self::PermissionDenied { .. }
            | Self::StaticWeights { .. } => true,
            Self::Connect { .. }
            | Self::TimedOut { .. }
            | Self::Interrupted { .. }
            | Self::Refused { .. }
            | Self::Unreadable { .. } => false,
        }
    }
}
