//! The demonstrations: a version is live, load comes through Traefik, the consumer's workflows deploy
//! another one and bring the old one back. They tell what happened and count every request; they decide
//! nothing that the tests do not decide as well.

mod blue_green;
mod canary;
mod screen;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use switchyard_sandbox::load::{KeepAlive, LoadPlan, LoadReport, RunningLoad};
use switchyard_sandbox::standins::{Slack, StandIn};
use switchyard_sandbox::{FRONT_DOOR_PORT, NODE_ADDRESS, Sandbox, TestNamespace, User};

use crate::act::{Ended, Running};
use crate::{Consumer, Doing as _, Logins, Project, Result, Settings};
use screen::Screen;

/// Requests per second on each application.
const RATE: u32 = 150;
/// How long each steady state is under load, so that the counts show both versions.
const STEADY: Duration = Duration::from_secs(1);

/// What is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Play {
    /// A blue-green deployment and its rollback.
    BlueGreen,
    /// A canary that fails requests and is taken back, and one that is promoted.
    Canary,
}

/// What follows the play.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Afterwards {
    CleanUp,
    /// The application stays.
    Keep,
}

struct Arguments {
    play: Play,
    programs: PathBuf,
    folder: PathBuf,
    afterwards: Afterwards,
}

impl Arguments {
    fn parse(words: &[String]) -> Option<Self> {
        let (words, afterwards) = match words.split_last() {
            Some((last, words)) if last == "--keep" => (words, Afterwards::Keep),
            Some(_) | None => (words, Afterwards::CleanUp),
        };
        let [play, programs, folder] = words else {
            return None;
        };
        let play = match play.as_str() {
            "blue-green" => Play::BlueGreen,
            "canary" => Play::Canary,
            _ => return None,
        };
        Some(Self {
            play,
            programs: programs.into(),
            folder: folder.into(),
            afterwards,
        })
    }
}

/// Runs a demonstration: `demo blue-green|canary PROGRAMS FOLDER [--keep]`. Ends with 1 when a request was
/// lost, with 3 when something failed.
pub async fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let Some(arguments) = Arguments::parse(&words) else {
        say("use: demo blue-green|canary PROGRAMS FOLDER [--keep]");
        return ExitCode::from(2);
    };
    match demonstrate(arguments).await {
        Ok(0) => ExitCode::SUCCESS,
        Ok(lost) => {
            say(&format!("{lost} requests were lost"));
            ExitCode::from(1)
        }
        Err(message) => {
            say(&format!("error: {message}"));
            ExitCode::from(3)
        }
    }
}

/// Runs everything and returns how many requests were lost.
async fn demonstrate(arguments: Arguments) -> Result<u64> {
    let stage = Stage::set(&arguments.programs, &arguments.folder).await?;
    let lost = match arguments.play {
        Play::BlueGreen => blue_green::play(&stage).await?,
        Play::Canary => canary::play(&stage).await?,
    };
    stage.tell_where();
    match arguments.afterwards {
        Afterwards::CleanUp => {}
        Afterwards::Keep => {
            say(&format!("kept: namespace {}", stage.namespace.name()));
            // The guard would delete the namespace.
            std::mem::forget(stage.namespace);
        }
    }
    Ok(lost)
}

struct Stage {
    clock: Instant,
    screen: Screen,
    sandbox: Sandbox,
    namespace: TestNamespace,
    host: String,
    slack: StandIn<Slack>,
    _logins: Option<Logins>,
    consumer: Consumer,
}

impl Stage {
    async fn set(programs: &Path, folder: &Path) -> Result<Self> {
        let clock = Instant::now();
        let sandbox = Sandbox::shared();
        let namespace = sandbox.namespace("shop").await;
        let host = format!("{}.example.com", namespace.name());
        let project = Project::lay_out(folder, programs, &programs.join("composite-step"))?;
        let slack = StandIn::start(Slack::default()).doing(|| "start Slack's stand-in".into())?;
        // Somebody else's cluster trusts no stand-ins: the deployer's kubeconfig is used there.
        let logins = sandbox
            .is_own()
            .then(|| Logins::start(&sandbox, &namespace))
            .transpose()?;
        let settings = Settings {
            longest_request: "1s".into(),
            watch: "5s".into(),
            safety_period: "5s".into(),
            ..Settings::for_sandbox(&sandbox, namespace.name(), &host, &slack, logins.as_ref())
        };
        let consumer = Consumer::check_out(folder, &project, settings)?;
        Ok(Self {
            clock,
            screen: Screen::of_stdout(),
            sandbox,
            namespace,
            host,
            slack,
            _logins: logins,
            consumer,
        })
    }

    fn load(&self, path: &str, keep_alive: KeepAlive) -> Result<RunningLoad> {
        let url = format!("{}{path}", self.sandbox.front_door());
        let plan = LoadPlan::new(&url, RATE).doing(|| "plan the load".into())?;
        let plan = plan.host(&self.host).doing(|| "plan the load".into())?;
        Ok(plan.keep_alive(keep_alive).start())
    }

    /// Runs a workflow that succeeds, and tells its steps as they end.
    async fn run(&self, workflow: &str, version: Option<&str>) -> Result<()> {
        let ended = self.run_beside(workflow, version, || {}).await?;
        succeeded(workflow, &ended)
    }

    /// Runs a workflow to its end, tells its steps as they end, and has something else looked at meanwhile.
    async fn run_beside(
        &self,
        workflow: &str,
        version: Option<&str>,
        mut look: impl FnMut(),
    ) -> Result<Ended> {
        let mut run = self.consumer.workflow(workflow);
        if let Some(version) = version {
            run = run.input("version", version);
        }
        let mut running = run.start()?;
        let mut told = 0;
        while running.is_running()? {
            told = self.tell_steps(&running, told)?;
            look();
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        self.tell_steps(&running, told)?;
        look();
        running.wait()
    }

    fn tell_steps(&self, running: &Running, told: usize) -> Result<usize> {
        let steps = running.ended_steps()?;
        for step in steps.iter().skip(told) {
            self.tell(&format!("    {step}"));
        }
        Ok(steps.len())
    }

    /// Seconds since the beginning.
    fn now(&self) -> f64 {
        self.clock.elapsed().as_secs_f64()
    }

    fn tell(&self, text: &str) {
        self.screen.tell(&format!("{:6.1} s  {text}", self.now()));
    }

    fn tell_where(&self) {
        let record = self.namespace.kubectl(&[
            "get",
            "configmaps",
            "-o",
            "custom-columns=RECORD:.metadata.name",
            "--no-headers",
        ]);
        say("\nSlack was told:");
        for message in self.slack.service().messages() {
            say(&format!("  {}", message.text));
        }
        let record = record.unwrap_or_default();
        let record: Vec<&str> = record
            .lines()
            .filter(|name| name.starts_with("switchyard."))
            .collect();
        say(&format!(
            "\nsummary: {}\nrecord:  ConfigMaps {} in namespace {}\nbackups: {}\nlogs:    {}",
            self.consumer.summary().display(),
            record.join(", "),
            self.namespace.name(),
            self.consumer.artifacts().display(),
            self.consumer.folder.join("run-*/log").display(),
        ));
    }
}

fn succeeded(workflow: &str, ended: &Ended) -> Result<()> {
    if ended.status.success() {
        return Ok(());
    }
    Err(unexpected(workflow, "failed", ended))
}

/// An end that is not the one of the play.
fn unexpected(workflow: &str, what: &str, ended: &Ended) -> String {
    let last: Vec<&str> = ended.log.lines().rev().take(40).collect();
    let last: Vec<&str> = last.into_iter().rev().collect();
    format!(
        "{workflow} {what}, its log is {}:\n{}",
        ended.log_file.display(),
        last.join("\n")
    )
}

impl Settings {
    /// What the consumer fills in on the sandbox: short durations, the sandbox's addresses.
    #[must_use]
    pub fn for_sandbox(
        sandbox: &Sandbox,
        namespace: &str,
        host: &str,
        slack: &StandIn<Slack>,
        logins: Option<&Logins>,
    ) -> Self {
        let image = sandbox.image("api", "v1.0.0");
        let registry = image.split('/').next().unwrap_or_default().to_owned();
        Self {
            namespace: namespace.to_owned(),
            host: host.to_owned(),
            address: NODE_ADDRESS.into(),
            port: FRONT_DOOR_PORT,
            traefik_api: sandbox.traefik_api().to_owned(),
            traefik_metrics: sandbox
                .traefik_metrics()
                .trim_end_matches("/metrics")
                .to_owned(),
            registry,
            watch: "5s".into(),
            canary_watch: "5s".into(),
            watch_interval: "1s".into(),
            longest_request: "2s".into(),
            safety_period: "5s".into(),
            kubeconfig: sandbox.kubeconfig(User::Deployer),
            login: logins.map(Logins::inputs).unwrap_or_default(),
            environment: logins.map(Logins::environment).unwrap_or_default(),
            request_tokens: logins.map(Logins::request_tokens).unwrap_or_default(),
            slack_webhook_url: format!("{}{}", slack.base_url(), slack.service().webhook_path),
            slack_token: slack.service().bot_token.to_owned(),
            database_url: String::new(),
            backup_to: String::new(),
            install: String::new(),
        }
    }
}

/// Each second's answers by version, in one line for each change of what answered.
fn timeline(report: &LoadReport) -> String {
    let mut lines = Vec::new();
    let mut last = String::new();
    for second in &report.seconds {
        let versions: Vec<&str> = second.by_version.keys().map(String::as_str).collect();
        let mut seen = versions.join(" and ");
        if second.lost > 0 {
            seen = format!("{seen}, {} LOST", second.lost);
        }
        if seen != last {
            lines.push(format!("  from second {:3}: {seen}", second.second));
            last = seen;
        }
    }
    lines.join("\n")
}

fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}
