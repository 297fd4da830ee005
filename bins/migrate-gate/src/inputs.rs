//! The inputs of every command: the only place where they are declared.
//!
//! Values are parsed into types that cannot hold nonsense; what they mean is decided by the commands.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::backfill::BackfillArgs;
use crate::backup::{BackupArgs, RestoreArgs, VerifyArgs};
use crate::lint::LintArgs;
use crate::phases::PhasesArgs;
use crate::plan::PlanArgs;
use crate::project::{Schemas, Tool};
use crate::rehearse::RehearseArgs;
use crate::run::{GenerateArgs, RunArgs};

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Judge migrations by their files alone: no database is needed
    Lint(Box<LintArgs>),
    /// Show what would run: pending migrations, the ledger's state, locks, and the digest to approve
    Plan(Box<PlanArgs>),
    /// Sort the statements into expand, migrate and contract, and refuse to contract while the old version still runs
    Phases(Box<PhasesArgs>),
    /// Change the rows of a table batch by batch, slowly, and go on where it stopped
    Backfill(Box<BackfillArgs>),
    /// Try the pending migrations on a restored copy: whom they block, and which statements of the running version break
    Rehearse(Box<RehearseArgs>),
    /// Apply what was approved, under limits, and prove it
    Run(Box<RunArgs>),
    /// Run the generators of Prisma schemas
    Generate(GenerateArgs),
    /// Back up every database, and prove each backup by restoring it
    Backup(Box<BackupArgs>),
    /// Show whether a backup is still what it was
    Verify(Box<VerifyArgs>),
    /// Put a backup in the place of a database, with its owner, settings and grants
    Restore(Box<RestoreArgs>),
}

/// Where the migrations are; every command takes these.
#[derive(Debug, Args)]
pub(crate) struct ProjectArgs {
    /// Folder of the migrations: one that holds `migrations/`, or that folder itself
    #[arg(long)]
    pub(crate) path: Option<PathBuf>,
    /// Tool that runs the migrations in `path`
    #[arg(long, value_enum, default_value = "prisma")]
    pub(crate) tool: Tool,
    /// Configuration of Prisma, such as `prisma.config.ts`; then `path` only finds the migrations
    #[arg(long)]
    pub(crate) config: Option<PathBuf>,
    /// Bash script that runs everything pending, where `tool` is `command`
    ///
    /// It has DATABASE_URL, and PGOPTIONS with the time limits.
    #[arg(long)]
    pub(crate) script: Option<String>,
    /// Folder in which the tool is started, such as that of its `package.json`
    #[arg(long)]
    pub(crate) directory: Option<PathBuf>,
    /// Several schemas instead of `path`: a YAML list of `name`, `path`, `tool`, and what the tool needs
    ///
    /// `name` names the schema in reports and outputs, `path` is its folder, `tool` is `prisma` (when it
    /// is not given) or `command`. `transaction` says how a `command` runs a file: `file` (when it is
    /// not given: one transaction around it) or `none`; its own script is
    /// `command`. `config` is Prisma's configuration, such as `prisma.config.ts`. The tool is started in
    /// `directory`. `url-env` names the key of the database's URL.
    #[arg(long)]
    pub(crate) schemas: Option<Schemas>,
}
