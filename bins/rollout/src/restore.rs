//! `rollout restore`: what a backup holds, or the previous revision of workloads, made live again in
//! place. Never moves traffic between sides.

mod from_backup;
mod revisions;
mod under_way;

use std::path::Path;

use anyhow::anyhow;
use switchyard_cluster::access::Permission;
use switchyard_cluster::{Operation, Verb};
use switchyard_deployment::record_failure;
use switchyard_manifest::ObjectName;
use switchyard_record::{
    Chain, Claimed, DeploymentResult, Intent, Kind, Opening, Phase, Side, SideState, Verdict,
    WayBack,
};
use switchyard_runner::{Context, DeploymentArgs, Failure, Kind as FailureKind};

use crate::inputs::{BackupDigest, RestoreArgs, refuse_alone, refuse_both};
use crate::ledger::{Ledger, claim_request};
use crate::opening::Opened;
use crate::survey::Survey;
use crate::timing::within;
use crate::waiting;
pub(crate) use from_backup::Routes;

/// The journal's word for what this command does.
const OPERATION: &str = "restore";
/// The journal's word for holding a Deployment whose update went wrong, until this brings the version
/// before back.
pub(crate) const PAUSE: &str = "pause";

/// Why a deployment went back, in its record.
const BY_RESTORE: &str = "restored by `rollout restore`";

/// What was made live again.
#[derive(Debug, Default)]
pub(crate) struct Restored {
    /// Objects that are as they were.
    applied: usize,
    /// Objects that had to be changed for it.
    changed: usize,
    /// Workloads among them.
    pub(crate) workloads: Vec<ObjectName>,
    /// Revisions, by workload.
    revisions: Vec<(String, String)>,
}

/// Restores what the inputs name.
///
/// # Errors
/// Bad input, a backup that is not the one of the record, or a cluster that fails.
pub(crate) async fn run(args: RestoreArgs, context: &mut Context) -> Result<(), Failure> {
    if args.backup_file.is_none() && args.workloads.is_empty() && !args.only_under_way {
        return Err(
            Failure::input(anyhow!("nothing is named that could be restored"))
                .hint("give `backup-file`, or `workloads` whose previous revision to bring back"),
        );
    }
    let backup = ("backup-file", args.backup_file.is_some());
    refuse_both([backup, ("workloads", !args.workloads.is_empty())])?;
    refuse_both([backup, ("to-revision", args.to_revision.is_some())])?;
    refuse_alone(("digest", args.digest.is_some()), backup)?;
    let only = ("only-under-way", args.only_under_way);
    refuse_both([only, ("workloads", !args.workloads.is_empty())])?;
    refuse_both([only, ("plan", args.plan)])?;
    refuse_alone(("expect-deployment", args.expect_deployment), only)?;
    within(args.timeout, async {
        let opened = Opened::begin(context, &args.deployment, args.timeout, to_restore).await?;
        if args.only_under_way {
            return under_way::restore(&args, context, &opened).await;
        }
        let (mut ledger, claimed) = open_ledger(&args, context, &opened).await?;
        let result = with_ledger(&args, context, &opened, (&mut ledger, claimed)).await;
        ledger.close().await;
        result
    })
    .await
}

/// What restoring nearly always needs; the rest is asked for once it is known what is restored.
pub(crate) fn to_restore(namespace: &str) -> Vec<Permission> {
    use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
    vec![
        Permission::to(Operation::on::<Deployment>(Verb::Update, namespace)),
        Permission::to(Operation::on::<ReplicaSet>(Verb::List, namespace)),
    ]
}

/// Puts what a backup holds back.
///
/// # Errors
/// As [`run`] for a backup.
pub(crate) async fn from_backup(
    (file, digest): (&Path, Option<&BackupDigest>),
    routes: Routes,
    deployment: &DeploymentArgs,
    context: &Context,
    opened: &Opened,
    ledger: &mut Ledger,
) -> Result<Restored, Failure> {
    let source = from_backup::Source {
        file,
        digest,
        application: deployment.application.as_deref(),
        routes,
    };
    from_backup::restore(&source, Carrying::Out, context, opened, ledger).await
}

/// The revisions that the workloads of a side had when the deployment began.
///
/// # Errors
/// A gate failure where the record tells none.
pub(crate) fn revisions_of_side(side: &SideState) -> Result<Vec<(ObjectName, u64)>, Failure> {
    let known = side.workloads.iter().map(|state| {
        let revision = state.revision.as_deref().and_then(|text| text.parse().ok());
        let name = ObjectName {
            kind: state.workload.kind.to_lowercase(),
            name: state.workload.name.clone(),
        };
        revision.map(|revision| (name, revision)).ok_or_else(|| {
            Failure::message(
                FailureKind::Gate,
                format!(
                    "the record tells no numbered revision of {}",
                    state.workload
                ),
            )
            .hint("give the backup of the step `rollout backup` as `backup-file`")
        })
    });
    known.collect()
}

/// Brings main workloads back to these revisions.
///
/// # Errors
/// As [`run`] for workloads.
pub(crate) async fn main_to_revisions(
    wanted: Vec<(ObjectName, u64)>,
    deployment: &DeploymentArgs,
    context: &Context,
    opened: &Opened,
    ledger: &mut Ledger,
) -> Result<Restored, Failure> {
    let wanted: Vec<_> = wanted
        .into_iter()
        .map(|(name, revision)| (name, Some(revision)))
        .collect();
    let application = deployment.application.as_deref();
    revisions::restore(
        (&wanted, application),
        Carrying::Out,
        context,
        opened,
        ledger,
    )
    .await
}

/// Whether what is planned is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Carrying {
    /// It is shown, and done.
    Out,
    /// It is shown.
    Nothing,
}

/// Goes on with this run's deployment, which is then taken back; else begins one of its own.
async fn open_ledger(
    args: &RestoreArgs,
    context: &Context,
    opened: &Opened,
) -> Result<(Ledger, Option<Claimed>), Failure> {
    if args.plan {
        return Ok((Ledger::without_record(context), None));
    }
    let opening = Opening {
        commit: context.environment.workflow_run().sha,
        ..Opening::new(Kind::Restore, Chain::InPlace)
    };
    Ledger::open_any(
        context,
        &args.deployment,
        &opened.connection,
        claim_request(context, &args.deployment, Intent::Deploy(opening), None),
    )
    .await
}

async fn with_ledger(
    args: &RestoreArgs,
    context: &Context,
    opened: &Opened,
    (ledger, claimed): (&mut Ledger, Option<Claimed>),
) -> Result<(), Failure> {
    let is_own = matches!(claimed, Some(Claimed::New));
    if !is_own {
        turn_back(ledger, BY_RESTORE).await?;
    }
    let carrying = if args.plan {
        Carrying::Nothing
    } else {
        Carrying::Out
    };
    let application = args.deployment.application.as_deref();
    let restored = match &args.backup_file {
        Some(file) => {
            let source = from_backup::Source {
                file,
                digest: args.digest.as_ref(),
                application,
                routes: Routes::PutBack,
            };
            from_backup::restore(&source, carrying, context, opened, ledger).await?
        }
        None => {
            let wanted: Vec<_> = args
                .workloads
                .iter()
                .map(|name| (name.clone(), args.to_revision))
                .collect();
            revisions::restore((&wanted, application), carrying, context, opened, ledger).await?
        }
    };
    if args.plan {
        context.console.info("plan only: nothing was changed");
        return report(context, ledger, &restored);
    }
    let target = (opened.cluster(), opened.deadline);
    if is_own {
        make_live(opened, ledger, &restored.workloads).await?;
    }
    waiting::rollout(context, ledger, target, &restored.workloads).await?;
    end(ledger, (!is_own).then_some(BY_RESTORE)).await?;
    report(context, ledger, &restored)
}

/// The deployment that is under way goes back from here; a gate after its first write has failed, or a
/// person ordered it.
pub(crate) async fn turn_back(ledger: &mut Ledger, why: &str) -> Result<(), Failure> {
    let Some(record) = ledger.record() else {
        return Ok(());
    };
    let to = match record.way_back() {
        WayBack::Abandon => Phase::Abandoning,
        WayBack::Revert => Phase::Reverting,
        WayBack::NeedsPerson => {
            if record.may_have_moved_traffic() {
                Phase::Reverting
            } else {
                Phase::Abandoning
            }
        }
        WayBack::Ended(_) => return Ok(()),
    };
    if record.chain != Chain::InPlace && to == Phase::Reverting {
        return Err(Failure::message(
            FailureKind::Gate,
            "this deployment has moved traffic between sides; restoring objects does not move it back",
        )
        .hint("run `traffic-switch rollback`"));
    }
    ledger.advance_because(to, why).await
}

/// A restore of its own is a deployment in place: what it writes is live at once.
pub(crate) async fn make_live(
    opened: &Opened,
    ledger: &mut Ledger,
    workloads: &[ObjectName],
) -> Result<(), Failure> {
    if ledger.record().is_none() {
        return Ok(());
    }
    let survey = Survey::read(&opened.objects).await?;
    let side = ledger
        .session()
        .and_then(|session| session.application().live.as_ref())
        .map_or(Side::Unslotted, |live| live.side);
    let to = SideState {
        version: None,
        ..survey.side(opened.namespace(), side, workloads)
    };
    ledger.amend(|record| record.sides.to = Some(to)).await?;
    ledger.advance(Phase::Applied).await
}

/// Ends a deployment whose objects are as they were: one of its own has succeeded, another one, with the
/// cause, is back.
///
/// # Errors
/// The record cannot be written.
pub(crate) async fn end(ledger: &mut Ledger, cause: Option<&str>) -> Result<(), Failure> {
    let Some(record) = ledger.record() else {
        return Ok(());
    };
    let verdict = match (cause, record.phase) {
        (None, _) => {
            for phase in [Phase::Ready, Phase::Soaking] {
                ledger.advance(phase).await?;
            }
            Verdict::Succeeded
        }
        (Some(_), Phase::Abandoning) => Verdict::Abandoned,
        (Some(_), _) => Verdict::RolledBack,
    };
    let Some(session) = ledger.session_mut() else {
        return Ok(());
    };
    let by = session
        .record()
        .map(|record| record.actor.clone())
        .unwrap_or_default();
    let result = DeploymentResult {
        verdict,
        cause: cause.map(str::to_owned),
        by,
    };
    session
        .finish(result)
        .await
        .map(drop)
        .map_err(|error| record_failure(error, None))
}

/// Sets the outputs of what was made live again.
pub(crate) fn report(
    context: &Context,
    ledger: &Ledger,
    restored: &Restored,
) -> Result<(), Failure> {
    context.outputs.set("applied", restored.applied)?;
    context.outputs.set("changed", restored.changed)?;
    crate::outputs::revisions(context, &restored.revisions)?;
    context.console.info(format!(
        "{} objects as they were, {} changed for it",
        restored.applied, restored.changed
    ));
    crate::outputs::deployment_id(context, ledger)
}
