//! The inputs of `run`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, ValueEnum};
use switchyard_runner::{DeploymentArgs, List, values};

use super::assertions::Assertions;
use crate::backup::{BackupReference, ProgramArgs};
use crate::database::DatabaseArgs;
use crate::inputs::ProjectArgs;

/// How the time limits reach a tool's sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LimitsBy {
    /// In the URL's `options` and in PGOPTIONS: known to libpq, Prisma and most clients
    Connection,
    /// Also as settings of the role in its database, taken back at the end: for clients that ignore those
    Role,
}

/// How a tool is started.
#[derive(Debug, Args)]
pub(crate) struct ToolArgs {
    /// How Prisma is started, words separated by spaces
    #[arg(long, default_value = "npx --no-install prisma")]
    pub(crate) prisma: String,
    /// Names of variables that the tool is given besides, one per line
    #[arg(long, default_value = "")]
    pub(crate) variables: List<String>,
    /// Most time that one start of a tool may take
    #[arg(long, default_value = "30m", value_parser = positive)]
    pub(crate) tool_timeout: Duration,
}

/// Inputs of `generate`.
#[derive(Debug, Args)]
pub(crate) struct GenerateArgs {
    #[command(flatten)]
    pub(crate) project: ProjectArgs,
    #[command(flatten)]
    pub(crate) tool: ToolArgs,
}

/// What is done when something stops after something was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Policy {
    /// The database stays as it stands; it is told what ran and how to go on
    Halt,
    /// The backup takes the place of the database, with every schema in it
    Restore,
}

/// Inputs of `run`.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) project: ProjectArgs,
    #[command(flatten)]
    pub(crate) database: DatabaseArgs,
    #[command(flatten)]
    pub(crate) tool: ToolArgs,
    /// Digest of the plan that was approved; anything else than that plan is refused
    #[arg(long)]
    pub(crate) approved_digest: Option<String>,
    /// Report of `rehearse`: what was not rehearsed, or makes another schema than there, is refused
    #[arg(long)]
    pub(crate) rehearsal: Option<PathBuf>,
    /// Longest wait of a statement for a lock
    ///
    /// Whoever comes after a waiting statement waits behind it: this is how long traffic may stand.
    #[arg(long, default_value = "2s", value_parser = positive)]
    pub(crate) lock_timeout: Duration,
    /// Longest statement
    #[arg(long, default_value = "15m", value_parser = positive)]
    pub(crate) statement_timeout: Duration,
    /// How the time limits reach the tool
    #[arg(long, value_enum, default_value = "connection")]
    pub(crate) limits: LimitsBy,
    /// How often a migration whose lock did not come is tried in all, 1 to 20
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=20))]
    pub(crate) attempts: u32,
    /// Pause before the second attempt, doubled for each further one, up to a minute
    #[arg(long, default_value = "5s", value_parser = values::duration)]
    pub(crate) retry_pause: Duration,
    /// How long to wait for another gate, or for what an earlier run left running
    #[arg(long, default_value = "5m", value_parser = values::duration)]
    pub(crate) gate_timeout: Duration,
    /// File that says what a run has done, so that the next one goes on after a killed one
    ///
    /// In `RUNNER_TEMP` when it is not given. A file that outlives the runner is better, and so is the record of a
    /// deployment: where `application` names one that an earlier step of this workflow run began, it is written there
    /// too, and the deployment is `migrated` when everything is applied and proved.
    #[arg(long)]
    pub(crate) journal: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) deployment: DeploymentArgs,
    /// What is done when something stops after something was changed
    #[arg(long, value_enum, default_value = "halt")]
    pub(crate) policy: Policy,
    /// Backups to go back to, as the output `backup` names them, one per line; for `policy: restore`
    #[arg(long, default_value = "")]
    pub(crate) backups: List<BackupReference>,
    /// Restore although something was written since the backup
    ///
    /// What is replaced is kept as a database of another name. The running version writes until its sessions are cut.
    #[arg(long, value_parser = values::boolean, default_value = "false", num_args = 0..=1, default_missing_value = "true", action = ArgAction::Set)]
    pub(crate) accept_lost_writes: bool,
    #[command(flatten)]
    pub(crate) programs: ProgramArgs,
    /// What has to hold afterwards: a YAML list of `name`, `sql` (one row, one boolean), `schema`
    #[arg(long, default_value = "[]")]
    pub(crate) assertions: Assertions,
}

/// A duration that bounds something: zero would mean never.
pub(crate) fn positive(text: &str) -> Result<Duration, String> {
    match values::duration(text)? {
        Duration::ZERO => Err("zero would be no limit at all".to_owned()),
        duration => Ok(duration),
    }
}
