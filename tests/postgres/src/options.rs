//! What a server of a test is like.

use std::path::PathBuf;

use crate::Server;
use crate::certificate::Authority;
use crate::programs::PINNED;

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
#[derive(Debug, Clone)]
pub struct Options {
    pub(crate) major: u32,
    pub(crate) encryption: Encryption,
    pub(crate) settings: Vec<(String, String)>,
    pub(crate) data_in: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            major: PINNED,
            encryption: Encryption::None,
            settings: Vec::new(),
            data_in: None,
        }
    }
}

impl Options {
    /// Is of another major version of PostgreSQL, one of those that `tests/tools/postgresql-majors` pins. The client's
    /// programs stay those of the pinned version.
    #[must_use]
    pub fn major(mut self, major: u32) -> Self {
        self.major = major;
        self
    }

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
