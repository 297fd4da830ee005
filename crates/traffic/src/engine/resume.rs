//! Taking up the targets under our fence: raise it on every object, settle what an earlier
//! process left open, and see whether anybody else has written since.

use std::collections::BTreeMap;
use std::time::Duration;

use kube::api::DynamicObject;
use switchyard_cluster::Deadline;
use switchyard_record::{
    DeploymentRecord, JournalEntry, LiveTarget, ObjectRef, Outcome, Phase, Projection, Raised,
    RecordError, Session, Target as TargetRecord, outcomes,
};

use super::fronts::to_value;
use super::scaling::workload_ref;
use super::write::{OPERATION, named, writer_of};
use super::{Front, Stop};
use crate::machine::{Trouble, TroubleKind};
use crate::provider::escape;
use crate::routing::Routing;

/// How long the API server may take to let a fence be raised.
const FENCE_LIMIT: Duration = Duration::from_secs(20);
/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(500);

/// A target that somebody else has written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Foreign {
    /// Its number.
    pub target: usize,
    /// The field manager that wrote it, where the object tells.
    pub writer: Option<String>,
    /// What is live and what should be.
    pub trouble: Trouble,
}

/// Takes up all targets. Fronts are brought up to date; those that somebody else has written are
/// returned and must not be written by us. The workloads of both sides come under our fence too:
/// a process that was frozen on its way to scale one of them finds it there.
///
/// # Errors
/// The record or an object cannot be had, or a newer process has taken over.
pub async fn take_up(session: &mut Session, fronts: &mut [Front]) -> Result<Vec<Foreign>, Trouble> {
    keep_priors(session, fronts).await.map_err(trouble_of)?;
    let mut foreign = Vec::new();
    for (index, front) in fronts.iter_mut().enumerate() {
        let found = take_up_one(session, index, front)
            .await
            .map_err(trouble_of)?;
        foreign.extend(found);
    }
    fence_sides(session).await.map_err(trouble_of)?;
    Ok(foreign)
}

/// Raises our fence on the workloads of both recorded sides.
async fn fence_sides(session: &Session) -> Result<(), Stop> {
    let sides = &session.record()?.sides;
    let recorded = sides.from.iter().chain(&sides.to);
    let sized = recorded
        .flat_map(|side| &side.workloads)
        .map(|workload| &workload.workload)
        .filter(|object| workload_ref(object).is_some());
    for object in sized {
        // One that is gone cannot be scaled by anybody.
        fenced(session, object).await?;
    }
    Ok(())
}

pub(crate) fn trouble_of(stop: Stop) -> Trouble {
    match stop {
        Stop::Trouble(trouble) => trouble,
        Stop::Cancelled | Stop::Preempted(_) => Trouble {
            kind: TroubleKind::Gate,
            reason: "stopped before anything was changed".to_owned(),
            hint: None,
        },
    }
}

/// Writes down what the targets were before the deployment, once, before the first write.
async fn keep_priors(session: &mut Session, fronts: &mut [Front]) -> Result<(), Stop> {
    let known = session.record()?.targets.clone();
    let mut added = Vec::new();
    for front in fronts.iter_mut() {
        match known.iter().find(|target| target.object == front.reference) {
            Some(target) if target.uid != front.uid => {
                return Err(Stop::gate(
                    format!(
                        "{} was replaced by another object of this name since the deployment began",
                        front.target
                    ),
                    Some("put its traffic right by hand, then start a new deployment"),
                ));
            }
            Some(target) => front.prior = prior_of(target).unwrap_or_else(|| front.prior.clone()),
            None => added.push(TargetRecord {
                object: front.reference.clone(),
                uid: front.uid.clone(),
                owned_paths: vec![pointer_of(front)],
                prior: BTreeMap::from([(pointer_of(front), front.prior.to_value())]),
            }),
        }
    }
    session.amend(|record| record.targets.extend(added)).await?;
    Ok(())
}

/// The routing that a record keeps of a target.
pub(crate) fn prior_of(target: &TargetRecord) -> Option<Routing> {
    target
        .prior
        .values()
        .find_map(|value| Routing::from_value(value).ok())
}

fn pointer_of(front: &Front) -> String {
    let path = front.target.provider.provider().owned_path();
    let tokens = path.iter().map(|name| format!("/{}", escape(name)));
    tokens.collect()
}

/// What a target is under our fence.
struct Look {
    live: DynamicObject,
    routing: Routing,
    seen: LiveTarget,
}

/// Raises our fence on a target and reads it.
async fn look(session: &Session, front: &mut Front) -> Result<Look, Stop> {
    let live = match fenced(session, &front.reference).await? {
        Raised::Under(live) => *live,
        Raised::Absent => {
            return Err(Stop::remote(
                format!("{} does not exist any more", front.reference),
                None,
            ));
        }
    };
    let provider = front.target.provider.provider();
    let object = to_value(&live);
    let owned = provider
        .read(&object, &front.roles)
        .map_err(|refusal| Stop::gate(refusal.to_string(), Some(&refusal.hint())))?;
    front.object = object;
    front.routing = owned.routing.clone();
    let seen = LiveTarget {
        uid: live.metadata.uid.clone(),
        projection: owned.routing.projection(),
    };
    Ok(Look {
        live,
        routing: owned.routing,
        seen,
    })
}

/// The targets that somebody else has written since another deployment of this application worked on
/// them, which is to be ended. Each comes under our fence first, so that nothing that deployment has
/// sent can arrive any more.
///
/// # Errors
/// An object cannot be had, or a newer process has taken over.
pub async fn foreign_to(
    session: &Session,
    ended: &DeploymentRecord,
    fronts: &mut [Front],
) -> Result<Vec<Foreign>, Trouble> {
    let mut foreign = Vec::new();
    for (index, front) in fronts.iter_mut().enumerate() {
        let recorded = |target: &&TargetRecord| target.object == front.reference;
        let Some(target) = ended.targets.iter().find(recorded) else {
            continue;
        };
        let prior = prior_of(target).map(|prior| prior.projection());
        let look = look(session, front).await.map_err(trouble_of)?;
        let is_known = known_states(&ended.journal, &front.reference)
            .chain(&prior)
            .any(|state| state.agrees_with(&look.seen.projection));
        if !is_known {
            let left = prior.as_ref().map(shown).unwrap_or_default();
            let left =
                expected(&ended.journal, &front.reference).map_or(left, |state| shown(&state));
            foreign.push(foreign_in(index, front, &look, &left));
        }
    }
    Ok(foreign)
}

fn foreign_in(index: usize, front: &Front, look: &Look, left: &str) -> Foreign {
    let writer = writer_of(&look.live, front.target.provider.provider());
    let reason = format!(
        "{} stands at `{}`, and this deployment left it at `{left}`: it was changed by {}",
        front.target,
        look.routing.describe(),
        named(writer.as_deref())
    );
    let hint = "put it to one of both states, then run the step again or order `traffic-switch rollback`, which \
                overwrites what those have written that `overrule` names";
    Foreign {
        target: index,
        writer,
        trouble: Trouble {
            kind: TroubleKind::Foreign { target: index },
            reason,
            hint: Some(hint.to_owned()),
        },
    }
}

async fn take_up_one(
    session: &mut Session,
    index: usize,
    front: &mut Front,
) -> Result<Option<Foreign>, Stop> {
    let look = look(session, front).await?;
    let seen = &look.seen;
    settle_open(session, &front.reference, seen).await?;
    let record = session.record()?;
    let left =
        expected(&record.journal, &front.reference).unwrap_or_else(|| front.prior.projection());
    let is_as_left = left.agrees_with(&seen.projection);
    // A person who put things right may have left either state of any step.
    let is_known = || {
        known_states(&record.journal, &front.reference)
            .any(|state| state.agrees_with(&seen.projection))
    };
    let is_settled_by_hand = record.phase == Phase::NeedsPerson
        && (is_known() || front.prior.projection().agrees_with(&seen.projection));
    if is_as_left || is_settled_by_hand {
        return Ok(None);
    }
    Ok(Some(foreign_in(index, front, &look, &shown(&left))))
}

/// Raises the fence, again where the API server sheds load or cannot be reached for a moment: a
/// fence that is raised twice is raised once.
async fn fenced(session: &Session, reference: &ObjectRef) -> Result<Raised, Stop> {
    let deadline = Deadline::after(FENCE_LIMIT);
    loop {
        match session.raise_fence(reference).await {
            Err(error) if is_busy(&error) && !deadline.has_passed() => {
                tokio::time::sleep(PAUSE).await;
            }
            answer => return Ok(answer?),
        }
    }
}

/// Whether the object or the API server is only busy.
fn is_busy(error: &RecordError) -> bool {
    error.is_passing() || matches!(error, RecordError::Changed { .. })
}

/// Finds out what became of entries whose writer died. Our fence is on the object, so none of them
/// can arrive any more.
async fn settle_open(
    session: &mut Session,
    reference: &ObjectRef,
    seen: &LiveTarget,
) -> Result<(), Stop> {
    let open: Vec<JournalEntry> = session
        .record()?
        .open_entries()
        .filter(|entry| is_route(entry, reference))
        .cloned()
        .collect();
    for (seq, outcome) in outcomes(seen, &open) {
        session.settle(seq, outcome).await?;
    }
    Ok(())
}

fn is_route(entry: &JournalEntry, reference: &ObjectRef) -> bool {
    entry.target == *reference && entry.operation.split(' ').next() == Some(OPERATION)
}

/// A recorded state for people: as we would say it, else as the record does.
fn shown(state: &Projection) -> String {
    let routing = state
        .value()
        .and_then(|value| Routing::from_value(value).ok());
    routing.map_or_else(|| state.describe(), |routing| routing.describe())
}

/// What the last entry that was applied left the object like; nothing when there is none.
fn expected(journal: &[JournalEntry], reference: &ObjectRef) -> Option<Projection> {
    let mut own = journal
        .iter()
        .rev()
        .filter(|entry| is_route(entry, reference));
    let applied = own.find(|entry| entry.outcome == Outcome::Applied);
    applied.map(|entry| entry.after.clone())
}

fn known_states<'journal>(
    journal: &'journal [JournalEntry],
    reference: &'journal ObjectRef,
) -> impl Iterator<Item = &'journal Projection> {
    let own = journal.iter().filter(|entry| is_route(entry, reference));
    own.flat_map(|entry| [&entry.before, &entry.after])
}

/// The routings that the record keeps from before the deployment.
pub fn priors(targets: &[TargetRecord]) -> BTreeMap<ObjectRef, Routing> {
    targets
        .iter()
        .filter_map(|target| Some((target.object.clone(), prior_of(target)?)))
        .collect()
}
