//! What a rollback undoes, as it is found under the lease, and whether it can be undone: seen before
//! anything is claimed. Refuses to claim and to move anything.

use switchyard_deployment::{Connection, record_failure};
use switchyard_record::{
    DeploymentRecord, Kind as DeploymentKind, Phase, Session, SideState, turned_round,
};
use switchyard_runner::{Context, Failure, Kind};
use switchyard_traffic::roles::Target;

use crate::access::Writing;
use crate::rollback::require_access;
use crate::sides::recorded_targets;
use crate::take_back::Order;
use crate::undo::{require_as_left, require_undoable};

/// What a rollback was asked for.
pub(crate) struct Asked<'run> {
    pub(crate) order: &'run Order<'run>,
    /// Targets that we are known to be allowed to write.
    pub(crate) reviewed: &'run [Target],
}

/// What a rollback undoes.
pub(crate) struct Undoing {
    /// The deployment that is undone by one of another kind; nothing when the active one is taken
    /// back itself.
    pub(crate) reverted: Option<DeploymentRecord>,
    /// The targets that are asked for, and those that a rollback which is ended has begun to write.
    pub(crate) targets: Vec<Target>,
}

/// Finds out what is undone, and sees that we may do it and that it can be done.
///
/// # Errors
/// It cannot, or something that is needed for it is gone or not allowed.
pub(crate) async fn find(
    asked: &Asked<'_>,
    connection: &Connection,
    session: &Session,
    context: &Context,
) -> Result<Undoing, Failure> {
    let active = session.active();
    let reverted = to_undo(session, context).await?;
    let records = active.into_iter().chain(&reverted);
    let found = records.flat_map(recorded_targets).collect();
    let unreviewed = not_among(asked.reviewed, found);
    if !unreviewed.is_empty() {
        let proof = asked.order.proof;
        require_access(connection, session.id(), &unreviewed, proof, Writing::Yes).await?;
    }
    let mut targets = asked.order.targets.to_vec();
    let Some(reverted) = reverted else {
        return Ok(Undoing {
            reverted: None,
            targets,
        });
    };
    let ended = active.filter(|active| turned_round(active).is_some());
    if active.is_none() || ended.is_some() {
        let undoable = require_undoable(connection, &reverted).await;
        undoable.map_err(|failure| with_other_ways(failure, ended))?;
    }
    if let Some(ended) = ended {
        let records = (ended, &reverted);
        require_as_left(asked.order, connection, session, records, context).await?;
        targets.extend(not_among(&targets, recorded_targets(ended)));
    }
    Ok(Undoing {
        reverted: Some(reverted),
        targets,
    })
}

/// Those of the found targets that are not known, each once. Pure.
pub(crate) fn not_among(known: &[Target], found: Vec<Target>) -> Vec<Target> {
    let mut new: Vec<Target> = Vec::new();
    for target in found {
        let is_it = |known: &Target| known.provider == target.provider && known.name == target.name;
        if !known.iter().chain(&new).any(is_it) {
            new.push(target);
        }
    }
    new
}

/// The deployment that is undone by one of another kind: what is live when nothing is active, else
/// what the active rollback is about. Nothing when the active one is taken back itself.
///
/// # Errors
/// Its record is gone. To take a rollback back in its place would end on the very version that
/// somebody wants to get away from.
async fn to_undo(
    session: &Session,
    context: &Context,
) -> Result<Option<DeploymentRecord>, Failure> {
    let fail = |error| record_failure(error, context.cancel.requested());
    let live = session.application().live.as_ref();
    let id = match session.active() {
        None => live.and_then(|live| live.deployment.clone()),
        Some(active) if active.kind == DeploymentKind::Rollback => match &active.reverts {
            Some(reverts) => Some(reverts.clone()),
            None => return Err(gone("what it undoes", Some(active))),
        },
        Some(_) => None,
    };
    let Some(id) = id else {
        return Ok(None);
    };
    match session.store().deployment(&id).await.map_err(fail)? {
        Some(stored) => Ok(Some(stored.record)),
        None => Err(gone(&format!("deployment `{id}`"), session.active())),
    }
}

fn gone(what: &str, active: Option<&DeploymentRecord>) -> Failure {
    let text = match active {
        Some(rollback) => format!(
            "rollback `{}` (phase {}) cannot be finished: the record of {what} does not exist",
            rollback.id, rollback.phase
        ),
        None => format!("the record of {what}, which is to be undone, does not exist"),
    };
    let failure = Failure::message(Kind::Gate, text);
    if active.is_some() {
        with_other_ways(failure, active)
    } else {
        failure.hint("it was deleted by hand; deploy the wanted version anew")
    }
}

/// Adds what else can be ordered where a rollback cannot be finished.
fn with_other_ways(failure: Failure, rollback: Option<&DeploymentRecord>) -> Failure {
    let Some(rollback) = rollback else {
        return failure;
    };
    let anew = "deploy the wanted version with `new-deployment: true`";
    let side = |side: &Option<SideState>| {
        side.as_ref()
            .map_or_else(|| "before".to_owned(), |side| format!("side {}", side.side))
    };
    let failure = if rollback.phase == Phase::NeedsPerson {
        failure
    } else {
        failure.hint(format!(
            "`traffic-switch rescue` with `deployment-id: {}` sends the traffic to where it was, {}",
            rollback.id,
            side(&rollback.sides.from)
        ))
    };
    failure.hint(if turned_round(rollback).is_some() {
        anew.to_owned()
    } else {
        format!("after that, {anew}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_targets_that_nobody_has_reviewed_are_left_and_each_of_them_once() {
        let targets = |list: &[&str]| -> Vec<Target> {
            list.iter().map(|text| text.parse().unwrap()).collect()
        };
        let known = targets(&["traefik/web:shop"]);
        let found = targets(&["traefik/web", "service/web", "service/web", "traefik/api"]);
        assert_eq!(
            not_among(&known, found),
            targets(&["service/web", "traefik/api"])
        );
    }
}
