//! A database of a test, looked at and changed with PostgreSQL's own client.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::programs::program;
use crate::server::{PASSWORD, SUPERUSER};
use crate::session::Session;

/// A database of a running server. It stays until its server ends.
#[derive(Debug, Clone)]
pub struct Database {
    port: u16,
    name: String,
}

impl Database {
    pub(crate) fn create(port: u16) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("shop_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        Self::existing(port, "postgres").run(&format!("CREATE DATABASE {name}"));
        Self { port, name }
    }

    pub(crate) fn existing(port: u16, name: &str) -> Self {
        Self {
            port,
            name: name.to_owned(),
        }
    }

    /// Its name, which needs no quotes in SQL.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its URL for the superuser.
    #[must_use]
    pub fn url(&self) -> String {
        self.url_as(SUPERUSER, PASSWORD)
    }

    /// Its URL for a role with a password; both are escaped.
    #[must_use]
    pub fn url_as(&self, role: &str, password: &str) -> String {
        url(self.port, role, password, &self.name)
    }

    /// Runs a script as the superuser, each statement on its own, as `psql -f` does.
    ///
    /// # Panics
    /// At the first statement that fails.
    pub fn run(&self, script: &str) {
        self.query(script);
    }

    /// As [`Database::run`]; gives what it printed: one line a row, fields separated by `|`.
    ///
    /// # Panics
    /// At the first statement that fails.
    #[must_use]
    pub fn read(&self, script: &str) -> String {
        self.query(script)
    }

    /// Runs a script and gives what `psql` printed on standard error when a statement failed.
    ///
    /// # Errors
    /// With that text.
    pub fn try_run(&self, script: &str) -> Result<String, String> {
        let Output {
            status,
            stdout,
            stderr,
        } = self.psql_with(script);
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        if status.success() {
            Ok(text(&stdout).trim_end_matches('\n').to_owned())
        } else {
            Err(text(&stderr))
        }
    }

    /// Opens a session that stays open: for locks, long transactions, prepared statements.
    ///
    /// # Panics
    /// When `psql` cannot be started.
    #[must_use]
    pub fn session(&self) -> Session {
        Session::open(self.psql())
    }

    fn query(&self, script: &str) -> String {
        self.try_run(script)
            .unwrap_or_else(|cause| panic!("in database {}: {cause}\n{script}", self.name))
    }

    fn psql_with(&self, script: &str) -> Output {
        let mut command = self.psql();
        command
            .args(["--file=-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("start psql");
        let mut stdin = child.stdin.take().expect("psql's standard input");
        let text = script.to_owned();
        let writing = std::thread::spawn(move || {
            // psql that stopped at an error reads no further.
            let _ = stdin.write_all(text.as_bytes());
        });
        let output = child.wait_with_output().expect("wait for psql");
        writing.join().expect("write to psql");
        output
    }

    fn psql(&self) -> Command {
        let mut command = Command::new(program("psql"));
        command
            .env_clear()
            .env("PGPASSWORD", PASSWORD)
            .env("PGAPPNAME", "test")
            .env("LC_ALL", "C.UTF-8")
            .args(["--no-psqlrc", "--quiet", "--no-align", "--tuples-only"])
            .args(["--set=ON_ERROR_STOP=1", "--host=127.0.0.1"])
            .arg(format!("--port={}", self.port))
            .arg(format!("--username={SUPERUSER}"))
            .arg(format!("--dbname={}", self.name));
        command
    }
}

/// A connection URL with escaped parts.
pub(crate) fn url(port: u16, role: &str, password: &str, database: &str) -> String {
    format!(
        "postgresql://{}:{}@127.0.0.1:{port}/{}",
        escape(role),
        escape(password),
        escape(database)
    )
}

fn escape(text: &str) -> String {
    text.bytes().fold(String::new(), |mut escaped, byte| {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            // Writing to a `String` cannot fail.
            let _ = write!(escaped, "%{byte:02X}");
        }
        escaped
    })
}
