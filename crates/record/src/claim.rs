//! Who may go on with an application: the decision over a claim.
//!
//! Pure: plain records in, one answer out. It guesses nothing: a deployment that shows no life
//! is still active until it is rescued or rolled back.

use thiserror::Error;

use crate::application::{ApplicationRecord, IndexEntry, Preempt};
use crate::deployment::{DeploymentRecord, Kind, Opening, Verdict};
use crate::identity::DeploymentId;
use crate::phase::Phase;

/// What a process wants of the application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Intent {
    /// Begin a deployment, or go on with this run's own.
    Deploy(Opening),
    /// Go on with this run's own deployment, which an earlier step began.
    Continue,
    /// Take the active deployment back, whoever's it is; when none is active, undo the live one
    /// by a deployment of kind [`Kind::Rollback`]. What is resumed may be either: the record's
    /// kind tells. A rollback that has turned round is ended, and what it was to undo is undone
    /// by a new one.
    RollBack(Opening),
    /// Take this run's own deployment back, if there is anything to take back.
    Rescue,
}

/// Whether a run that has ended its deployment may begin another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// No: a re-run of last week's run must not redeploy last week's code.
    OncePerRun,
    /// Yes, a person asked for it with `new-deployment: true`.
    NewDeployment,
}

/// The inputs of the step that claims: a resumed deployment must be made of the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepInputs {
    /// Name of the step, such as `rollout apply`. A deployment may have several.
    pub step: String,
    /// Hash of its inputs: see [`inputs_hash`](crate::inputs_hash).
    pub hash: String,
}

/// A claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimRequest {
    /// What is wanted.
    pub intent: Intent,
    /// Number of the run's attempt, from 1 (`GITHUB_RUN_ATTEMPT`).
    pub attempt: u32,
    /// The inputs of this step.
    pub inputs: Option<StepInputs>,
    /// Whether an ended run may begin again.
    pub freshness: Freshness,
}

/// What is known when a claim is decided.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// The application's record.
    pub application: &'a ApplicationRecord,
    /// The record of the deployment that the application names as active.
    pub active: Option<&'a DeploymentRecord>,
}

/// The answer to a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Begin a deployment under this id.
    New {
        /// The id, with the number of the run's deployment.
        id: DeploymentId,
        /// The deployment that it undoes.
        reverts: Option<DeploymentId>,
    },
    /// Go on with the active deployment, which is this run's.
    Resume {
        /// Its id.
        id: DeploymentId,
        /// Where it stands.
        phase: Phase,
    },
    /// Take back the active deployment, which is another run's.
    TakeOver {
        /// Its id.
        id: DeploymentId,
        /// Where it stands.
        phase: Phase,
    },
    /// End a deployment that needs a person or does not come back, and begin this one.
    Supersede {
        /// The one to end.
        stuck: DeploymentId,
        /// The new one.
        id: DeploymentId,
        /// The deployment that the new one undoes.
        reverts: Option<DeploymentId>,
    },
    /// There is nothing to take back.
    NothingToDo {
        /// How this run's deployment ended, if there was one.
        verdict: Option<Verdict>,
    },
    /// No.
    Refuse(Refusal),
}

/// Why a claim is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// The run's deployment has ended, or is so old that nothing else is known of it.
    #[error("deployment `{id}` of this run has {}", ended(*.verdict))]
    EndedRun {
        /// The deployment.
        id: DeploymentId,
        /// How it ended; nothing when its record is gone.
        verdict: Option<Verdict>,
    },
    /// Another deployment has claimed the application.
    #[error("application `{}` is claimed by deployment `{id}` of {by} (phase {phase}){}", .id.application(), link(.run_url.as_deref()))]
    Active {
        /// The other deployment.
        id: DeploymentId,
        /// Who started it.
        by: String,
        /// Link to its run.
        run_url: Option<String>,
        /// Where it stands.
        phase: Phase,
    },
    /// The re-run of a step has other inputs than the deployment was begun with.
    #[error(
        "the inputs of `{step}` are not those deployment `{id}` was begun with ({recorded}, now {given})"
    )]
    InputsChanged {
        /// The deployment.
        id: DeploymentId,
        /// The step.
        step: String,
        /// Hash in the record.
        recorded: String,
        /// Hash now.
        given: String,
    },
    /// Somebody ordered a rollback.
    #[error("deployment `{id}` was told to stop by {}: {}{}", .preempt.by, .preempt.reason, link(.preempt.run_url.as_deref()))]
    Preempted {
        /// The deployment.
        id: DeploymentId,
        /// The order.
        preempt: Preempt,
    },
    /// The run has something else under way.
    #[error("deployment `{id}` of this run is a {kind}, not a {wanted}")]
    OtherKind {
        /// The deployment.
        id: DeploymentId,
        /// What it is for.
        kind: Kind,
        /// What was wanted.
        wanted: Kind,
    },
    /// The deployment is on its way back.
    #[error("deployment `{id}` is being taken back (phase {phase})")]
    GoingBack {
        /// The deployment.
        id: DeploymentId,
        /// Where it stands.
        phase: Phase,
    },
    /// What is live agrees with neither side of a step.
    #[error("deployment `{id}` needs a person: {reason}")]
    NeedsPerson {
        /// The deployment.
        id: DeploymentId,
        /// Why it stopped.
        reason: String,
    },
    /// No step of this run has begun a deployment.
    #[error("run {} of `{}` has not begun a deployment of application `{}`", .id.run_id(), .id.repository(), .id.application())]
    NothingClaimed {
        /// The id that was looked for.
        id: DeploymentId,
    },
    /// What this run has under way was begun with another name of the environment or cluster.
    /// To find nothing of its own there would leave traffic where it is, half moved.
    #[error("deployment `{active}` of this run is under way under another name than was asked for: {}", differences(.active, .asked))]
    OtherPlace {
        /// What is under way.
        active: DeploymentId,
        /// What was asked for.
        asked: DeploymentId,
    },
    /// There is no deployment to undo.
    #[error("no deployment of application `{application}` is known that could be rolled back")]
    NothingToRollBack {
        /// The application.
        application: String,
    },
}

fn ended(verdict: Option<Verdict>) -> String {
    match verdict {
        Some(verdict) => format!("ended: {verdict}"),
        None => "ended so long ago that its record is gone".to_owned(),
    }
}

/// The parts of the names of a place in which two identities of one application differ.
fn differences(active: &DeploymentId, asked: &DeploymentId) -> String {
    let parts = [
        ("environment", active.environment(), asked.environment()),
        ("cluster", active.cluster(), asked.cluster()),
        ("namespace", active.namespace(), asked.namespace()),
    ];
    let differing = parts.iter().filter(|(_, active, asked)| active != asked);
    let lines: Vec<String> = differing
        .map(|(name, active, asked)| format!("{name} `{active}`, asked for `{asked}`"))
        .collect();
    lines.join("; ")
}

fn link(url: Option<&str>) -> String {
    url.map_or_else(String::new, |url| format!(": {url}"))
}

impl Refusal {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::EndedRun { .. } => "start a new workflow run; to deploy this run's version once \
                 more on purpose, set `new-deployment: true`"
                .to_owned(),
            Self::Active { phase, .. } if may_be_superseded(*phase) => "put what is live right \
                 (`traffic-switch status` shows it), then order `traffic-switch rollback` for this \
                 application, or deploy with `new-deployment: true`"
                .to_owned(),
            Self::Active { .. } => "wait until it has ended, or order `traffic-switch rollback` \
                 for this application; when its runner died, run `traffic-switch rescue` with its \
                 `deployment-id`"
                .to_owned(),
            Self::InputsChanged { .. } => "re-run with the inputs it was begun with, or let \
                 `traffic-switch rescue` take it back and start a new run"
                .to_owned(),
            Self::Preempted { .. } => {
                "the rollback goes on elsewhere; start a new run when it has ended".to_owned()
            }
            Self::OtherKind { .. } => {
                "let that end first (`rollout finish`, or `traffic-switch rescue`)".to_owned()
            }
            Self::GoingBack { .. } => {
                "let `traffic-switch rescue` finish that, then start a new run; when it cannot, put \
                 what is live right and deploy with `new-deployment: true`"
                    .to_owned()
            }
            Self::NeedsPerson { .. } => "put what is live right (`traffic-switch status` shows \
                 both), then order `traffic-switch rollback`, or deploy with \
                 `new-deployment: true`"
                .to_owned(),
            Self::NothingClaimed { .. } => "run `rollout backup` or `rollout apply` with the same \
                 `application`, `environment`, `namespace` and `cluster` before this step, or \
                 give its output `deployment-id`"
                .to_owned(),
            Self::OtherPlace { active, .. } => format!(
                "give the inputs `environment: {}` and `cluster: {}` in every step, or \
                 `deployment-id: {active}`",
                active.environment(),
                active.cluster()
            ),
            Self::NothingToRollBack { .. } => {
                "deploy the wanted version, or use `rollout restore` with a backup".to_owned()
            }
        }
    }
}

/// Decides over a claim of the deployment `id`.
#[must_use]
pub fn decide(known: Known<'_>, id: &DeploymentId, request: &ClaimRequest) -> Claim {
    match &request.intent {
        Intent::Deploy(opening) => decide_deploy(known, id, request, opening.kind),
        Intent::Continue => decide_continue(known, id),
        Intent::RollBack(_) => decide_roll_back(known, id, request),
        Intent::Rescue => decide_rescue(known, id),
    }
}

/// Whether the active deployment is the one that the caller means. A caller who gives the full
/// id of a later deployment of its run means exactly that one.
fn is_ours(active: &DeploymentRecord, id: &DeploymentId) -> bool {
    active.id.is_same_run(id) && (id.repeat() == 1 || id == &active.id)
}

fn decide_deploy(
    known: Known<'_>,
    id: &DeploymentId,
    request: &ClaimRequest,
    wanted: Kind,
) -> Claim {
    let Some(active) = known.active else {
        return begin(known, id, request, None);
    };
    let is_asked_anew = request.freshness == Freshness::NewDeployment;
    if is_asked_anew && may_be_superseded(active.phase) {
        return Claim::Supersede {
            stuck: active.id.clone(),
            id: next_of_run(known.application, id),
            reverts: None,
        };
    }
    if !is_ours(active, id) {
        return Claim::Refuse(active_of_another(known.application, active));
    }
    if let Some(refusal) = stopped(known.application, active) {
        return Claim::Refuse(refusal);
    }
    if active.kind != wanted {
        return Claim::Refuse(Refusal::OtherKind {
            id: active.id.clone(),
            kind: active.kind,
            wanted,
        });
    }
    if active.phase.is_backward() {
        return Claim::Refuse(Refusal::GoingBack {
            id: active.id.clone(),
            phase: active.phase,
        });
    }
    if let Some(refusal) = changed_inputs(active, request) {
        return Claim::Refuse(refusal);
    }
    resume(active)
}

/// Whether a person who orders a new deployment may end one that stands here.
///
/// A way back is one process, and whoever decides here holds its lease: one that stands on its
/// way back has not come through, and might never, such as to a side that has no pods.
fn may_be_superseded(phase: Phase) -> bool {
    match phase {
        Phase::NeedsPerson | Phase::Reverting | Phase::Abandoning => true,
        Phase::Claimed
        | Phase::BackedUp
        | Phase::Migrated
        | Phase::Applied
        | Phase::Ready
        | Phase::Tested
        | Phase::Switching(_)
        | Phase::Holding(_)
        | Phase::Promoting
        | Phase::Soaking
        | Phase::Quieting
        | Phase::Retired
        | Phase::Succeeded
        | Phase::Abandoned
        | Phase::RolledBack
        | Phase::Superseded => false,
    }
}

fn decide_continue(known: Known<'_>, id: &DeploymentId) -> Claim {
    if let Some(active) = known.active.filter(|active| is_ours(active, id)) {
        return match stopped(known.application, active) {
            Some(refusal) => Claim::Refuse(refusal),
            None => resume(active),
        };
    }
    Claim::Refuse(match known.application.latest_of_run(id) {
        Some(ended) => Refusal::EndedRun {
            id: ended.deployment.clone(),
            verdict: ended.verdict,
        },
        None => other_place(known.active, id)
            .unwrap_or_else(|| Refusal::NothingClaimed { id: id.clone() }),
    })
}

/// Whether what is active is this run's, under another name of its place. The name of a cluster
/// is by default that of the kubeconfig's context, which each job may call differently.
fn other_place(active: Option<&DeploymentRecord>, id: &DeploymentId) -> Option<Refusal> {
    let active = &active?.id;
    let is_this_run = active.repository() == id.repository() && active.run_id() == id.run_id();
    (is_this_run && !active.is_same_run(id)).then(|| Refusal::OtherPlace {
        active: active.clone(),
        asked: id.clone(),
    })
}

fn decide_roll_back(known: Known<'_>, id: &DeploymentId, request: &ClaimRequest) -> Claim {
    if let Some(active) = known.active {
        if let Some(reverts) = turned_round(active) {
            return Claim::Supersede {
                stuck: active.id.clone(),
                id: next_of_run(known.application, id),
                reverts: Some(reverts.clone()),
            };
        }
        return if is_ours(active, id) {
            resume(active)
        } else {
            // A rollback is one process. Whoever decides here holds its lease, so it is dead or
            // has stopped: it is finished, not undone, which the caller tells by the kind.
            Claim::TakeOver {
                id: active.id.clone(),
                phase: active.phase,
            }
        };
    }
    let live = known.application.live.as_ref();
    match live.and_then(|live| live.deployment.clone()) {
        Some(reverts) => begin(known, id, request, Some(reverts)),
        None => Claim::Refuse(Refusal::NothingToRollBack {
            application: id.application().to_owned(),
        }),
    }
}

/// What a rollback was to undo that does not go there any more: it is on its way back to the very
/// version that was to be left, or waits for a person.
///
/// Whoever orders a rollback wants to get away from that version, so such a one is ended and another
/// one begun. Nothing for every other deployment: finishing it, or taking it back, leads there.
#[must_use]
pub fn turned_round(active: &DeploymentRecord) -> Option<&DeploymentId> {
    let is_stuck = active.kind == Kind::Rollback && may_be_superseded(active.phase);
    active.reverts.as_ref().filter(|_| is_stuck)
}

fn decide_rescue(known: Known<'_>, id: &DeploymentId) -> Claim {
    if let Some(active) = known.active.filter(|active| is_ours(active, id)) {
        return resume(active);
    }
    match known.application.latest_of_run(id) {
        Some(ended) => Claim::NothingToDo {
            verdict: ended.verdict,
        },
        None => other_place(known.active, id)
            .map_or(Claim::NothingToDo { verdict: None }, Claim::Refuse),
    }
}

/// Begins a deployment while none is active.
fn begin(
    known: Known<'_>,
    id: &DeploymentId,
    request: &ClaimRequest,
    reverts: Option<DeploymentId>,
) -> Claim {
    let application = known.application;
    let new = |id| Claim::New {
        id,
        reverts: reverts.clone(),
    };
    // By hand there are no runs: each deployment ends, and the next one begins.
    let may_repeat = request.freshness == Freshness::NewDeployment || id.run_id() == "local";
    match application.latest_of_run(id) {
        // Undoing what this very run deployed is not a re-run of it.
        Some(ended) if may_repeat || (reverts.is_some() && !has_rolled_back(ended)) => {
            new(next_of_run(application, id))
        }
        Some(ended) => Claim::Refuse(Refusal::EndedRun {
            id: ended.deployment.clone(),
            verdict: ended.verdict,
        }),
        None if request.attempt > 1 && !may_repeat && is_forgotten(application, id) => {
            Claim::Refuse(Refusal::EndedRun {
                id: id.clone(),
                verdict: None,
            })
        }
        None => new(id.clone()),
    }
}

/// Whether a run's rollback has reached its aim. One that went back to where it began has left
/// the bad version live: its re-run is to try again.
fn has_rolled_back(ended: &IndexEntry) -> bool {
    let is_without_effect = matches!(
        ended.verdict,
        Some(Verdict::RolledBack | Verdict::Abandoned | Verdict::Superseded)
    );
    ended.kind == Kind::Rollback && !is_without_effect
}

fn is_forgotten(application: &ApplicationRecord, id: &DeploymentId) -> bool {
    match (id.run_number(), application.forgotten_up_to) {
        (Some(run), Some(forgotten)) => run <= forgotten,
        (None, _) | (_, None) => false,
    }
}

fn next_of_run(application: &ApplicationRecord, id: &DeploymentId) -> DeploymentId {
    match application.latest_of_run(id) {
        Some(latest) => id.with_repeat(latest.deployment.repeat() + 1),
        None => id.clone(),
    }
}

fn resume(active: &DeploymentRecord) -> Claim {
    Claim::Resume {
        id: active.id.clone(),
        phase: active.phase,
    }
}

/// Why a deployment of this run must not go forward.
fn stopped(application: &ApplicationRecord, active: &DeploymentRecord) -> Option<Refusal> {
    if active.phase == Phase::NeedsPerson {
        let reason = active.phases.last().and_then(|entry| entry.reason.clone());
        return Some(Refusal::NeedsPerson {
            id: active.id.clone(),
            reason: reason.unwrap_or_else(|| "no reason was written down".to_owned()),
        });
    }
    application
        .preempt
        .clone()
        .map(|preempt| Refusal::Preempted {
            id: active.id.clone(),
            preempt,
        })
}

fn changed_inputs(active: &DeploymentRecord, request: &ClaimRequest) -> Option<Refusal> {
    let inputs = request.inputs.as_ref()?;
    let recorded = active.inputs_hash.get(&inputs.step)?;
    (recorded != &inputs.hash).then(|| Refusal::InputsChanged {
        id: active.id.clone(),
        step: inputs.step.clone(),
        recorded: recorded.clone(),
        given: inputs.hash.clone(),
    })
}

fn active_of_another(application: &ApplicationRecord, active: &DeploymentRecord) -> Refusal {
    let claimed = application.active.as_ref();
    Refusal::Active {
        id: active.id.clone(),
        by: claimed.map_or_else(|| active.actor.clone(), |claimed| claimed.by.clone()),
        run_url: claimed.and_then(|claimed| claimed.run_url.clone()),
        phase: active.phase,
    }
}

#[cfg(test)]
mod tests;
