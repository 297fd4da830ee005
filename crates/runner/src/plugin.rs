//! Programs that another program starts for what they print: exec plugins, credential helpers.
//!
//! They are no steps. `INPUT_…` variables around them belong to the step that started their caller, so
//! they have arguments alone; standard output holds their one answer and nothing else; they write no
//! outputs, and no secret to standard error, which the caller may keep.

use std::ffi::OsString;
use std::future::Future;
use std::io::Write;

use crate::main_loop::{self, Threads};
use crate::{Cancel, Console, Environment, Failure, Kind};

/// A way in which a binary is started by another program.
pub trait Plugin: clap::Parser + Send {
    /// Name shown in its messages.
    const NAME: &'static str;

    /// Whether this command line (`arguments[0]` is the program's name) is a call of the plugin. What is
    /// left of it when the plugin's own name is taken away is parsed; `None` calls the action.
    fn called(arguments: &[OsString]) -> Option<Vec<OsString>>;

    /// An answer that lies ready for this very command line, as [`Plugin::called`] left it. It is looked for
    /// before anything is parsed or started: most calls are for what an earlier one has got. `None` for whatever
    /// is not plain; then the call goes its usual way, and tells what is wrong.
    fn kept(_arguments: &[OsString], _environment: &Environment) -> Option<String> {
        None
    }

    /// Gives the answer for standard output.
    ///
    /// # Errors
    /// A [`Failure`], told on standard error; its kind decides the exit code.
    fn run(self, context: &PluginContext) -> impl Future<Output = Result<String, Failure>> + Send;
}

/// What a plugin may touch of the world around it.
#[derive(Debug, Clone)]
pub struct PluginContext {
    /// The process environment, read once.
    pub environment: Environment,
    /// Standard error, as plain text that cannot be a workflow command.
    pub console: Console,
    /// Fires on SIGINT and SIGTERM.
    pub cancel: Cancel,
}

/// Runs a plugin and gives the exit code. `arguments` are what [`Plugin::called`] left.
pub(crate) fn execute<P: Plugin>(
    arguments: Vec<OsString>,
    environment: Environment,
    console: &Console,
) -> u8 {
    if let Some(answer) = P::kept(&arguments, &environment) {
        return print(answer);
    }
    ask::<P>(arguments, environment, console)
}

/// The call without an answer that lies ready. By itself: one that has an answer makes no room for it on its stack.
#[inline(never)]
fn ask<P: Plugin>(arguments: Vec<OsString>, environment: Environment, console: &Console) -> u8 {
    let plugin = match P::try_parse_from(arguments) {
        Ok(plugin) => plugin,
        Err(error) => {
            let text = error.render().to_string();
            let failure = Failure::message(Kind::Input, text.trim_start_matches("error: ").trim());
            console.failure(P::NAME, &failure);
            return failure.kind().exit_code();
        }
    };
    match run(plugin, environment, console) {
        Ok(answer) => print(answer),
        Err(failure) => {
            console.failure(P::NAME, &failure);
            failure.kind().exit_code()
        }
    }
}

fn run<P: Plugin>(
    plugin: P,
    environment: Environment,
    console: &Console,
) -> Result<String, Failure> {
    // A plugin is called again and again, mostly for what it has already: it has to be quick.
    main_loop::block_on(Threads::One, async {
        let cancel = Cancel::listen().map_err(|cause| {
            Failure::bug(anyhow::Error::new(cause).context("listen for signals"))
        })?;
        let context = PluginContext {
            environment,
            console: console.clone(),
            cancel: cancel.clone(),
        };
        tokio::select! {
            answer = plugin.run(&context) => answer,
            signal = cancel.cancelled() => {
                Err(Failure::message(Kind::Cancelled(signal), signal.name()))
            }
        }
    })
}

/// A caller that went away does not need the answer; it must not be told that it has it either.
fn print(mut answer: String) -> u8 {
    // In one go, line end and all: the caller wakes up once.
    answer.push('\n');
    let mut stdout = std::io::stdout().lock();
    let written = stdout
        .write_all(answer.as_bytes())
        .and_then(|()| stdout.flush());
    written.map_or(Kind::Bug.exit_code(), |()| 0)
}
