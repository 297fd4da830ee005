//! From `main` to an exit code: parse, mask, run, show the failure once.

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use tokio::runtime::{Builder, LocalOptions};

use crate::cancel::GRACE;
use crate::inputs::{self, Parsed};
use crate::plugin::{self, Plugin};
use crate::{Action, Cancel, Console, Context, Environment, Failure, Kind, Outputs, Summary};

/// How long a connection that does not close keeps the process alive.
const LINGER: Duration = Duration::from_millis(100);

/// Runs an action as a process: everything a binary's `main` does. By itself, so that a plugin does not make room for
/// it on its stack.
#[must_use]
#[inline(never)]
pub fn main<A: Action>() -> ExitCode {
    let environment = Environment::from_process();
    let console = Console::new(&environment);
    end_on_panic(A::NAME, console.clone());
    let arguments: Vec<OsString> = std::env::args_os().collect();
    ExitCode::from(execute::<A>(arguments, environment, &console))
}

/// Runs an action as a process, or the plugin that the same binary also is when its command line calls
/// that one.
#[must_use]
pub fn main_or_plugin<A: Action, P: Plugin>() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let Some(arguments) = P::called(&arguments) else {
        return main::<A>();
    };
    let environment = Environment::from_process();
    let console = Console::of_plugin(&environment);
    end_on_panic(P::NAME, console.clone());
    ExitCode::from(plugin::execute::<P>(arguments, environment, &console))
}

/// A panic in any thread ends the process with the exit code of a bug. Nothing is unwound: what a step
/// leaves is made to be found by the next one after a kill, and a process that lost one of its tasks
/// must not go on with the others.
fn end_on_panic(name: &'static str, console: Console) {
    std::panic::set_hook(Box::new(move |panic| {
        console.error(name, format!("internal error: {panic}"));
        console.info(
            "hint: this is a bug of switchyard; report it with this log and the inputs of the step",
        );
        console.debug(std::backtrace::Backtrace::force_capture());
        #[expect(
            clippy::exit,
            reason = "the one place where a process ends outside of main"
        )]
        std::process::exit(i32::from(Kind::Bug.exit_code()));
    }));
}

/// Runs an action on the given arguments and environment, and gives the exit code.
#[must_use]
pub fn execute<A: Action>(
    arguments: Vec<OsString>,
    environment: Environment,
    console: &Console,
) -> u8 {
    for secret in inputs::secrets::<A>(&environment) {
        console.mask(&secret);
    }
    let result = match inputs::parse::<A>(arguments, &environment) {
        Ok(Parsed::Show(text)) => {
            // Nothing can be done where standard output is closed.
            let _ = std::io::stdout().write_all(text.as_bytes());
            return 0;
        }
        Ok(Parsed::Run(action)) => run(*action, environment, console),
        Err(failure) => Err(failure),
    };
    match result {
        Ok(()) => 0,
        Err(failure) => {
            console.failure(A::NAME, &failure);
            failure.kind().exit_code()
        }
    }
}

fn run<A: Action>(action: A, environment: Environment, console: &Console) -> Result<(), Failure> {
    block_on(A::THREADS, async {
        let cancel = Cancel::listen().map_err(|cause| {
            Failure::bug(anyhow::Error::new(cause).context("listen for signals"))
        })?;
        let mut context = Context {
            outputs: Outputs::new(A::OUTPUTS, &environment),
            summary: Summary::new(&environment),
            environment,
            console: console.clone(),
            cancel: cancel.clone(),
        };
        let overdue = async {
            let signal = cancel.cancelled().await;
            tokio::time::sleep(GRACE).await;
            signal
        };
        tokio::select! {
            result = action.run(&mut context) => result,
            signal = overdue => {
                let text = format!("{} was not answered within {GRACE:?}; ended hard", signal.name());
                Err(Failure::message(Kind::Cancelled(signal), text)
                    .hint("the deployment record, where one is kept, tells what was in progress"))
            }
        }
    })
}

/// What a runtime works with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Threads {
    /// The caller's own: nothing else has to be started.
    One,
    /// Two besides: what is sent to them goes on while another task computes.
    Several,
}

/// Runs a future to its end in a runtime of its own.
pub(crate) fn block_on<T>(
    threads: Threads,
    future: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let not_started = |cause| Failure::bug(anyhow::Error::new(cause).context("start the runtime"));
    match threads {
        Threads::One => {
            let mut builder = Builder::new_current_thread();
            // Local, so that nothing of the runtime of several threads comes into a program that has only this one.
            let runtime = builder.enable_all().build_local(LocalOptions::default());
            let runtime = runtime.map_err(not_started)?;
            let result = runtime.block_on(future);
            runtime.shutdown_timeout(LINGER);
            result
        }
        Threads::Several => {
            let mut builder = Builder::new_multi_thread();
            let runtime = builder.worker_threads(2).enable_all().build();
            let runtime = runtime.map_err(not_started)?;
            let result = runtime.block_on(future);
            runtime.shutdown_timeout(LINGER);
            result
        }
    }
}
