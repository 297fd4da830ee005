//! `sandbox load`: puts load on the sandbox's front door or on a loopback address, and on nothing
//! else.

use std::{
    io::{Write as _, stderr},
    net::IpAddr,
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use clap::ValueEnum;
use http::Uri;
use jiff::SignedDuration;
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    description::Description,
    error::{Context as _, Result, SandboxError},
    instance::Layout,
    load::{KeepAlive, LoadPlan, LoadReport},
    network,
};

/// How often `--until-file` is looked for.
const FILE_POLL: Duration = Duration::from_millis(50);

#[derive(Debug, clap::Args)]
pub(super) struct LoadArguments {
    /// The address, e.g. http://10.10.0.1:8000/
    #[arg(long)]
    url: String,
    /// The Host header.
    #[arg(long)]
    host: Option<String>,
    /// Requests per second.
    #[arg(long, default_value_t = 500)]
    rate: u32,
    /// How long, e.g. 30s or 2m.
    #[arg(
        long,
        required_unless_present = "until_file",
        conflicts_with = "until_file"
    )]
    duration: Option<SignedDuration>,
    /// Goes on until this file exists (or SIGINT, or SIGTERM).
    #[arg(long)]
    until_file: Option<PathBuf>,
    /// Whether connections are used again.
    #[arg(long, value_enum, default_value = "on")]
    keep_alive: Switch,
    /// How long after its due time a request may be answered.
    #[arg(long, default_value = "10s")]
    timeout: SignedDuration,
    /// The response header that carries the version.
    #[arg(long, default_value = "x-app-version")]
    version_header: String,
    /// Where the report goes, as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Ends with 0 even if requests were lost.
    #[arg(long)]
    allow_loss: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Switch {
    On,
    Off,
}

/// Runs the load; ends with 1 when a request was lost.
pub(super) fn load(layout: &Layout, given: LoadArguments) -> Result<ExitCode> {
    let time_limit = Duration::try_from(given.timeout).context(|| "a negative time limit")?;
    let mut plan = LoadPlan::new(&given.url, given.rate)?
        .time_limit(time_limit)
        .version_header(&given.version_header)?
        .keep_alive(match given.keep_alive {
            Switch::On => KeepAlive::On,
            Switch::Off => KeepAlive::Off,
        });
    if let Some(host) = &given.host {
        plan = plan.host(host)?;
    }
    // Inside, every address belongs to the sandbox; outside, only the loopback is ours.
    let running = Description::load(layout).ok();
    if running.is_some_and(|description| description.network_namespace.is_some()) {
        network::enter(layout)?;
    } else if !is_loopback(&given.url) {
        return Err(
            SandboxError::new(format!("`{}` is not a loopback address", given.url)).with_hint(
                "without a cluster of its own, the sandbox puts load on to loopback addresses only",
            ),
        );
    }
    let runtime = tokio::runtime::Runtime::new().context(|| "cannot start a runtime")?;
    let report = runtime.block_on(run(plan, &given))?;
    if let Some(path) = &given.json {
        let json = serde_json::to_string_pretty(&report).context(|| "cannot encode the report")?;
        std::fs::write(path, json).context(|| format!("cannot write {}", path.display()))?;
    }
    let _ = writeln!(stderr(), "{}", report.summary());
    let is_good = report.lost == 0 || given.allow_loss;
    Ok(if is_good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn run(plan: LoadPlan, given: &LoadArguments) -> Result<LoadReport> {
    let mut interrupt = signal(SignalKind::interrupt()).context(|| "no signal handler")?;
    let mut terminate = signal(SignalKind::terminate()).context(|| "no signal handler")?;
    let duration = given.duration.map(Duration::try_from).transpose();
    let duration = duration.context(|| "a negative duration")?;
    let end = async {
        match (duration, &given.until_file) {
            (Some(duration), _) => tokio::time::sleep(duration).await,
            (None, Some(file)) => {
                while !file.exists() {
                    tokio::time::sleep(FILE_POLL).await;
                }
            }
            (None, None) => std::future::pending().await,
        }
    };
    let running = plan.start();
    tokio::select! {
        () = end => {}
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    running.stop().await
}

fn is_loopback(url: &str) -> bool {
    let uri: Option<Uri> = url.parse().ok();
    let host = uri.as_ref().and_then(Uri::host).unwrap_or_default();
    let address = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .parse::<IpAddr>();
    address.is_ok_and(|address| address.is_loopback())
}
