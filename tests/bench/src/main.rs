//! `bench`: what the programs cost, against the tools that people use today, in one run.
//!
//! Prints a table and exits with 1 when a goal is missed. Started by `scripts/bench` inside the sandbox.

mod backup;
mod canary;
mod lint;
mod login;
mod loss;
mod measure;
mod peers;
mod prometheus;
mod sizes;
mod status;
mod table;
mod wait;
mod watch;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use clap::{Parser, ValueEnum};
use switchyard_sandbox::Sandbox;

use crate::table::Table;

/// Measures the programs against their peers
#[derive(Debug, Parser)]
struct Arguments {
    /// Folder of the release binaries
    #[arg(long)]
    binaries: PathBuf,
    /// The program `kubelogin`, to compare with
    #[arg(long)]
    kubelogin: PathBuf,
    /// Folder of the peers that come from PyPI
    #[arg(long)]
    python_tools: PathBuf,
    /// What to measure; everything when it is not given
    #[arg(long, value_enum)]
    only: Vec<Part>,
    /// Folder of Argo Rollouts' controller and its kinds: compares canaries, and nothing else
    #[arg(long)]
    peers: Option<PathBuf>,
    /// Requests per second of the load where losses are counted
    #[arg(long, default_value_t = 2000)]
    rate: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    Sizes,
    Status,
    Wait,
    Login,
    Loss,
    Canary,
    Breach,
    Backup,
    Lint,
    Watch,
}

/// What every benchmark needs.
struct Bench {
    binaries: PathBuf,
    kubelogin: PathBuf,
    python_tools: PathBuf,
    sandbox: Sandbox,
    rate: u32,
}

impl Bench {
    /// One of our programs in a namespace, as the user of a kubeconfig. The command is empty for one that has none.
    fn program(&self, name: &str, command: &str, place: (&str, &Path)) -> Command {
        let (namespace, kubeconfig) = place;
        let mut process = Command::new(self.binaries.join(name));
        process.env_clear();
        if !command.is_empty() {
            process.arg(command);
        }
        process.args(["--application", "bench", "--environment", "bench"]);
        process.args(["--namespace", namespace]);
        process.arg("--kubeconfig").arg(kubeconfig);
        process.env("GITHUB_REPOSITORY", "example/bench");
        process
    }
}

/// Makes it a step of the deployment of `version`: its run's number is the version's.
fn of_version(mut process: Command, version: &str) -> Command {
    let run: String = version.chars().filter(char::is_ascii_digit).collect();
    process.env("GITHUB_RUN_ID", run);
    process
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let Arguments {
        binaries,
        kubelogin,
        python_tools,
        only,
        peers,
        rate,
    } = Arguments::parse();
    let bench = Bench {
        binaries,
        kubelogin,
        python_tools,
        sandbox: Sandbox::shared(),
        rate,
    };
    let table = match peers {
        Some(folder) => Table(peers::measure(&bench, &folder).await?),
        None => measure_parts(&bench, &only).await?,
    };
    let all_met = table.0.iter().all(table::Figure::is_met);
    write!(std::io::stdout(), "\n{table}")?;
    Ok(if all_met {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Measures these parts; all of them when none is named.
async fn measure_parts(bench: &Bench, only: &[Part]) -> anyhow::Result<Table> {
    let mut table = Table::default();
    for part in Part::value_variants() {
        if !only.is_empty() && !only.contains(part) {
            continue;
        }
        let figures = match part {
            Part::Sizes => sizes::measure(bench)?,
            Part::Status => status::measure(bench).await?,
            Part::Wait => wait::measure(bench).await?,
            Part::Login => login::measure(bench).await?,
            Part::Loss => loss::measure(bench).await?,
            Part::Canary => canary::measure(bench).await?,
            Part::Breach => canary::breach(bench).await?,
            Part::Backup => backup::measure(bench)?,
            Part::Lint => lint::measure(bench)?,
            Part::Watch => watch::measure(bench)?,
        };
        table.0.extend(figures);
    }
    Ok(table)
}

/// Says what is being measured, so that minutes of silence have a reason.
fn progress(text: &str) {
    // A closed standard error is no reason to stop measuring.
    let _ = writeln!(std::io::stderr(), "bench: {text}");
}
