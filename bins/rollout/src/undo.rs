//! `rollout undo`: the main workload of a canary deployment back to the version before, while its canary
//! takes all of the traffic. The point of no return of a promotion leads back through here.

use switchyard_deployment::record_failure;
use switchyard_record::{Chain, DeploymentRecord, Intent, Phase, Promotion};
use switchyard_runner::{Context, Failure, Kind as FailureKind};

use crate::beside;
use crate::canary::{self, Takers, ToUndo};
use crate::inputs::UndoArgs;
use crate::ledger::{Ledger, claim_request};
use crate::opening::Opened;
use crate::restore::{self, Routes};
use crate::sides;
use crate::survey::Survey;
use crate::timing::within;
use crate::waiting;

/// Brings the main workload back.
///
/// # Errors
/// Bad input, a main workload that takes traffic, a backup that is not the one of the record, or a cluster
/// that fails.
pub(crate) async fn run(args: UndoArgs, context: &mut Context) -> Result<(), Failure> {
    within(args.timeout, async {
        let opened =
            Opened::begin(context, &args.deployment, args.timeout, restore::to_restore).await?;
        let request = claim_request(context, &args.deployment, Intent::Rescue, None);
        let (mut ledger, _) =
            Ledger::open(context, &args.deployment, &opened.connection, request).await?;
        let result = undo(&args, context, &opened, &mut ledger).await;
        ledger.close().await;
        result
    })
    .await
}

async fn undo(
    args: &UndoArgs,
    context: &Context,
    opened: &Opened,
    ledger: &mut Ledger,
) -> Result<(), Failure> {
    crate::outputs::deployment_id(context, ledger)?;
    let Some(record) = ledger.record().cloned() else {
        context
            .console
            .info("nothing to do: no deployment of this run is under way");
        return context.outputs.set("changed", 0);
    };
    if canary::to_undo(record.promotion) == ToUndo::Nothing || record.phase.is_terminal() {
        context
            .console
            .info("nothing to do: the main workload runs the version before");
        return context.outputs.set("changed", 0);
    }
    refuse_forward(&record)?;
    let survey = Survey::read(&opened.objects).await?;
    canary::refuse_main_in_traffic(&Takers::of(&record, &survey))?;
    refuse_gap(&record, &survey)?;
    let restored = match &args.backup_file {
        Some(file) => {
            let source = (file.as_path(), args.digest.as_ref());
            let deployment = &args.deployment;
            restore::from_backup(source, Routes::Left, deployment, context, opened, ledger).await?
        }
        None => {
            let workloads = main_revisions(&record)?;
            restore::main_to_revisions(workloads, &args.deployment, context, opened, ledger).await?
        }
    };
    let target = (opened.cluster(), opened.deadline);
    waiting::rollout(context, ledger, target, &restored.workloads).await?;
    if let Some(session) = ledger.session_mut() {
        let undone = session.amend(|record| record.promotion = Some(Promotion::Undone));
        undone.await.map_err(|error| record_failure(error, None))?;
    }
    context.console.info(
        "the main workload runs the version before; `traffic-switch rollback` gives it the traffic back",
    );
    restore::report(context, ledger, &restored)
}

/// A deployment that goes forward is turned round by what moves traffic, not by what changes workloads.
fn refuse_forward(record: &DeploymentRecord) -> Result<(), Failure> {
    let is_back = matches!(record.phase, Phase::Reverting | Phase::NeedsPerson);
    if record.chain == Chain::Canary && is_back {
        return Ok(());
    }
    Err(Failure::message(
        FailureKind::Gate,
        format!(
            "the deployment ({}) is in phase `{}`: it has not turned back",
            record.chain, record.phase
        ),
    )
    .hint(
        "run `traffic-switch rollback` first: it gives the canary all of the traffic, and says so",
    ))
}

/// What stands beside a canary Ingress has to keep a pod while it is brought back.
fn refuse_gap(record: &DeploymentRecord, survey: &Survey) -> Result<(), Failure> {
    let names = record.sides.from.as_ref().map(sides::names_of);
    let names = names.unwrap_or_default();
    let updates = names.into_iter().filter_map(|name| {
        let live = survey.workload(sides::kind_of(&name), &name.name)?;
        Some((name, live))
    });
    beside::refuse_gap(survey, updates)
}

/// The revisions that the main workloads had when the deployment began.
fn main_revisions(
    record: &DeploymentRecord,
) -> Result<Vec<(switchyard_manifest::ObjectName, u64)>, Failure> {
    let from = record.sides.from.as_ref();
    let known = from.map_or_else(|| Ok(Vec::new()), restore::revisions_of_side)?;
    if known.is_empty() {
        return Err(Failure::message(
            FailureKind::Gate,
            "the record names no main workload that could be brought back",
        ));
    }
    Ok(known)
}
