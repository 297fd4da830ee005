//! What can go wrong with a server, typed: what failed, on which server and database, what was seen.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::error::SqlState;

use crate::tls::RootsError;

/// A database on a server, as texts name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Host and port.
    pub server: String,
    /// Name of the database.
    pub database: String,
    /// Role that asks.
    pub role: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` on {}", self.database, self.server)
    }
}

/// A failure of a server, of a connection or of a statement. No text of it holds a password.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    /// Nobody answers, or not in time.
    #[error("cannot reach the database server {}", place.server)]
    Unreachable {
        /// Where.
        place: Arc<Place>,
        /// What the network said.
        source: tokio_postgres::Error,
    },
    /// The connection was not ready in time.
    #[error("the database server {} did not answer within {limit:?}", place.server)]
    NoGreeting {
        /// Where.
        place: Arc<Place>,
        /// How long it was waited for.
        limit: Duration,
    },
    /// TLS is asked for and does not come about.
    #[error("no TLS with the database server {} (sslmode={mode})", place.server)]
    Tls {
        /// Where.
        place: Arc<Place>,
        /// What was asked for.
        mode: &'static str,
        /// What TLS said.
        source: tokio_postgres::Error,
    },
    /// The certificates to trust cannot be had.
    #[error("TLS with the database server {} cannot be set up", place.server)]
    Roots {
        /// Where.
        place: Arc<Place>,
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The server took the connection and refused the session.
    #[error("{} refused a session for role `{}` in database `{}`: {message} (SQLSTATE {code})", place.server, place.role, place.database)]
    Refused {
        /// Where.
        place: Arc<Place>,
        /// SQLSTATE.
        code: String,
        /// The server's message.
        message: String,
    },
    /// A statement failed.
    #[error("{what} in {place}: {message} (SQLSTATE {code})")]
    Statement {
        /// What was being done, as `read the catalog`.
        what: String,
        /// Where.
        place: Arc<Place>,
        /// SQLSTATE.
        code: String,
        /// The server's message.
        message: String,
        /// The server's hint.
        server_hint: Option<Box<str>>,
    },
    /// The connection broke, so it is not known whether the statement took effect.
    #[error("{what} in {place}: the connection was lost")]
    Lost {
        /// What was being done.
        what: String,
        /// Where.
        place: Arc<Place>,
        /// What was seen of it.
        source: tokio_postgres::Error,
    },
    /// No answer in time.
    #[error("{what} in {place}: no answer within {limit:?}")]
    NoAnswer {
        /// What was being done.
        what: String,
        /// Where.
        place: Arc<Place>,
        /// How long it was waited for.
        limit: Duration,
    },
    /// An answer that is not of the form asked for.
    #[error("{what} in {place}: the answer is not as expected")]
    Answer {
        /// What was being done.
        what: String,
        /// Where.
        place: Arc<Place>,
        /// What was wrong with it.
        source: tokio_postgres::Error,
    },
    /// The server is too old, or lacks what is needed.
    #[error("{place}: {missing}")]
    Unsupported {
        /// Where.
        place: Arc<Place>,
        /// What it lacks.
        missing: String,
    },
}

impl PostgresError {
    /// SQLSTATE, where the server gave one.
    #[must_use]
    pub fn sql_state(&self) -> Option<&str> {
        match self {
            Self::Refused { code, .. } | Self::Statement { code, .. } => Some(code),
            Self::Unreachable { .. }
            | Self::NoGreeting { .. }
            | Self::Tls { .. }
            | Self::Roots { .. }
            | Self::Lost { .. }
            | Self::NoAnswer { .. }
            | Self::Answer { .. }
            | Self::Unsupported { .. } => None,
        }
    }

    /// Whether a lock was not had in time (55P03): nothing was done.
    #[must_use]
    pub fn is_lock_timeout(&self) -> bool {
        self.sql_state() == Some(SqlState::LOCK_NOT_AVAILABLE.code())
    }

    /// Whether the role may not do it (42501).
    #[must_use]
    pub fn is_permission_denied(&self) -> bool {
        self.sql_state() == Some(SqlState::INSUFFICIENT_PRIVILEGE.code())
    }

    /// Whether the server ended the statement at its time limit or on request (57014).
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.sql_state() == Some(SqlState::QUERY_CANCELED.code())
    }

    /// Whether the session is gone, and it is unknown what became of the statement.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        match self {
            Self::Lost { .. } | Self::NoAnswer { .. } => true,
            // The server was told to stop, or stopped another session's crash.
            Self::Statement { code, .. } => code.starts_with("57P0"),
            Self::Unreachable { .. }
            | Self::NoGreeting { .. }
            | Self::Tls { .. }
            | Self::Roots { .. }
            | Self::Refused { .. }
            | Self::Answer { .. }
            | Self::Unsupported { .. } => false,
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Unreachable { .. } | Self::NoGreeting { .. } => {
                "is the server up, and may this machine reach it (firewall, private network, port)?"
            }
            Self::Tls { source, .. } => return Some(tls_hint(&chain(source))),
            Self::Roots { .. } => "give `sslrootcert` the PEM file of the authority, or `system`",
            Self::Refused { code, message, .. } => return refused_hint(code, message),
            Self::Statement {
                code, server_hint, ..
            } => {
                let hint = server_hint.as_deref().or_else(|| statement_hint(code));
                return hint.map(str::to_owned);
            }
            Self::Lost { .. } => {
                "look at the server's log; what the statement did is not known before the database is read again"
            }
            Self::NoAnswer { .. } => "look at pg_stat_activity: does the session still work?",
            Self::Answer { .. } | Self::Unsupported { .. } => return None,
        };
        Some(hint.to_owned())
    }

    /// Reads what tokio-postgres says of a connection that did not come about.
    pub(crate) fn of_connection(
        place: &Arc<Place>,
        mode: &'static str,
        source: tokio_postgres::Error,
    ) -> Self {
        let place = place.clone();
        if let Some(refusal) = source.as_db_error() {
            return Self::Refused {
                place,
                code: refusal.code().code().to_owned(),
                message: refusal.message().to_owned(),
            };
        }
        // The kind of this error is not public; its text is the only sign of it.
        if source
            .to_string()
            .starts_with("error performing TLS handshake")
        {
            return Self::Tls {
                place,
                mode,
                source,
            };
        }
        Self::Unreachable { place, source }
    }

    /// Reads what tokio-postgres says of a statement.
    pub(crate) fn of_statement(
        what: &str,
        place: &Arc<Place>,
        source: tokio_postgres::Error,
    ) -> Self {
        let (what, place) = (what.to_owned(), place.clone());
        if let Some(refusal) = source.as_db_error() {
            return Self::Statement {
                what,
                place,
                code: refusal.code().code().to_owned(),
                message: refusal.message().to_owned(),
                server_hint: refusal.hint().map(Box::from),
            };
        }
        let is_of_network = source.is_closed()
            || std::error::Error::source(&source).is_some_and(|cause| cause.is::<std::io::Error>());
        if is_of_network {
            Self::Lost {
                what,
                place,
                source,
            }
        } else {
            Self::Answer {
                what,
                place,
                source,
            }
        }
    }

    pub(crate) fn of_roots(place: &Arc<Place>, source: RootsError) -> Self {
        Self::Roots {
            place: place.clone(),
            source: Box::new(source),
        }
    }
}

fn chain(error: &tokio_postgres::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(one) = cause {
        text.push_str(&format!(": {one}"));
        cause = one.source();
    }
    text
}

fn tls_hint(text: &str) -> String {
    let hint = if text.contains("does not support TLS") {
        "the server speaks no TLS: turn it on there, or use a private network and `sslmode=prefer`"
    } else if text.contains("NotValidForName") || text.contains("not valid for name") {
        "the certificate is for another name: use that name as the host, or `sslmode=verify-ca`"
    } else if text.contains("UnknownIssuer") || text.contains("BadSignature") {
        "another authority signed the certificate: `sslrootcert` has to hold that one"
    } else if text.contains("Expired") || text.contains("expired") {
        "the server's certificate has expired: renew it"
    } else {
        "compare the server's certificate with `sslmode` and `sslrootcert`"
    };
    hint.to_owned()
}

fn refused_hint(code: &str, message: &str) -> Option<String> {
    let hint = match code {
        "28P01" => {
            "check the role's password in the URL; special characters are escaped (`%40` for @)"
        }
        "28000" if message.contains("no encryption") || message.contains("SSL off") => {
            "the server takes encrypted connections alone: add `sslmode=require` or stronger"
        }
        "28000" => "the server's pg_hba.conf has no rule for this role, database and address",
        "3D000" => "check the name of the database in the URL",
        "42501" => "grant the role CONNECT on the database",
        "53300" => "the server has no connection left: end idle ones, or raise max_connections",
        "57P03" => "the server is starting up or shutting down: try again",
        _ => return None,
    };
    Some(hint.to_owned())
}

fn statement_hint(code: &str) -> Option<&'static str> {
    match code {
        "55P03" => Some(
            "another session holds the lock: see who in pg_locks, or try again when it is done",
        ),
        "57014" => Some("the statement reached its time limit, or somebody cancelled it"),
        "42501" => Some("grant the role the right that the message names"),
        "53100" => Some("the server's disk is full"),
        "53200" => Some("the server has no memory left"),
        "57P01" | "57P02" | "57P03" => Some("the server was stopped or restarted; look at its log"),
        "25006" => Some("the server is a standby, or the transaction reads only"),
        _ => None,
    }
}
