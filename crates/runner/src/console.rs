//! The log: people's text, annotations, groups, and untrusted text kept from being a command.
//!
//! Under Actions everything goes to standard output with workflow commands; on a laptop to standard
//! error, so that standard output carries outputs alone.

use std::fmt::Display;
use std::io::{IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};

use crate::{Environment, Failure, Secret, mask, workflow_command};

/// The runner shows ten annotations of each level for a step; the rest is printed as plain text.
const ANNOTATIONS_SHOWN: usize = 10;

/// A line of a file that an annotation is shown at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Location<'a> {
    /// Path of the file, relative to the workspace.
    pub file: &'a str,
    /// First line, from 1.
    pub line: usize,
    /// Last line.
    pub end_line: usize,
}

/// The log of one step. Clones share it.
#[derive(Clone)]
pub struct Console {
    inner: Arc<Mutex<Inner>>,
    mode: Mode,
    is_debug: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Actions {
        is_act: bool,
    },
    Terminal,
    Plain,
    /// Standard error of a plugin: it may end in a step's log, or in a file of the program that started us.
    Plugin,
}

struct Inner {
    sink: Box<dyn Write + Send>,
    annotations: [usize; 3],
}

/// How much an annotation matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Something is wrong
    Error,
    /// Something may be
    Warning,
    /// Worth knowing
    Notice,
}

/// One of many annotations that are written together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Annotation<'a> {
    /// How much it matters.
    pub level: Level,
    /// Where it is shown.
    pub at: Location<'a>,
    /// Its title.
    pub title: &'a str,
    /// What it says.
    pub text: String,
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Notice => "notice",
        }
    }

    fn colour(self) -> &'static str {
        match self {
            Self::Error => "\u{1b}[1;31m",
            Self::Warning => "\u{1b}[1;33m",
            Self::Notice => "\u{1b}[1;34m",
        }
    }
}

impl std::fmt::Debug for Console {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Console")
            .field("mode", &self.mode)
            .finish_non_exhaustive()
    }
}

impl Console {
    /// The log of this process.
    #[must_use]
    pub fn new(environment: &Environment) -> Self {
        let (mode, sink): (Mode, Box<dyn Write + Send>) = if environment.is_actions() {
            let is_act = environment.get("ACT") == Some("true");
            (Mode::Actions { is_act }, Box::new(std::io::stdout()))
        } else if std::io::stderr().is_terminal() && environment.get("NO_COLOR").is_none() {
            (Mode::Terminal, Box::new(std::io::stderr()))
        } else {
            (Mode::Plain, Box::new(std::io::stderr()))
        };
        Self::with_sink(mode, sink, environment.is_debug())
    }

    /// Standard error of a program that another one started for its answer: plain text in which no line
    /// is a workflow command, and no masks, which would write secrets where the caller may keep them.
    #[must_use]
    pub fn of_plugin(environment: &Environment) -> Self {
        let sink = Box::new(std::io::stderr());
        Self::with_sink(Mode::Plugin, sink, environment.is_debug())
    }

    /// A log that writes plain text to `sink`; for tests of code that logs.
    #[must_use]
    pub fn plain(sink: Box<dyn Write + Send>) -> Self {
        Self::with_sink(Mode::Plain, sink, true)
    }

    fn with_sink(mode: Mode, sink: Box<dyn Write + Send>, is_debug: bool) -> Self {
        let annotations = [0; 3];
        Self {
            inner: Arc::new(Mutex::new(Inner { sink, annotations })),
            mode,
            is_debug,
        }
    }

    /// Tells the runner to hide a secret and its derived forms. Call before anything else is printed.
    pub fn mask(&self, secret: &Secret) {
        if let Mode::Actions { is_act } = self.mode {
            self.raw(&mask::commands(secret, is_act).join("\n"));
        }
    }

    /// A line of ordinary text.
    pub fn info(&self, text: impl Display) {
        self.raw(&self.safe(&text.to_string()));
    }

    /// A line that tells how a wait goes.
    pub fn progress(&self, text: impl Display) {
        self.info(text);
    }

    /// A line that is shown only when the run asked for debug output.
    pub fn debug(&self, text: impl Display) {
        if self.is_debug {
            match self.mode {
                Mode::Actions { .. } => {
                    self.raw(&workflow_command::render("debug", &[], &text.to_string()));
                }
                Mode::Terminal | Mode::Plain | Mode::Plugin => {
                    self.raw(&self.safe(&format!("debug: {text}")));
                }
            }
        }
    }

    /// A notice: shown on the run's page.
    pub fn notice(&self, title: &str, text: impl Display) {
        self.annotate(Level::Notice, title, &text.to_string());
    }

    /// A warning: shown on the run's page.
    pub fn warning(&self, title: &str, text: impl Display) {
        self.annotate(Level::Warning, title, &text.to_string());
    }

    /// An error: shown on the run's page. Does not end the step.
    pub fn error(&self, title: &str, text: impl Display) {
        self.annotate(Level::Error, title, &text.to_string());
    }

    /// A notice at a line of a file.
    pub fn notice_at(&self, at: Location<'_>, title: &str, text: impl Display) {
        self.annotate_at(Level::Notice, at, title, &text.to_string());
    }

    /// A warning at a line of a file.
    pub fn warning_at(&self, at: Location<'_>, title: &str, text: impl Display) {
        self.annotate_at(Level::Warning, at, title, &text.to_string());
    }

    /// An error at a line of a file. Does not end the step.
    pub fn error_at(&self, at: Location<'_>, title: &str, text: impl Display) {
        self.annotate_at(Level::Error, at, title, &text.to_string());
    }

    /// Annotations at lines of files, in one write: there may be thousands.
    pub fn annotations<'a>(&self, annotations: impl IntoIterator<Item = Annotation<'a>>) {
        let mut log = String::new();
        for Annotation {
            level,
            at,
            title,
            text,
        } in annotations
        {
            log.push_str(&self.annotation_at(level, at, title, &text));
            log.push('\n');
        }
        self.whole_lines(&log);
    }

    /// Shows a failure: title, message with its causes, hints.
    pub fn failure(&self, name: &str, failure: &Failure) {
        let mut text = failure.chain();
        for hint in failure.hints() {
            text.push_str("\nhint: ");
            text.push_str(hint);
        }
        self.annotate(Level::Error, failure.title_or(name), &text);
    }

    /// Opens a foldable group that ends when the guard is dropped.
    #[must_use]
    pub fn group(&self, title: impl Display) -> Group {
        let title = title.to_string();
        match self.mode {
            Mode::Actions { .. } => self.raw(&workflow_command::render("group", &[], &title)),
            Mode::Terminal | Mode::Plain | Mode::Plugin => {
                self.raw(&self.safe(&format!("── {title}")));
            }
        }
        Group {
            console: self.clone(),
        }
    }

    /// Prints text of unknown origin (a pod's log, a server's answer, a child's output) so that no line
    /// of it can be a workflow command or move a terminal's cursor.
    pub fn untrusted(&self, title: impl Display, text: &str) {
        self.info(title);
        let fence = self.fence();
        for line in text.lines() {
            fence.line(line);
        }
    }

    /// Stops workflow commands until the guard is dropped; each line printed through it is untrusted.
    #[must_use]
    pub fn fence(&self) -> Fence {
        let token = match self.mode {
            Mode::Actions { .. } => {
                let token = format!("switchyard-{:032x}", rand::random::<u128>());
                self.raw(&workflow_command::render("stop-commands", &[], &token));
                Some(token)
            }
            Mode::Terminal | Mode::Plain | Mode::Plugin => None,
        };
        Fence {
            console: self.clone(),
            token,
        }
    }

    /// Where no annotation is taken, the place stands in the text.
    fn annotation_at(&self, level: Level, at: Location<'_>, title: &str, text: &str) -> String {
        if matches!(self.mode, Mode::Actions { .. }) && self.takes_annotation(level) {
            let (line, end_line) = (at.line.to_string(), at.end_line.to_string());
            let properties = [
                ("file", at.file),
                ("line", line.as_str()),
                ("endLine", end_line.as_str()),
                ("title", title),
            ];
            workflow_command::render(level.name(), &properties, text)
        } else {
            self.as_text(level, title, &format!("{}:{}: {text}", at.file, at.line))
        }
    }

    fn annotate_at(&self, level: Level, at: Location<'_>, title: &str, text: &str) {
        self.raw(&self.annotation_at(level, at, title, text));
    }

    fn annotate(&self, level: Level, title: &str, text: &str) {
        if matches!(self.mode, Mode::Actions { .. }) && self.takes_annotation(level) {
            let properties = [("title", title)];
            self.raw(&workflow_command::render(level.name(), &properties, text));
        } else {
            self.raw(&self.as_text(level, title, text));
        }
    }

    /// What would be an annotation, as text.
    fn as_text(&self, level: Level, title: &str, text: &str) -> String {
        match self.mode {
            Mode::Terminal => {
                let (colour, name) = (level.colour(), level.name());
                format!("{colour}{name}:\u{1b}[0m {title}: {}", self.safe(text))
            }
            Mode::Actions { .. } | Mode::Plain | Mode::Plugin => {
                self.safe(&format!("{}: {title}: {text}", level.name()))
            }
        }
    }

    fn takes_annotation(&self, level: Level) -> bool {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let shown = &mut inner.annotations[level as usize];
        *shown += 1;
        *shown <= ANNOTATIONS_SHOWN
    }

    fn safe(&self, text: &str) -> String {
        match self.mode {
            Mode::Actions { .. } => {
                let lines: Vec<String> = text.lines().map(workflow_command::defuse).collect();
                lines.join("\n")
            }
            Mode::Terminal | Mode::Plain => printable(text),
            Mode::Plugin => {
                let text = printable(text);
                let lines: Vec<String> = text.lines().map(workflow_command::defuse).collect();
                lines.join("\n")
            }
        }
    }

    fn raw(&self, text: &str) {
        self.whole_lines(&format!("{text}\n"));
    }

    /// Writes lines in one go. A log that cannot be written is no reason to stop a deployment half-way.
    fn whole_lines(&self, lines: &str) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = inner.sink.write_all(lines.as_bytes());
        let _ = inner.sink.flush();
    }
}

/// Drops control characters except line feed and tab: they could rewrite what a terminal shows.
fn printable(text: &str) -> String {
    text.chars()
        .filter(|c| !c.is_control() || matches!(c, '\n' | '\t'))
        .collect()
}

/// An open group of log lines.
#[derive(Debug)]
pub struct Group {
    console: Console,
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Mode::Actions { .. } = self.console.mode {
            self.console.raw("::endgroup::");
        }
    }
}

/// A stretch of the log in which the runner takes no commands.
#[derive(Debug)]
pub struct Fence {
    console: Console,
    token: Option<String>,
}

impl Fence {
    /// Prints one untrusted line.
    pub fn line(&self, line: &str) {
        self.console.raw(&format!("  {}", printable(line)));
    }
}

impl Drop for Fence {
    fn drop(&mut self) {
        if let Some(token) = &self.token {
            self.console.raw(&format!("::{token}::"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn under_actions(print: impl FnOnce(&Console)) -> String {
        let sink = Sink::default();
        let mode = Mode::Actions { is_act: false };
        print(&Console::with_sink(mode, Box::new(sink.clone()), false));
        let bytes = sink.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn untrusted_text_stands_between_stop_commands() {
        let log = under_actions(|console| console.untrusted("log of `web`", "::set-env name=A::b"));
        let token = log
            .lines()
            .nth(1)
            .unwrap()
            .strip_prefix("::stop-commands::")
            .unwrap();
        assert_eq!(log.lines().nth(2), Some("  ::set-env name=A::b"));
        assert_eq!(log.lines().nth(3), Some(format!("::{token}::").as_str()));
    }

    #[test]
    fn ordinary_text_cannot_be_a_command() {
        let log = under_actions(|console| console.info("seen:\n ::error::gotcha\nx ##[error]y"));
        assert_eq!(log, "seen:\n|  ::error::gotcha\nx ## [error]y\n");
    }

    #[test]
    fn a_plugin_writes_neither_commands_nor_secrets() {
        let sink = Sink::default();
        let console = Console::with_sink(Mode::Plugin, Box::new(sink.clone()), true);
        console.mask(&Secret::new("hunter2"));
        console.warning("plugin", "seen:\n::error::gotcha");
        console.debug("::error::gotcha");
        let log = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
        assert_eq!(
            log,
            "warning: plugin: seen:\n| ::error::gotcha\ndebug: ::error::gotcha\n"
        );
    }

    #[test]
    fn the_eleventh_warning_is_printed_as_text() {
        let log = under_actions(|console| {
            for n in 0..11 {
                console.warning("notify", n);
            }
        });
        assert_eq!(log.matches("::warning title=notify::").count(), 10);
        assert!(log.ends_with("warning: notify: 10\n"), "{log}");
    }

    #[test]
    fn an_annotation_at_a_line_names_its_file() {
        let at = Location {
            file: "prisma/migrations/1_a,b/migration.sql",
            line: 3,
            end_line: 4,
        };
        let log = under_actions(|console| console.warning_at(at, "lint", "x"));
        assert_eq!(
            log,
            "::warning file=prisma/migrations/1_a%2Cb/migration.sql,line=3,endLine=4,title=lint::x\n"
        );
        let log = under_actions(|console| {
            for _ in 0..11 {
                console.warning_at(at, "lint", "x");
            }
        });
        assert!(
            log.ends_with("warning: lint: prisma/migrations/1_a,b/migration.sql:3: x\n"),
            "{log}"
        );
    }

    #[test]
    fn many_annotations_read_as_if_each_were_written_by_itself_and_are_one_write() {
        #[derive(Clone, Default)]
        struct Writes(Arc<Mutex<Vec<String>>>);
        impl Write for Writes {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                let text = String::from_utf8(bytes.to_vec()).unwrap();
                self.0.lock().unwrap().push(text);
                Ok(bytes.len())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let at = Location {
            file: "a.sql",
            line: 3,
            end_line: 4,
        };
        let by_itself = under_actions(|console| {
            for number in 0..12 {
                console.warning_at(at, "lint", format!("{number}\n::error::x"));
            }
        });
        let writes = Writes::default();
        let mode = Mode::Actions { is_act: false };
        let console = Console::with_sink(mode, Box::new(writes.clone()), false);
        console.annotations((0..12).map(|number| Annotation {
            level: Level::Warning,
            at,
            title: "lint",
            text: format!("{number}\n::error::x"),
        }));
        assert_eq!(*writes.0.lock().unwrap(), [by_itself]);
    }

    #[test]
    fn a_failure_is_one_annotation_with_its_hints() {
        let failure = Failure::gate(anyhow::anyhow!("service `shop/web` has no endpoint"))
            .hint("wait for the rollout first");
        let log = under_actions(|console| console.failure("traffic-switch", &failure));
        assert_eq!(
            log,
            "::error title=traffic-switch::service `shop/web` has no endpoint%0Ahint: wait for the rollout first\n"
        );
    }

    #[test]
    fn terminal_control_sequences_are_dropped() {
        assert_eq!(printable("a\u{1b}[2Jb\rc"), "a[2Jbc");
    }
}
