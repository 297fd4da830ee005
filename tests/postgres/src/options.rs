//! What a server of a test is like.

use std::path::PathBuf;

use crate::Server;
use crate::certificate::Authority;

/// Whether a server speaks TLS.
#[derive(Debug, Clone, Default)]
pub enum Encryption {
    /// It does not.
    #[default]
    None,
    /// It does, and takes connections without it too. The authority signs its certificate for `127.0.0.1`
    /// and the names given.
    Offered(Authority, Vec<String>),
    /// It refuses connections without it.
    Required(Authority, Vec<String>),
}

/// What a server is like; [`Options::start`] starts it.
#[derive(Debug, Clone, Default)]
pub struct Options {
    pub(crate) encryption: Encryption,
    pub(crate) settings: Vec<(String, String)>,
    pub(crate) data_in: Option<PathBuf>,
}

impl Options {
    /// Speaks TLS.
    #[must_use]
    pub fn encryption(mut self, encryption: Encryption) -> Self {
        self.encryption = encryption;
        self
    }

    /// Loads `pg_stat_statements`. A database still has to `CREATE EXTENSION` it.
    #[must_use]
    pub fn statement_statistics(self) -> Self {
        self.setting("shared_preload_libraries", "pg_stat_statements")
            .setting("pg_stat_statements.track_utility", "on")
    }

    /// A setting of `postgresql.conf`; the last of a name counts.
    #[must_use]
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Puts the data directory below a folder, for instance a small file system. The folder has to let the
    /// account `postgres` in.
    #[must_use]
    pub fn data_in(mut self, folder: impl Into<PathBuf>) -> Self {
        self.data_in = Some(folder.into());
        self
    }

    /// Starts a server and waits until it takes connections.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn start(self) -> Server {
        Server::with(self)
    }
}
