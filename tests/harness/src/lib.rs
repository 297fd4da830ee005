//! Black-box runs of a binary as a step: a scrubbed environment, files for the runner's commands, and
//! everything that the step said afterwards.
//!
//! Knows how the runner starts a step; refuses to know what any binary does.

mod command_lines;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

pub use command_lines::CommandLines;

/// A step to run: `Step::new(env!("CARGO_BIN_EXE_notify")).input("event", "success").run()`.
#[derive(Debug)]
pub struct Step {
    program: PathBuf,
    arguments: Vec<String>,
    variables: BTreeMap<String, String>,
    stdin: Option<String>,
    folder: TempDir,
}

/// What a step said and did.
#[derive(Debug)]
pub struct Ended {
    /// Exit code; `None` when a signal killed it.
    pub code: Option<i32>,
    /// Standard output: the log under Actions, outputs on a laptop.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// The outputs as the runner reads them from `GITHUB_OUTPUT`; the last value of a name counts.
    pub outputs: BTreeMap<String, String>,
    /// The step's summary.
    pub summary: String,
    folder: TempDir,
}

impl Step {
    /// A step that runs `program` as the runner would, with `GITHUB_ACTIONS=true`.
    ///
    /// # Panics
    /// When no temporary folder can be made.
    #[must_use]
    pub fn new(program: impl Into<PathBuf>) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = |name: &str| folder.path().join(name).display().to_string();
        for name in ["output", "summary"] {
            std::fs::write(folder.path().join(name), "").expect("write into the temporary folder");
        }
        let variables = [
            ("PATH", std::env::var("PATH").unwrap_or_default()),
            ("HOME", file("home")),
            ("GITHUB_ACTIONS", "true".into()),
            ("GITHUB_OUTPUT", file("output")),
            ("GITHUB_STEP_SUMMARY", file("summary")),
            ("RUNNER_TEMP", folder.path().display().to_string()),
            ("GITHUB_REPOSITORY", "example/shop".into()),
            ("GITHUB_RUN_ID", "1001".into()),
            ("GITHUB_RUN_ATTEMPT", "1".into()),
            ("GITHUB_ACTOR", "dana".into()),
            (
                "GITHUB_SHA",
                "0123456789abcdef0123456789abcdef01234567".into(),
            ),
        ];
        let variables = variables
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value));
        Self {
            program: program.into(),
            arguments: Vec::new(),
            variables: variables.collect(),
            stdin: None,
            folder,
        }
    }

    /// Gives an input as the action's `env:` mapping does.
    #[must_use]
    pub fn input(self, name: &str, value: impl Into<String>) -> Self {
        let name = format!("INPUT_{}", name.to_uppercase().replace('-', "_"));
        self.variable(&name, value)
    }

    /// Gives or replaces an environment variable.
    #[must_use]
    pub fn variable(mut self, name: &str, value: impl Into<String>) -> Self {
        self.variables.insert(name.to_owned(), value.into());
        self
    }

    /// Takes an environment variable away.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.variables.remove(name);
        self
    }

    /// Adds a command line argument.
    #[must_use]
    pub fn argument(mut self, argument: impl Into<String>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Gives it a text on standard input; there is none otherwise.
    #[must_use]
    pub fn stdin(mut self, text: impl Into<String>) -> Self {
        self.stdin = Some(text.into());
        self
    }

    /// Runs it as a person does on a laptop: no runner around it.
    #[must_use]
    pub fn on_a_laptop(self) -> Self {
        ["GITHUB_ACTIONS", "GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY"]
            .iter()
            .fold(self, |step, name| step.without(name))
    }

    /// A folder of this step's own (its `RUNNER_TEMP`), for files that it reads.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file into the step's folder and gives its path.
    ///
    /// # Panics
    /// When it cannot be written.
    #[must_use]
    pub fn file(&self, name: &str, text: &str) -> String {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).expect("write into the step's folder");
        path.display().to_string()
    }

    /// Starts it; [`Started::finish`] waits for its end.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start(self) -> Started {
        let mut command = Command::new(&self.program);
        command
            .args(&self.arguments)
            .env_clear()
            .envs(&self.variables);
        let stdin = if self.stdin.is_some() {
            Stdio::piped()
        } else {
            Stdio::null()
        };
        command
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("start the binary");
        if let (Some(text), Some(mut stdin)) = (self.stdin, child.stdin.take()) {
            // A binary that does not read it may be gone already.
            let _ = stdin.write_all(text.as_bytes());
        }
        Started {
            child,
            folder: self.folder,
        }
    }

    /// Runs it to its end.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn run(self) -> Ended {
        self.start().finish()
    }
}

/// A running step.
#[derive(Debug)]
pub struct Started {
    child: Child,
    folder: TempDir,
}

impl Started {
    /// The process id, for signals.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The process, to read its streams as they come.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Waits for the end.
    ///
    /// # Panics
    /// When its output is not UTF-8 or its files cannot be read.
    #[must_use]
    pub fn finish(self) -> Ended {
        let Output {
            status,
            stdout,
            stderr,
        } = self.child.wait_with_output().expect("wait for the binary");
        let read =
            |name: &str| std::fs::read_to_string(self.folder.path().join(name)).unwrap_or_default();
        Ended {
            code: status.code(),
            stdout: String::from_utf8(stdout).expect("UTF-8 on standard output"),
            stderr: String::from_utf8(stderr).expect("UTF-8 on standard error"),
            outputs: outputs(&read("output")),
            summary: read("summary"),
            folder: self.folder,
        }
    }
}

impl Ended {
    /// Both streams, for messages of failed assertions.
    #[must_use]
    pub fn log(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }

    /// The text with what changes from run to run replaced, for snapshots.
    #[must_use]
    pub fn redacted(&self, text: &str) -> String {
        text.replace(&self.folder.path().display().to_string(), "[folder]")
    }

    /// Fails when `secret` stands in any stream, output, summary or file that the step left.
    ///
    /// # Panics
    /// When it does, naming where.
    pub fn assert_never_shows(&self, secret: &str) {
        let shown = |line: &&str| line.contains(secret) && !line.starts_with("::add-mask::");
        assert!(
            !self.log().lines().any(|line| shown(&line)),
            "the log shows a secret"
        );
        let mut folders = vec![self.folder.path().to_path_buf()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                let path = entry.path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let text =
                    String::from_utf8_lossy(&std::fs::read(&path).unwrap_or_default()).into_owned();
                assert!(!text.contains(secret), "{} shows a secret", path.display());
            }
        }
    }
}

/// Fails with everything that a step said unless it ended with this code.
///
/// # Panics
/// When it ended otherwise.
#[track_caller]
pub fn expect_code(ended: &Ended, code: i32) {
    assert_eq!(ended.code, Some(code), "{}", ended.log());
}

/// Fails unless a step said all of these texts.
///
/// # Panics
/// At the first one that is missing, with everything that it said.
#[track_caller]
pub fn expect_said(ended: &Ended, texts: &[&str]) {
    let said = ended.log();
    for text in texts {
        assert!(said.contains(text), "`{text}` was not said:\n{said}");
    }
}

/// Waits until a condition holds; a limit ends a test that would wait for ever.
///
/// # Panics
/// When it does not hold within two minutes: the machine may be busy with other tests.
#[track_caller]
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(120);
    while !holds() {
        assert!(Instant::now() < deadline, "{what}: not within two minutes");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Reads a file of heredoc commands as the runner does.
fn outputs(text: &str) -> BTreeMap<String, String> {
    let mut outputs = BTreeMap::new();
    let mut lines = text.split('\n');
    while let Some(line) = lines.next() {
        let Some((key, delimiter)) = line.split_once("<<") else {
            continue;
        };
        let value: Vec<&str> = lines
            .by_ref()
            .take_while(|line| *line != delimiter)
            .collect();
        outputs.insert(key.to_owned(), value.join("\n"));
    }
    outputs
}
