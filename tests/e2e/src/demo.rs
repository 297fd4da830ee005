//! The demonstration: v1.0.0 is live, load comes through Traefik, the consumer's workflow deploys
//! v1.1.0, its rollback brings v1.0.0 back. It tells what happened and counts every request; it decides
//! nothing that the tests do not decide as well.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use switchyard_sandbox::load::{KeepAlive, LoadPlan, LoadReport, RunningLoad};
use switchyard_sandbox::standins::{Slack, StandIn};
use switchyard_sandbox::{FRONT_DOOR_PORT, NODE_ADDRESS, Sandbox, TestNamespace, User};

use crate::act::Running;
use crate::{Consumer, Doing as _, Logins, Project, Result, Settings};

/// Requests per second on each application.
const RATE: u32 = 150;
/// How long each steady state is under load, so that the counts show both versions.
const STEADY: Duration = Duration::from_secs(1);

/// Runs the demonstration: `demo PROGRAMS FOLDER [--keep]`. Ends with 1 when a request was lost, with 3
/// when something failed.
pub async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let is_kept = arguments.iter().any(|argument| argument == "--keep");
    let [programs, folder] = &arguments
        .iter()
        .filter(|a| !a.starts_with("--"))
        .collect::<Vec<_>>()[..]
    else {
        say("use: demo PROGRAMS FOLDER [--keep]");
        return ExitCode::from(2);
    };
    match demonstrate(Path::new(programs), Path::new(folder), is_kept).await {
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
async fn demonstrate(programs: &Path, folder: &Path, is_kept: bool) -> Result<u64> {
    let stage = Stage::set(programs, folder).await?;
    let lost = stage.play().await?;
    stage.tell_where();
    if is_kept {
        say(&format!("kept: namespace {}", stage.namespace.name()));
        // The guard would delete the namespace.
        std::mem::forget(stage.namespace);
    }
    Ok(lost)
}

struct Stage {
    clock: Instant,
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
            sandbox,
            namespace,
            host,
            slack,
            _logins: logins,
            consumer,
        })
    }

    async fn play(&self) -> Result<u64> {
        self.tell("deploying v1.0.0 into an empty namespace");
        self.run("release.yml", Some("v1.0.0")).await?;
        let loads = [
            ("web", self.load("/", KeepAlive::On)?),
            ("api", self.load("/api", KeepAlive::Off)?),
        ];
        self.tell(&format!(
            "load on: {RATE} requests/s on web (kept connections), {RATE} on api (new ones)"
        ));
        tokio::time::sleep(STEADY).await;
        self.tell_counts("live is v1.0.0", &loads);

        self.tell("the consumer's release workflow deploys v1.1.0");
        self.run("release.yml", Some("v1.1.0")).await?;
        tokio::time::sleep(STEADY).await;
        self.tell_counts("live is v1.1.0", &loads);

        self.tell("the consumer's rollback workflow brings v1.0.0 back");
        self.run("rollback.yml", None).await?;
        tokio::time::sleep(STEADY).await;
        self.tell_counts("live is v1.0.0", &loads);

        let mut lost = 0;
        for (name, load) in loads {
            let report = load.stop().await.doing(|| "end the load".into())?;
            lost += report.lost;
            say(&format!(
                "\n{name}: {}\n{}",
                report.summary(),
                timeline(&report)
            ));
        }
        Ok(lost)
    }

    fn load(&self, path: &str, keep_alive: KeepAlive) -> Result<RunningLoad> {
        let url = format!("{}{path}", self.sandbox.front_door());
        let plan = LoadPlan::new(&url, RATE).doing(|| "plan the load".into())?;
        let plan = plan.host(&self.host).doing(|| "plan the load".into())?;
        Ok(plan.keep_alive(keep_alive).start())
    }

    /// Runs a workflow and tells its steps as they end.
    async fn run(&self, workflow: &str, version: Option<&str>) -> Result<()> {
        let mut run = self.consumer.workflow(workflow);
        if let Some(version) = version {
            run = run.input("version", version);
        }
        let mut running = run.start()?;
        let mut told = 0;
        while running.is_running()? {
            told = self.tell_steps(&running, told)?;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        self.tell_steps(&running, told)?;
        let ended = running.wait()?;
        if ended.status.success() {
            return Ok(());
        }
        let last: Vec<&str> = ended.log.lines().rev().take(40).collect();
        let last: Vec<&str> = last.into_iter().rev().collect();
        Err(format!(
            "{workflow} failed, its log is {}:\n{}",
            ended.log_file.display(),
            last.join("\n")
        ))
    }

    fn tell_steps(&self, running: &Running, told: usize) -> Result<usize> {
        let steps = running.ended_steps()?;
        for step in steps.iter().skip(told) {
            self.tell(&format!("    {step}"));
        }
        Ok(steps.len())
    }

    fn tell(&self, text: &str) {
        say(&format!(
            "{:6.1} s  {text}",
            self.clock.elapsed().as_secs_f64()
        ));
    }

    fn tell_counts(&self, what: &str, loads: &[(&str, RunningLoad)]) {
        for (name, load) in loads {
            let (succeeded, lost) = load.counts();
            self.tell(&format!(
                "{what}; {name}: {succeeded} answered (v1.0.0 {}, v1.1.0 {}), {lost} lost",
                load.answers_of("v1.0.0"),
                load.answers_of("v1.1.0"),
            ));
        }
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
