//! A command as a process: exit codes, signals, panics, where texts go.
//!
//! This test binary is its own subject: started with `PROBE`, it is an action; without it, it runs the
//! tests, each of which starts it again.

#![expect(
    clippy::print_stdout,
    reason = "without the test harness, the closing line is printed here"
)]

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitCode, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use switchyard_runner::secret::SECRET;
use switchyard_runner::{Action, Context, Failure, Output, Secret};

/// Behaves as told
#[derive(Debug, clap::Parser)]
struct Probe {
    /// What to do
    #[arg(long)]
    act: String,
    /// A secret
    #[arg(long, value_name = SECRET)]
    token: Option<Secret>,
}

impl Action for Probe {
    const NAME: &'static str = "probe";
    const OUTPUTS: &'static [Output] = &[Output {
        name: "report",
        description: "Text",
    }];

    async fn run(self, context: &mut Context) -> Result<(), Failure> {
        match self.act.as_str() {
            "succeed" => context.outputs.set("report", "two\nlines"),
            "say-no" => Err(Failure::gate(anyhow::anyhow!("not healthy")).hint("look at the pods")),
            "panic" => panic!("a bug"),
            "undeclared" => context.outputs.set("reprot", "x"),
            "stop-in-order" => {
                context.console.info("ready");
                let signal = context.cancel.cancelled().await;
                context.console.info("released the lease");
                Err(Failure::cancelled(
                    signal,
                    anyhow::anyhow!("stopped before the switch"),
                ))
            }
            "never-stop" => {
                context.console.info("ready");
                std::future::pending().await
            }
            other => Err(Failure::input(anyhow::anyhow!("no such act: {other}"))),
        }
    }
}

struct Ended {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

fn start(act: &str, variables: &[(&str, &str)]) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.env_clear().env("PROBE", "1").env("INPUT_ACT", act);
    command.envs(variables.iter().copied());
    command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn end(child: Child) -> Ended {
    let output = child.wait_with_output().unwrap();
    Ended {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

fn signalled(act: &str, signal: Signal) -> Ended {
    let mut child = start(act, &[]);
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut text = String::new();
    while !text.contains("ready") {
        assert_ne!(stderr.read_line(&mut text).unwrap(), 0, "{text}");
    }
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
    stderr.read_to_string(&mut text).unwrap();
    let mut ended = end(child);
    ended.stderr = text;
    ended
}

fn results_go_to_stdout_and_people_read_stderr_on_a_laptop() {
    let ended = end(start("succeed", &[]));
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (Some(0), "report=\"two\\nlines\"\n")
    );
}

fn a_failure_is_shown_once_with_its_hint_and_its_exit_code() {
    let ended = end(start("say-no", &[]));
    assert_eq!(ended.code, Some(1));
    assert_eq!(
        ended.stderr,
        "error: probe: not healthy\nhint: look at the pods\n"
    );
    let ended = end(start("say-no", &[("GITHUB_ACTIONS", "true")]));
    assert_eq!(
        ended.stdout,
        "::error title=probe::not healthy%0Ahint: look at the pods\n"
    );
}

fn a_panic_is_our_bug_and_exits_with_70() {
    let ended = end(start("panic", &[]));
    assert_eq!(ended.code, Some(70));
    assert!(
        ended.stderr.contains("a bug") && ended.stderr.contains("report it"),
        "{}",
        ended.stderr
    );
    assert_eq!(end(start("undeclared", &[])).code, Some(70));
}

fn a_command_that_answers_the_signal_ends_in_order() {
    for (signal, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143)] {
        let ended = signalled("stop-in-order", signal);
        assert_eq!(ended.code, Some(code));
        assert!(
            ended.stderr.contains("released the lease"),
            "{}",
            ended.stderr
        );
    }
}

fn a_command_that_does_not_answer_is_ended_within_the_grace() {
    let ended = signalled("never-stop", Signal::SIGINT);
    assert_eq!(ended.code, Some(130));
    assert!(ended.stderr.contains("ended hard"), "{}", ended.stderr);
}

fn a_secret_is_masked_before_anything_else_is_printed() {
    let variables = [
        ("GITHUB_ACTIONS", "true"),
        ("INPUT_TOKEN", "hunter2hunter2"),
    ];
    let ended = end(start("nonsense", &variables));
    assert_eq!(ended.code, Some(2));
    let first = ended.stdout.lines().next().unwrap();
    assert!(first.starts_with("::add-mask::"), "{}", ended.stdout);
    let rest = ended
        .stdout
        .lines()
        .filter(|line| !line.starts_with("::add-mask::"));
    assert!(rest.clone().count() > 0 && rest.clone().all(|line| !line.contains("hunter2")));
}

fn main() -> ExitCode {
    if std::env::var_os("PROBE").is_some() {
        return switchyard_runner::main::<Probe>();
    }
    type Test = (&'static str, fn());
    let tests: [Test; 6] = [
        (
            "results_go_to_stdout_and_people_read_stderr_on_a_laptop",
            results_go_to_stdout_and_people_read_stderr_on_a_laptop,
        ),
        (
            "a_failure_is_shown_once_with_its_hint_and_its_exit_code",
            a_failure_is_shown_once_with_its_hint_and_its_exit_code,
        ),
        (
            "a_panic_is_our_bug_and_exits_with_70",
            a_panic_is_our_bug_and_exits_with_70,
        ),
        (
            "a_command_that_answers_the_signal_ends_in_order",
            a_command_that_answers_the_signal_ends_in_order,
        ),
        (
            "a_command_that_does_not_answer_is_ended_within_the_grace",
            a_command_that_does_not_answer_is_ended_within_the_grace,
        ),
        (
            "a_secret_is_masked_before_anything_else_is_printed",
            a_secret_is_masked_before_anything_else_is_printed,
        ),
    ];
    println!("running {} tests", tests.len());
    for (name, test) in tests {
        test();
        println!("test {name} ... ok");
    }
    println!(
        "test result: ok. {} passed; 0 failed; 0 ignored; 0 measured; 0 filtered out",
        tests.len()
    );
    ExitCode::SUCCESS
}
