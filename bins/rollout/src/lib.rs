//! `rollout`: brings the objects of a version into a cluster, sizes, saves and restores them.
//!
//! Owns what is written to workloads and their belongings. Refuses to move traffic: fronts keep what
//! they send where.

mod adopt;
mod annotate;
mod apply;
mod backup;
mod beside;
mod canary;
mod finish;
mod inputs;
mod ledger;
mod objects;
mod opening;
mod outputs;
mod permissions;
mod plan;
mod remember;
mod restore;
mod retire;
mod revert;
mod scale;
mod sides;
mod source;
mod status;
mod subject;
mod survey;
mod timing;
mod undo;
mod waiting;

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
            Command::Roll(args) => apply::roll(args, context).await,
            Command::Canary(args) => apply::canary(args, context).await,
            Command::Promote(args) => apply::promote(args, context).await,
            Command::Undo(args) => undo::run(args, context).await,
            Command::Retire(args) => retire::run(args, context).await,
            Command::Scale(args) => scale::run(args, context).await,
            Command::Annotate(args) => annotate::run(args, context).await,
            Command::Backup(args) => backup::run(args, context).await,
            Command::Restore(args) => restore::run(args, context).await,
            Command::Revert(args) => revert::run(args, context).await,
            Command::Adopt(args) => adopt::run(args, context).await,
            Command::Status(args) => status::run(args, context).await,
            Command::Remember(args) => remember::run(args, context).await,
            Command::Finish(args) => finish::run(args, context).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use switchyard_manifest::names as of_manifests;

    #[test]
    fn manifests_and_cluster_mean_the_same_by_the_same_names() {
        use switchyard_cluster::names as of_cluster;
        assert_eq!(of_manifests::APPLICATION, of_cluster::APPLICATION);
        assert_eq!(of_manifests::SLOT, of_cluster::SLOT);
        assert_eq!(of_manifests::BASE_NAME, of_cluster::BASE_NAME);
        assert_eq!(of_manifests::ROLE, of_cluster::ROLE);
        assert_eq!(of_manifests::FENCE, of_cluster::FENCE);
        assert_eq!(of_manifests::SEAL, of_cluster::SEAL);
        assert_eq!(
            of_manifests::POD_TEMPLATE_HASH,
            of_cluster::POD_TEMPLATE_HASH
        );
    }
}
