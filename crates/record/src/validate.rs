//! What a record cannot be, although its types allow it.
//!
//! A record is read by other versions and edited by people: it is checked before it is believed.

use std::collections::HashSet;

use thiserror::Error;

use crate::application::ApplicationRecord;
use crate::deployment::{DeploymentRecord, Kind, SCHEMA, Verdict};
use crate::phase::{Advance, Chain, Phase, advance};

/// Something in a record that cannot have come about.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{field}: {problem}")]
pub struct Impossible {
    /// The field.
    pub field: &'static str,
    /// What is wrong with it.
    pub problem: String,
}

fn ensure(
    holds: bool,
    field: &'static str,
    problem: impl FnOnce() -> String,
) -> Result<(), Impossible> {
    if holds {
        Ok(())
    } else {
        Err(Impossible {
            field,
            problem: problem(),
        })
    }
}

/// Checks the record of an application.
pub(crate) fn application(record: &ApplicationRecord) -> Result<(), Impossible> {
    ensure(record.schema == SCHEMA, "schema", || {
        format!("{} is not {SCHEMA}", record.schema)
    })?;
    let mut seen = HashSet::new();
    for entry in &record.index {
        ensure(seen.insert(&entry.deployment), "index", || {
            format!("`{}` is there twice", entry.deployment)
        })?;
        ensure(
            entry.deployment.application() == record.app,
            "index",
            || format!("`{}` is of another application", entry.deployment),
        )?;
        ensure(entry.verdict.is_some() || !entry.is_pruned, "index", || {
            format!("`{}` was pruned before it ended", entry.deployment)
        })?;
    }
    let Some(active) = &record.active else {
        let open = record.index.iter().find(|entry| entry.verdict.is_none());
        return ensure(open.is_none(), "active", || {
            let open = open.map_or_else(String::new, |entry| entry.deployment.to_string());
            format!("`{open}` has not ended, yet nothing is active")
        });
    };
    let entry = record
        .index
        .iter()
        .find(|entry| entry.deployment == active.deployment);
    ensure(
        entry.is_some_and(|entry| entry.verdict.is_none()),
        "active",
        || format!("`{}` is not an open entry of the index", active.deployment),
    )
}

/// Checks the record of a deployment.
pub(crate) fn deployment(record: &DeploymentRecord) -> Result<(), Impossible> {
    ensure(record.schema == SCHEMA, "schema", || {
        format!("{} is not {SCHEMA}", record.schema)
    })?;
    ensure(
        record.run.repository == record.id.repository() && record.run.run_id == record.id.run_id(),
        "run",
        || "is not the run of the id".to_owned(),
    )?;
    ensure(!record.run.attempts.is_empty(), "run.attempts", || {
        "is empty".to_owned()
    })?;
    ensure(
        (record.kind == Kind::Rollback) || record.reverts.is_none(),
        "reverts",
        || "is set, but this is no rollback".to_owned(),
    )?;
    ensure(
        record.result.as_ref().map(|result| result.verdict) == Verdict::of(record.phase),
        "result",
        || format!("does not agree with phase `{}`", record.phase),
    )?;
    ensure(
        record.promotion.is_none() || record.chain == Chain::Canary,
        "promotion",
        || format!("is set, but a deployment ({}) has no canary", record.chain),
    )?;
    phases(record)?;
    stages(record)?;
    journal(record)
}

fn phases(record: &DeploymentRecord) -> Result<(), Impossible> {
    let first = record.phases.first().map(|entry| entry.name);
    ensure(first == Some(Phase::Claimed), "phases", || {
        "does not begin with `claimed`".to_owned()
    })?;
    for pair in record.phases.windows(2) {
        let (from, to) = (pair[0].name, pair[1].name);
        let is_step = advance(record.chain, from, to) == Ok(Advance::Enter(to));
        ensure(is_step, "phases", || {
            format!("`{to}` cannot follow `{from}`")
        })?;
    }
    let last = record.phases.last().map(|entry| entry.name);
    ensure(last == Some(record.phase), "phase", || {
        format!("`{}` is not the last of `phases`", record.phase)
    })?;
    ensure(
        record.phase != Phase::Abandoned || !record.may_have_moved_traffic(),
        "phase",
        || "`abandoned`, but live traffic was moved".to_owned(),
    )
}

fn stages(record: &DeploymentRecord) -> Result<(), Impossible> {
    for (place, stage) in record.stages.iter().enumerate() {
        ensure(usize::from(stage.index) == place + 1, "stages", || {
            format!("number {} is in place {}", stage.index, place + 1)
        })?;
        ensure(stage.weight <= 100, "stages", || {
            format!("a share of {} percent", stage.weight)
        })?;
    }
    for entry in &record.weights {
        let sum: u32 = entry
            .weights
            .values()
            .map(|weight| u32::from(*weight))
            .sum();
        ensure(sum <= 100, "weights", || {
            format!("shares of {sum} percent together")
        })?;
    }
    Ok(())
}

fn journal(record: &DeploymentRecord) -> Result<(), Impossible> {
    let mut fence = 0;
    for (place, entry) in record.journal.iter().enumerate() {
        ensure(entry.seq as usize == place + 1, "journal", || {
            format!("entry {} is in place {}", entry.seq, place + 1)
        })?;
        ensure(entry.fence >= fence, "journal", || {
            format!("entry {} has a fence older than the one before", entry.seq)
        })?;
        ensure(
            entry.before.is_sound() && entry.after.is_sound(),
            "journal",
            || {
                format!(
                    "a value of entry {} does not agree with its hash",
                    entry.seq
                )
            },
        )?;
        fence = entry.fence;
    }
    Ok(())
}
