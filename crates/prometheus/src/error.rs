//! Why a question has no answer.

/// Why Prometheus gave no answer to a query.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No whole answer came.
    #[error(transparent)]
    Transport(#[from] switchyard_http::Error),
    /// It refused the query, and says why.
    #[error("{host} refused the query: {kind}: {message}")]
    Refused {
        /// Host and port.
        host: String,
        /// Its `errorType`, such as `bad_data`, `timeout`, `execution`.
        kind: String,
        /// Its own words, shortened.
        message: String,
    },
    /// It let nobody in.
    #[error("{host} answered {status}: it wants credentials, or others")]
    Unauthorized {
        /// Host and port.
        host: String,
        /// 401 or 403.
        status: u16,
    },
    /// What answers is no Prometheus, or one behind something that answers in its place.
    #[error("{host} answered {status} with what is no answer of Prometheus: {problem}")]
    Foreign {
        /// Host and port.
        host: String,
        /// The status.
        status: u16,
        /// What is wrong with it.
        problem: String,
    },
}

impl Error {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Transport(_) => {
                "check `prometheus-url`, and that it can be reached from this runner"
            }
            Self::Refused { kind, .. } if kind == "bad_data" => {
                "try the query in Prometheus' own page"
            }
            Self::Refused { .. } => "ask for less, or give Prometheus more time",
            Self::Unauthorized { .. } => {
                "give `prometheus-token`, or `prometheus-user` and `prometheus-password`"
            }
            Self::Foreign { .. } => {
                "`prometheus-url` is the base of the API, such as `https://prometheus.example.com`, without `/api/v1`"
            }
        }
    }
}
