//! `rollback`: traffic back to the side that had it before, whoever's deployment is in the way.
//!
//! A running deployment is told to stop and taken back under its own record; an ended one is
//! undone by a deployment of its own that says so.

use std::time::Instant;

use switchyard_cluster::Deadline;
use switchyard_deployment::{
    Connection, actor, cluster_failure, connect, deployment_id, record_failure, session_options,
};
use switchyard_record::{
    ApplicationRecord, ClaimRequest, Claimed, DeploymentId, DeploymentRecord, Freshness,
    IndexEntry, Intent, Kind as DeploymentKind, PreemptOrder, Session, SideState, Store, Stored,
    Verdict,
};
use switchyard_runner::{Context, Failure, Kind};
use switchyard_traffic::engine::{front_reference, priors};
use switchyard_traffic::roles::Target;
use switchyard_traffic::share::{Percent, Steps};

use crate::access::{self, Writing};
use crate::inputs::{ProofInputs, RollbackInputs};
use crate::sides::{READ_LIMIT, recorded_targets};
use crate::switch::check_targets;
use crate::take_back::{Order, nothing_to_do, take_back};
use crate::undo::{opening_of, require_undoable, undo_ended};
use crate::undoing::{self, Asked, Undoing, not_among};

pub(crate) async fn run(inputs: RollbackInputs, context: &mut Context) -> Result<(), Failure> {
    let started = Instant::now();
    let connection = connect(&inputs.deployment, &context.environment).await?;
    let id = deployment_id(&inputs.deployment, &context.environment, &connection)?;
    connection
        .cluster
        .require_namespace(Deadline::after(READ_LIMIT))
        .await
        .map_err(cluster_failure)?;
    let Some(mut undone) = undone(context, &connection, &id).await? else {
        return nothing_to_do(
            context,
            &id,
            started,
            "nothing of this run is live, and no deployment is active",
        );
    };
    let targets = targets_of(&inputs.targets, &undone.record)?;
    let writing = if inputs.plan {
        Writing::No
    } else {
        Writing::Yes
    };
    require_access(&connection, &id, &targets, &inputs.proof, writing).await?;
    if inputs.plan {
        if !undone.was_active {
            require_undoable(&connection, &undone.record).await?;
        }
        return show_plan(context, &undone.record, &targets, &id);
    }
    undone.reviewed = targets;
    let order = PreemptOrder {
        by: actor(&context.environment),
        run_url: context.environment.workflow_run().url(),
        reason: inputs.reason.clone(),
    };
    let options = session_options(context)?;
    let opened = Session::open_preempting(connection.cluster.client(), id, options, order).await;
    let mut session = opened.map_err(|error| record_failure(error, context.cancel.requested()))?;
    let order = Order {
        targets: &inputs.targets,
        proof: &inputs.proof,
        after: &inputs.after,
        overrule: &inputs.overrule,
        reason: &inputs.reason,
        step: "rollback",
        overall: None,
        started,
    };
    let result = go(&inputs, &undone, &order, &connection, &mut session, context).await;
    session.close().await;
    result
}

/// The deployment that is to be undone, as it stood when the order was given.
struct Undone {
    record: DeploymentRecord,
    was_active: bool,
    /// Targets that we are known to be allowed to write.
    reviewed: Vec<Target>,
}

/// The deployment that is to be undone, as far as can be told without the lease.
async fn undone(
    context: &Context,
    connection: &Connection,
    id: &DeploymentId,
) -> Result<Option<Undone>, Failure> {
    let fail = |error| record_failure(error, context.cancel.requested());
    let store = Store::new(connection.cluster.client(), id.namespace());
    let Some(application) = store.application(id.application()).await.map_err(fail)? else {
        return Err(Failure::message(
            Kind::Gate,
            format!("application `{}` has no record", id.application()),
        )
        .hint("nothing was deployed here by these actions; use `rollout restore` with a backup"));
    };
    let application = application.record;
    if application.active.is_none() && is_back_already(&application, id) {
        return Ok(None);
    }
    let live = application
        .live
        .as_ref()
        .and_then(|live| live.deployment.clone());
    let was_active = application.active.is_some();
    let Some(undone) = application.active.map(|active| active.deployment).or(live) else {
        return Err(Failure::message(
            Kind::Gate,
            format!(
                "application `{}` has nothing to roll back",
                id.application()
            ),
        )
        .hint("deploy the wanted version, or use `rollout restore` with a backup"));
    };
    let found = store.deployment(&undone).await.map_err(fail)?;
    let undone_of = |stored: Stored<DeploymentRecord>| Undone {
        record: stored.record,
        was_active,
        reviewed: Vec::new(),
    };
    found.map(undone_of).map(Some).ok_or_else(|| {
        Failure::message(
            Kind::Remote,
            format!("the record of deployment `{undone}` does not exist"),
        )
        .hint("it was deleted by hand; deploy the wanted version anew")
    })
}

/// A failed step of this run has gone back by itself: rolling back once more would undo somebody
/// else's deployment.
///
/// By hand there are no runs, so the last one says nothing about this order.
fn is_back_already(application: &ApplicationRecord, id: &DeploymentId) -> bool {
    id.run_id() != "local" && application.latest_of_run(id).is_some_and(is_back)
}

/// Whether traffic went back with this deployment: it did so itself, or was a rollback that ended.
fn is_back(entry: &IndexEntry) -> bool {
    match entry.kind {
        DeploymentKind::Rollback => entry.verdict == Some(Verdict::Succeeded),
        DeploymentKind::Deploy | DeploymentKind::Restore | DeploymentKind::Adopt => matches!(
            entry.verdict,
            Some(Verdict::RolledBack | Verdict::Abandoned)
        ),
    }
}

/// Whether the deployment that this order was about went back while the lease was waited for.
/// What is live now is another one, which nobody asked to undo.
fn went_back_meanwhile(application: &ApplicationRecord, undone: &Undone) -> bool {
    let mut entries = application.index.iter();
    undone.was_active && entries.any(|entry| entry.deployment == undone.record.id && is_back(entry))
}

fn targets_of(given: &[Target], undone: &DeploymentRecord) -> Result<Vec<Target>, Failure> {
    let mut targets = given.to_vec();
    targets.extend(not_among(&targets, recorded_targets(undone)));
    if !targets.is_empty() {
        check_targets(&targets, &Steps::single(Percent::ALL))?;
    }
    Ok(targets)
}

pub(crate) async fn require_access(
    connection: &Connection,
    id: &DeploymentId,
    targets: &[Target],
    proof: &ProofInputs,
    writing: Writing,
) -> Result<(), Failure> {
    let plan = access::Plan {
        namespace: connection.cluster.namespace(),
        application: id.application(),
        targets,
        proxies: proof
            .traefik_api
            .iter()
            .chain(proof.traefik_metrics.iter())
            .chain(proof.envoy_admin.iter())
            .chain(proof.nginx_status.iter())
            .collect(),
        writing,
    };
    access::require(&connection.cluster, &plan).await
}

fn show_plan(
    context: &Context,
    undone: &DeploymentRecord,
    targets: &[Target],
    id: &DeploymentId,
) -> Result<(), Failure> {
    let side = |side: &Option<SideState>| {
        side.as_ref()
            .map_or_else(|| "?".to_owned(), |side| side.side.to_string())
    };
    // A rollback is finished: its new side is the one that had the traffic before.
    let is_rollback = undone.kind == DeploymentKind::Rollback;
    let is_through_canary = undone.has_promoted();
    let (what, giving, taking) = if is_rollback {
        ("finish rollback", &undone.sides.from, &undone.sides.to)
    } else if is_through_canary {
        (
            "undo, through the canary, deployment",
            &undone.sides.from,
            &undone.sides.to,
        )
    } else {
        ("undo deployment", &undone.sides.to, &undone.sides.from)
    };
    let mut lines = vec![format!(
        "{what} {} (phase {}): traffic from {} back to {}",
        undone.id,
        undone.phase,
        side(giving),
        side(taking)
    )];
    let workloads = taking.iter().flat_map(|side| &side.workloads);
    lines.extend(workloads.map(|workload| {
        format!(
            "scale  {} to {}",
            workload.workload,
            workload.replicas.unwrap_or(1)
        )
    }));
    let known = priors(&undone.targets);
    for target in targets {
        let reference = front_reference(target, id.namespace());
        let prior = known
            .get(&reference)
            .filter(|_| !is_rollback && !is_through_canary)
            .map(switchyard_traffic::routing::Routing::describe);
        let aim = prior.unwrap_or_else(|| format!("all to {}", side(taking)));
        lines.push(format!("write  {target}: {aim}"));
    }
    context.console.info(lines.join("\n"));
    context.outputs.set("deployment-id", id)?;
    context.outputs.set("changed", false)?;
    context.outputs.set("result", "planned")
}

async fn go(
    inputs: &RollbackInputs,
    undone: &Undone,
    order: &Order<'_>,
    connection: &Connection,
    session: &mut Session,
    context: &Context,
) -> Result<(), Failure> {
    let fail = |error| record_failure(error, context.cancel.requested());
    let is_back = |application: &ApplicationRecord| {
        is_back_already(application, session.id()) || went_back_meanwhile(application, undone)
    };
    if session.active().is_none() && is_back(session.application()) {
        let id = session.id().clone();
        return nothing_to_do(
            context,
            &id,
            order.started,
            "it went back by itself in the meantime",
        );
    }
    let asked = Asked {
        reviewed: &undone.reviewed,
        order,
    };
    let Undoing { reverted, targets } = undoing::find(&asked, connection, session, context).await?;
    let order = &Order {
        targets: &targets,
        ..*order
    };
    let request = ClaimRequest {
        intent: Intent::RollBack(opening_of(reverted.as_ref())),
        attempt: context.environment.workflow_run().attempt,
        inputs: None,
        freshness: if inputs.deployment.new_deployment {
            Freshness::NewDeployment
        } else {
            Freshness::OncePerRun
        },
    };
    match (session.claim(request).await.map_err(fail)?, reverted) {
        (Claimed::New | Claimed::Resumed { .. } | Claimed::TakenOver { .. }, Some(reverted)) => {
            undo_ended(order, connection, session, context, &reverted).await
        }
        (Claimed::Resumed { .. } | Claimed::TakenOver { .. }, None) => {
            take_back(order, connection, session, context).await
        }
        (Claimed::New, None) => Err(Failure::message(
            Kind::Bug,
            "a rollback was begun that undoes nothing",
        )),
        (Claimed::NothingToDo { .. }, _) => {
            let id = session.id().clone();
            nothing_to_do(context, &id, order.started, "nothing is to be taken back")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn application(entries: &[(&str, DeploymentKind, Option<Verdict>)]) -> ApplicationRecord {
        let mut application = ApplicationRecord::new("web");
        application.index = entries
            .iter()
            .map(|(run, kind, verdict)| IndexEntry {
                deployment: id(run),
                kind: *kind,
                version: None,
                since: "2026-01-01T00:00:00Z".parse().unwrap(),
                verdict: *verdict,
                is_pruned: false,
            })
            .collect();
        application
    }

    fn id(run: &str) -> DeploymentId {
        DeploymentId::new(switchyard_record::DeploymentIdParts {
            repository: "example/shop".to_owned(),
            run_id: run.to_owned(),
            environment: "production".to_owned(),
            cluster: "main".to_owned(),
            namespace: "shop".to_owned(),
            application: "web".to_owned(),
        })
        .unwrap()
    }

    #[test]
    fn a_run_that_went_back_by_itself_has_nothing_to_roll_back() {
        use DeploymentKind::{Deploy, Rollback};
        for (kind, verdict, is_back) in [
            (Deploy, Some(Verdict::RolledBack), true),
            (Deploy, Some(Verdict::Abandoned), true),
            (Deploy, Some(Verdict::Succeeded), false),
            (Rollback, Some(Verdict::Succeeded), true),
            (Rollback, Some(Verdict::RolledBack), false),
            (Rollback, Some(Verdict::Abandoned), false),
            (Rollback, None, false),
        ] {
            let application = application(&[("7", kind, verdict)]);
            assert_eq!(
                is_back_already(&application, &id("7")),
                is_back,
                "{kind} {verdict:?}"
            );
        }
    }

    #[test]
    fn a_rollback_by_hand_is_not_answered_by_the_one_before() {
        let entries = [("local", DeploymentKind::Rollback, Some(Verdict::Succeeded))];
        assert!(!is_back_already(&application(&entries), &id("local")));
    }

    #[test]
    fn the_second_of_two_orders_does_not_undo_what_the_first_brought_back() {
        let record = |run: &str| -> DeploymentRecord {
            let mut record: DeploymentRecord = serde_json::from_value(serde_json::json!({
                "schema": 1, "id": id(run), "kind": "deploy", "chain": "slots",
                "run": {"repository": "example/shop", "run_id": run, "attempts": []},
                "actor": "dana", "phase": "claimed", "phases": []
            }))
            .unwrap();
            record.targets.clear();
            record
        };
        let undone = |was_active| Undone {
            record: record("3"),
            was_active,
            reviewed: Vec::new(),
        };
        let ended = |verdict| application(&[("3", DeploymentKind::Deploy, Some(verdict))]);
        assert!(went_back_meanwhile(
            &ended(Verdict::RolledBack),
            &undone(true)
        ));
        assert!(!went_back_meanwhile(
            &ended(Verdict::Succeeded),
            &undone(true)
        ));
        assert!(!went_back_meanwhile(
            &ended(Verdict::RolledBack),
            &undone(false)
        ));
    }
}
