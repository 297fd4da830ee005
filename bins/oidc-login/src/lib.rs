//! `oidc-login`: from the identity that GitHub gives a job to short-lived access to clusters.
//!
//! It owns tokens: GitHub's, those that clouds give for them, and the exec plugin that hands them to
//! clients. It refuses to know deployments and records, and it keeps nothing that outlives the job.

mod aws;
mod azure;
mod credential;
mod direct;
mod explain;
mod github;
mod inputs;
mod kubeconfig;
mod lock;
mod login;
mod plugin;
mod private;
mod registry;
mod session;
mod whoami;

use switchyard_runner::{Action, Context, Failure, Output, Threads};

use inputs::Command;
pub use plugin::OidcPlugin;

/// Logs a job in with GitHub's identity token: kubeconfigs that refresh themselves, no secret stored
#[derive(Debug, clap::Parser)]
pub struct OidcLogin {
    #[command(subcommand)]
    command: Command,
}

impl Action for OidcLogin {
    const NAME: &'static str = "oidc-login";
    const OUTPUTS: &'static [Output] = &[
        Output {
            name: "kubeconfig",
            description: "Path of the kubeconfig, for the following steps of the same job",
        },
        Output {
            name: "context",
            description: "Current context of the kubeconfig",
        },
        Output {
            name: "subject",
            description: "Subject of the job's token (`sub`), as GitHub wrote it",
        },
        Output {
            name: "expires-at",
            description: "When the first token, or session of a role, ends; the kubeconfig's plugin gets the next one by itself",
        },
        Output {
            name: "registry",
            description: "The first registry that was entered",
        },
        Output {
            name: "docker-config",
            description: "Folder of the configuration with the passwords (`registry-credentials: file`), for DOCKER_CONFIG",
        },
        Output {
            name: "aws-config",
            description: "Path of the AWS configuration with the profile (`profile`), for AWS_CONFIG_FILE",
        },
        Output {
            name: "account",
            description: "Number of the account at AWS (`aws`)",
        },
    ];
    // It waits for one service after the other.
    const THREADS: Threads = Threads::One;

    async fn run(self, context: &mut Context) -> Result<(), Failure> {
        let cancel = context.cancel.clone();
        let work = async {
            match self.command {
                Command::Azure(args) => Box::pin(azure::run(*args, context)).await,
                Command::Aws(args) => Box::pin(aws::run(*args, context)).await,
                Command::Ghcr(args) => Box::pin(registry::run(args, context)).await,
                Command::Direct(args) => Box::pin(direct::run(args, context)).await,
                Command::Explain(args) => Box::pin(explain::run(args, context)).await,
            }
        };
        tokio::select! {
            result = work => result,
            signal = cancel.cancelled() => {
                Err(Failure::cancelled(signal, anyhow::anyhow!("{} during the login", signal.name())))
            }
        }
    }
}
