//! Logging in to AKS, and what it costs a client to ask the plugin, against kubelogin. The services are
//! stand-ins on the loopback; the API server is the sandbox's.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::Value;
use switchyard_sandbox::NODE_ADDRESS;
use switchyard_sandbox::standins::entra::AKS_SERVER;
use switchyard_sandbox::standins::{Logins, Surroundings};

use crate::measure::{self, Cost};
use crate::table::Figure;
use crate::{Bench, progress};

const RUNS: usize = 25;
/// Calls of each plugin: the least of them is what it takes where nothing else goes on.
const CALLS: usize = 100;
/// Round trips of a login to the stand-ins; the sixth is to the API server.
const ROUND_TRIPS: usize = 5;

pub(crate) async fn measure(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let world = World::start(bench).await?;
    progress("oidc-login azure");
    let mut logins = Vec::new();
    for _ in 0..RUNS {
        logins.push(world.login()?.0);
    }
    progress("oidc-login credential and kubelogin get-token, in turn");
    let job = world.login()?.1;
    let (mut ours, mut peer) = (Vec::new(), Vec::new());
    for _ in 0..CALLS {
        ours.push(world.plugin(&job)?);
        peer.push(world.kubelogin(&bench.kubelogin)?);
    }
    let (ours, peer) = (measure::least(&ours)?, measure::least(&peer)?);
    Ok(vec![
        login_figure(measure::median(logins)?),
        plugin_figure(ours, peer),
        ratio_figure(ours, peer),
    ])
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn login_figure(cost: Cost) -> Figure {
    Figure {
        what: format!("AKS login, six round trips: own time on the processor, median of {RUNS}"),
        ours: format!(
            "{:.1} ms of {:.1} ms, start to exit",
            milliseconds(cost.processor),
            milliseconds(cost.wall)
        ),
        peer: "–".into(),
        measured: milliseconds(cost.processor),
        goal: 50.0,
        unit: "ms",
    }
}

fn plugin_figure(ours: Cost, peer: Cost) -> Figure {
    Figure {
        what: format!("exec plugin, warm cache, start to exit, least of {CALLS}"),
        ours: format!("{:.1} ms", milliseconds(ours.wall)),
        peer: format!(
            "{:.1} ms (`kubelogin get-token`, which keeps none)",
            milliseconds(peer.wall)
        ),
        measured: milliseconds(ours.wall),
        goal: 10.0,
        unit: "ms",
    }
}

fn ratio_figure(ours: Cost, peer: Cost) -> Figure {
    Figure {
        what: "the same, as a part of what `kubelogin get-token` takes".into(),
        ours: format!("{:.1} ms", milliseconds(ours.wall)),
        peer: format!("{:.1} ms", milliseconds(peer.wall)),
        measured: milliseconds(ours.wall) / milliseconds(peer.wall),
        goal: 1.0 / 20.0,
        unit: "",
    }
}

/// What a job logs in to, and the program that does it.
struct World {
    logins: Logins,
    program: PathBuf,
    ca: PathBuf,
    folder: tempfile::TempDir,
}

/// A job that has logged in: its folder for temporary files, and its kubeconfig's plugin call.
struct Job {
    runner_temp: PathBuf,
    plugin: Vec<String>,
}

impl World {
    async fn start(bench: &Bench) -> anyhow::Result<Self> {
        let sandbox = &bench.sandbox;
        let authority = sandbox.tls_authority()?;
        let ca = authority.certificate().to_owned();
        let surroundings = Surroundings {
            address: NODE_ADDRESS.parse()?,
            authority: &authority,
            cluster: (sandbox.api_server().to_owned(), ca),
            github_keys: sandbox.github_keys()?,
            entra_keys: sandbox.entra_keys()?,
            github_token: "of-no-job",
        };
        Ok(Self {
            logins: Logins::start(&surroundings).await?,
            program: bench.binaries.join("oidc-login"),
            ca: sandbox.ca_certificate().to_owned(),
            folder: tempfile::tempdir()?,
        })
    }

    fn setting(&self, name: &str) -> anyhow::Result<String> {
        let settings = self.logins.settings();
        let found = settings.into_iter().find(|(known, _)| *known == name);
        Ok(found.with_context(|| format!("no setting {name}"))?.1)
    }

    /// A command as a step of the job would start it, with nothing else around.
    fn command(&self, program: &Path, runner_temp: &Path) -> anyhow::Result<Command> {
        let mut command = Command::new(program);
        command.env_clear().env("RUNNER_TEMP", runner_temp);
        command.env("HOME", self.folder.path());
        for name in [
            "ACTIONS_ID_TOKEN_REQUEST_URL",
            "ACTIONS_ID_TOKEN_REQUEST_TOKEN",
        ] {
            command.env(name, self.setting(name)?);
        }
        Ok(command)
    }

    fn exchanges(&self) -> usize {
        self.logins.token_service.exchanges().len()
            + self.logins.entra.exchanges().len()
            + self.logins.manager.exchanges().len()
    }

    /// A login of a new job.
    fn login(&self) -> anyhow::Result<(Cost, Job)> {
        let runner_temp = tempfile::tempdir_in(self.folder.path())?.keep();
        let mut command = self.command(&self.program, &runner_temp)?;
        command.args(["azure", "--kubeconfig", "config"]);
        // Besides the system's authorities, which a job has to read as well.
        command.arg("--extra-ca").arg(&self.ca);
        for (flag, setting) in [
            ("--tenant", "AZURE_TENANT_ID"),
            ("--client-id", "AZURE_CLIENT_ID"),
            ("--subscription", "AZURE_SUBSCRIPTION_ID"),
            ("--resource-group", "AKS_RESOURCE_GROUP"),
            ("--cluster", "AKS_CLUSTER"),
            ("--authority-url", "AZURE_AUTHORITY_URL"),
            ("--resource-manager-url", "AZURE_RESOURCE_MANAGER_URL"),
        ] {
            command.args([flag, &self.setting(setting)?]);
        }
        let before = self.exchanges();
        let (cost, _) = measure::run_short(&mut command)?;
        let round_trips = self.exchanges() - before;
        ensure!(round_trips == ROUND_TRIPS, "{round_trips} round trips");
        let text = std::fs::read_to_string(runner_temp.join("config"))?;
        let config: Value = serde_json::from_str(&text)?;
        let arguments = config["users"][0]["user"]["exec"]["args"].as_array();
        let arguments = arguments.context("the kubeconfig names no plugin")?.iter();
        let words = arguments.filter_map(|argument| argument.as_str().map(str::to_owned));
        let job = Job {
            runner_temp,
            plugin: words.collect(),
        };
        Ok((cost, job))
    }

    /// A call of the plugin, whose token is kept already.
    fn plugin(&self, job: &Job) -> anyhow::Result<Cost> {
        let mut command = self.command(&self.program, &job.runner_temp)?;
        command.args(&job.plugin);
        let before = self.exchanges();
        let (cost, output) = measure::run_short(&mut command)?;
        ensure!(self.exchanges() == before, "the token was not kept");
        ensure!(!output.stdout.is_empty(), "the plugin gave no token");
        Ok(cost)
    }

    /// The same token by kubelogin, which keeps none for a job of GitHub's.
    fn kubelogin(&self, program: &Path) -> anyhow::Result<Cost> {
        let mut command = self.command(program, self.folder.path())?;
        command.env("SSL_CERT_FILE", &self.ca);
        command.args(["get-token", "--login", "workloadidentity"]);
        command.args(["--disable-instance-discovery", "--server-id", AKS_SERVER]);
        let authority = format!("{}/", self.setting("AZURE_AUTHORITY_URL")?);
        command.args(["--authority-host", &authority]);
        command.args(["--client-id", &self.setting("AZURE_CLIENT_ID")?]);
        command.args(["--tenant-id", &self.setting("AZURE_TENANT_ID")?]);
        let (cost, output) = measure::run_short(&mut command)?;
        ensure!(!output.stdout.is_empty(), "kubelogin gave no token");
        Ok(cost)
    }
}
