//! Changes of a record that have no function of their own, and room for what is to come.

use super::Session;
use crate::deployment::{DeploymentRecord, SideState};
use crate::error::{RecordError, Result};
use crate::store::{MAX_RECORD_BYTES, size_of};

/// Most bytes that one journal entry adds to a record after [`DeploymentRecord::compact`].
const COMPACT_ENTRY_BYTES: usize = 1_300;
/// Bytes kept free for everything else that a deployment writes: phases, weights, evidence.
const OTHER_BYTES: usize = 150_000;

impl Session {
    /// Changes what has no function of its own: sides, targets, stages, digests, the backup,
    /// keys of notices. Nothing is written when nothing changed.
    ///
    /// # Errors
    /// The change touched the identity, phases, journal or result, another side than the one
    /// that was resolved, or what a rollback restores (targets and sizes once written: add to
    /// them, never change them); the lease is lost, or the record cannot be written.
    pub async fn amend(&mut self, change: impl FnOnce(&mut DeploymentRecord)) -> Result<()> {
        let before = &self.claimed()?.record;
        let mut record = before.clone();
        change(&mut record);
        if record == *before {
            return Ok(());
        }
        check_amendment(before, &record)?;
        self.write_deployment(record).await
    }

    /// Refuses a plan whose journal would not fit into the record. To be asked before the first
    /// mutation.
    ///
    /// # Errors
    /// [`RecordError::TooLarge`].
    pub fn reserve(&self, mutations: usize) -> Result<()> {
        let stored = self.claimed()?;
        let mut record = stored.record.clone();
        record.compact();
        let journal = mutations.saturating_mul(COMPACT_ENTRY_BYTES);
        let size = size_of(&record)
            .saturating_add(journal)
            .saturating_add(OTHER_BYTES);
        if size > MAX_RECORD_BYTES {
            return Err(RecordError::TooLarge {
                object: self.store.describe(&stored.name),
                size,
                limit: MAX_RECORD_BYTES,
            });
        }
        Ok(())
    }
}

/// What an amendment must leave alone.
fn check_amendment(before: &DeploymentRecord, after: &DeploymentRecord) -> Result<()> {
    let checks = [
        ("schema", before.schema == after.schema),
        ("id", before.id == after.id),
        ("kind", before.kind == after.kind),
        ("chain", before.chain == after.chain),
        ("reverts", before.reverts == after.reverts),
        ("run", before.run == after.run),
        ("inputs_hash", before.inputs_hash == after.inputs_hash),
        ("previous", before.previous == after.previous),
        ("phase", before.phase == after.phase),
        ("phases", before.phases == after.phases),
        ("journal", before.journal == after.journal),
        ("migrations", before.migrations == after.migrations),
        ("result", before.result == after.result),
        ("promotion", before.promotion <= after.promotion),
        (
            "sides.from",
            is_kept(before.sides.from.as_ref(), after.sides.from.as_ref()),
        ),
        (
            "sides.to",
            is_same_side(before.sides.to.as_ref(), after.sides.to.as_ref()),
        ),
        // A resumed step reads what the step before has changed: that is not what was before.
        (
            "targets",
            before
                .targets
                .iter()
                .all(|target| after.targets.contains(target)),
        ),
    ];
    match checks.into_iter().find(|(_, is_kept)| !is_kept) {
        Some((field, _)) => Err(RecordError::Protected { field }),
        None => Ok(()),
    }
}

/// Resolved once per deployment: the slot that `auto` chose is never another one later.
fn is_same_side(before: Option<&SideState>, after: Option<&SideState>) -> bool {
    before.is_none_or(|before| after.is_some_and(|after| after.side == before.side))
}

/// The side that a rollback goes back to keeps the sizes that it was found with.
fn is_kept(before: Option<&SideState>, after: Option<&SideState>) -> bool {
    let keeps_workloads = |before: &SideState, after: &SideState| {
        let mut workloads = before.workloads.iter();
        workloads.all(|workload| after.workloads.contains(workload))
    };
    is_same_side(before, after)
        && before.is_none_or(|before| after.is_some_and(|after| keeps_workloads(before, after)))
}
