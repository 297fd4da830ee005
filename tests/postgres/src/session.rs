//! A session that stays open, for what a test holds while something else runs.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// Printed after each script, so that its end can be seen.
const MARK: &str = "-- end of a script of the test --";

/// How long a script may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// An open session; cut when it is dropped.
#[derive(Debug)]
pub struct Session {
    child: Child,
    stdin: ChildStdin,
    lines: Receiver<String>,
}

impl Session {
    pub(crate) fn open(mut psql: Command) -> Self {
        let mut child = psql
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("start psql");
        let stdin = child.stdin.take().expect("psql's standard input");
        let stdout = child.stdout.take().expect("psql's standard output");
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self {
            child,
            stdin,
            lines,
        }
    }

    /// Runs a script and gives its rows: one line a row, fields separated by `|`.
    ///
    /// # Panics
    /// When a statement fails or takes longer than a minute.
    pub fn run(&mut self, script: &str) -> String {
        self.begin(script);
        self.finish()
    }

    /// Sends a script without waiting for its end: it may block. [`Session::finish`] waits.
    ///
    /// # Panics
    /// When the session is over.
    pub fn begin(&mut self, script: &str) {
        let text = format!("{script}\n;\n\\echo '{MARK}'\n");
        self.stdin
            .write_all(text.as_bytes())
            .and_then(|()| self.stdin.flush())
            .expect("the session is open");
    }

    /// Waits for the end of the script that was begun, and gives its rows.
    ///
    /// # Panics
    /// As [`Session::run`].
    pub fn finish(&mut self) -> String {
        let mut rows = Vec::new();
        loop {
            let line = self.lines.recv_timeout(PATIENCE);
            let line = line.expect("the script of the session ends without an error");
            if line == MARK {
                return rows.join("\n");
            }
            rows.push(line);
        }
    }

    /// Id of the server's process for this session.
    ///
    /// # Panics
    /// When the session is over.
    pub fn backend(&mut self) -> i32 {
        let row = self.run("SELECT pg_backend_pid()");
        row.parse().expect("a process id")
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
