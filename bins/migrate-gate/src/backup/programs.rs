//! PostgreSQL's own programs: which are there, and whether they are new enough.

use std::path::{Path, PathBuf};
use std::time::Duration;

use switchyard_postgres::{ConnectionUrl, ServerVersion};
use switchyard_runner::child::{Child, ChildResult, Ended};
use switchyard_runner::{Cancel, Console, Environment, Failure, Kind};

/// How long a program may take to say its version.
const VERSION_LIMIT: Duration = Duration::from_secs(20);

/// Lines of a program that are shown when it fails.
const SHOWN_LINES: usize = 8;

/// `pg_dump` and `pg_restore`, with what is needed to run them.
#[derive(Debug, Clone)]
pub(crate) struct Programs {
    folder: Option<PathBuf>,
    environment: Environment,
    console: Console,
    cancel: Cancel,
    time_limit: Duration,
}

impl Programs {
    /// Programs of a folder, or of PATH.
    pub(crate) fn new(
        folder: Option<&Path>,
        context: &switchyard_runner::Context,
        time_limit: Duration,
    ) -> Self {
        Self {
            folder: folder.map(Path::to_owned),
            environment: context.environment.clone(),
            console: context.console.clone(),
            cancel: context.cancel.clone(),
            time_limit,
        }
    }

    /// Refuses a `pg_dump` or `pg_restore` that is older than the server.
    ///
    /// # Errors
    /// Kind input, with both versions; gives that of `pg_dump` otherwise.
    pub(crate) async fn require(&self, server: ServerVersion) -> Result<ServerVersion, Failure> {
        let dump = self.version("pg_dump").await?;
        let restore = self.version("pg_restore").await?;
        for (name, version) in [("pg_dump", dump), ("pg_restore", restore)] {
            if version.major() < server.major() {
                let text = format!("{name} is of version {version}, the server of {server}");
                return Err(Failure::message(Kind::Input, text).hint(format!(
                    "install the client programs of PostgreSQL {} or newer, and name their folder in `pg-programs`",
                    server.major()
                )));
            }
        }
        Ok(dump)
    }

    async fn version(&self, name: &str) -> Result<ServerVersion, Failure> {
        let program = vec![self.path(name), "--version".to_owned()];
        let child = Child::program(program, VERSION_LIMIT);
        let captured = child.capture(&self.environment, &self.cancel).await;
        let (ended, text) = captured.map_err(|failure| {
            failure.hint("install PostgreSQL's client programs (postgresql-client)")
        })?;
        let version = text
            .split_whitespace()
            .find_map(ServerVersion::from_text)
            .filter(|_| ended.result.is_success());
        version.ok_or_else(|| {
            let text = format!("`{name} --version` says `{}`", text.trim());
            Failure::message(Kind::Input, text)
        })
    }

    /// Runs a program against a database. Its address and password are in its environment.
    ///
    /// # Errors
    /// Kind remote when it ends with another code than 0; its last lines are in the message.
    pub(crate) async fn run(
        &self,
        name: &str,
        arguments: &[String],
        url: &ConnectionUrl,
    ) -> Result<(), Failure> {
        let mut program = vec![self.path(name)];
        program.extend_from_slice(arguments);
        let mut child = Child::program(program, self.time_limit)
            .variable("LC_ALL", "C.UTF-8")
            .variable("PGAPPNAME", "switchyard migrate-gate");
        for (name, value) in url.libpq_variables() {
            child = child.variable(name, value);
        }
        let (ended, _) = child.capture(&self.environment, &self.cancel).await?;
        if ended.result.is_success() {
            return Ok(());
        }
        self.console
            .untrusted(format!("{name}:"), &ended.last_lines.join("\n"));
        Err(failure(name, url, &ended))
    }

    fn path(&self, name: &str) -> String {
        match &self.folder {
            Some(folder) => folder.join(name).display().to_string(),
            None => name.to_owned(),
        }
    }
}

fn failure(name: &str, url: &ConnectionUrl, ended: &Ended) -> Failure {
    let how = match ended.result {
        ChildResult::Exited(code) => format!("ended with {code}"),
        ChildResult::Killed => "was killed".to_owned(),
        ChildResult::TimedOut(limit) => format!("took longer than {limit:?}"),
    };
    let first = ended.last_lines.len().saturating_sub(SHOWN_LINES);
    let lines = ended.last_lines[first..].join("; ");
    let text = format!("{name} of {url} {how}: {lines}");
    Failure::message(Kind::Remote, text).maybe_hint(hint(&lines))
}

fn hint(lines: &str) -> Option<&'static str> {
    if lines.contains("No space left on device") {
        Some(
            "the disk is full: give `backup-to` or RUNNER_TEMP more room, or use `backup-kind: external`",
        )
    } else if lines.contains("permission denied") {
        Some("the role has to be able to read every table and sequence (pg_read_all_data)")
    } else if lines.contains("could not obtain lock") || lines.contains("lock timeout") {
        Some("another session has a table locked: see pg_locks, and try again when it is done")
    } else {
        None
    }
}
