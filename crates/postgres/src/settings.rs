//! What a session asks of its server before anything else.

use std::time::Duration;

/// How long a connection may take where the URL does not say.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Time on top of the server's own limit before a client gives up waiting for its answer.
pub(crate) const ANSWER_GRACE: Duration = Duration::from_secs(10);

/// Settings of a session. They are part of the connection itself, so they hold from its first statement on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionSettings {
    /// Shown in `pg_stat_activity`: who we are.
    pub application_name: String,
    /// Longest wait for a lock, whole milliseconds. Zero waits for ever.
    pub lock_timeout: Duration,
    /// Longest statement, whole milliseconds. Zero is no limit, also for the wait for an answer.
    pub statement_timeout: Duration,
}

impl ConnectionSettings {
    /// Settings for looking at a server: 5 s for a lock, 60 s for a statement.
    #[must_use]
    pub fn reading(application_name: &str) -> Self {
        Self {
            application_name: application_name.to_owned(),
            lock_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(60),
        }
    }

    /// The same without a limit for a statement, as for the checksum of a large table.
    #[must_use]
    pub fn without_statement_timeout(self) -> Self {
        Self {
            statement_timeout: Duration::ZERO,
            ..self
        }
    }

    /// How long an answer may take; `None` for as long as the connection lives.
    pub(crate) fn answer_limit(&self) -> Option<Duration> {
        (!self.statement_timeout.is_zero()).then(|| self.statement_timeout + ANSWER_GRACE)
    }

    /// The settings as the `options` of a connection, after those of the URL: ours count.
    pub(crate) fn options(&self, of_url: Option<&str>) -> String {
        format!(
            "{} -c lock_timeout={}ms -c statement_timeout={}ms",
            of_url.unwrap_or_default(),
            self.lock_timeout.as_millis(),
            self.statement_timeout.as_millis()
        )
        .trim_start()
        .to_owned()
    }
}
