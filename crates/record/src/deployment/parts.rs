//! The parts of a deployment's record, as they are written.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::journal::ObjectRef;
use crate::phase::Phase;
use crate::side::Side;

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

/// What a canary deployment has done to the main workload. Only rises.
///
/// From `begun` on the main workload may run the new version: traffic is not sent to it as if it were the
/// old one before it is `undone`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Promotion {
    /// Its update was begun and may have been written.
    Begun,
    /// It runs the new version and is ready.
    Done,
    /// It runs the version before again and is ready.
    Undone,
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

/// Where an item of the checklist stands, for a later run to go on from. Words of whoever keeps the list; never what
/// was measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChecklistEntry {
    /// The item.
    pub item: String,
    /// Its state.
    pub state: String,
    /// Since when.
    pub at: Timestamp,
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
