//! `migrate-gate`: the gate between "code merged" and "schema changed".
//!
//! It owns migrations: which there are, what they would do, whether they may run. It refuses to know
//! workloads and traffic; of a deployment it knows the record, where a run writes down what it does.

mod backfill;
mod backup;
mod database;
mod inputs;
mod ledger;
mod lint;
mod outputs;
mod phases;
mod plan;
mod project;
mod queries;
mod rehearse;
mod replay;
mod report_file;
mod run;
mod sha256;
mod shorten;
mod trusted;

use switchyard_runner::{Action, Context, Failure, Output};

use inputs::Command;
pub use lint::{Page, pages as rule_pages};

/// Checks database migrations before they run in front of production
#[derive(Debug, clap::Parser)]
pub struct MigrateGate {
    #[command(subcommand)]
    command: Command,
}

impl Action for MigrateGate {
    const NAME: &'static str = "migrate-gate";
    const OUTPUTS: &'static [Output] = outputs::ALL;

    async fn run(self, context: &mut Context) -> Result<(), Failure> {
        match self.command {
            Command::Lint(args) => lint::run(*args, context).await,
            Command::Backup(args) => backup::run(*args, context).await,
            Command::Verify(args) => backup::verify(*args, context).await,
            Command::Restore(args) => backup::restore(*args, context).await,
            Command::Plan(args) => plan::run(*args, context).await,
            Command::Phases(args) => phases::run(*args, context).await,
            Command::Backfill(args) => backfill::run(*args, context).await,
            Command::Rehearse(args) => rehearse::run(*args, context).await,
            Command::Run(args) => run::run(*args, context).await,
            Command::Generate(args) => run::generate(args, context).await,
        }
    }
}
