//! What a rescue does with a deployment whose new side has taken the traffic and passed its watch: it
//! is live, so nothing is taken back. A scale-down that failed, or a summary that could not be
//! written, is no reason to move traffic.

use std::time::Instant;

use switchyard_deployment::{Connection, actor, record_failure};
use switchyard_record::{DeploymentResult, Phase, Session, Verdict};
use switchyard_runner::{Context, Failure, Kind};

use crate::run::TITLE;
use crate::sides::targets_back;
use crate::status::shares;

/// Whether only the old side's end was still to come.
pub(crate) fn is_settled(phase: Phase) -> bool {
    matches!(phase, Phase::Quieting | Phase::Retired)
}

/// Ends the deployment as succeeded, once every route is seen to send everything to its new side.
///
/// # Errors
/// A route sends traffic elsewhere, or the cluster or the record cannot be read or written.
pub(crate) async fn conclude(
    connection: &Connection,
    session: &mut Session,
    context: &Context,
    started: Instant,
) -> Result<(), Failure> {
    let fail = |error| record_failure(error, context.cancel.requested());
    let record = session.record().map_err(fail)?.clone();
    let Some(new) = record.side_at_end() else {
        return Err(Failure::message(Kind::Bug, "the record names no new side"));
    };
    // A record that names no route, or one that cannot be read, proves nothing.
    for target in targets_back(&[], &[&record])? {
        let live = shares(&connection.cluster, &target, Some(&record)).await?;
        if live.get(&new) != Some(&100) || live.len() > 1 {
            let seen: Vec<String> = live
                .iter()
                .map(|(side, percent)| format!("{side} {percent} %"))
                .collect();
            return Err(Failure::message(
                Kind::Gate,
                format!(
                    "{target} does not send everything to side `{new}`: {}",
                    seen.join(", ")
                ),
            )
            .hint("somebody has changed it; put it right, or order `traffic-switch rollback`"));
        }
    }
    let cause = format!("ended by the rescue in phase {}", record.phase);
    let result = DeploymentResult {
        verdict: Verdict::Succeeded,
        cause: Some(cause),
        by: actor(&context.environment),
    };
    session.finish(result).await.map_err(fail)?;
    context.console.warning(
        TITLE,
        format!("side {new} has all the traffic and had passed its watch, so nothing is taken back; the old side may be larger than was asked for"),
    );
    context.outputs.set("deployment-id", session.id())?;
    context.outputs.set("changed", false)?;
    context.outputs.set("active", new)?;
    context
        .outputs
        .set("duration-ms", started.elapsed().as_millis())?;
    context.outputs.set("result", "concluded")
}
