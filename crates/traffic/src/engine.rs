//! Carries out what the state machine says: the thin part that touches the cluster, the proxies
//! and the record. It refuses to decide the order of things, and to read inputs or write outputs.

mod capacity;
mod confirm;
mod doubt;
mod front_door;
mod fronts;
mod holding;
mod judging;
mod leaving;
mod read_back;
mod resume;
mod scaling;
mod waiting;
mod write;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use switchyard_cluster::{Cluster, Deadline, with_causes};
use switchyard_record::{
    ConfirmedReplicas, DeploymentResult, ErrorClass, Evidence, EvidenceLevel, Phase, RecordError,
    Session, Side, Verdict,
};
use tokio_util::sync::CancellationToken;

use crate::evidence::{Level, TargetEvidence, Verification, overall};
use crate::machine::{Direction, Ending, Event, Machine, Next, Task, Trouble, TroubleKind};
use crate::probe::{Counts, Prober};
use crate::proxies::Proxies;
use crate::quiet::Quiet;
use crate::scene::Scene;

pub use confirm::side_shares;
pub use fronts::{
    Front, FrontError, SidePair, front_reference, kind_of, load_fronts, roles_of, scene_of,
};
pub use leaving::{Leaving, Left, Prepared, WayOut};
pub use resume::{Foreign, foreign_to, priors, take_up};
pub use scaling::resize;

/// Something to tell people while it happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// One line of progress.
    Progress(String),
    /// Something that does not stop the switch and should be known.
    Warning(String),
}

/// Takes notes.
pub type Notes = Arc<dyn Fn(Note) + Send + Sync>;

/// What the user has settled.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Ready pods that all of the traffic needs, instead of as many as the old side has.
    pub min_ready: Option<u32>,
    /// How long each stage but the last is held.
    pub hold: Duration,
    /// How long a request may take; the old side is quiet when nothing has ended for this long.
    pub longest_request: Duration,
    /// The evidence without which traffic goes back.
    pub require: Level,
    /// The longest that any one wait may take.
    pub wait: Duration,
    /// Whether the new side is taken to 0 once traffic is back.
    pub retires_new_side: bool,
    /// The version that each side answers with, where it is known: of the new side, of the old.
    pub versions: SidePair<Option<String>>,
    /// Who or what asks for it, for the record.
    pub by: String,
    /// Why, for the record; what a rollback was ordered for.
    pub reason: Option<String>,
    /// The step's name in the record's evidence: `switch`, `rollback`, `rescue`.
    pub step: String,
}

/// Why a task ended before it was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// It failed.
    Trouble(Trouble),
    /// The process was told to end.
    Cancelled,
    /// A rollback was ordered elsewhere.
    Preempted(String),
}

impl Stop {
    fn gate(reason: impl Into<String>, hint: Option<&str>) -> Self {
        Self::trouble(TroubleKind::Gate, reason, hint)
    }

    fn remote(reason: impl Into<String>, hint: Option<String>) -> Self {
        Self::Trouble(Trouble {
            kind: TroubleKind::Remote,
            reason: reason.into(),
            hint,
        })
    }

    fn trouble(kind: TroubleKind, reason: impl Into<String>, hint: Option<&str>) -> Self {
        Self::Trouble(Trouble {
            kind,
            reason: reason.into(),
            hint: hint.map(str::to_owned),
        })
    }
}

impl From<RecordError> for Stop {
    fn from(error: RecordError) -> Self {
        let is_replaced = matches!(
            &error,
            RecordError::Stale(_) | RecordError::LeaseLost { .. } | RecordError::Changed { .. }
        );
        let kind = match error.class() {
            _ if is_replaced => TroubleKind::Replaced,
            ErrorClass::Cancelled => return Self::Cancelled,
            ErrorClass::Remote => TroubleKind::Remote,
            ErrorClass::Gate | ErrorClass::Input | ErrorClass::Bug => TroubleKind::Gate,
        };
        Self::Trouble(Trouble {
            kind,
            hint: error.hint(),
            reason: with_causes(&error),
        })
    }
}

/// What a run has come to, for outputs and summaries.
#[derive(Clone, Debug)]
pub struct Report {
    /// How it ended.
    pub ending: Ending,
    /// Whether any route was written by this run.
    pub has_changed: bool,
    /// The evidence that was reached.
    pub level: Level,
    /// What was seen of each target last.
    pub targets: Vec<TargetEvidence>,
    /// What was seen through the front door.
    pub front_door: Verification,
    /// Whether the side that lost its traffic was seen quiet.
    pub quiet: Option<Quiet>,
    /// Probes over the whole run.
    pub counts: Option<Counts>,
    /// From the first write of a share to the evidence that it is in effect.
    pub decision_to_evidence: Option<Duration>,
}

/// Carries out a switch or a way back.
pub struct Engine<'run> {
    pub(crate) cluster: Cluster,
    pub(crate) session: &'run mut Session,
    pub(crate) fronts: Vec<Front>,
    pub(crate) scene: Scene,
    pub(crate) proxies: Proxies,
    pub(crate) prober: Option<&'run Prober>,
    pub(crate) settings: Settings,
    pub(crate) notes: Notes,
    pub(crate) cancel: CancellationToken,
    pub(crate) direction: Direction,
    /// Who takes and who gives now.
    pub(crate) sides: SidePair<Side>,
    pub(crate) overall: Option<Deadline>,
    pub(crate) state: State,
}

/// What has been seen so far.
#[derive(Debug)]
pub(crate) struct State {
    pub has_changed: bool,
    pub evidence: Vec<TargetEvidence>,
    pub front_door: Verification,
    pub quiet: Option<Quiet>,
    pub share_written: Option<tokio::time::Instant>,
    pub decision_to_evidence: Option<Duration>,
    /// Whether the way back has sent all of the traffic away from a dead side already.
    pub is_sheltered: bool,
    /// Since when the taking side has had fewer pods than it needs.
    pub short_since: Option<tokio::time::Instant>,
    pub last_note: String,
    /// The phase that the next write of a target enters.
    pub entering: Option<Phase>,
}

impl fmt::Debug for Engine<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Engine")
            .field("fronts", &self.fronts.len())
            .field("direction", &self.direction)
            .finish_non_exhaustive()
    }
}

/// What an engine works with.
pub struct Parts<'run> {
    /// The cluster, in the application's namespace.
    pub cluster: Cluster,
    /// The claimed deployment.
    pub session: &'run mut Session,
    /// Who takes and who gives on the way forward.
    pub sides: SidePair<Side>,
    /// The targets, with these roles.
    pub fronts: Vec<Front>,
    /// The sides' pods and endpoints, followed.
    pub scene: Scene,
    /// The proxies to ask.
    pub proxies: Proxies,
    /// The probes of the front door, already running.
    pub prober: Option<&'run Prober>,
    /// What the user has settled.
    pub settings: Settings,
    /// Takes notes.
    pub notes: Notes,
    /// Cancelled when the process is told to end.
    pub cancel: CancellationToken,
    /// When everything must be over, if that is limited.
    pub overall: Option<Deadline>,
}

impl<'run> Engine<'run> {
    /// An engine for the way forward; a machine that goes back turns it round.
    pub fn new(parts: Parts<'run>) -> Self {
        Self {
            cluster: parts.cluster,
            session: parts.session,
            fronts: parts.fronts,
            scene: parts.scene,
            proxies: parts.proxies,
            prober: parts.prober,
            settings: parts.settings,
            notes: parts.notes,
            cancel: parts.cancel,
            direction: Direction::Forward,
            sides: parts.sides,
            overall: parts.overall,
            state: State {
                has_changed: false,
                evidence: Vec::new(),
                front_door: Verification::unverifiable("nothing was probed"),
                quiet: None,
                share_written: None,
                decision_to_evidence: None,
                is_sheltered: false,
                short_since: None,
                last_note: String::new(),
                entering: None,
            },
        }
    }

    /// The targets as they stand now.
    pub fn into_fronts(self) -> Vec<Front> {
        self.fronts
    }

    /// Runs a machine to its end.
    pub async fn run(&mut self, machine: &mut Machine) -> Report {
        if let Err(reason) = first_look(&self.scene).await {
            let trouble = Trouble {
                kind: TroubleKind::Remote,
                reason,
                hint: None,
            };
            return self.report(Ending::Refused(trouble));
        }
        let mut event = Event::Started;
        loop {
            if let (Event::Failed(trouble), Direction::Forward) = (&event, machine.direction()) {
                // Becomes the cause in the record when the machine turns back because of it.
                self.settings.reason = Some(trouble.reason.clone());
            }
            let next = machine.next(event);
            self.face(machine.direction());
            for index in machine.foreign() {
                if let Some(front) = self.fronts.get_mut(*index) {
                    front.is_foreign = true;
                }
            }
            match next {
                Next::Finish(ending) => {
                    self.write_evidence(&ending).await;
                    return self.report(ending);
                }
                Next::Do(task) => event = self.perform(&task).await,
            }
        }
    }

    /// Turns taking and giving round when the machine turns back.
    fn face(&mut self, direction: Direction) {
        if self.direction == direction {
            return;
        }
        self.direction = direction;
        self.turn_round();
    }

    /// Who took gives, and who gave takes.
    pub(crate) fn turn_round(&mut self) {
        for front in &mut self.fronts {
            front.turn_round();
        }
        self.sides.turn_round();
        self.settings.versions.turn_round();
        self.state.short_since = None;
    }

    async fn perform(&mut self, task: &Task) -> Event {
        if let Err(stop) = self.interrupted() {
            return event_of(stop);
        }
        let done = match task {
            Task::Enter(phase) => self.enter(*phase).await,
            Task::Shelter => self.shelter().await.map(drop),
            Task::ScaleUp => self.scale_up().await,
            Task::Capacity(share) => self.capacity(*share).await,
            Task::Write { target, aim } => self.write(*target, *aim).await,
            Task::Confirm(aim) => self.confirm(*aim).await,
            Task::FrontDoor(share) => self.front_door(*share).await,
            Task::Hold => self.hold().await,
            Task::Quiet => self.quiet().await,
            Task::RequireQuiet => self.require_quiet().await,
            Task::ScaleDown => self.scale_down().await,
        };
        match done {
            Ok(()) => Event::Done,
            Err(stop) => event_of(stop),
        }
    }

    async fn enter(&mut self, phase: Phase) -> Result<(), Stop> {
        if phase == Phase::RolledBack {
            let result = DeploymentResult {
                verdict: Verdict::RolledBack,
                cause: self.settings.reason.clone(),
                by: self.settings.by.clone(),
            };
            self.session.finish(result).await?;
        } else if matches!(phase, Phase::Reverting | Phase::NeedsPerson) {
            let reason = self.reason();
            self.session.advance_because(phase, &reason).await?;
        } else {
            self.session.advance(phase).await?;
        }
        self.progress(format!("phase {phase}"));
        Ok(())
    }

    /// Why, for the record.
    fn reason(&self) -> String {
        let reason = self.settings.reason.clone();
        reason.unwrap_or_else(|| "no reason was given".to_owned())
    }

    /// Writes down what was seen. An answer that nobody may write any more is not worth failing
    /// what has been done.
    async fn write_evidence(&mut self, ending: &Ending) {
        let has_looked = !self.state.evidence.is_empty();
        if !has_looked || matches!(ending, Ending::Replaced(_) | Ending::Refused(_)) {
            return;
        }
        let evidence = self.evidence_entry();
        if let Err(error) = self.session.evidence(evidence).await {
            self.warn(format!(
                "the evidence could not be written into the record: {}",
                with_causes(&error)
            ));
        }
    }

    fn evidence_entry(&self) -> Evidence {
        let counts = self.prober.map(Prober::total).unwrap_or_default();
        let level = self.level();
        let replicas = self
            .state
            .evidence
            .iter()
            .flat_map(|target| &target.proxies);
        let (confirmed, of) = replicas.fold((0, 0), |(confirmed, of), one| {
            (confirmed + one.confirmed, of + one.of)
        });
        let count = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
        Evidence {
            at: Timestamp::now(),
            step: self.settings.step.clone(),
            verification: match level {
                Level::None => switchyard_record::Verification::Pending,
                Level::Endpoints | Level::DataPlane | Level::FrontDoor => {
                    switchyard_record::Verification::Verified
                }
            },
            level: recorded(level),
            probes: counts.probes(),
            lost: counts.lost_total(),
            bound: (counts.probes() > 0).then(|| counts.loss_bound()),
            replicas: (of > 0).then(|| ConfirmedReplicas {
                confirmed: count(confirmed),
                of: count(of),
            }),
        }
    }

    /// The targets that are ours to write, by their numbers.
    pub(crate) fn own(&self) -> Vec<usize> {
        let own = self.fronts.iter().enumerate();
        own.filter(|(_, front)| !front.is_foreign)
            .map(|(index, _)| index)
            .collect()
    }

    /// The targets that are ours to write.
    pub(crate) fn own_fronts(&self) -> impl Iterator<Item = &Front> {
        self.fronts.iter().filter(|front| !front.is_foreign)
    }

    pub(crate) fn level(&self) -> Level {
        overall(&self.state.evidence, &self.state.front_door)
    }

    fn report(&self, ending: Ending) -> Report {
        Report {
            ending,
            has_changed: self.state.has_changed,
            level: self.level(),
            targets: self.state.evidence.clone(),
            front_door: self.state.front_door.clone(),
            quiet: self.state.quiet.clone(),
            counts: self.prober.map(Prober::total),
            decision_to_evidence: self.state.decision_to_evidence,
        }
    }

    pub(crate) fn progress(&mut self, line: impl Into<String>) {
        let line = line.into();
        // A wait that still waits for the same thing says so once.
        if line != self.state.last_note {
            (self.notes)(Note::Progress(line.clone()));
            self.state.last_note = line;
        }
    }

    pub(crate) fn warn(&self, line: impl Into<String>) {
        (self.notes)(Note::Warning(line.into()));
    }
}

/// Waits until everything that is followed has been listed.
async fn first_look(scene: &Scene) -> Result<(), String> {
    let limit = Duration::from_secs(30);
    match tokio::time::timeout(limit, scene.complete()).await {
        Ok(complete) => complete,
        Err(_) => Err(format!(
            "pods and EndpointSlices could not be listed within {}s",
            limit.as_secs()
        )),
    }
}

fn recorded(level: Level) -> Option<EvidenceLevel> {
    match level {
        Level::None => None,
        Level::Endpoints => Some(EvidenceLevel::Endpoints),
        Level::DataPlane => Some(EvidenceLevel::DataPlane),
        Level::FrontDoor => Some(EvidenceLevel::FrontDoor),
    }
}

fn event_of(stop: Stop) -> Event {
    match stop {
        Stop::Trouble(trouble) => Event::Failed(trouble),
        Stop::Cancelled => Event::Cancelled,
        Stop::Preempted(by) => Event::Preempted(by),
    }
}
