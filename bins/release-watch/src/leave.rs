//! The traffic of a version that may not stay leaves it in the moment in which the watch says so, not in the step
//! after. It refuses to decide whether: the verdict has.

use std::sync::Arc;

use switchyard_cluster::Cluster;
use switchyard_deployment::{Recorder, actor};
use switchyard_http::Client;
use switchyard_runner::{Context, Failure, Kind};
use switchyard_traffic::engine::{Foreign, Leaving, Left, Note, Prepared, WayOut};
use switchyard_traffic::machine::{Trouble, TroubleKind};
use switchyard_verdict::{Action, Verdict};

use crate::report::TITLE;
use crate::watch::Outcome;

/// Keeps the way out ready, where both sides share the traffic.
///
/// # Errors
/// A route cannot be read or brought under the fence.
pub(crate) async fn prepare(
    recorder: &mut Recorder,
    cluster: &Cluster,
    context: &Context,
) -> Result<Option<WayOut>, Failure> {
    let prepared = match recorder.session_mut() {
        Some(session) => WayOut::prepare(session, cluster).await,
        None => Ok(Prepared::NotShared),
    };
    match prepared.map_err(|trouble| failure(&trouble))? {
        Prepared::Ready(way_out) => return Ok(Some(way_out)),
        Prepared::NotShared => context.console.info(
            "the sides do not share the traffic through routes of ours alone: it leaves with the way back, not at once",
        ),
        Prepared::Foreign(targets) => {
            for Foreign { trouble, .. } in targets {
                let reason = trouble.reason;
                let text = format!("{reason}; the traffic cannot leave at once, and the way back stops there as well");
                let text = match trouble.hint {
                    Some(hint) => format!("{text}: {hint}"),
                    None => text,
                };
                context.console.warning(TITLE, text);
            }
        }
    }
    Ok(None)
}

/// Takes the way out where the outcome sends traffic back, and says so in its reason. What keeps it from that is
/// warned of: the way back that follows mends more than this does.
pub(crate) async fn take(
    way_out: Option<WayOut>,
    outcome: &mut Outcome,
    recorder: &mut Recorder,
    client: Client,
    context: &Context,
) {
    let (Some(way_out), Some(session)) = (way_out, recorder.session_mut()) else {
        return;
    };
    if !sends_back(outcome) {
        return;
    }
    let console = context.console.clone();
    let leaving = Leaving {
        reason: outcome.reason.clone(),
        by: actor(&context.environment),
        client,
        notes: Arc::new(move |note| match note {
            Note::Progress(line) => console.progress(line),
            Note::Warning(line) => console.warning(TITLE, line),
        }),
        cancel: context.cancel.token(),
    };
    let whereto = match way_out.take(session, leaving).await {
        Ok(Left::Returned(side)) => format!("back to {side}"),
        Ok(Left::Sheltered(side)) => {
            format!("to {side}, because the other side has no endpoint")
        }
        Ok(Left::Kept) => return,
        Err(trouble) => {
            let text = format!(
                "leaving at once was not finished: {}; the way back takes the traffic from where it stands",
                trouble.reason
            );
            context.console.warning(TITLE, text);
            return;
        }
    };
    outcome.reason.push_str(&format!(
        "; all of the traffic was sent {whereto}, which nobody has confirmed yet"
    ));
}

fn sends_back(outcome: &Outcome) -> bool {
    let sends_back = match outcome.action {
        Action::Rollback | Action::CircuitBreak => true,
        Action::None | Action::Alert | Action::ScaleUp => false,
    };
    sends_back && outcome.verdict == Verdict::Fail
}

fn failure(trouble: &Trouble) -> Failure {
    let kind = match trouble.kind {
        TroubleKind::Gate
        | TroubleKind::Foreign { .. }
        | TroubleKind::Deserted
        | TroubleKind::Replaced => Kind::Gate,
        TroubleKind::Remote => Kind::Remote,
    };
    let text = format!("`leave-at-once`: {}", trouble.reason);
    Failure::message(kind, text).maybe_hint(trouble.hint.clone())
}
