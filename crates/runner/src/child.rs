//! Children that a user's input starts (`run:`).
//!
//! A child gets an allow-listed environment: no command files of the runner, no OIDC request variables,
//! no inputs, and a kubeconfig only when asked. This is hygiene, not isolation: a child runs as the same
//! user and can read what that user can read.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal as UnixSignal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::Command;
use tokio::sync::mpsc;

use crate::{Cancel, Console, Environment, Failure, Kind, Signal};

/// Variables a child may see: how to find programs, where to write, which run this is.
pub const ALLOWED: &[&str] = &[
    "CI",
    "GITHUB_ACTIONS",
    "GITHUB_ACTOR",
    "GITHUB_BASE_REF",
    "GITHUB_EVENT_NAME",
    "GITHUB_HEAD_REF",
    "GITHUB_JOB",
    "GITHUB_REF",
    "GITHUB_REF_NAME",
    "GITHUB_REPOSITORY",
    "GITHUB_RUN_ATTEMPT",
    "GITHUB_RUN_ID",
    "GITHUB_RUN_NUMBER",
    "GITHUB_SERVER_URL",
    "GITHUB_SHA",
    "GITHUB_WORKFLOW",
    "GITHUB_WORKSPACE",
    "HOME",
    "LANG",
    "LC_ALL",
    "LOGNAME",
    "PATH",
    "RUNNER_ARCH",
    "RUNNER_NAME",
    "RUNNER_OS",
    "RUNNER_TEMP",
    "RUNNER_TOOL_CACHE",
    "SHELL",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "TEMP",
    "TERM",
    "TMP",
    "TMPDIR",
    "TZ",
    "USER",
];

/// How long a child may take to end after SIGTERM before it is killed.
const TERM_GRACE: Duration = Duration::from_secs(3);

/// Lines of output kept for the report.
const KEPT_LINES: usize = 50;

/// A child to run.
#[derive(Debug, Clone)]
pub struct Child {
    /// Program and its arguments.
    pub program: Vec<String>,
    /// Variables given on top of the allow-list, such as the addresses of port-forwards.
    pub variables: BTreeMap<String, String>,
    /// Where it runs; this process's directory when absent.
    pub directory: Option<PathBuf>,
    /// Most time it may take.
    pub time_limit: Duration,
}

impl Child {
    /// A shell script, run as the runner runs `shell: bash`: stopping at the first error.
    #[must_use]
    pub fn script(text: &str, time_limit: Duration) -> Self {
        let program = [
            "bash",
            "--noprofile",
            "--norc",
            "-eo",
            "pipefail",
            "-c",
            text,
        ];
        Self::program(program.map(str::to_owned).to_vec(), time_limit)
    }

    /// A program with its arguments, without a shell.
    #[must_use]
    pub fn program(program: Vec<String>, time_limit: Duration) -> Self {
        Self {
            program,
            variables: BTreeMap::new(),
            directory: None,
            time_limit,
        }
    }

    /// Gives a variable.
    #[must_use]
    pub fn variable(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.variables.insert(name.into(), value.into());
        self
    }

    /// Lets the child use a kubeconfig.
    #[must_use]
    pub fn kubeconfig(self, path: &Path) -> Self {
        self.variable("KUBECONFIG", path.display().to_string())
    }

    /// Runs where.
    #[must_use]
    pub fn directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = Some(directory.into());
        self
    }

    /// Runs the child, shows its output fenced, and waits for its end.
    ///
    /// # Errors
    /// [`Kind::Input`] when it cannot be started; [`Kind::Cancelled`] when a signal ended the wait (the
    /// child's process group is told to end, then killed).
    pub async fn run(
        &self,
        environment: &Environment,
        console: &Console,
        cancel: &Cancel,
    ) -> Result<Ended, Failure> {
        self.execute(environment, cancel, Show::Fenced(console))
            .await
    }

    /// Runs the child and keeps its standard output whole instead of showing it; for programs whose
    /// output is data, such as `helm template`. Standard error is kept in `last_lines`.
    ///
    /// # Errors
    /// As [`Child::run`].
    pub async fn capture(
        &self,
        environment: &Environment,
        cancel: &Cancel,
    ) -> Result<(Ended, String), Failure> {
        let mut output = String::new();
        let ended = self
            .execute(environment, cancel, Show::Captured(&mut output))
            .await?;
        Ok((ended, output))
    }

    /// Runs the child and keeps everything it writes, both streams in the order in which it came, instead of
    /// showing it; for children that run beside each other, whose fences would mix. Of more than
    /// [`KEPT_OUTPUT`] lines the first ones are left out, and `lines_left_out` says how many.
    ///
    /// # Errors
    /// As [`Child::run`].
    pub async fn keep(
        &self,
        environment: &Environment,
        cancel: &Cancel,
    ) -> Result<(Ended, KeptOutput), Failure> {
        let mut kept = KeptOutput::default();
        let ended = self
            .execute(environment, cancel, Show::Kept(&mut kept))
            .await?;
        Ok((ended, kept))
    }

    async fn execute(
        &self,
        environment: &Environment,
        cancel: &Cancel,
        show: Show<'_>,
    ) -> Result<Ended, Failure> {
        let mut process = self.command(environment).spawn().map_err(|cause| {
            Failure::input(anyhow::Error::new(cause).context(format!("start `{}`", self.name())))
                .hint("is the program installed and on PATH?")
        })?;
        let group = process
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .map(Pid::from_raw);
        let (sender, lines) = mpsc::channel(256);
        let readers = [
            read(Stream::Out, process.stdout.take(), sender.clone()),
            read(Stream::Err, process.stderr.take(), sender),
        ];
        let printing = collect(lines, show);
        let waiting = async {
            let ending = tokio::select! {
                status = process.wait() => Ending::Status(status),
                signal = cancel.cancelled() => Ending::Cancelled(signal),
                () = tokio::time::sleep(self.time_limit) => Ending::TimedOut,
            };
            if !matches!(ending, Ending::Status(_)) {
                end_group(group, &mut process).await;
            }
            // A grandchild that keeps a pipe open must not hang the step.
            for mut reader in readers {
                if tokio::time::timeout(TERM_GRACE, &mut reader).await.is_err() {
                    reader.abort();
                }
            }
            ending
        };
        let (ending, last_lines) = tokio::join!(waiting, printing);
        self.ended(ending, last_lines)
    }

    fn command(&self, environment: &Environment) -> Command {
        let (program, arguments) = self
            .program
            .split_first()
            .map_or(("", &[][..]), |(p, a)| (p.as_str(), a));
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env_clear()
            .process_group(0)
            .kill_on_drop(true);
        for name in ALLOWED {
            if let Some(value) = environment.get(name) {
                command.env(name, value);
            }
        }
        command.envs(&self.variables);
        if let Some(directory) = &self.directory {
            command.current_dir(directory);
        }
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn name(&self) -> &str {
        self.program.first().map_or("", String::as_str)
    }

    fn ended(&self, ending: Ending, last_lines: Vec<String>) -> Result<Ended, Failure> {
        let result = match ending {
            Ending::Status(Ok(status)) => match status.code() {
                Some(code) => ChildResult::Exited(code),
                None => ChildResult::Killed,
            },
            Ending::Status(Err(cause)) => {
                let error =
                    anyhow::Error::new(cause).context(format!("wait for `{}`", self.name()));
                return Err(Failure::bug(error));
            }
            Ending::TimedOut => ChildResult::TimedOut(self.time_limit),
            Ending::Cancelled(signal) => {
                let text = format!("{} ended `{}`", signal.name(), self.name());
                return Err(Failure::message(Kind::Cancelled(signal), text));
            }
        };
        Ok(Ended { result, last_lines })
    }
}

/// How a child ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Its end.
    pub result: ChildResult,
    /// The last lines it wrote, oldest first. Untrusted text.
    pub last_lines: Vec<String>,
}

/// Lines that [`Child::keep`] keeps.
pub const KEPT_OUTPUT: usize = 5_000;

/// What a child wrote. Untrusted text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeptOutput {
    /// The lines, oldest first.
    pub lines: VecDeque<String>,
    /// Lines before these.
    pub lines_left_out: usize,
}

impl KeptOutput {
    fn push(&mut self, line: String) {
        if self.lines.len() == KEPT_OUTPUT {
            self.lines.pop_front();
            self.lines_left_out += 1;
        }
        self.lines.push_back(line);
    }
}

/// A child's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChildResult {
    /// It exited with this code; 0 is success.
    Exited(i32),
    /// A signal killed it.
    Killed,
    /// It was stopped at its time limit.
    TimedOut(Duration),
}

impl ChildResult {
    /// Whether it exited with 0.
    #[must_use]
    pub fn is_success(self) -> bool {
        self == Self::Exited(0)
    }
}

enum Ending {
    Status(std::io::Result<std::process::ExitStatus>),
    Cancelled(Signal),
    TimedOut,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stream {
    Out,
    Err,
}

enum Show<'a> {
    Fenced(&'a Console),
    Captured(&'a mut String),
    Kept(&'a mut KeptOutput),
}

fn read(
    stream: Stream,
    pipe: Option<impl AsyncRead + Unpin + Send + 'static>,
    sender: mpsc::Sender<(Stream, String)>,
) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        let Some(pipe) = pipe else { return };
        let mut reader = BufReader::new(pipe);
        let mut line = Vec::new();
        while matches!(reader.read_until(b'\n', &mut line).await, Ok(1..)) {
            let text = String::from_utf8_lossy(&line);
            let text = text.trim_end_matches(['\n', '\r']).to_owned();
            if sender.send((stream, text)).await.is_err() {
                return;
            }
            line.clear();
        }
    })
}

async fn collect(mut lines: mpsc::Receiver<(Stream, String)>, mut show: Show<'_>) -> Vec<String> {
    let mut kept = VecDeque::with_capacity(KEPT_LINES);
    let fence = match &show {
        Show::Fenced(console) => Some(console.fence()),
        Show::Captured(_) | Show::Kept(_) => None,
    };
    while let Some((stream, line)) = lines.recv().await {
        if let Some(fence) = &fence {
            fence.line(&line);
        }
        if let (Show::Captured(output), Stream::Out) = (&mut show, stream) {
            output.push_str(&line);
            output.push('\n');
            continue;
        }
        if let Show::Kept(output) = &mut show {
            output.push(line.clone());
        }
        if kept.len() == KEPT_LINES {
            kept.pop_front();
        }
        kept.push_back(line);
    }
    kept.into()
}

/// Ends a child and everything it started: SIGTERM to the group, then SIGKILL.
async fn end_group(group: Option<Pid>, process: &mut tokio::process::Child) {
    let Some(group) = group else { return };
    // The group may be gone already; that is what was wanted.
    let _ = killpg(group, UnixSignal::SIGTERM);
    if tokio::time::timeout(TERM_GRACE, process.wait())
        .await
        .is_err()
    {
        let _ = killpg(group, UnixSignal::SIGKILL);
        let _ = process.wait().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);

    fn environment() -> Environment {
        let path = std::env::var("PATH").unwrap();
        let pairs = [
            ("PATH", path.as_str()),
            ("GITHUB_ENV", "/tmp/env"),
            ("GITHUB_OUTPUT", "/tmp/output"),
            ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "token"),
            ("INPUT_SLACK_WEBHOOK", "hook"),
            ("KUBECONFIG", "/tmp/kubeconfig"),
        ];
        pairs.into_iter().collect()
    }

    #[tokio::test]
    async fn a_child_sees_no_command_files_no_oidc_no_inputs_and_no_kubeconfig() {
        let child = Child::script("env", LIMIT).variable("WEB_ADDRESS", "127.0.0.1:1");
        let (ended, output) = child
            .capture(&environment(), &Cancel::default())
            .await
            .unwrap();
        assert!(ended.result.is_success());
        let names: Vec<&str> = output
            .lines()
            .filter_map(|line| line.split('=').next())
            .collect();
        for name in [
            "GITHUB_ENV",
            "GITHUB_OUTPUT",
            "ACTIONS_ID_TOKEN_REQUEST_TOKEN",
            "INPUT_SLACK_WEBHOOK",
            "KUBECONFIG",
        ] {
            assert!(!names.contains(&name), "{name}");
        }
        assert!(output.contains("WEB_ADDRESS=127.0.0.1:1"));
    }

    #[tokio::test]
    async fn kept_output_has_both_streams_and_says_what_was_left_out() {
        let child = Child::script("echo one; echo two >&2; seq 5000", LIMIT);
        let (ended, kept) = child
            .keep(&environment(), &Cancel::default())
            .await
            .unwrap();
        assert!(ended.result.is_success());
        assert_eq!(kept.lines.len(), KEPT_OUTPUT);
        assert_eq!(kept.lines_left_out, 2);
        let child = Child::script("echo one; echo two >&2", LIMIT);
        let (_, mut kept) = child
            .keep(&environment(), &Cancel::default())
            .await
            .unwrap();
        kept.lines.make_contiguous().sort();
        assert_eq!(kept.lines, ["one", "two"]);
    }

    #[tokio::test]
    async fn the_exit_code_is_the_childs() {
        let child = Child::script("echo before; false; echo after", LIMIT);
        let console = Console::plain(Box::new(std::io::sink()));
        let ended = child
            .run(&environment(), &console, &Cancel::default())
            .await
            .unwrap();
        assert_eq!(ended.result, ChildResult::Exited(1));
        assert_eq!(ended.last_lines, ["before"]);
    }

    #[tokio::test]
    async fn a_child_over_its_time_is_ended_with_all_it_started() {
        // Long enough for a busy machine to start a shell.
        let child = Child::script("sleep 300 & echo $!; wait", Duration::from_secs(2));
        let (ended, output) = child
            .capture(&environment(), &Cancel::default())
            .await
            .unwrap();
        assert!(matches!(ended.result, ChildResult::TimedOut(_)));
        let grandchild: u32 = output.trim().parse().unwrap();
        let state = || std::fs::read_to_string(format!("/proc/{grandchild}/stat"));
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while state().is_ok_and(|state| !state.contains(") Z ")) {
            assert!(
                std::time::Instant::now() < deadline,
                "the grandchild still runs"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    #[tokio::test]
    async fn cancelling_ends_the_child() {
        let cancel = Cancel::default();
        cancel.request(Signal::Interrupt);
        let failure = Child::script("sleep 300", LIMIT)
            .capture(&environment(), &cancel)
            .await
            .unwrap_err();
        assert_eq!(failure.kind().exit_code(), 130);
    }
}
