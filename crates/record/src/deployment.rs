//! The record of one deployment: its schema, what makes it impossible, and its moves.
//!
//! Pure data and pure changes to it; refuses to know how it is stored.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::application::LiveVersion;
use crate::identity::DeploymentId;
use crate::journal::{JournalEntry, ObjectRef, PlannedMutation, Settlement, one_line};
use crate::phase::{Advance, Chain, Phase, PhaseRefused, advance};
use crate::side::Side;
use crate::validate::Impossible;

/// Version of the record schemas that this program writes and reads.
pub const SCHEMA: u32 = 1;
/// Most entries of weights that a record keeps; the oldest go first.
pub const MAX_WEIGHTS: usize = 200;
/// Most entries of evidence that a record keeps; the oldest go first.
pub const MAX_EVIDENCE: usize = 100;

/// What a deployment is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Makes a new version live.
    Deploy,
    /// Makes the version before an ended deployment live again.
    Rollback,
    /// Restores objects from a backup or a previous revision.
    Restore,
    /// Takes an application without slots into our care.
    Adopt,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Deploy => "deploy",
            Self::Rollback => "rollback",
            Self::Restore => "restore",
            Self::Adopt => "adopt",
        })
    }
}

/// The workflow run behind a deployment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// `owner/name`, or `local`.
    pub repository: String,
    /// Id of the run.
    pub run_id: String,
    /// Link to the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Every attempt that wrote to this record, in order.
    pub attempts: Vec<Attempt>,
}

/// One attempt of the workflow run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attempt {
    /// Number of the attempt, from 1.
    pub number: u32,
    /// Who started it.
    pub actor: String,
    /// When it first wrote.
    pub at: Timestamp,
}

/// The two sides of a deployment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sides {
    /// The side that is live at the start; nothing on the first deployment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<SideState>,
    /// The side that is to be live; nothing until it is resolved, then fixed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<SideState>,
}

/// A side as it was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SideState {
    /// Which side.
    pub side: Side,
    /// Its version, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Its workloads as they were found.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub workloads: Vec<WorkloadState>,
}

impl SideState {
    /// A side of which no workload is known.
    #[must_use]
    pub fn new(side: Side) -> Self {
        Self {
            side,
            version: None,
            workloads: Vec::new(),
        }
    }
}

/// A workload of a side, with what a rollback needs to bring it back to size.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkloadState {
    /// The workload.
    pub workload: ObjectRef,
    /// Its uid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// Its revision, such as `deployment.kubernetes.io/revision`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// `spec.replicas`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<u32>,
    /// `spec.minReplicas` of its HorizontalPodAutoscaler.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hpa_min: Option<u32>,
}

/// An object that decides where traffic goes, and what we own of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// The object.
    #[serde(rename = "ref")]
    pub object: ObjectRef,
    /// Its uid.
    pub uid: String,
    /// JSON pointers of the fields that are ours.
    pub owned_paths: Vec<String>,
    /// Their values before the deployment, keyed by pointer: what a rollback restores.
    pub prior: BTreeMap<String, Value>,
}

/// One share of the traffic that the new side is given in turn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// Number of the stage, from 1.
    pub index: u16,
    /// Share of the new side in percent.
    pub weight: u8,
    /// Until when the stage is watched; a hold that nobody watched starts again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold_until: Option<Timestamp>,
}

/// When a phase was entered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PhaseEntry {
    /// The phase.
    pub name: Phase,
    /// When.
    pub at: Timestamp,
    /// By which attempt of the run.
    pub attempt: u32,
    /// Why, where that is not the next step of the chain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The shares of the sides, as they were confirmed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WeightsEntry {
    /// When they were confirmed.
    pub at: Timestamp,
    /// The object that holds them.
    pub target: ObjectRef,
    /// Percent per side; sides without traffic may be left out.
    pub weights: BTreeMap<Side, u8>,
}

/// How much a check has seen of what it claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EvidenceLevel {
    /// EndpointSlices carry the pods.
    Endpoints,
    /// Every proxy has said that it uses them.
    DataPlane,
    /// Requests through the real front door were answered by the version.
    FrontDoor,
}

impl fmt::Display for EvidenceLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Endpoints => "endpoints",
            Self::DataPlane => "data-plane",
            Self::FrontDoor => "front-door",
        })
    }
}

/// The three answers of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verification {
    /// Seen.
    Verified,
    /// Not seen yet.
    Pending,
    /// Cannot be seen from here.
    Unverifiable,
}

impl fmt::Display for Verification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Verified => "verified",
            Self::Pending => "pending",
            Self::Unverifiable => "unverifiable",
        })
    }
}

/// How many proxies have confirmed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfirmedReplicas {
    /// How many confirmed.
    pub confirmed: u32,
    /// How many there are.
    pub of: u32,
}

/// What a step has seen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    /// When it was complete.
    pub at: Timestamp,
    /// The step that saw it: `switch`, `watch`, `rollback`, `finish`.
    pub step: String,
    /// The answer.
    pub verification: Verification,
    /// The highest level that was reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<EvidenceLevel>,
    /// Requests sent through the front door.
    pub probes: u64,
    /// Probes without a good answer.
    pub lost: u64,
    /// Upper bound of the share of lost requests at 95 % confidence, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bound: Option<f64>,
    /// Proxies that confirmed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<ConfirmedReplicas>,
}

/// Where the backup of what was live before lies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupRef {
    /// File, artifact or revision; never the content.
    pub location: String,
    /// `sha256:…` of it.
    pub digest: String,
}

/// How a deployment ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The new version is live.
    Succeeded,
    /// Nothing of it took traffic.
    Abandoned,
    /// The version before is live.
    RolledBack,
    /// A person settled it, a later deployment took over.
    Superseded,
}

impl Verdict {
    /// The terminal phase of this verdict.
    #[must_use]
    pub fn phase(self) -> Phase {
        match self {
            Self::Succeeded => Phase::Succeeded,
            Self::Abandoned => Phase::Abandoned,
            Self::RolledBack => Phase::RolledBack,
            Self::Superseded => Phase::Superseded,
        }
    }

    /// The verdict of a terminal phase.
    #[must_use]
    pub fn of(phase: Phase) -> Option<Self> {
        [
            Self::Succeeded,
            Self::Abandoned,
            Self::RolledBack,
            Self::Superseded,
        ]
        .into_iter()
        .find(|verdict| verdict.phase() == phase)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Succeeded => "succeeded",
            Self::Abandoned => "abandoned",
            Self::RolledBack => "rolled back",
            Self::Superseded => "superseded",
        })
    }
}

/// The end of a deployment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeploymentResult {
    /// How it ended.
    pub verdict: Verdict,
    /// Why, in one line; nothing for a plain success.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// Who or what ended it.
    pub by: String,
}

/// The record of one deployment: ConfigMap `switchyard.APP.ID`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeploymentRecord {
    /// Version of the schema.
    pub schema: u32,
    /// Which deployment.
    pub id: DeploymentId,
    /// What it is for.
    pub kind: Kind,
    /// How it reaches its users.
    pub chain: Chain,
    /// The deployment that a rollback undoes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reverts: Option<DeploymentId>,
    /// The workflow run.
    pub run: Run,
    /// Who deploys.
    pub actor: String,
    /// The version that is to be live.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The commit it was built from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// Digest of each image, by its name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub digests: BTreeMap<String, String>,
    /// Hash of the inputs of each step that claimed, by the step's name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub inputs_hash: BTreeMap<String, String>,
    /// What was live when it began: what a rollback makes live again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<LiveVersion>,
    /// The sides.
    #[serde(default)]
    pub sides: Sides,
    /// The objects that decide where traffic goes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<Target>,
    /// The shares in turn.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stages: Vec<Stage>,
    /// Where it stands.
    pub phase: Phase,
    /// Every phase it went through.
    pub phases: Vec<PhaseEntry>,
    /// Every mutation.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub journal: Vec<JournalEntry>,
    /// Confirmed shares over time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub weights: Vec<WeightsEntry>,
    /// What was seen.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<Evidence>,
    /// The backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup_ref: Option<BackupRef>,
    /// Keys under which notices were posted, by channel, so that they are updated, not repeated.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub notify_keys: BTreeMap<String, String>,
    /// How it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<DeploymentResult>,
}

/// What is known of a deployment when it is claimed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    /// What it is for.
    pub kind: Kind,
    /// How it reaches its users.
    pub chain: Chain,
    /// The version that is to be live.
    pub version: Option<String>,
    /// The commit it was built from.
    pub commit: Option<String>,
    /// Digest of each image, by its name.
    pub digests: BTreeMap<String, String>,
}

impl Opening {
    /// An opening of which nothing but its purpose is known.
    #[must_use]
    pub fn new(kind: Kind, chain: Chain) -> Self {
        Self {
            kind,
            chain,
            version: None,
            commit: None,
            digests: BTreeMap::new(),
        }
    }
}

/// Which way a deployment that must not go on is taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WayBack {
    /// Nothing of it took traffic: take the new side away.
    Abandon,
    /// It may have moved traffic: scale the old side up, route back.
    Revert,
    /// It has ended.
    Ended(Verdict),
    /// Nobody but a person can tell.
    NeedsPerson,
}

impl DeploymentRecord {
    /// Where the deployment goes when it must not go on.
    #[must_use]
    pub fn way_back(&self) -> WayBack {
        if let Some(verdict) = Verdict::of(self.phase) {
            return WayBack::Ended(verdict);
        }
        match self.phase {
            Phase::NeedsPerson => WayBack::NeedsPerson,
            Phase::Abandoning => WayBack::Abandon,
            Phase::Reverting => WayBack::Revert,
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
            | Phase::Superseded => {
                if self.may_have_moved_traffic() {
                    WayBack::Revert
                } else {
                    WayBack::Abandon
                }
            }
        }
    }

    /// Whether live traffic may have been moved or changed by this deployment.
    #[must_use]
    pub fn may_have_moved_traffic(&self) -> bool {
        let has_switched = self.phases.iter().any(|entry| {
            !entry.name.is_before_switch(self.chain)
                && !matches!(
                    entry.name,
                    Phase::NeedsPerson | Phase::Abandoning | Phase::Abandoned | Phase::Superseded
                )
        });
        // In place the first write is the switch, whether or not `applied` was reached.
        let has_written_in_place = self.chain == Chain::InPlace
            && self.journal.iter().any(JournalEntry::may_have_been_applied);
        has_switched || has_written_in_place
    }

    /// Entries whose outcome has to be found out from the live objects.
    pub fn open_entries(&self) -> impl Iterator<Item = &JournalEntry> {
        self.journal.iter().filter(|entry| entry.is_open())
    }

    /// When a phase was entered last.
    #[must_use]
    pub fn entered(&self, phase: Phase) -> Option<Timestamp> {
        let entry = self.phases.iter().rev().find(|entry| entry.name == phase);
        entry.map(|entry| entry.at)
    }

    /// Number of the run's latest attempt that wrote here.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.run.attempts.last().map_or(1, |attempt| attempt.number)
    }

    /// Moves to a phase, or does nothing where that phase is completed.
    ///
    /// # Errors
    /// The phase may not follow; in particular `abandoning` after anything moved live traffic.
    pub fn advance(&mut self, step: PhaseStep) -> Result<Advance, PhaseRefused> {
        let to = step.to;
        let refused = PhaseRefused {
            chain: self.chain,
            current: self.phase,
            to,
        };
        let moved = advance(self.chain, self.phase, to)?;
        if moved == Advance::AlreadyThere {
            return Ok(moved);
        }
        let is_wrong_way = match to {
            Phase::Abandoning => self.may_have_moved_traffic(),
            Phase::Reverting => !self.may_have_moved_traffic(),
            Phase::Switching(stage) => {
                !self.stages.is_empty() && usize::from(stage) > self.stages.len()
            }
            Phase::Claimed
            | Phase::BackedUp
            | Phase::Migrated
            | Phase::Applied
            | Phase::Ready
            | Phase::Tested
            | Phase::Holding(_)
            | Phase::Promoting
            | Phase::Soaking
            | Phase::Quieting
            | Phase::Retired
            | Phase::Succeeded
            | Phase::Abandoned
            | Phase::RolledBack
            | Phase::NeedsPerson
            | Phase::Superseded => false,
        };
        if is_wrong_way {
            return Err(refused);
        }
        self.phase = to;
        self.phases.push(PhaseEntry {
            name: to,
            at: step.at,
            attempt: self.attempt(),
            reason: step.reason.as_deref().map(one_line),
        });
        Ok(moved)
    }

    /// Ends the deployment.
    ///
    /// # Errors
    /// The phase of the verdict may not follow the present one.
    pub fn finish(
        &mut self,
        result: DeploymentResult,
        at: Timestamp,
    ) -> Result<Advance, PhaseRefused> {
        let step = PhaseStep {
            to: result.verdict.phase(),
            at,
            reason: result.cause.clone(),
        };
        let moved = self.advance(step)?;
        if moved != Advance::AlreadyThere {
            self.result = Some(DeploymentResult {
                cause: result.cause.as_deref().map(one_line),
                ..result
            });
        }
        Ok(moved)
    }

    /// Writes down a mutation that is about to be made, and returns its number.
    pub fn plan_mutation(&mut self, fence: u64, planned: PlannedMutation, at: Timestamp) -> u32 {
        let seq = self.journal.last().map_or(1, |entry| entry.seq + 1);
        self.journal
            .push(JournalEntry::pending(seq, fence, planned, at));
        seq
    }

    /// Writes down what became of a mutation. Nothing when there is no such entry.
    #[must_use]
    pub fn settle(&mut self, seq: u32, settlement: Settlement, at: Timestamp) -> Option<()> {
        let entry = self.journal.iter_mut().find(|entry| entry.seq == seq)?;
        entry.settle(settlement, at);
        Some(())
    }

    /// Adds confirmed shares; the oldest go when there are too many.
    pub fn add_weights(&mut self, entry: WeightsEntry) {
        self.weights.push(entry);
        let excess = self.weights.len().saturating_sub(MAX_WEIGHTS);
        self.weights.drain(..excess);
    }

    /// Adds what was seen; the oldest go when there is too much.
    pub fn add_evidence(&mut self, evidence: Evidence) {
        self.evidence.push(evidence);
        let excess = self.evidence.len().saturating_sub(MAX_EVIDENCE);
        self.evidence.drain(..excess);
    }

    /// Makes the record smaller without losing what a resume needs: the shown values of settled
    /// journal entries go, their hashes stay.
    pub fn compact(&mut self) {
        for entry in &mut self.journal {
            if !entry.is_open() {
                entry.before.forget_value();
                entry.after.forget_value();
            }
        }
    }

    /// Checks what the types alone cannot: whether this record can have come about.
    ///
    /// # Errors
    /// The first thing that is impossible.
    pub fn validate(&self) -> Result<(), Impossible> {
        crate::validate::deployment(self)
    }
}

/// A move to a phase.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PhaseStep {
    /// The phase to enter.
    pub to: Phase,
    /// When.
    pub at: Timestamp,
    /// Why, where that is not the next step of the chain; cut to one line.
    pub reason: Option<String>,
}

#[cfg(test)]
mod tests;
