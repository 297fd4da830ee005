//! The record of an application: who is live, who is active, and the fence.
//!
//! Pure data and pure changes to it; refuses to know how it is stored.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::deployment::{DeploymentRecord, Kind, SCHEMA, Verdict};
use crate::identity::DeploymentId;
use crate::phase::Phase;
use crate::side::Side;
use crate::validate::Impossible;

/// Most deployments that the index names.
pub const MAX_INDEX: usize = 200;
/// Most records of ended deployments that are kept.
pub const MAX_RECORDS: usize = 20;

/// A version that takes, or took, the live traffic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LiveVersion {
    /// The side it is on.
    pub side: Side,
    /// The version, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Digest of each image, by its name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub digests: BTreeMap<String, String>,
    /// The deployment that made it live; nothing for one that was there before us.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment: Option<DeploymentId>,
}

/// The deployment that has claimed the application.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Active {
    /// Which.
    pub deployment: DeploymentId,
    /// Who started it.
    pub by: String,
    /// Link to its workflow run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_url: Option<String>,
    /// Since when.
    pub since: Timestamp,
}

/// An order to the running holder to stop, because somebody rolls back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preempt {
    /// Who ordered it.
    pub by: String,
    /// Link to the workflow run that ordered it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_url: Option<String>,
    /// Why, in one line.
    pub reason: String,
    /// When.
    pub at: Timestamp,
}

/// What became of the deployment that it stops: who rolls it back, and why.
impl fmt::Display for Preempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rolled back by {}: {}", self.by, self.reason)
    }
}

/// One deployment in the index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IndexEntry {
    /// Which.
    pub deployment: DeploymentId,
    /// What it was for.
    pub kind: Kind,
    /// Its version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// When it was claimed.
    pub since: Timestamp,
    /// How it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
    /// Whether its record was deleted to save space.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_pruned: bool,
}

/// The record of an application: ConfigMap `switchyard.APP`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApplicationRecord {
    /// Version of the schema.
    pub schema: u32,
    /// Name of the application.
    pub app: String,
    /// What takes the live traffic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub live: Option<LiveVersion>,
    /// What last ended as a success.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_good: Option<LiveVersion>,
    /// The deployment that has claimed the application.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active: Option<Active>,
    /// Number of the latest process that took the lease; it only grows.
    pub fence: u64,
    /// An order to stop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preempt: Option<Preempt>,
    /// The deployments, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub index: Vec<IndexEntry>,
    /// Greatest run id that was dropped from the index. A re-run of one that old is refused
    /// although nothing else is known of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forgotten_up_to: Option<u64>,
}

impl ApplicationRecord {
    /// The record of an application without any deployment.
    #[must_use]
    pub fn new(app: &str) -> Self {
        Self {
            schema: SCHEMA,
            app: app.to_owned(),
            live: None,
            last_good: None,
            active: None,
            fence: 0,
            preempt: None,
            index: Vec::new(),
            forgotten_up_to: None,
        }
    }

    /// The latest deployment of the same run, ended or not.
    #[must_use]
    pub fn latest_of_run(&self, id: &DeploymentId) -> Option<&IndexEntry> {
        let of_run = self
            .index
            .iter()
            .filter(|entry| entry.deployment.is_same_run(id));
        of_run.max_by_key(|entry| entry.deployment.repeat())
    }

    /// Claims the application for a deployment. An order to stop was for the one before.
    pub fn claim(&mut self, record: &DeploymentRecord, since: Timestamp) {
        self.active = Some(Active {
            deployment: record.id.clone(),
            by: record.actor.clone(),
            run_url: record.run.url.clone(),
            since,
        });
        self.preempt = None;
        self.index.retain(|entry| entry.deployment != record.id);
        self.index.push(IndexEntry {
            deployment: record.id.clone(),
            kind: record.kind,
            version: record.version.clone(),
            since,
            verdict: None,
            is_pruned: false,
        });
    }

    /// Brings `live`, `last_good`, `active` and the index into agreement with where a deployment
    /// stands. Doing it twice is doing it once, so that a crash between the two writes of a
    /// phase is healed by the next process. Returns whether anything changed.
    pub fn follow(&mut self, record: &DeploymentRecord) -> bool {
        let before = self.clone();
        let is_active = self
            .active
            .as_ref()
            .is_some_and(|active| active.deployment == record.id);
        if !is_active {
            return false;
        }
        match record.phase {
            Phase::Soaking | Phase::Quieting | Phase::Retired => {
                self.live = version_of(record).or_else(|| self.live.take());
            }
            Phase::Succeeded => {
                self.live = version_of(record).or_else(|| self.live.take());
                self.last_good.clone_from(&self.live);
            }
            Phase::Abandoned | Phase::RolledBack => {
                self.live = record.previous.clone();
            }
            Phase::Claimed
            | Phase::BackedUp
            | Phase::Migrated
            | Phase::Applied
            | Phase::Ready
            | Phase::Tested
            | Phase::Switching(_)
            | Phase::Holding(_)
            | Phase::Promoting
            | Phase::Abandoning
            | Phase::Reverting
            | Phase::NeedsPerson
            | Phase::Superseded => {}
        }
        if let Some(verdict) = Verdict::of(record.phase) {
            self.active = None;
            self.preempt = None;
            for entry in &mut self.index {
                if entry.deployment == record.id {
                    entry.verdict = Some(verdict);
                }
            }
        }
        *self != before
    }

    /// Shortens the index and names the records to delete. What is active, live or last good is
    /// never among them.
    pub fn prune(&mut self) -> Vec<String> {
        let kept: Vec<DeploymentId> = [
            self.active.as_ref().map(|active| active.deployment.clone()),
            self.live.as_ref().and_then(|live| live.deployment.clone()),
            self.last_good
                .as_ref()
                .and_then(|good| good.deployment.clone()),
        ]
        .into_iter()
        .flatten()
        .collect();
        let is_kept =
            |entry: &IndexEntry| entry.verdict.is_none() || kept.contains(&entry.deployment);

        let mut deleted = Vec::new();
        let with_record = self.index.iter().filter(|entry| !entry.is_pruned).count();
        let mut excess = with_record.saturating_sub(MAX_RECORDS);
        for entry in &mut self.index {
            if excess > 0 && !entry.is_pruned && !is_kept(entry) {
                entry.is_pruned = true;
                deleted.push(entry.deployment.record_name());
                excess -= 1;
            }
        }

        let mut excess = self.index.len().saturating_sub(MAX_INDEX);
        let mut forgotten = self.forgotten_up_to;
        self.index.retain(|entry| {
            let drops = excess > 0 && entry.is_pruned;
            if drops {
                excess -= 1;
                forgotten = forgotten.max(entry.deployment.run_number());
            }
            !drops
        });
        self.forgotten_up_to = forgotten;
        deleted
    }

    /// Checks what the types alone cannot: whether this record can have come about.
    ///
    /// # Errors
    /// The first thing that is impossible.
    pub fn validate(&self) -> Result<(), Impossible> {
        crate::validate::application(self)
    }
}

/// The version that a deployment makes live, once its side is known.
fn version_of(record: &DeploymentRecord) -> Option<LiveVersion> {
    let to = record.sides.to.as_ref()?;
    Some(LiveVersion {
        side: record.side_at_end()?,
        version: to.version.clone().or_else(|| record.version.clone()),
        digests: record.digests.clone(),
        deployment: Some(record.id.clone()),
    })
}

#[cfg(test)]
mod tests;
