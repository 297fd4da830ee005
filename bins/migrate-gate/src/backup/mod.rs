//! `backup`: a consistent backup of every database, proved by restoring it. `verify`: whether one is still what it was.
//!
//! The order of a backup: snapshot → dump and counts of that snapshot → snapshot ended → kept, manifest last → read
//! back → restored into a scratch database → compared. Nothing of it is reported as verified that was not compared.

mod compare;
mod count;
mod dump;
mod external;
mod files;
mod inputs;
mod keep;
mod manifest;
mod programs;
mod proof;
mod reference;
mod report;
mod restore;
mod scratch;
mod staging;
mod store;
mod verify;

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use switchyard_postgres::ConnectionUrl;
use switchyard_runner::{Context, Failure, Kind};

use crate::sha256::sha256;
use crate::{database, report_file, trusted};
use dump::{Dump, DumpOptions, dump};
pub(crate) use inputs::{BackupArgs, ProgramArgs, RestoreArgs, VerifyArgs};
use inputs::{BackupKind, PlaceArgs, ScratchArgs};
use manifest::Manifest;
use programs::Programs;
use proof::{Proof, Proving};
pub(crate) use reference::BackupReference;
use report::{BackupReport, Report};
pub(crate) use restore::{Restored, Restoring, origin_of, run as restore};
pub(crate) use scratch::{Scratch, ScratchError};
use store::Store;
pub(crate) use verify::run as verify;

/// Backs up every database that the inputs name.
///
/// # Errors
/// Kind gate when a backup is damaged, or not verified although it has to be; kind remote when a server or a store
/// fails.
pub(crate) async fn run(args: BackupArgs, context: &mut Context) -> Result<(), Failure> {
    trusted::require(&context.environment, "backup")?;
    let urls = database::distinct(&args.database, &context.console)?;
    let scratch = args.scratch.url(&context.console)?;
    let mut report = Report::default();
    for url in &urls {
        let one = match args.backup_kind {
            BackupKind::Dump => back_up(&args, url, scratch.as_ref(), context).await,
            BackupKind::External => external::back_up(&args.external, url, context).await,
        };
        match one {
            Ok(one) => report.backups.push(one),
            Err(failure) => {
                // What was kept of the others is told before this one ends the step.
                report.failed = Some(url.database().to_owned());
                return report_file::beside(report.write(context), Err(failure), &context.console);
            }
        }
    }
    report_file::beside(
        report.write(context),
        report.judge(args.require_verified),
        &context.console,
    )
}

async fn back_up(
    args: &BackupArgs,
    url: &ConnectionUrl,
    scratch: Option<&ConnectionUrl>,
    context: &Context,
) -> Result<BackupReport, Failure> {
    let Some(location) = &args.place.backup_to else {
        return Err(
            Failure::message(Kind::Input, "no place for backups is named").hint(
                "give `backup-to`: a folder, `s3://BUCKET/PREFIX` or `azure://CONTAINER/PREFIX`",
            ),
        );
    };
    let store = args.place.open(location, context)?;
    let programs = args.scratch.programs.programs(context);
    let options = DumpOptions {
        jobs: args.scratch.programs.jobs,
        compression: args.compression,
        staging: staging(&store, context),
    };
    context.console.info(format!("backing up {url}"));
    let dump = dump(url, &options, &programs, &context.console).await?;
    let manifest = manifest_of(url, &dump, context);
    let key = format!("{}/{}", safe(url.database()), name(dump.taken_at));
    let keeping = keep::keep(&store, &key, dump.folder.path(), &manifest);
    let left = "what was kept has no manifest, and is no backup";
    until_cancelled(context, left, keeping).await?;
    let reference = BackupReference {
        location: location.join(&key),
        digest: Some(sha256(manifest.text().map_err(Failure::bug)?.as_bytes())),
    };
    context.console.info(format!("kept as {reference}"));
    let proving = Proving {
        admin: scratch.unwrap_or(url),
        name: args.scratch.database_name(url.database()),
        jobs: args.scratch.programs.jobs,
        programs: &programs,
        keeps_copy: args.scratch.keep_copy,
        console: &context.console,
        cancel: &context.cancel,
    };
    let folder = dump.folder.path().join(manifest::DUMP);
    let proved = proving
        .prove(&folder, &manifest, Some(&dump.schema))
        .await?;
    if let (Some(keep), Proof::Verified { .. }) = (args.keep, &proved.proof) {
        let (folder, origin) = (safe(url.database()), manifest.origin());
        keep::retain(&store, &folder, &origin, keep, &context.console).await?;
    }
    Ok(BackupReport::of_dump(
        url,
        reference.to_string(),
        manifest.bytes(),
        proved,
    ))
}

fn manifest_of(url: &ConnectionUrl, dump: &Dump, context: &Context) -> Manifest {
    Manifest::new(manifest::Facts {
        database: url.database().to_owned(),
        server: url.server(),
        server_version: dump.server_version,
        dump_version: dump.dump_version,
        taken_at: dump.taken_at,
        run: context.environment.workflow_run().url(),
        settings: dump.settings.clone(),
        fingerprint: dump.schema.fingerprint(),
        contents: dump.counted.contents.clone(),
        uncounted: dump.counted.uncounted.clone(),
        files: dump.files.clone(),
    })
}

/// Where a dump is written first: on the file system where it will stay, or in the runner's folder.
fn staging(store: &Store, context: &Context) -> PathBuf {
    match store {
        Store::Folder(folder) => folder.root().to_owned(),
        Store::Objects(_) => report_file::folder(context),
    }
}

/// `20260101T000000Z-1a2b3c4d`.
fn name(time: Timestamp) -> String {
    let time = time.strftime("%Y%m%dT%H%M%SZ");
    format!("{time}-{:08x}", rand::random::<u32>())
}

/// A database's name as part of a path: everything unusual becomes `_`.
fn safe(name: &str) -> String {
    let usual = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    name.chars()
        .map(|c| if usual(c) { c } else { '_' })
        .collect()
}

/// Lets a signal end what would go on for long, and says what is left then.
async fn until_cancelled<T>(
    context: &Context,
    left: &str,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    tokio::select! {
        done = work => done,
        signal = context.cancel.cancelled() => {
            let text = format!("{} ended it; {left}", signal.name());
            Err(Failure::cancelled(signal, anyhow::anyhow!(text)))
        }
    }
}

impl PlaceArgs {
    /// Opens the store of a place.
    fn open(&self, location: &reference::Location, context: &Context) -> Result<Store, Failure> {
        for name in SECRET_VARIABLES {
            if let Some(value) = context.environment.get(name) {
                context.console.mask(&switchyard_runner::Secret::new(value));
            }
        }
        Store::open(location, &context.environment)
            .map_err(|cause| Failure::message(Kind::Input, format!("`{location}`: {cause}")))
    }
}

/// Variables that stores read and nobody may see.
const SECRET_VARIABLES: [&str; 5] = [
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AZURE_STORAGE_KEY",
    "AZURE_STORAGE_SAS_TOKEN",
    "AZURE_CLIENT_SECRET",
];

impl ProgramArgs {
    fn programs(&self, context: &Context) -> Programs {
        let folder: Option<&Path> = self.pg_programs.as_deref();
        Programs::new(folder, context, self.time_limit)
    }
}

impl ScratchArgs {
    /// The server that restores, where it is another one.
    fn url(&self, console: &switchyard_runner::Console) -> Result<Option<ConnectionUrl>, Failure> {
        let text = self.verify_url.as_ref();
        text.map(|text| database::parse_url("input `verify-url`", text, console))
            .transpose()
    }

    fn database_name(&self, original: &str) -> String {
        let own = || {
            let original: String = safe(original).chars().take(30).collect();
            format!("switchyard_{original}_{:08x}", rand::random::<u32>()).to_lowercase()
        };
        self.scratch_database.clone().unwrap_or_else(own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_by_time_and_lead_nowhere() {
        let time: Timestamp = "2026-01-02T03:04:05.6Z".parse().unwrap();
        assert!(
            name(time).starts_with("20260102T030405Z-"),
            "{}",
            name(time)
        );
        assert_eq!(safe("../shop db"), "___shop_db");
    }
}
