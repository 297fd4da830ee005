//! Inputs of `backup` and `verify`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, ValueEnum};
use switchyard_runner::secret::SECRET;
use switchyard_runner::{Secret, values};

use super::reference::{BackupReference, Location};
use crate::database::DatabaseArgs;

/// How a backup comes about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum BackupKind {
    /// `pg_dump` of a snapshot, restored and compared
    Dump,
    /// A snapshot of the provider, or a command of yours: for databases too large to dump for a release
    External,
}

/// Inputs of `backup`.
#[derive(Debug, Args)]
pub(crate) struct BackupArgs {
    #[command(flatten)]
    pub(crate) database: DatabaseArgs,
    /// How the backup comes about
    #[arg(long, value_enum, default_value = "dump")]
    pub(crate) backup_kind: BackupKind,
    #[command(flatten)]
    pub(crate) external: ExternalArgs,
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
    #[command(flatten)]
    pub(crate) scratch: ScratchArgs,
    /// Compression of the dump, 0 (none) to 9
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=9))]
    pub(crate) compression: u8,
    /// Backups of a database to keep in `backup-to`, the new one included; all when it is not given
    ///
    /// Older ones are taken away after the new one is verified, and only those that this action made of the same
    /// database, as its server is named in the URL.
    #[arg(long)]
    pub(crate) keep: Option<usize>,
    /// Fail when a backup is made and cannot be verified
    #[arg(long, value_parser = values::boolean, default_value = "true", num_args = 0..=1, default_missing_value = "true", action = ArgAction::Set)]
    pub(crate) require_verified: bool,
}

/// A backup that others make.
#[derive(Debug, Args)]
pub(crate) struct ExternalArgs {
    /// Script that makes a backup and prints its id as the last line; for `backup-kind: external`
    ///
    /// It gets `SWITCHYARD_DATABASE` and `SWITCHYARD_SERVER`, and no password.
    #[arg(long)]
    pub(crate) external_command: Option<String>,
    /// Id of a backup that was made already, instead of `external-command`
    #[arg(long)]
    pub(crate) external_id: Option<String>,
    /// Most time that `external-command` may take
    #[arg(long, value_parser = values::duration, default_value = "1h")]
    pub(crate) external_time_limit: Duration,
}

/// Where backups are kept.
#[derive(Debug, Args)]
pub(crate) struct PlaceArgs {
    /// Where backups are kept: a folder, `s3://BUCKET/PREFIX` or `azure://CONTAINER/PREFIX`
    ///
    /// Never a workflow artifact: whoever may read the repository may read those. Credentials come from the
    /// variables of the providers' own tools: `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`,
    /// `AWS_REGION`, `AWS_ENDPOINT_URL`; `AZURE_STORAGE_ACCOUNT` with `AZURE_STORAGE_KEY`, `AZURE_STORAGE_SAS_TOKEN`,
    /// or `AZURE_TENANT_ID`, `AZURE_CLIENT_ID` and `AZURE_FEDERATED_TOKEN_FILE`. A store behind an authority of your own is
    /// trusted by `AWS_CA_BUNDLE` and `REQUESTS_CA_BUNDLE`.
    #[arg(long)]
    pub(crate) backup_to: Option<Location>,
}

/// Where backups are restored for their proof.
#[derive(Debug, Args)]
pub(crate) struct ScratchArgs {
    /// URL of any database of the server that restores the backup; the original's own when it is not given
    ///
    /// `verify` restores only when it is given.
    #[arg(long, value_name = SECRET)]
    pub(crate) verify_url: Option<Secret>,
    /// Name of the scratch database; one of its own when it is not given
    ///
    /// It is made and taken away. A database that is there already is refused, never written over.
    #[arg(long)]
    pub(crate) scratch_database: Option<String>,
    /// Keep the copy that a verified backup was restored into, for `rehearse`: one restoration, three proofs
    ///
    /// It is an hour's work of the server on a large database. `rehearse` takes it away; one that nobody took is taken
    /// away by a backup a day later.
    #[arg(long, value_parser = values::boolean, default_value = "false", num_args = 0..=1, default_missing_value = "true", action = ArgAction::Set)]
    pub(crate) keep_copy: bool,
    #[command(flatten)]
    pub(crate) programs: ProgramArgs,
}

/// How PostgreSQL's programs are run.
#[derive(Debug, Args)]
pub(crate) struct ProgramArgs {
    /// Sessions and processes at once
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=32))]
    pub(crate) jobs: u8,
    /// Folder of `pg_dump` and `pg_restore`; those on PATH when it is not given
    ///
    /// They have to be at least of the server's major version.
    #[arg(long)]
    pub(crate) pg_programs: Option<PathBuf>,
    /// Most time for a dump, and for a restoration
    #[arg(long, value_parser = values::duration, default_value = "1h")]
    pub(crate) time_limit: Duration,
}

/// Inputs of `verify`.
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// Backup to verify, as the output `backup` names it
    #[arg(long)]
    pub(crate) backup: BackupReference,
    #[command(flatten)]
    pub(crate) scratch: ScratchArgs,
}

/// Inputs of `restore`.
#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    #[command(flatten)]
    pub(crate) database: DatabaseArgs,
    /// Backup to put in the place of the database, as the output `backup` names it
    #[arg(long)]
    pub(crate) backup: BackupReference,
    /// Restore although something was written since the backup
    ///
    /// What is replaced is kept as a database of another name. The running version writes until its sessions are cut.
    #[arg(long, value_parser = values::boolean, default_value = "false", num_args = 0..=1, default_missing_value = "true", action = ArgAction::Set)]
    pub(crate) accept_lost_writes: bool,
    #[command(flatten)]
    pub(crate) programs: ProgramArgs,
}
