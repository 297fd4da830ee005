//! The record of one deployment: its schema, what makes it impossible, and its moves.
//!
//! Pure data and pure changes to it; refuses to know how it is stored.

mod parts;
use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::application::LiveVersion;
use crate::identity::DeploymentId;
use crate::journal::{JournalEntry, PlannedMutation, Settlement, one_line};
use crate::migration::{self, MigrationEntry, MigrationEvent};
use crate::phase::{Advance, Chain, Phase, PhaseRefused, advance};
use crate::side::Side;
use crate::validate::Impossible;

pub use parts::{
    Attempt, BackupRef, ChecklistEntry, ConfirmedReplicas, DeploymentResult, Evidence,
    EvidenceLevel, Kind, PhaseEntry, Promotion, Run, SideState, Sides, Stage, Target, Verdict,
    Verification, WeightsEntry, WorkloadState,
};

/// Version of the record schemas that this program writes and reads.
pub const SCHEMA: u32 = 1;
/// Most entries of weights that a record keeps; the oldest go first.
pub const MAX_WEIGHTS: usize = 200;
/// Most entries of evidence that a record keeps; the oldest go first.
pub const MAX_EVIDENCE: usize = 100;
/// Most items of a checklist that a record keeps.
pub const MAX_CHECKLIST: usize = 100;

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
    /// What was done to databases; see [`DeploymentRecord::add_migration`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub migrations: Vec<MigrationEntry>,
    /// What became of the main workload behind its canary; nothing before its update began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promotion: Option<Promotion>,
    /// Confirmed shares over time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub weights: Vec<WeightsEntry>,
    /// What was seen.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<Evidence>,
    /// The checklist of its first hour.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checklist: Vec<ChecklistEntry>,
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

    /// The side that has the traffic once this has succeeded: a canary hands it back to the main
    /// workload.
    #[must_use]
    pub fn side_at_end(&self) -> Option<Side> {
        let to = self.sides.to.as_ref()?;
        Some(match self.chain {
            Chain::InPlace | Chain::Slots => to.side,
            Chain::Canary => Side::Stable,
        })
    }

    /// Whether the main workload may run the new version behind its canary, so that no traffic
    /// may be sent to it as if it were the old one.
    #[must_use]
    pub fn has_promoted(&self) -> bool {
        match self.promotion {
            Some(Promotion::Begun | Promotion::Done) => true,
            Some(Promotion::Undone) | None => false,
        }
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

    /// Adds what happens to a database; entries that it makes needless go.
    pub fn add_migration(&mut self, mut entry: MigrationEntry) {
        if let MigrationEvent::Stopped { why, .. } = &mut entry.event {
            *why = one_line(why);
        }
        migration::add(&mut self.migrations, entry);
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

    /// Takes down where items of the checklist stand. One that stands where it stood keeps its time; there are no more
    /// than [`MAX_CHECKLIST`].
    pub fn update_checklist(&mut self, entries: Vec<ChecklistEntry>) {
        for entry in entries {
            let mut known = self.checklist.iter_mut();
            match known.find(|known| known.item == entry.item) {
                Some(known) if known.state == entry.state => {}
                Some(known) => *known = entry,
                None => self.checklist.push(entry),
            }
        }
        self.checklist.truncate(MAX_CHECKLIST);
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
