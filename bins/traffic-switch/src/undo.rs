//! Undoing an ended deployment: a deployment of its own, whose new side is the old one.

use switchyard_cluster::Deadline;
use switchyard_deployment::{Connection, actor, record_failure};
use switchyard_record::{
    Chain, DeploymentRecord, DeploymentResult, Kind as DeploymentKind, Opening, Phase, RecordError,
    Session, SideState, Verdict,
};
use switchyard_runner::{Context, Failure, Kind};
use switchyard_traffic::engine::{SidePair, foreign_to, load_fronts, priors, take_up};
use switchyard_traffic::machine::{Course, Ending, Itinerary, StagePlan};
use switchyard_traffic::share::Percent;

use crate::held;
use crate::outcome::{Told, failure, tell};
use crate::run::{Preparation, TITLE, drive, prober, settings, versions};
use crate::sides::{READ_LIMIT, targets_back};
use crate::switch::{front_failure, keep_stages, machine};
use crate::take_back::Order;

/// What is known of the rollback when it is claimed.
pub(crate) fn opening_of(reverted: Option<&DeploymentRecord>) -> Opening {
    let mut opening = Opening::new(DeploymentKind::Rollback, Chain::Slots);
    if let Some(previous) = reverted.and_then(|reverted| reverted.previous.as_ref()) {
        opening.version = previous.version.clone();
        opening.digests = previous.digests.clone();
    }
    opening
}

/// Sees that an ended deployment can be undone at all, before anything is claimed or written.
///
/// # Errors
/// A gate failure: it has no side to go back to, or that side holds something else by now.
pub(crate) async fn require_undoable(
    connection: &Connection,
    reverted: &DeploymentRecord,
) -> Result<(), Failure> {
    let (_, old) = both_sides(reverted)?;
    held::require(&connection.cluster, old).await
}

/// Sees that what is live is as one of the steps left it of a rollback that is to be ended, before
/// another one goes on from there.
///
/// # Errors
/// A gate failure naming the target that somebody else has written, and who.
pub(crate) async fn require_as_left(
    order: &Order<'_>,
    connection: &Connection,
    session: &Session,
    (ended, reverted): (&DeploymentRecord, &DeploymentRecord),
    context: &Context,
) -> Result<(), Failure> {
    let (new, old) = both_sides(reverted)?;
    let pair = SidePair {
        taking: old.side,
        giving: new.side,
    };
    let targets = targets_back(order.targets, &[ended, reverted])?;
    let loaded = load_fronts(
        &connection.cluster,
        &targets,
        &pair,
        &priors(&reverted.targets),
        Deadline::after(READ_LIMIT),
    )
    .await;
    let mut fronts = loaded.map_err(front_failure)?;
    let meaning = format!("rollback `{}` stays as it is: nothing was moved", ended.id);
    let foreign = foreign_to(session, ended, &mut fronts)
        .await
        .map_err(|trouble| failure(&trouble, &meaning))?;
    match order.left_alone(foreign, context).first() {
        None => Ok(()),
        Some(first) => Err(failure(&first.trouble, &meaning)),
    }
}

/// The new and the old side of a deployment that can be undone.
fn both_sides(reverted: &DeploymentRecord) -> Result<(&SideState, &SideState), Failure> {
    let (Some(new), Some(old)) = (&reverted.sides.to, &reverted.sides.from) else {
        return Err(Failure::message(
            Kind::Gate,
            format!(
                "deployment `{}` has no side to go back to: it was the first one",
                reverted.id
            ),
        )
        .hint("deploy a good version, or use `rollout restore` with a backup"));
    };
    let why = match reverted.chain {
        Chain::Slots => return Ok((new, old)),
        Chain::InPlace => "was made in place",
        Chain::Canary => "has ended with its canary taken away",
    };
    Err(Failure::message(
        Kind::Gate,
        format!(
            "deployment `{}` {why}, so there is no other side to go back to",
            reverted.id
        ),
    )
    .hint("use `rollout restore`: it brings the previous revision back"))
}

/// Undoes an ended deployment by one of our own. When nothing of it has moved traffic, its claim
/// is given up again, so that a failure leaves nobody locked out.
///
/// # Errors
/// It did not come back.
pub(crate) async fn undo_ended(
    order: &Order<'_>,
    connection: &Connection,
    session: &mut Session,
    context: &Context,
    reverted: &DeploymentRecord,
) -> Result<(), Failure> {
    let undone = undo(order, connection, session, context, reverted).await;
    if let Err(failure) = &undone
        && let Err(error) = give_up(session, context, &failure.to_string()).await
    {
        let text = format!("the claim of this rollback could not be given up: {error}");
        context.console.warning(TITLE, text);
    }
    undone
}

/// Ends a rollback that has moved nothing.
async fn give_up(session: &mut Session, context: &Context, why: &str) -> Result<(), RecordError> {
    let is_untouched = session.record().is_ok_and(|record| {
        let has_ended = Verdict::of(record.phase).is_some();
        record.kind == DeploymentKind::Rollback && !has_ended && !record.may_have_moved_traffic()
    });
    if !is_untouched {
        return Ok(());
    }
    session.advance_because(Phase::Abandoning, why).await?;
    let result = DeploymentResult {
        verdict: Verdict::Abandoned,
        cause: Some(why.to_owned()),
        by: actor(&context.environment),
    };
    session.finish(result).await.map(drop)
}

async fn undo(
    order: &Order<'_>,
    connection: &Connection,
    session: &mut Session,
    context: &Context,
    reverted: &DeploymentRecord,
) -> Result<(), Failure> {
    let fail = |error| record_failure(error, context.cancel.requested());
    let record = session.record().map_err(fail)?.clone();
    let (new, old) = both_sides(reverted)?;
    if !record.may_have_moved_traffic() {
        held::require(&connection.cluster, old).await?;
    }
    let (new, old) = (new.clone(), old.clone());
    let targets = targets_back(order.targets, &[&record, reverted])?;
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
        &targets,
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
    let foreign = order.left_alone(foreign, context);
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
        reached: Some(Percent::ALL),
        has_old_side: true,
        has_moved: record.may_have_moved_traffic(),
        course: Course::Rollback,
    };
    let mut machine = machine(&itinerary, foreign)?;
    let prober = prober(context, order.proof)?;
    let mut settings = settings(
        context,
        order.proof,
        versions(
            &record,
            Course::Rollback,
            order.proof.expect_version.as_ref(),
        ),
        order.step,
    );
    settings.reason = Some(order.reason.to_owned());
    settings.retires_new_side = order.after.scale_new_down;
    // The size that the record has of the old side is what is to be reached, not the new side's.
    settings.min_ready = size_of(&old);
    let preparation = Preparation {
        cluster: &connection.cluster,
        sides: pair,
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
