//! `rollback`: traffic back to the side that had it before, whoever's deployment is in the way.
//!
//! A running deployment is told to stop and taken back under its own record; an ended one is
//! undone by a deployment of its own that says so.

use std::time::{Duration, Instant};

use switchyard_cluster::Deadline;
use switchyard_deployment::{
    Connection, actor, cluster_failure, connect, deployment_id, record_failure, session_options,
};
use switchyard_record::{
    Chain, ClaimRequest, Claimed, DeploymentId, DeploymentRecord, DeploymentResult, Freshness,
    Intent, Kind as DeploymentKind, Opening, Phase, PreemptOrder, RecordError, Session, SideState,
    Store, Verdict, WayBack,
};
use switchyard_runner::{Context, Failure, Kind};
use switchyard_traffic::engine::{SidePair, load_fronts, priors, take_up};
use switchyard_traffic::machine::{Ending, Itinerary, Machine, StagePlan};
use switchyard_traffic::roles::Target;
use switchyard_traffic::share::{Percent, Steps};

use crate::access::{self, Writing};
use crate::inputs::{AfterInputs, ProofInputs, RollbackInputs};
use crate::outcome::{Told, failure, tell};
use crate::run::{Preparation, TITLE, drive, prober, settings, versions};
use crate::sides::{READ_LIMIT, recorded_targets};
use crate::switch::{check_targets, front_failure, keep_stages, machine};

/// What the two ways back have in common.
pub(crate) struct Order<'run> {
    pub(crate) targets: &'run [Target],
    pub(crate) proof: &'run ProofInputs,
    pub(crate) after: &'run AfterInputs,
    pub(crate) reason: &'run str,
    pub(crate) step: &'static str,
    pub(crate) overall: Option<Deadline>,
    pub(crate) started: Instant,
}

pub(crate) async fn run(inputs: RollbackInputs, context: &mut Context) -> Result<(), Failure> {
    let started = Instant::now();
    let connection = connect(&inputs.deployment, &context.environment).await?;
    let id = deployment_id(&inputs.deployment, &context.environment, &connection)?;
    connection
        .cluster
        .require_namespace(Deadline::after(READ_LIMIT))
        .await
        .map_err(cluster_failure)?;
    let Some(undone) = undone(context, &connection, &id).await? else {
        return nothing_to_do(
            context,
            &id,
            started,
            "nothing of this run is live, and no deployment is active",
        );
    };
    let targets = targets_of(&inputs.targets, &undone)?;
    let writing = if inputs.plan {
        Writing::No
    } else {
        Writing::Yes
    };
    require_access(&connection, &id, &targets, &inputs.proof, writing).await?;
    if inputs.plan {
        return show_plan(context, &undone, &targets, &id);
    }
    let order = PreemptOrder {
        by: actor(&context.environment),
        run_url: context.environment.workflow_run().url(),
        reason: inputs.reason.clone(),
    };
    let options = session_options(context)?;
    let opened = Session::open_preempting(connection.cluster.client(), id, options, order).await;
    let mut session = opened.map_err(|error| record_failure(error, context.cancel.requested()))?;
    let order = Order {
        targets: &targets,
        proof: &inputs.proof,
        after: &inputs.after,
        reason: &inputs.reason,
        step: "rollback",
        overall: None,
        started,
    };
    let result = go(&inputs, &order, &connection, &mut session, context).await;
    session.close().await;
    result
}

/// The deployment that is to be undone, as far as can be told without the lease.
async fn undone(
    context: &Context,
    connection: &Connection,
    id: &DeploymentId,
) -> Result<Option<DeploymentRecord>, Failure> {
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
    found.map(|stored| Some(stored.record)).ok_or_else(|| {
        Failure::message(
            Kind::Remote,
            format!("the record of deployment `{undone}` does not exist"),
        )
        .hint("it was deleted by hand; deploy the wanted version anew")
    })
}

/// A failed step of this run has gone back by itself: rolling back once more would undo somebody
/// else's deployment.
fn is_back_already(application: &switchyard_record::ApplicationRecord, id: &DeploymentId) -> bool {
    let latest = application.latest_of_run(id);
    latest.is_some_and(|entry| {
        matches!(
            entry.verdict,
            Some(Verdict::RolledBack | Verdict::Abandoned)
        ) || entry.kind == DeploymentKind::Rollback
    })
}

fn targets_of(given: &[Target], undone: &DeploymentRecord) -> Result<Vec<Target>, Failure> {
    let targets = if given.is_empty() {
        recorded_targets(undone)
    } else {
        given.to_vec()
    };
    if !targets.is_empty() {
        check_targets(&targets, &Steps::single(Percent::ALL))?;
    }
    Ok(targets)
}

async fn require_access(
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
    let mut lines = vec![format!(
        "undo deployment {} (phase {}): traffic from {} back to {}",
        undone.id,
        undone.phase,
        side(&undone.sides.to),
        side(&undone.sides.from)
    )];
    let workloads = undone.sides.from.iter().flat_map(|side| &side.workloads);
    lines.extend(workloads.map(|workload| {
        format!(
            "scale  {} to {}",
            workload.workload,
            workload.replicas.unwrap_or(1)
        )
    }));
    let known = priors(&undone.targets);
    for target in targets {
        let reference = switchyard_traffic::engine::front_reference(target, id.namespace());
        let prior = known
            .get(&reference)
            .map(switchyard_traffic::routing::Routing::describe);
        lines.push(format!(
            "write  {target}: {}",
            prior.unwrap_or_else(|| "as the record says".to_owned())
        ));
    }
    context.console.info(lines.join("\n"));
    context.outputs.set("deployment-id", id)?;
    context.outputs.set("changed", false)?;
    context.outputs.set("result", "planned")
}

async fn go(
    inputs: &RollbackInputs,
    order: &Order<'_>,
    connection: &Connection,
    session: &mut Session,
    context: &Context,
) -> Result<(), Failure> {
    let fail = |error| record_failure(error, context.cancel.requested());
    if session.active().is_none() && is_back_already(session.application(), session.id()) {
        let id = session.id().clone();
        return nothing_to_do(
            context,
            &id,
            order.started,
            "it went back by itself in the meantime",
        );
    }
    let live = session.application().live.clone();
    let reverted = match live.and_then(|live| live.deployment) {
        Some(id) if session.active().is_none() => session
            .store()
            .deployment(&id)
            .await
            .map_err(fail)?
            .map(|stored| stored.record),
        Some(_) | None => None,
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
    match session.claim(request).await.map_err(fail)? {
        Claimed::New => match reverted {
            Some(reverted) => undo_ended(order, connection, session, context, &reverted).await,
            None => Err(Failure::message(
                Kind::Gate,
                "the deployment to undo has no record",
            )),
        },
        Claimed::Resumed { .. } | Claimed::TakenOver { .. } => {
            let is_own_rollback = session.record().map_err(fail)?.kind == DeploymentKind::Rollback;
            match (is_own_rollback, reverted_by(session).await.map_err(fail)?) {
                (true, Some(reverted)) => {
                    undo_ended(order, connection, session, context, &reverted).await
                }
                (true, None) | (false, _) => take_back(order, connection, session, context).await,
            }
        }
        Claimed::NothingToDo { .. } => {
            let id = session.id().clone();
            nothing_to_do(context, &id, order.started, "nothing is to be taken back")
        }
    }
}

/// The deployment that the claimed rollback undoes.
async fn reverted_by(session: &Session) -> Result<Option<DeploymentRecord>, RecordError> {
    match session.record()?.reverts.clone() {
        Some(id) => Ok(session
            .store()
            .deployment(&id)
            .await?
            .map(|stored| stored.record)),
        None => Ok(None),
    }
}

fn opening_of(reverted: Option<&DeploymentRecord>) -> Opening {
    let mut opening = Opening::new(DeploymentKind::Rollback, Chain::Slots);
    if let Some(previous) = reverted.and_then(|reverted| reverted.previous.as_ref()) {
        opening.version = previous.version.clone();
        opening.digests = previous.digests.clone();
    }
    opening
}

/// Takes the claimed deployment back under its own record.
///
/// # Errors
/// It did not come back.
pub(crate) async fn take_back(
    order: &Order<'_>,
    connection: &Connection,
    session: &mut Session,
    context: &Context,
) -> Result<(), Failure> {
    let fail = |error| record_failure(error, context.cancel.requested());
    let record = session.record().map_err(fail)?.clone();
    match record.way_back() {
        WayBack::Ended(verdict) => {
            let id = session.id().clone();
            nothing_to_do(
                context,
                &id,
                order.started,
                &format!("the deployment has {verdict}"),
            )
        }
        WayBack::Abandon => abandon(order, connection, session, context).await,
        WayBack::Revert => revert(order, connection, session, context).await,
        WayBack::NeedsPerson if order.step == "rescue" => {
            let reason = record
                .phases
                .last()
                .and_then(|entry| entry.reason.clone())
                .unwrap_or_default();
            Err(Failure::message(
                Kind::Gate,
                format!("deployment `{}` needs a person: {reason}", record.id),
            )
            .hint("put what is live right, then order `traffic-switch rollback`"))
        }
        // The order of a person settles it; what is live still has to be one of our states.
        WayBack::NeedsPerson if record.may_have_moved_traffic() => {
            revert(order, connection, session, context).await
        }
        WayBack::NeedsPerson => abandon(order, connection, session, context).await,
    }
}

async fn revert(
    order: &Order<'_>,
    connection: &Connection,
    session: &mut Session,
    context: &Context,
) -> Result<(), Failure> {
    let fail = |error| record_failure(error, context.cancel.requested());
    let record = session.record().map_err(fail)?.clone();
    if record.chain == Chain::InPlace {
        return Err(Failure::message(
            Kind::Gate,
            format!(
                "deployment `{}` was made in place, so there is no other side to go back to",
                record.id
            ),
        )
        .hint("use `rollout restore`: it brings the previous revision back"));
    }
    let (Some(to), Some(from)) = (&record.sides.to, &record.sides.from) else {
        return Err(Failure::message(
            Kind::Gate,
            format!(
                "deployment `{}` has no side to go back to: it was the first one",
                record.id
            ),
        )
        .hint("deploy a good version, or take the application away"));
    };
    let pair = SidePair {
        taking: to.side,
        giving: from.side,
    };
    let known = priors(&record.targets);
    let loaded = load_fronts(
        &connection.cluster,
        order.targets,
        &pair,
        &known,
        Deadline::after(READ_LIMIT),
    )
    .await;
    let mut fronts = loaded.map_err(front_failure)?;
    let foreign = take_up(session, &mut fronts)
        .await
        .map_err(|trouble| failure(&trouble, "traffic was not moved"))?;
    let mut machine = match foreign.first() {
        None => Machine::back(fronts.len()),
        Some(first) => {
            let targets = foreign.iter().map(|one| one.target).collect();
            Machine::back_except(fronts.len(), targets, first.trouble.clone())
        }
    };
    let prober = prober(context, order.proof)?;
    // The record's version is that of the new side; what comes back is the old one.
    let mut settings = settings(context, order.proof, versions(&record, None), order.step);
    if order.proof.expect_version.is_some() {
        settings
            .versions
            .giving
            .clone_from(&order.proof.expect_version);
    }
    settings.reason = Some(order.reason.to_owned());
    settings.retires_new_side = order.after.scale_new_down;
    let preparation = Preparation {
        cluster: &connection.cluster,
        fronts,
        proof: order.proof,
        prober: prober.as_ref(),
        settings,
        overall: order.overall,
    };
    let (report, fronts) = drive(context, session, preparation, &mut machine).await?;
    let told = Told {
        heading: format!("Traffic: back to {}", from.side),
        deployment: session.id().to_string(),
        fronts: &fronts,
        report: &report,
        result: "rolled-back",
        started: order.started,
    };
    tell(context, &told)
}

/// Nothing of it took traffic: its side is taken to 0, when that was asked for, and it ends.
async fn abandon(
    order: &Order<'_>,
    connection: &Connection,
    session: &mut Session,
    context: &Context,
) -> Result<(), Failure> {
    let fail = |error| record_failure(error, context.cancel.requested());
    session
        .advance_because(Phase::Abandoning, order.reason)
        .await
        .map_err(fail)?;
    if order.after.scale_new_down {
        retire(connection, session, context).await?;
    }
    let result = DeploymentResult {
        verdict: Verdict::Abandoned,
        cause: Some(order.reason.to_owned()),
        by: actor(&context.environment),
    };
    session.finish(result).await.map_err(fail)?;
    context
        .console
        .info("no traffic had moved: the deployment was abandoned");
    context.outputs.set("deployment-id", session.id())?;
    context.outputs.set("changed", order.after.scale_new_down)?;
    context
        .outputs
        .set("duration-ms", order.started.elapsed().as_millis())?;
    context.outputs.set("result", "abandoned")
}

/// Takes the workloads of the abandoned side to 0. One that stays costs money, not requests.
async fn retire(
    connection: &Connection,
    session: &mut Session,
    context: &Context,
) -> Result<(), Failure> {
    use switchyard_cluster::scale::ScaleGoal;
    use switchyard_cluster::workloads::{WorkloadKind, WorkloadRef};
    use switchyard_record::{Outcome, PlannedMutation, Projection, Settlement};

    let fail = |error| record_failure(error, context.cancel.requested());
    let side = session.record().map_err(fail)?.sides.to.clone();
    for workload in side.map(|side| side.workloads).unwrap_or_default() {
        let Some(kind) = WorkloadKind::parse(&workload.workload.kind) else {
            continue;
        };
        let reference = WorkloadRef {
            kind,
            name: workload.workload.name.clone(),
        };
        let deadline = Deadline::after(Duration::from_secs(20));
        let state = match connection.cluster.scale_state(&reference, deadline).await {
            Ok(state) if state.replicas > 0 => state,
            Ok(_) => continue,
            Err(error) => {
                context
                    .console
                    .warning(TITLE, format!("{reference} was left as it is: {error}"));
                continue;
            }
        };
        session
            .raise_fence(&workload.workload)
            .await
            .map_err(fail)?;
        let size = |replicas: i32| Projection::shown(&serde_json::json!({"replicas": replicas}));
        let planned = PlannedMutation {
            operation: "scale".to_owned(),
            target: workload.workload.clone(),
            target_uid: Some(state.uid.clone()),
            precondition_resource_version: None,
            before: size(state.replicas),
            after: size(0),
        };
        let seq = session.plan_mutation(planned).await.map_err(fail)?;
        let settlement = match connection
            .cluster
            .scale(&reference, ScaleGoal::Size(0), deadline)
            .await
        {
            Ok(_) => Settlement::from(Outcome::Applied),
            Err(error) => {
                context
                    .console
                    .warning(TITLE, format!("{reference} was left running: {error}"));
                let outcome = if error.leaves_outcome_unknown() {
                    Outcome::Unknown
                } else {
                    Outcome::NotApplied
                };
                Settlement::failed(outcome, &error)
            }
        };
        session.settle(seq, settlement).await.map_err(fail)?;
    }
    Ok(())
}

/// Undoes an ended deployment by one of our own.
async fn undo_ended(
    order: &Order<'_>,
    connection: &Connection,
    session: &mut Session,
    context: &Context,
    reverted: &DeploymentRecord,
) -> Result<(), Failure> {
    let fail = |error| record_failure(error, context.cancel.requested());
    let (Some(new), Some(old)) = (reverted.sides.to.clone(), reverted.sides.from.clone()) else {
        return Err(Failure::message(
            Kind::Gate,
            format!(
                "deployment `{}` has no side to go back to: it was the first one",
                reverted.id
            ),
        )
        .hint("deploy a good version, or use `rollout restore` with a backup"));
    };
    if reverted.chain == Chain::InPlace {
        return Err(Failure::message(
            Kind::Gate,
            format!(
                "deployment `{}` was made in place, so there is no other side to go back to",
                reverted.id
            ),
        )
        .hint("use `rollout restore`: it brings the previous revision back"));
    }
    let pair = SidePair {
        taking: old.side,
        giving: new.side,
    };
    let previous = reverted
        .previous
        .as_ref()
        .and_then(|previous| previous.version.clone());
    let amended = session.amend(|record| {
        let mut to = old.clone();
        to.version = to.version.or(previous);
        record.sides.to.get_or_insert(to);
        let mut from = new.clone();
        from.version = from.version.or_else(|| reverted.version.clone());
        record.sides.from.get_or_insert(from);
    });
    amended.await.map_err(fail)?;
    let record = session.record().map_err(fail)?.clone();
    // An adopted side is known by the selector that pinned it before the deployment.
    let mut known = priors(&record.targets);
    let pinned = priors(&reverted.targets);
    let loaded = load_fronts(
        &connection.cluster,
        order.targets,
        &pair,
        &pinned,
        Deadline::after(READ_LIMIT),
    )
    .await;
    let mut fronts = loaded.map_err(front_failure)?;
    for front in &mut fronts {
        front.prior = known
            .remove(&front.reference)
            .unwrap_or_else(|| front.routing.clone());
    }
    let foreign = take_up(session, &mut fronts)
        .await
        .map_err(|trouble| failure(&trouble, "traffic was not moved"))?;
    let stages = if record.phase.has_passed(Phase::Soaking) {
        Vec::new()
    } else {
        vec![StagePlan {
            index: 1,
            share: Percent::ALL,
        }]
    };
    keep_stages(session, &stages).await.map_err(fail)?;
    let itinerary = Itinerary {
        targets: fronts.len(),
        stages,
        has_moved: record.may_have_moved_traffic(),
        is_rollback: true,
    };
    let mut machine = machine(&itinerary, foreign)?;
    let prober = prober(context, order.proof)?;
    let mut settings = settings(
        context,
        order.proof,
        versions(&record, order.proof.expect_version.as_ref()),
        order.step,
    );
    settings.reason = Some(order.reason.to_owned());
    settings.retires_new_side = order.after.scale_new_down;
    // The size that the record has of the old side is what is to be reached, not the new side's.
    settings.min_ready = size_of(&old);
    let preparation = Preparation {
        cluster: &connection.cluster,
        fronts,
        proof: order.proof,
        prober: prober.as_ref(),
        settings,
        overall: order.overall,
    };
    let (report, fronts) = drive(context, session, preparation, &mut machine).await?;
    if report.ending == Ending::Done {
        let result = DeploymentResult {
            verdict: Verdict::Succeeded,
            cause: Some(order.reason.to_owned()),
            by: actor(&context.environment),
        };
        session.finish(result).await.map_err(fail)?;
    }
    let told = Told {
        heading: format!("Traffic: back to {}", old.side),
        deployment: session.id().to_string(),
        fronts: &fronts,
        report: &report,
        result: "rolled-back",
        started: order.started,
    };
    tell(context, &told)
}

/// The pods that each target needs at least: the smallest workload of the side.
fn size_of(side: &SideState) -> Option<u32> {
    side.workloads
        .iter()
        .filter_map(|workload| workload.replicas)
        .filter(|replicas| *replicas > 0)
        .min()
}

pub(crate) fn nothing_to_do(
    context: &Context,
    id: &DeploymentId,
    started: Instant,
    why: &str,
) -> Result<(), Failure> {
    context.console.info(format!("nothing to do: {why}"));
    context.outputs.set("deployment-id", id)?;
    context.outputs.set("changed", false)?;
    context
        .outputs
        .set("duration-ms", started.elapsed().as_millis())?;
    context.outputs.set("result", "nothing-to-do")
}
