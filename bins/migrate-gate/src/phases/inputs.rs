//! Inputs of `phases`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use switchyard_sql::ServerVersion;

use crate::database::DatabaseArgs;
use crate::inputs::ProjectArgs;
use crate::run::positive;

/// Inputs of `phases`.
#[derive(Debug, Args)]
pub(crate) struct PhasesArgs {
    #[command(flatten)]
    pub(crate) project: ProjectArgs,
    /// Where production is; without it every migration counts as pending.
    #[command(flatten)]
    pub(crate) database: DatabaseArgs,
    /// Major version of the server that the migrations are for, 11 to 18; where a database is given, its own counts
    #[arg(long, default_value_t = ServerVersion::DEFAULT)]
    pub(crate) postgres_version: ServerVersion,
    /// Whether the old version still runs
    #[arg(long, value_enum, default_value = "observe")]
    pub(crate) old_version: OldVersion,
    /// Time between the two looks at `pg_stat_statements`; in it the old version has to show itself
    #[arg(long, default_value = "1m", value_parser = positive)]
    pub(crate) sample: Duration,
    /// File for the report, JSON; one in RUNNER_TEMP when it is not given
    #[arg(long)]
    pub(crate) report_file: Option<PathBuf>,
}

/// Whether the old version still runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OldVersion {
    /// Look whether its statements still grow in `pg_stat_statements`
    Observe,
    /// It is gone: contract statements may run
    Gone,
    /// It runs: contract statements are refused
    Runs,
}
