//! Takes back this run's own deployment in place, if it is under way: what a step or a job does that
//! cleans up after a failure. It may run twice, and after a step that has taken it back already.

use switchyard_record::{Claimed, Intent, Phase, WayBack};
use switchyard_runner::{Context, Failure, Kind as FailureKind};

use super::{BY_RESTORE, Restored, end, report, turn_back, with_ledger};
use crate::inputs::RestoreArgs;
use crate::ledger::{Ledger, claim_request};
use crate::opening::Opened;

/// Takes back what this run has under way; nothing else is touched.
pub(super) async fn restore(
    args: &RestoreArgs,
    context: &Context,
    opened: &Opened,
) -> Result<(), Failure> {
    let request = claim_request(context, &args.deployment, Intent::Rescue, None);
    let (mut ledger, claimed) =
        Ledger::open(context, &args.deployment, &opened.connection, request).await?;
    let result = match claimed {
        None => Err(Failure::message(
            FailureKind::Input,
            "input `application` is required: only a record tells what is under way",
        )),
        Some(Claimed::NothingToDo { verdict: None }) => nothing_known(args, context, &ledger),
        Some(Claimed::NothingToDo { verdict: Some(_) }) => nothing(context, &ledger),
        Some(claimed) => take_back(args, context, opened, (&mut ledger, claimed)).await,
    };
    ledger.close().await;
    result
}

async fn take_back(
    args: &RestoreArgs,
    context: &Context,
    opened: &Opened,
    (ledger, claimed): (&mut Ledger, Claimed),
) -> Result<(), Failure> {
    // Before anything can go wrong: whoever tells how it ended brings the notices up to date.
    crate::outputs::deployment_id(context, ledger)?;
    crate::outputs::notices(context, ledger)?;
    let Some(record) = ledger.record().cloned() else {
        return nothing(context, ledger);
    };
    match record.way_back() {
        WayBack::Ended(_) => return nothing(context, ledger),
        WayBack::Abandon => {
            turn_back(ledger, BY_RESTORE).await?;
            end(ledger, Some(BY_RESTORE)).await?;
            context
                .console
                .info("nothing had been written: the deployment was abandoned");
            return report(context, ledger, &Restored::default());
        }
        WayBack::Revert | WayBack::NeedsPerson => {}
    }
    if args.backup_file.is_some() {
        return with_ledger(args, context, opened, (ledger, Some(claimed))).await;
    }
    if let Some(backup) = record.backup_ref {
        return Err(Failure::message(
            FailureKind::Gate,
            format!(
                "deployment `{}` has a backup (`{}`, {}), which is not given",
                record.id, backup.location, backup.digest
            ),
        )
        .hint("give it as `backup-file`; it is an artifact of the run that made it"));
    }
    if record.phase != Phase::NeedsPerson {
        let reason = "nothing was live before it, so nothing can be brought back";
        ledger.advance_because(Phase::NeedsPerson, reason).await?;
    }
    Err(Failure::message(
        FailureKind::Gate,
        format!(
            "nothing was live before deployment `{}`, so nothing can be brought back; a person has to decide",
            record.id
        ),
    )
    .hint("deploy a good version with `new-deployment: true`, or take the application away"))
}

/// No record tells of a deployment of this run. That is right when the run failed before it began one,
/// and fatal when it is only the wrong place that is looked at.
fn nothing_known(args: &RestoreArgs, context: &Context, ledger: &Ledger) -> Result<(), Failure> {
    let text = "no record in this namespace tells of a deployment of this run";
    if args.expect_deployment || args.deployment.deployment_id.is_some() {
        return Err(Failure::message(
            FailureKind::Gate,
            format!("{text}, although one was begun; nothing was brought back"),
        )
        .hint("see that `namespace`, `application`, `context` and the kubeconfig of this job lead to where it was begun"));
    }
    context.console.warning(
        "rollout",
        format!("{text}; if one was begun in another namespace or cluster, it was not taken back"),
    );
    nothing(context, ledger)
}

fn nothing(context: &Context, ledger: &Ledger) -> Result<(), Failure> {
    context
        .console
        .info("nothing to do: this run has no deployment that is under way");
    report(context, ledger, &Restored::default())
}
