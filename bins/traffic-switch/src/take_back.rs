//! The way back of a deployment under its own record, by order or by rescue.
//! Refuses to decide whose deployment it is: the claim has.

use std::time::Instant;

use switchyard_cluster::Deadline;
use switchyard_deployment::{Connection, record_failure};
use switchyard_record::{Chain, DeploymentId, Phase, Session, WayBack};
use switchyard_runner::{Context, Failure, Kind};
use switchyard_traffic::engine::{Foreign, SidePair, load_fronts, priors, take_up};
use switchyard_traffic::machine::{Course, Machine, Refuge};
use switchyard_traffic::roles::Target;

use crate::abandon::abandon;
use crate::held;
use crate::inputs::{AfterInputs, ProofInputs};
use crate::outcome::{Told, failure, tell};
use crate::run::{Preparation, TITLE, drive, prober, settings, versions};
use crate::sides::{READ_LIMIT, targets_back};
use crate::switch::front_failure;

/// What the two ways back have in common.
#[derive(Clone, Copy)]
pub(crate) struct Order<'run> {
    /// As asked for; what the record knows is added under the lease.
    pub(crate) targets: &'run [Target],
    pub(crate) proof: &'run ProofInputs,
    pub(crate) after: &'run AfterInputs,
    /// Field managers whose writes are not left alone.
    pub(crate) overrule: &'run [String],
    pub(crate) reason: &'run str,
    pub(crate) step: &'static str,
    pub(crate) overall: Option<Deadline>,
    pub(crate) started: Instant,
}

impl Order<'_> {
    /// What somebody else has written and nobody asked to overwrite.
    pub(crate) fn left_alone(&self, foreign: Vec<Foreign>, context: &Context) -> Vec<Foreign> {
        let is_overruled = |one: &Foreign| {
            let mut overruled = self.overrule.iter();
            overruled.any(|name| Some(name) == one.writer.as_ref())
        };
        let (overruled, left) = foreign.into_iter().partition(is_overruled);
        let overruled: Vec<Foreign> = overruled;
        for one in overruled {
            let text = format!("{}; it is overwritten, as ordered", one.trouble.reason);
            context.console.warning(TITLE, text);
        }
        left
    }
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
        // Somebody may order a new deployment then, and nobody waits for a side that never was.
        session
            .advance_because(
                Phase::NeedsPerson,
                "it was the first one: no side is there to go back to",
            )
            .await
            .map_err(fail)?;
        return Err(Failure::message(
            Kind::Gate,
            format!(
                "deployment `{}` has no side to go back to: it was the first one",
                record.id
            ),
        )
        .hint("deploy a good version with `new-deployment: true`, or take the application away"));
    };
    // The main workload may run the new version by now: then it is the canary that is safe.
    let (refuge, pair) = if record.has_promoted() {
        held::require_present(&connection.cluster, to).await?;
        let pair = SidePair {
            taking: from.side,
            giving: to.side,
        };
        (Refuge::Canary, pair)
    } else {
        let pair = SidePair {
            taking: to.side,
            giving: from.side,
        };
        (Refuge::Before, pair)
    };
    let targets = targets_back(order.targets, &[&record])?;
    let known = priors(&record.targets);
    let loaded = load_fronts(
        &connection.cluster,
        &targets,
        &pair,
        &known,
        Deadline::after(READ_LIMIT),
    )
    .await;
    let mut fronts = loaded.map_err(front_failure)?;
    let foreign = take_up(session, &mut fronts)
        .await
        .map_err(|trouble| failure(&trouble, "traffic was not moved"))?;
    let foreign = order.left_alone(foreign, context);
    let mut machine = match foreign.first() {
        None => Machine::back(fronts.len(), refuge),
        Some(first) => {
            let targets = foreign.iter().map(|one| one.target).collect();
            Machine::back_except(fronts.len(), refuge, targets, first.trouble.clone())
        }
    };
    let prober = prober(context, order.proof)?;
    // The record's version is that of the new side; what comes back is the old one.
    let course = match refuge {
        Refuge::Before => Course::Takeover,
        Refuge::Canary => Course::Promotion,
    };
    let versions = versions(&record, course, None);
    let mut settings = settings(context, order.proof, versions, order.step);
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
        sides: pair,
        fronts,
        proof: order.proof,
        prober: prober.as_ref(),
        settings,
        overall: order.overall,
    };
    let (report, fronts) = drive(context, session, preparation, &mut machine).await?;
    let told = Told {
        heading: match refuge {
            Refuge::Before => format!("Traffic: back to {}", from.side),
            Refuge::Canary => format!("Traffic: on {} until {} is undone", to.side, from.side),
        },
        deployment: session.id().to_string(),
        fronts: &fronts,
        report: &report,
        result: "rolled-back",
        started: order.started,
    };
    tell(context, &told)
}

/// Says that there was nothing to do, which is no failure.
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
