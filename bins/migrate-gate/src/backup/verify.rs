//! `verify`: whether a backup is still what it was: complete, unchanged, and restorable where a server is given.

use switchyard_runner::{Context, Failure, Kind};

use super::inputs::{PlaceArgs, VerifyArgs};
use super::manifest::{DUMP, MANIFEST, Manifest};
use super::proof::{Proof, Proving};
use super::reference::BackupReference;
use super::report::{BackupReport, Report};
use super::store::Store;
use super::{keep, until_cancelled};
use crate::{report_file, trusted};

/// Verifies a backup.
///
/// # Errors
/// Kind gate when it is not what it was, or half of it; kind remote when the store or the server fails.
pub(crate) async fn run(args: VerifyArgs, context: &mut Context) -> Result<(), Failure> {
    trusted::require(&context.environment, "verify")?;
    let scratch = args.scratch.url(&context.console)?;
    let place = PlaceArgs { backup_to: None };
    let store = place.open(&args.backup.location, context)?;
    let (manifest, mut proof) = until_cancelled(context, files(&store, &args.backup)).await?;
    if let (Some(manifest), Some(admin), Proof::Unverifiable { .. }) = (&manifest, &scratch, &proof)
    {
        let folder = tempfile::tempdir_in(report_file::folder(context)).map_err(|cause| {
            Failure::input(anyhow::Error::new(cause).context("make a folder for the backup"))
        })?;
        until_cancelled(context, keep::download(&store, "", manifest, folder.path())).await?;
        let programs = args.scratch.programs.programs(context);
        programs.require(manifest.server_version).await?;
        let proving = Proving {
            admin,
            name: args.scratch.database_name(&manifest.database),
            jobs: args.scratch.programs.jobs,
            programs: &programs,
            console: &context.console,
            cancel: &context.cancel,
        };
        proof = proving
            .prove(&folder.path().join(DUMP), manifest, None)
            .await?;
    }
    let report = Report {
        backups: vec![BackupReport::of_verification(
            &args.backup,
            manifest.as_ref(),
            proof,
        )],
        failed: None,
    };
    // Without a server the files were compared, which is what was asked for.
    let judged = report.judge(scratch.is_some());
    report_file::beside(report.write(context), judged, &context.console)
}

/// Compares manifest and files; the proof is open then, because nothing was restored.
pub(super) async fn files(
    store: &Store,
    reference: &BackupReference,
) -> Result<(Option<Manifest>, Proof), Failure> {
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
        return Ok((None, damaged(text)));
    };
    let manifest = match Manifest::parse(&text, reference.digest.as_deref()) {
        Ok(manifest) => manifest,
        Err(cause) => return Ok((None, damaged(cause.to_string()))),
    };
    let differences = keep::damages(store, "", &manifest).await?;
    if !differences.is_empty() {
        return Ok((Some(manifest), Proof::Damaged { differences }));
    }
    let proof = Proof::Unverifiable {
        reason: format!(
            "all {} files are as they were written, and nothing was restored",
            manifest.files.len()
        ),
        hint: Some("give `verify-url` to restore and compare it".to_owned()),
    };
    Ok((Some(manifest), proof))
}
