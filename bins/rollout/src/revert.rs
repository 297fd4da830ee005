//! `rollout revert`: what was deployed in place goes back to the version before it, by order of a person. The
//! active deployment, whoever's it is, is told to stop and taken back under its own record; an ended one is
//! undone by a deployment of its own.

use switchyard_deployment::{actor, deployment_id, record_failure, session_options};
use switchyard_record::{
    ApplicationRecord, Chain, Claimed, DeploymentId, DeploymentRecord, Intent, Kind, Opening,
    PreemptOrder, Session, SideState, Store, Verdict, WayBack,
};
use switchyard_runner::{Context, Failure, Kind as FailureKind};

use crate::inputs::RevertArgs;
use crate::ledger::{Ledger, claim_request};
use crate::opening::Opened;
use crate::restore;
use crate::survey::Survey;
use crate::timing::within;
use crate::waiting;

/// Takes the application's deployment in place back.
///
/// # Errors
/// Bad input, a deployment that was not made in place or has nothing before it, or a cluster that fails.
pub(crate) async fn run(args: RevertArgs, context: &mut Context) -> Result<(), Failure> {
    within(args.timeout, async {
        let opened =
            Opened::begin(context, &args.deployment, args.timeout, restore::to_restore).await?;
        let id = deployment_id(&args.deployment, &context.environment, &opened.connection)?;
        let undone = undone(context, &opened, &id).await?;
        require_revertible(&undone.record)?;
        let order = PreemptOrder {
            by: actor(&context.environment),
            run_url: context.environment.workflow_run().url(),
            reason: args.reason.clone(),
        };
        let client = opened.cluster().client();
        let session = Session::open_preempting(client, id, session_options(context)?, order)
            .await
            .map_err(|error| record_failure(error, context.cancel.requested()))?;
        let mut ledger = Ledger::over(context, session);
        let result = revert(&args, context, &opened, (&mut ledger, &undone)).await;
        ledger.close().await;
        result
    })
    .await
}

/// The deployment that is to be undone, as it stood when the order was given.
struct Undone {
    record: DeploymentRecord,
    was_active: bool,
}

async fn undone(context: &Context, opened: &Opened, id: &DeploymentId) -> Result<Undone, Failure> {
    let fail = |error| record_failure(error, context.cancel.requested());
    let store = Store::new(opened.cluster().client(), opened.namespace());
    let application = store.application(id.application()).await.map_err(fail)?;
    let refused = |text: String| {
        Failure::message(FailureKind::Gate, text)
            .hint("bring a revision back by `rollout restore` with `workloads`")
    };
    let Some(application) = application.map(|stored| stored.record) else {
        return Err(refused(format!(
            "application `{}` has no record",
            id.application()
        )));
    };
    let was_active = application.active.is_some();
    let Some(undone) = latest(&application) else {
        return Err(refused(format!(
            "application `{}` has nothing that could be taken back",
            id.application()
        )));
    };
    Ok(Undone {
        record: read(&store, &undone, context).await?,
        was_active,
    })
}

/// The active deployment, else the one that made live what is live.
pub(crate) fn latest(application: &ApplicationRecord) -> Option<DeploymentId> {
    let active = application.active.as_ref();
    let live = application.live.as_ref();
    active
        .map(|active| active.deployment.clone())
        .or_else(|| live.and_then(|live| live.deployment.clone()))
}

async fn read(
    store: &Store,
    id: &DeploymentId,
    context: &Context,
) -> Result<DeploymentRecord, Failure> {
    let found = store.deployment(id).await;
    let found = found.map_err(|error| record_failure(error, context.cancel.requested()))?;
    found.map(|stored| stored.record).ok_or_else(|| {
        Failure::message(
            FailureKind::Remote,
            format!("the record of deployment `{id}` does not exist"),
        )
        .hint("it was deleted by hand; bring a revision back by `rollout restore` with `workloads`")
    })
}

/// What lies behind the deployment is known, and is no other side.
fn require_revertible(record: &DeploymentRecord) -> Result<(), Failure> {
    if record.chain != Chain::InPlace {
        return Err(Failure::message(
            FailureKind::Gate,
            format!(
                "deployment `{}` moves traffic between sides ({}): no revision is brought back for it",
                record.id, record.chain
            ),
        )
        .hint("run `traffic-switch rollback`"));
    }
    // A rollback that did not come to its end is finished, whatever it began with.
    if record.kind == Kind::Rollback && !record.phase.is_terminal() {
        return Ok(());
    }
    before(record).map(drop)
}

fn before(record: &DeploymentRecord) -> Result<&SideState, Failure> {
    let before = record.sides.from.as_ref();
    before
        .filter(|before| !before.workloads.is_empty())
        .ok_or_else(|| {
            Failure::message(
                FailureKind::Gate,
                format!(
                    "nothing was live before deployment `{}`, so nothing can be brought back",
                    record.id
                ),
            )
            .hint("deploy a good version, or take the application away")
        })
}

async fn revert(
    args: &RevertArgs,
    context: &Context,
    opened: &Opened,
    (ledger, undone): (&mut Ledger, &Undone),
) -> Result<(), Failure> {
    let Some(session) = ledger.session_mut() else {
        return Err(Failure::message(FailureKind::Bug, "the record is gone"));
    };
    if went_back_meanwhile(session.application(), undone) {
        context
            .console
            .info("nothing to do: it went back by itself in the meantime");
        context.outputs.set("applied", 0)?;
        return context.outputs.set("changed", 0);
    }
    // Between the order and the lease another deployment may have begun, or this one ended.
    let store = session.store().clone();
    let Some(now) = latest(session.application()) else {
        return Err(Failure::message(
            FailureKind::Gate,
            "nothing is live any more",
        ));
    };
    let reverted = read(&store, &now, context).await?;
    require_revertible(&reverted)?;
    let is_unfinished_rollback = reverted.kind == Kind::Rollback && !reverted.phase.is_terminal();
    let reverted = match &reverted.reverts {
        Some(first) if is_unfinished_rollback => read(&store, first, context).await?,
        Some(_) | None => reverted,
    };
    let previous = reverted.previous.as_ref();
    let opening = Opening {
        version: previous.and_then(|previous| previous.version.clone()),
        digests: previous
            .map(|previous| previous.digests.clone())
            .unwrap_or_default(),
        ..Opening::new(Kind::Rollback, Chain::InPlace)
    };
    let request = claim_request(context, &args.deployment, Intent::RollBack(opening), None);
    let claimed = session
        .claim(request)
        .await
        .map_err(|error| record_failure(error, context.cancel.requested()))?;
    match claimed {
        Claimed::New => {}
        Claimed::Resumed { .. } | Claimed::TakenOver { .. } if is_unfinished_rollback => {}
        Claimed::Resumed { .. } | Claimed::TakenOver { .. } => {
            return take_back(args, context, opened, ledger).await;
        }
        Claimed::NothingToDo { .. } => {
            context
                .console
                .info("nothing to do: nothing is to be taken back");
            return context.outputs.set("changed", 0);
        }
    }
    undo(args, context, opened, (ledger, &reverted)).await
}

/// Whether the deployment that this order was about went back while the lease was waited for: what is live
/// now is another one, which nobody asked to undo.
fn went_back_meanwhile(application: &ApplicationRecord, undone: &Undone) -> bool {
    undone.was_active
        && application.active.is_none()
        && application.index.iter().any(|entry| {
            entry.deployment == undone.record.id
                && matches!(
                    entry.verdict,
                    Some(Verdict::RolledBack | Verdict::Abandoned)
                )
        })
}

/// Takes an active deployment back, under its own record.
async fn take_back(
    args: &RevertArgs,
    context: &Context,
    opened: &Opened,
    ledger: &mut Ledger,
) -> Result<(), Failure> {
    let Some(record) = ledger.record().cloned() else {
        return Err(Failure::message(FailureKind::Bug, "the record is gone"));
    };
    restore::turn_back(ledger, &args.reason).await?;
    let is_untouched = record.way_back() == WayBack::Abandon;
    if is_untouched {
        restore::end(ledger, Some(&args.reason)).await?;
        context
            .console
            .info("nothing had been written: the deployment was abandoned");
        context.outputs.set("changed", 0)?;
        return crate::outputs::deployment_id(context, ledger);
    }
    let wanted = restore::revisions_of_side(before(&record)?)?;
    let restored =
        restore::main_to_revisions(wanted, &args.deployment, context, opened, ledger).await?;
    let target = (opened.cluster(), opened.deadline);
    waiting::rollout(context, ledger, target, &restored.workloads).await?;
    restore::end(ledger, Some(&args.reason)).await?;
    restore::report(context, ledger, &restored)
}

/// Undoes an ended deployment by one of its own.
async fn undo(
    args: &RevertArgs,
    context: &Context,
    opened: &Opened,
    (ledger, reverted): (&mut Ledger, &DeploymentRecord),
) -> Result<(), Failure> {
    let before = before(reverted)?;
    let wanted = restore::revisions_of_side(before)?;
    let names: Vec<_> = wanted.iter().map(|(name, _)| name.clone()).collect();
    let survey = Survey::read(&opened.objects).await?;
    let left = SideState {
        version: reverted.version.clone(),
        ..survey.side(opened.namespace(), before.side, &names)
    };
    ledger
        .amend(|record| {
            // Killed half-way, what it began from is what counts.
            if record.sides.from.is_none() {
                record.sides.from = Some(left);
            }
        })
        .await?;
    let restored =
        restore::main_to_revisions(wanted, &args.deployment, context, opened, ledger).await?;
    restore::make_live(opened, ledger, &restored.workloads).await?;
    let target = (opened.cluster(), opened.deadline);
    waiting::rollout(context, ledger, target, &restored.workloads).await?;
    restore::end(ledger, None).await?;
    restore::report(context, ledger, &restored)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn record(change: &Value) -> DeploymentRecord {
        let mut record = json!({
            "schema": 1, "id": "example/shop/3/production/main/shop/web", "kind": "deploy",
            "chain": "in-place", "run": {"repository": "example/shop", "run_id": "3", "attempts": []},
            "actor": "dana", "phase": "ready", "phases": [],
        });
        for (key, value) in change.as_object().into_iter().flatten() {
            record[key] = value.clone();
        }
        serde_json::from_value(record).expect("a record")
    }

    fn refusal(change: &Value) -> String {
        require_revertible(&record(change))
            .expect_err("it is refused")
            .to_string()
    }

    #[test]
    fn what_has_another_side_or_nothing_behind_it_is_refused() {
        assert_eq!(
            refusal(&json!({"chain": "slots"})),
            "deployment `example/shop/3/production/main/shop/web` moves traffic between sides (slots): no revision is brought back for it"
        );
        assert!(refusal(&json!({})).starts_with("nothing was live before deployment"));
        let from = json!({"side": "unslotted", "workloads": []});
        assert!(refusal(&json!({"sides": {"from": from}})).starts_with("nothing was live before"));
    }

    #[test]
    fn what_went_back_by_itself_is_not_undone_once_more() {
        let undone = |was_active| Undone {
            record: record(&json!({})),
            was_active,
        };
        let mut application = ApplicationRecord::new("web");
        application.index = vec![
            serde_json::from_value(json!({
                "deployment": "example/shop/3/production/main/shop/web", "kind": "deploy",
                "since": "2026-01-01T00:00:00Z", "verdict": "rolled-back",
            }))
            .expect("an entry"),
        ];
        assert!(went_back_meanwhile(&application, &undone(true)));
        assert!(!went_back_meanwhile(&application, &undone(false)));
        application.index[0].verdict = Some(Verdict::Succeeded);
        assert!(!went_back_meanwhile(&application, &undone(true)));
    }
}
