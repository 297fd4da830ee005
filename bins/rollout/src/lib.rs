//! `rollout`: brings the objects of a version into a cluster, sizes, saves and restores them.
//!
//! Owns what is written to workloads and their belongings. Refuses to move traffic: fronts keep what
//! they send where.

mod apply;
mod inputs;
mod ledger;
mod objects;
mod outputs;
mod permissions;
mod plan;
mod source;
mod timing;

use switchyard_runner::{Action, Context, Failure, Output};

use inputs::Command;

/// Bring a version's objects into a cluster: apply, scale, annotate, back up, restore
///
/// Applies manifests in place or into the idle slot of a blue-green application, with a server-side
/// dry run of all objects before the first write. It never moves traffic.
#[derive(Debug, clap::Parser)]
#[command(name = "rollout", disable_help_subcommand = true)]
pub struct Rollout {
    #[command(subcommand)]
    command: Command,
}

impl Action for Rollout {
    const NAME: &'static str = "rollout";
    const OUTPUTS: &'static [Output] = outputs::ALL;

    async fn run(self, context: &mut Context) -> Result<(), Failure> {
        match self.command {
            Command::Apply(args) => apply::run(args, context).await,
            Command::Scale(_)
            | Command::Annotate(_)
            | Command::Backup(_)
            | Command::Restore(_)
            | Command::Adopt(_)
            | Command::Status(_)
            | Command::Finish(_) => Ok(()),
        }
    }
}
