//! `rollout backup`: the objects of the live side, cleaned, in a file whose digest the record keeps.
//! Never Secrets. The first step of a chain: it claims the application.

mod collect;

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use switchyard_manifest::{ObjectName, diff, names, object};
use switchyard_record::{BackupRef, Intent, Kind, Opening, Phase, Side};
use switchyard_runner::{Context, Failure};

use crate::apply::chain;
use crate::inputs::{BackupArgs, BackupDigest};
use crate::ledger::{Ledger, claim_request};
use crate::opening::Opened;
use crate::sides;
use crate::survey::{Survey, name_in_inputs};
use crate::timing::within;

/// Saves the live side.
///
/// # Errors
/// Bad input, a claim that is refused, a file that cannot be written, or a cluster that fails.
pub(crate) async fn run(args: BackupArgs, context: &mut Context) -> Result<(), Failure> {
    within(args.timeout, async {
        let opened = Opened::begin(context, &args.deployment, args.timeout, |_| Vec::new()).await?;
        let opening = Opening {
            version: args.version.clone(),
            commit: context.environment.workflow_run().sha,
            ..Opening::new(Kind::Deploy, chain(args.slot))
        };
        let request = claim_request(context, &args.deployment, Intent::Deploy(opening), None);
        let (mut ledger, _) =
            Ledger::open(context, &args.deployment, &opened.connection, request).await?;
        let result = back_up(&args, context, &opened, &mut ledger).await;
        ledger.close().await;
        result
    })
    .await
}

async fn back_up(
    args: &BackupArgs,
    context: &Context,
    opened: &Opened,
    ledger: &mut Ledger,
) -> Result<(), Failure> {
    crate::outputs::deployment_id(context, ledger)?;
    crate::outputs::notices(context, ledger)?;
    if let Some(record) = ledger.record()
        && record.phase.has_passed(Phase::Applied)
    {
        return keep_earlier(context, record.backup_ref.clone());
    }
    let survey = Survey::read(&opened.objects).await?;
    let live = live_side(args, &survey, ledger);
    if let Some(side) = live.side {
        context.outputs.set("previous-slot", side)?;
    }
    if live.workloads.is_empty() {
        context
            .console
            .info("nothing is live yet, so there is nothing to back up");
        return ledger.advance(Phase::BackedUp).await;
    }
    let objects = collect::collect(&opened.objects, &survey, &live.workloads).await?;
    warn_of_plain_secrets(context, &objects);
    let path = path(args, context);
    let text = render(args, opened.namespace(), &live, &objects);
    write_private(&path, &text)?;
    let digest = BackupDigest::of(text.as_bytes());
    let location = path.display().to_string();
    ledger
        .amend(|record| {
            record.backup_ref = Some(BackupRef {
                location: location.clone(),
                digest: digest.as_str().to_owned(),
            });
        })
        .await?;
    ledger.advance(Phase::BackedUp).await?;
    context.console.info(format!(
        "{} objects of {} saved to {location} ({})",
        objects.len(),
        live.side.map_or_else(
            || "the named workloads".to_owned(),
            |side| format!("side {side}")
        ),
        digest.as_str()
    ));
    context.outputs.set("backup", &location)?;
    context.outputs.set("applied", objects.len())?;
    let revisions: Vec<(String, String)> = objects
        .iter()
        .filter_map(|object| Some((object.title.clone(), object.revision.clone()?)))
        .collect();
    crate::outputs::revisions(context, &revisions)
}

/// A re-run after the first write must not save what this deployment wrote as what was there before.
fn keep_earlier(context: &Context, backup: Option<BackupRef>) -> Result<(), Failure> {
    let Some(backup) = backup else {
        context
            .console
            .info("this deployment has written already, and had nothing to back up before");
        return Ok(());
    };
    let is_here = std::fs::read(&backup.location)
        .is_ok_and(|bytes| BackupDigest::of(&bytes).as_str() == backup.digest);
    if is_here {
        return context.outputs.set("backup", backup.location);
    }
    context.console.warning(
        "rollout",
        format!(
            "an earlier attempt saved the backup as {} ({}), which is not on this runner; what is live now is already changed, so it is not saved again",
            backup.location, backup.digest
        ),
    );
    Ok(())
}

/// What is live.
struct Live {
    side: Option<Side>,
    workloads: Vec<ObjectName>,
}

/// The workloads that an input names, else those of the live side.
fn live_side(args: &BackupArgs, survey: &Survey, ledger: &Ledger) -> Live {
    let is_there = |name: &ObjectName| survey.workload(sides::kind_of(name), &name.name).is_some();
    let recorded = ledger
        .session()
        .and_then(|session| session.application().live.as_ref())
        .map(|live| live.side);
    if !args.workloads.is_empty() {
        return Live {
            side: recorded,
            workloads: args
                .workloads
                .iter()
                .filter(|name| is_there(name))
                .cloned()
                .collect(),
        };
    }
    let application = args.deployment.application.as_deref();
    let of_application: Vec<ObjectName> = survey
        .selectors
        .workloads
        .iter()
        .filter(|(_, value)| {
            application.is_some()
                && object::metadata_entry(value, "labels", names::APPLICATION) == application
        })
        .map(|(kind, value)| name_in_inputs(*kind, value))
        .collect();
    let of_side = |side: Side| -> Vec<ObjectName> {
        of_application
            .iter()
            .filter(|name| {
                sides::side_of_workload(survey, name)
                    .is_some_and(|of| sides::is_same_place(of, side))
            })
            .cloned()
            .collect()
    };
    if let Some(side) = recorded {
        return Live {
            side: Some(side),
            workloads: of_side(side),
        };
    }
    // No record tells: the side that traffic reaches is live.
    let live = of_application
        .iter()
        .find(|name| sides::traffic_to(survey, name, None).is_some())
        .and_then(|name| sides::side_of_workload(survey, name));
    Live {
        side: live,
        workloads: live.map(of_side).unwrap_or_default(),
    }
}

fn path(args: &BackupArgs, context: &Context) -> PathBuf {
    args.backup_file.clone().unwrap_or_else(|| {
        let folder = context.environment.get("RUNNER_TEMP").unwrap_or(".");
        let name = args
            .deployment
            .application
            .as_deref()
            .unwrap_or("workloads");
        Path::new(folder).join(format!("switchyard-backup-{name}.yaml"))
    })
}

/// The file's text; the same for the same objects, so that its digest is too.
fn render(args: &BackupArgs, namespace: &str, live: &Live, objects: &[collect::Saved]) -> String {
    let side = live.side.map_or("unknown", Side::as_str);
    let application = args.deployment.application.as_deref().unwrap_or("unknown");
    let mut text = format!(
        "# Saved by switchyard: application {application}, side {side}, namespace {namespace}.\n# Secrets are not part of it.\n"
    );
    for object in objects {
        text.push_str("---\n");
        text.push_str(&diff::yaml(&object.value));
    }
    text
}

/// Writes a file that only this user can read, in place of any that was there.
fn write_private(path: &Path, text: &str) -> Result<(), Failure> {
    let failed = |cause: std::io::Error| {
        Failure::input(anyhow::Error::new(cause).context(format!("write `{}`", path.display())))
            .hint("choose another place with `backup-file`")
    };
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let name = path
        .file_name()
        .ok_or_else(|| Failure::input(anyhow!("`{}` is no file name", path.display())))?;
    // Written beside it and renamed, so that a killed process leaves the old file or the new one.
    let temporary = folder.join(format!(".{}.new", name.to_string_lossy()));
    let _ = std::fs::remove_file(&temporary);
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)
        .map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    std::fs::rename(&temporary, path).map_err(failed)
}

/// The backup may be kept as an artifact, which more people can read than the cluster.
fn warn_of_plain_secrets(context: &Context, objects: &[collect::Saved]) {
    let found: Vec<String> = objects
        .iter()
        .filter(|object| diff::has_plain_secrets(object.kind, &object.value))
        .map(|object| object.title.clone())
        .collect();
    if !found.is_empty() {
        context.console.warning(
            "rollout",
            format!(
                "the backup holds environment variables that look like secrets, in plain text: {}; keep them in Secrets, which are never saved",
                found.join(", ")
            ),
        );
    }
}
