//! `verify`: whether a backup is still what it was: complete, unchanged, and restorable where a server is given.

use std::path::Path;

use switchyard_postgres::ConnectionUrl;
use switchyard_runner::{Context, Failure, Kind};

use super::inputs::{PlaceArgs, VerifyArgs};
use super::manifest::{DUMP, MANIFEST, Manifest};
use super::proof::{Proof, Proved, Proving};
use super::reference::BackupReference;
use super::report::{BackupReport, Report};
use super::store::Store;
use super::{keep, staging, until_cancelled};
use crate::{report_file, trusted};

/// What a signal leaves.
const LEFT: &str = "nothing was changed, and nothing is known of the backup";

/// Verifies a backup.
///
/// # Errors
/// Kind gate when it is not what it was, or half of it; kind remote when the store or the server fails.
pub(crate) async fn run(args: VerifyArgs, context: &mut Context) -> Result<(), Failure> {
    trusted::require(&context.environment, "verify")?;
    let scratch = args.scratch.url(&context.console)?;
    let place = PlaceArgs { backup_to: None };
    let store = place.open(&args.backup.location, context)?;
    let (manifest, proved) =
        match until_cancelled(context, LEFT, manifest(&store, &args.backup)).await? {
            Ok(manifest) => {
                let proved = prove(&args, &store, &manifest, scratch.as_ref(), context).await?;
                (Some(manifest), proved)
            }
            Err(damage) => (None, damage.into()),
        };
    let report = Report {
        backups: vec![BackupReport::of_verification(
            &args.backup,
            manifest.as_ref(),
            proved,
        )],
        failed: None,
    };
    // Without a server the files were compared, which is what was asked for.
    let judged = report.judge(scratch.is_some());
    report_file::beside(report.write(context), judged, &context.console)
}

/// Reads every file once, compares it, and restores what was read where a server is given.
async fn prove(
    args: &VerifyArgs,
    store: &Store,
    manifest: &Manifest,
    scratch: Option<&ConnectionUrl>,
    context: &Context,
) -> Result<Proved, Failure> {
    let Some(admin) = scratch else {
        let read = until_cancelled(context, LEFT, files(store, manifest, None)).await;
        return read.map(Proved::from);
    };
    let programs = args.scratch.programs.programs(context);
    programs.require(manifest.server_version).await?;
    let folder = staging::folder(&report_file::folder(context), &context.console)?;
    let read = files(store, manifest, Some(folder.path()));
    match until_cancelled(context, LEFT, read).await? {
        Proof::Unverifiable { .. } => {}
        read @ (Proof::Verified { .. } | Proof::Damaged { .. }) => return Ok(read.into()),
    }
    let proving = Proving {
        admin,
        name: args.scratch.database_name(&manifest.database),
        jobs: args.scratch.programs.jobs,
        programs: &programs,
        keeps_copy: args.scratch.keep_copy,
        console: &context.console,
        cancel: &context.cancel,
    };
    let dump = folder.path().join(DUMP);
    proving.prove(&dump, manifest, None).await
}

/// Reads the manifest that a reference names, or says how the backup is damaged.
///
/// # Errors
/// Kind gate where there is no backup; kind remote when the store fails.
pub(super) async fn manifest(
    store: &Store,
    reference: &BackupReference,
) -> Result<Result<Manifest, Proof>, Failure> {
    let damaged = |difference: String| Proof::Damaged {
        differences: vec![difference],
    };
    let text = store.text(MANIFEST).await.map_err(keep::store_failure)?;
    let Some(text) = text else {
        let names = store.names("").await.map_err(keep::store_failure)?;
        if names.is_empty() {
            let text = format!("there is no backup at {}", reference.location);
            return Err(Failure::message(Kind::Gate, text)
                .hint("give it as the output `backup` of the step that made it"));
        }
        let text = "it has no manifest: it was not kept to its end".to_owned();
        return Ok(Err(damaged(text)));
    };
    let manifest = Manifest::parse(&text, reference.digest.as_deref());
    Ok(manifest.map_err(|cause| damaged(cause.to_string())))
}

/// Compares the files with the manifest, and writes them below a folder where one is given; the proof is open then,
/// because nothing was restored.
///
/// # Errors
/// Kind remote when the store fails; kind input when the folder cannot be written.
pub(super) async fn files(
    store: &Store,
    manifest: &Manifest,
    folder: Option<&Path>,
) -> Result<Proof, Failure> {
    let differences = keep::damages(store, "", manifest, folder).await?;
    if !differences.is_empty() {
        return Ok(Proof::Damaged { differences });
    }
    Ok(Proof::Unverifiable {
        reason: format!(
            "all {} files are as they were written, and nothing was restored",
            manifest.files.len()
        ),
        hint: Some("give `verify-url` to restore and compare it".to_owned()),
    })
}
