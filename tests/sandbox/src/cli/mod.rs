//! The command line of the sandbox. Reads arguments and the environment, prints, and leaves the
//! work to the other modules.

mod load;
mod standins;

use std::{
    ffi::OsString,
    io::{Write as _, stderr, stdout},
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use clap::{Parser, Subcommand};

use crate::{
    components::Component,
    description::Description,
    down::down,
    error::{Context as _, Result, SandboxError},
    foreign::{ForeignOptions, chosen_kubeconfig, join},
    identity,
    instance::{InstanceName, Layout, cache_root},
    network,
    process::{ProcessRecord, replace_by},
    sandbox::SANDBOX_VARIABLE,
    up::{Ending, Scope, UpOptions, restart_api_server, up},
};

/// A real single-node Kubernetes in a network namespace of its own.
#[derive(Debug, Parser)]
#[command(name = "sandbox", version)]
struct Arguments {
    #[command(subcommand)]
    action: Action,
    /// The sandbox; each has its own cluster.
    #[arg(long, global = true, env = SANDBOX_VARIABLE, default_value = "switchyard")]
    name: String,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Starts the sandbox, or what is missing of it.
    Up(UpArguments),
    /// Ends the sandbox and removes all its state.
    Down,
    /// Prints the variables of the running sandbox as KEY=value lines.
    Env,
    /// Runs a command inside the network namespace, with these variables.
    Exec {
        /// The command and its arguments.
        #[arg(trailing_var_arg = true, required = true, allow_hyphen_values = true)]
        command: Vec<OsString>,
    },
    /// Shows which components run; ends with 1 when one does not.
    Status,
    /// Puts load on an address and reports what was lost, by version.
    Load(load::LoadArguments),
    /// Runs the stand-ins for Slack, GitHub, PagerDuty, Azure, AWS and registries until a signal ends it.
    Standins(standins::StandInsArguments),
    /// Answers the API server's questions about tokens; a component of the sandbox.
    #[command(hide = true)]
    Identity,
    /// Ends the API server and starts it again.
    RestartApiserver {
        /// Kills it instead of asking it to end.
        #[arg(long)]
        kill: bool,
    },
}

#[derive(Debug, clap::Args)]
struct UpArguments {
    /// The folder of the Kubernetes programs, Traefik and the definitions.
    #[arg(long, env = "SWITCHYARD_CLUSTER_PROGRAMS")]
    programs: PathBuf,
    /// The folder of the static programs `api`, `web` and `pause`.
    #[arg(long, env = "SWITCHYARD_CLUSTER_APPS")]
    apps: PathBuf,
    /// Leaves out Traefik and what belongs to it.
    #[arg(long, conflicts_with = "use_kubeconfig")]
    cluster_only: bool,
    /// Uses the cluster of this kubeconfig (without a value: of KUBECONFIG) and only adds Traefik
    /// and what belongs to it.
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "")]
    use_kubeconfig: Option<OsString>,
    /// With --use-kubeconfig: where that cluster finds the images `api` and `web`.
    #[arg(long, requires = "use_kubeconfig")]
    registry: Option<String>,
}

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(stderr(), "error: {}", error.chain());
            if let Some(hint) = error.hint() {
                let _ = writeln!(stderr(), "hint: {hint}");
            }
            ExitCode::from(3)
        }
    }
}

fn run(arguments: Arguments) -> Result<ExitCode> {
    let name: InstanceName = arguments.name.parse()?;
    let layout = Layout::new(name, &cache_root(|variable| std::env::var(variable).ok())?)?;
    match arguments.action {
        Action::Up(given) => start(layout, given)?,
        Action::Down => down(&layout)?,
        Action::Env => {
            for (name, value) in variables(&layout)? {
                print(&format!("{name}={value}"))?;
            }
        }
        Action::Exec { command } => return Err(exec(&layout, &command)?),
        Action::Status => return status(&layout),
        Action::Load(given) => return load::load(&layout, given),
        Action::Standins(given) => return standins::standins(&layout, &given),
        Action::Identity => {
            let runtime = tokio::runtime::Runtime::new().context(|| "cannot start a runtime")?;
            runtime.block_on(identity::serve(layout))?;
        }
        Action::RestartApiserver { kill } => {
            let ending = if kill {
                Ending::Killed
            } else {
                Ending::InOrder
            };
            if Description::load(&layout)?.network_namespace.is_none() {
                return Err(SandboxError::new("this cluster's API server is not ours"));
            }
            network::enter(&layout)?;
            let runtime = tokio::runtime::Runtime::new().context(|| "cannot start a runtime")?;
            runtime.block_on(restart_api_server(&layout, ending))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn start(layout: Layout, given: UpArguments) -> Result<()> {
    let programs = given.programs;
    let sandbox = std::env::current_exe().context(|| "cannot find this program")?;
    match given.use_kubeconfig {
        None => up(&UpOptions {
            layout,
            programs,
            sandbox,
            apps: given.apps,
            scope: if given.cluster_only {
                Scope::ClusterOnly
            } else {
                Scope::Everything
            },
        }),
        Some(file) => join(&ForeignOptions {
            layout,
            programs,
            sandbox,
            kubeconfig: chosen_kubeconfig(Path::new(&file), std::env::var("KUBECONFIG").ok())?,
            registry: given.registry,
        }),
    }
}

fn variables(layout: &Layout) -> Result<Vec<(&'static str, String)>> {
    let description = Description::load(layout)?;
    let path = |path: PathBuf| path.display().to_string();
    let apps = description.apps.map(path).unwrap_or_default();
    let namespace = description.network_namespace.map(path).unwrap_or_default();
    Ok(vec![
        ("KUBECONFIG", path(description.kubeconfig)),
        (SANDBOX_VARIABLE, layout.name.to_string()),
        ("SWITCHYARD_SANDBOX_NETNS", namespace),
        (
            "SWITCHYARD_SANDBOX_STATE",
            layout.state.display().to_string(),
        ),
        ("SWITCHYARD_SANDBOX_FRONT_DOOR", description.front_door),
        ("SWITCHYARD_SANDBOX_TRAEFIK_API", description.traefik_api),
        (
            "SWITCHYARD_SANDBOX_TRAEFIK_METRICS",
            description.traefik_metrics,
        ),
        (
            "SWITCHYARD_SANDBOX_REGISTRY",
            description.registry.unwrap_or_default(),
        ),
        ("SWITCHYARD_SANDBOX_CA", path(description.ca)),
        (
            "SWITCHYARD_SANDBOX_KUBECTL",
            path(description.programs.join("kubectl")),
        ),
        // What a further sandbox is started with.
        ("SWITCHYARD_CLUSTER_PROGRAMS", path(description.programs)),
        ("SWITCHYARD_CLUSTER_APPS", apps),
    ])
}

/// Replaces this process; returns only the reason why that failed.
fn exec(layout: &Layout, command: &[OsString]) -> Result<SandboxError> {
    let variables = variables(layout)?;
    if Description::load(layout)?.network_namespace.is_some() {
        network::enter(layout)?;
    }
    let (program, arguments) = command
        .split_first()
        .ok_or_else(|| SandboxError::new("no command is given"))?;
    let mut child = Command::new(program);
    child.args(arguments).envs(variables);
    Ok(replace_by(child))
}

fn status(layout: &Layout) -> Result<ExitCode> {
    let mut all_run = true;
    let is_foreign = Description::stored(layout).is_some_and(|it| it.network_namespace.is_none());
    let components = if is_foreign {
        &[Component::Traefik][..]
    } else {
        &Component::ALL
    };
    for component in components {
        let record = ProcessRecord::load(layout, component.name());
        let state = match record.filter(ProcessRecord::is_alive) {
            Some(record) => format!("runs as {}", record.pid()),
            None => {
                all_run = false;
                "does not run".to_owned()
            }
        };
        print(&format!("{:24} {state}", component.name()))?;
    }
    Ok(if all_run {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn print(line: &str) -> Result<()> {
    writeln!(stdout(), "{line}").context(|| "cannot print")
}
