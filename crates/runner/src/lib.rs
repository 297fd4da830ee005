//! Runner I/O: everything between a binary and the GitHub Actions runner (or a laptop's terminal).
//!
//! Owns inputs, outputs, the log, annotations, the step summary, secrets and masks, cancellation, exit
//! codes, children that a user's input starts, and the generated `action.yml` and reference pages.
//! Refuses to know Kubernetes, HTTP, deployments' rules or any binary by name.

pub mod cancel;
pub mod child;
pub mod console;
pub mod deployment;
pub mod environment;
pub mod failure;
pub mod file_command;
pub mod inputs;
mod main_loop;
pub mod mask;
pub mod outputs;
pub mod plugin;
pub mod program;
pub mod pull_request;
pub mod reference;
pub mod secret;
pub mod summary;
pub mod values;
pub mod workflow_command;

pub use cancel::{Cancel, Signal};
pub use console::{Annotation, Console, Level, Location};
pub use deployment::DeploymentArgs;
pub use environment::{Environment, WorkflowRun};
pub use failure::{Failure, Kind};
pub use main_loop::{Threads, execute, main, main_or_plugin};
pub use outputs::{Output, Outputs};
pub use plugin::{Plugin, PluginContext};
pub use secret::Secret;
pub use summary::Summary;
pub use values::List;

use std::future::Future;

/// One binary, packaged as one composite action.
///
/// The implementing clap struct is the only place where an input is declared: parsing, `--help`,
/// `action.yml` and the reference page all come from it.
pub trait Action: clap::Parser + Send {
    /// Name of the binary, of its folder under `actions/` and of its reference page.
    const NAME: &'static str;
    /// Every output this action can write.
    const OUTPUTS: &'static [Output];
    /// Subcommand used when neither the command line nor `INPUT_COMMAND` names one.
    const DEFAULT_COMMAND: Option<&'static str> = None;
    /// What its tasks run on. A program that is a [`Plugin`] too and needs only one never holds the machinery of
    /// several, which each of its starts would pay for.
    const THREADS: Threads = Threads::Several;

    /// Does the work.
    ///
    /// # Errors
    /// A [`Failure`] whose kind decides the exit code.
    fn run(self, context: &mut Context) -> impl Future<Output = Result<(), Failure>> + Send;
}

/// What a command may touch of the world around it.
#[derive(Debug, Clone)]
pub struct Context {
    /// The process environment, read once.
    pub environment: Environment,
    /// The log: people's text, annotations, groups.
    pub console: Console,
    /// The step's outputs.
    pub outputs: Outputs,
    /// The step's summary.
    pub summary: Summary,
    /// Fires on SIGINT and SIGTERM.
    pub cancel: Cancel,
}

impl Context {
    /// Appends a section to the step's summary. A summary is never a reason to fail: one that cannot be written
    /// is warned of, under `title`.
    pub fn summarize(&self, title: &str, markdown: &str) {
        if let Err(cause) = self.summary.markdown(markdown) {
            let text = format!("the summary could not be written: {cause}");
            self.console.warning(title, text);
        }
    }
}
