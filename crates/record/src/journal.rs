//! The journal: what was about to be changed, written before it is changed, and what came of it.
//!
//! Owns the entries and the decision how to go on after a crash; refuses to touch any object.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::projection::Projection;

/// Longest error text that an entry keeps.
const MAX_ERROR_CHARACTERS: usize = 300;

/// One Kubernetes object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObjectRef {
    /// API version, such as `v1` or `gateway.networking.k8s.io/v1`.
    pub api_version: String,
    /// Kind, such as `Service`.
    pub kind: String,
    /// Namespace; nothing for a cluster-wide object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Name.
    pub name: String,
}

impl ObjectRef {
    /// A namespaced object.
    #[must_use]
    pub fn namespaced(api_version: &str, kind: &str, namespace: &str, name: &str) -> Self {
        Self {
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
            namespace: Some(namespace.to_owned()),
            name: name.to_owned(),
        }
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} `", self.kind)?;
        if let Some(namespace) = &self.namespace {
            write!(f, "{namespace}/")?;
        }
        write!(f, "{}`", self.name)
    }
}

/// What became of a planned mutation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Written before the mutation; nothing is known yet.
    Pending,
    /// The live object was read and agrees with what was to be.
    Applied,
    /// The mutation was refused, or never sent; the live object is as before.
    NotApplied,
    /// The live object agrees with neither: somebody else wrote the owned fields.
    Foreign,
    /// The answer was lost, and the live object could not be read or is as before: while it stands at
    /// the version that the mutation is conditional on, that can still arrive.
    Unknown,
}

impl Outcome {
    /// What became of a mutation that was answered by an error, before anybody has looked.
    #[must_use]
    pub fn of_failed(error: &switchyard_cluster::Error) -> Self {
        if error.leaves_outcome_unknown() {
            Self::Unknown
        } else {
            Self::NotApplied
        }
    }
}

/// A mutation that is about to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedMutation {
    /// What is done, in one word or two: `switch`, `scale`, `apply`.
    pub operation: String,
    /// The object.
    pub target: ObjectRef,
    /// Its uid as read; nothing for an object that is to be created.
    pub target_uid: Option<String>,
    /// The resourceVersion on which the mutation is conditional.
    pub precondition_resource_version: Option<String>,
    /// The owned fields as read.
    pub before: Projection,
    /// The owned fields as they are to be.
    pub after: Projection,
}

/// One entry of the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JournalEntry {
    /// Number of the entry within its deployment, from 1.
    pub seq: u32,
    /// Fence of the process that wrote it.
    pub fence: u64,
    /// What is done.
    #[serde(rename = "op")]
    pub operation: String,
    /// The object.
    pub target: ObjectRef,
    /// Its uid; nothing for an object that is created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_uid: Option<String>,
    /// The resourceVersion on which the mutation is conditional.
    #[serde(
        default,
        rename = "precondition_rv",
        skip_serializing_if = "Option::is_none"
    )]
    pub precondition_resource_version: Option<String>,
    /// The owned fields before; its hash is the `before_hash` of the model.
    pub before: Projection,
    /// The owned fields as they are to be.
    pub after: Projection,
    /// What became of it.
    pub outcome: Outcome,
    /// When the entry was written.
    pub at: Timestamp,
    /// When the outcome was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settled_at: Option<Timestamp>,
    /// What went wrong, in one line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl JournalEntry {
    /// The entry for a mutation that is about to be made.
    #[must_use]
    pub fn pending(seq: u32, fence: u64, planned: PlannedMutation, at: Timestamp) -> Self {
        Self {
            seq,
            fence,
            operation: planned.operation,
            target: planned.target,
            target_uid: planned.target_uid,
            precondition_resource_version: planned.precondition_resource_version,
            before: planned.before,
            after: planned.after,
            outcome: Outcome::Pending,
            at,
            settled_at: None,
            error: None,
        }
    }

    /// Writes down what became of the mutation.
    pub fn settle(&mut self, settlement: Settlement, at: Timestamp) {
        self.outcome = settlement.outcome;
        self.error = settlement.error.map(|error| one_line(&error));
        self.settled_at = Some(at);
    }

    /// Whether the outcome still has to be found out by reading the live object.
    #[must_use]
    pub fn is_open(&self) -> bool {
        match self.outcome {
            Outcome::Pending | Outcome::Unknown => true,
            Outcome::Applied | Outcome::NotApplied | Outcome::Foreign => false,
        }
    }

    /// Whether the live object may have been changed by this entry.
    #[must_use]
    pub fn may_have_been_applied(&self) -> bool {
        match self.outcome {
            Outcome::Pending | Outcome::Unknown | Outcome::Applied | Outcome::Foreign => true,
            Outcome::NotApplied => false,
        }
    }
}

/// What became of a mutation, as the one who made it found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settlement {
    /// The outcome.
    pub outcome: Outcome,
    /// What went wrong; cut to one line of 300 characters. No secrets, no pod logs.
    pub error: Option<String>,
}

impl From<Outcome> for Settlement {
    fn from(outcome: Outcome) -> Self {
        Self {
            outcome,
            error: None,
        }
    }
}

impl Settlement {
    /// An outcome with what went wrong.
    #[must_use]
    pub fn failed(outcome: Outcome, error: &dyn fmt::Display) -> Self {
        Self {
            outcome,
            error: Some(error.to_string()),
        }
    }
}

/// The object of an open entry, as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveTarget {
    /// Its uid; nothing when it does not exist.
    pub uid: Option<String>,
    /// The owned fields.
    pub projection: Projection,
}

/// How to go on with an entry whose writer died.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resume {
    /// The live object is as before: make the mutation.
    Do,
    /// The live object is as it was to be: write that down.
    MarkApplied,
    /// It is neither: a person decides.
    NeedsPerson {
        /// Why, with what was planned and what is live.
        disagreement: Disagreement,
    },
}

/// Why a journal entry cannot be resumed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{target} is neither as before step {seq} nor as after it: before {before}, to be {after}, live {live}"
)]
pub struct Disagreement {
    /// The entry.
    pub seq: u32,
    /// The object.
    pub target: ObjectRef,
    /// The owned fields before the mutation.
    pub before: String,
    /// The owned fields as they were to be.
    pub after: String,
    /// The owned fields as they are, or that the object is another one now.
    pub live: String,
}

/// Decides how to go on with an entry, from what is live.
#[must_use]
pub fn resume(live: &LiveTarget, entry: &JournalEntry) -> Resume {
    let is_replaced = match (&entry.target_uid, &live.uid) {
        (Some(planned), Some(seen)) => planned != seen,
        // Not there before, or not there now: the projections tell.
        (None, _) | (_, None) => false,
    };
    let disagreement = |live: String| Resume::NeedsPerson {
        disagreement: Disagreement {
            seq: entry.seq,
            target: entry.target.clone(),
            before: entry.before.describe(),
            after: entry.after.describe(),
            live,
        },
    };
    if is_replaced {
        let uid = live.uid.as_deref().unwrap_or_default();
        return disagreement(format!(
            "another object of this name (uid {uid}): {}",
            live.projection.describe()
        ));
    }
    if live.projection.agrees_with(&entry.after) {
        Resume::MarkApplied
    } else if live.projection.agrees_with(&entry.before) {
        Resume::Do
    } else {
        disagreement(live.projection.describe())
    }
}

/// Decides what became of all open entries of one object, oldest first, from what is live. None of
/// them may be able to arrive any more: raise the fence on the object before it is read.
#[must_use]
pub fn outcomes(live: &LiveTarget, open: &[JournalEntry]) -> Vec<(u32, Outcome)> {
    let verdicts: Vec<Resume> = open.iter().map(|entry| resume(live, entry)).collect();
    let last_applied = verdicts.iter().rposition(|one| *one == Resume::MarkApplied);
    let is_as_before = verdicts.contains(&Resume::Do);
    // What the entry that was applied, and each one that it was decided upon, had found.
    let mut found: Option<&Projection> = None;
    let mut outcomes = Vec::new();
    for (place, (entry, verdict)) in open.iter().zip(&verdicts).enumerate().rev() {
        let led_there = found.is_some_and(|found| found.agrees_with(&entry.after));
        let outcome = match verdict {
            _ if last_applied == Some(place) || led_there => {
                found = Some(&entry.before);
                Outcome::Applied
            }
            Resume::Do | Resume::MarkApplied => Outcome::NotApplied,
            Resume::NeedsPerson { .. } if is_as_before || last_applied.is_some() => {
                Outcome::NotApplied
            }
            Resume::NeedsPerson { .. } => Outcome::Foreign,
        };
        outcomes.push((entry.seq, outcome));
    }
    outcomes.reverse();
    outcomes
}

/// Makes one bounded line of a text.
pub(crate) fn one_line(text: &str) -> String {
    let mut line: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(MAX_ERROR_CHARACTERS)
        .collect();
    if text.chars().nth(MAX_ERROR_CHARACTERS).is_some() {
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests;
