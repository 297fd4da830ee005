//! Ordering another process to stop, without holding the lease.

use super::SessionOptions;
use super::patience::Patience;
use super::writes::read_patiently;
use crate::application::{ApplicationRecord, Preempt};
use crate::deployment::{DeploymentRecord, Kind};
use crate::error::{RecordError, Result};
use crate::identity::{DeploymentId, application_record_name};
use crate::journal::one_line;
use crate::store::{Store, Write};

/// Who rolls back, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreemptOrder {
    /// Who.
    pub by: String,
    /// Link to the run.
    pub run_url: Option<String>,
    /// Why; cut to one line.
    pub reason: String,
}

/// What became of an order to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PreemptAnswer {
    /// It is written in the record: the holder stops at its next safe point.
    Ordered,
    /// No deployment is active.
    NothingActive,
    /// The active deployment is on its way back already, or is a rollback itself: let it.
    AlreadyGoingBack,
}

/// Whether what runs is a way back: to stop it would keep the bad version live for longer.
fn goes_back(active: &DeploymentRecord) -> bool {
    active.kind == Kind::Rollback || active.phase.is_backward()
}

/// Writes an order to stop into the application's record.
///
/// # Errors
/// The record cannot be read, believed or written.
pub async fn request_preempt(
    store: &Store,
    id: &DeploymentId,
    options: &SessionOptions,
    order: PreemptOrder,
) -> Result<PreemptAnswer> {
    let preempt = Preempt {
        by: order.by,
        run_url: order.run_url,
        reason: one_line(&order.reason),
        at: options.clock.now(),
    };
    let patience = Patience::new(options);
    let name = application_record_name(id.application());
    loop {
        let stored = read_patiently::<ApplicationRecord>(store, &name, &patience).await?;
        let Some(stored) = stored else {
            return Ok(PreemptAnswer::NothingActive);
        };
        let Some(active) = &stored.record.active else {
            return Ok(PreemptAnswer::NothingActive);
        };
        let active = active.deployment.record_name();
        let active = read_patiently::<DeploymentRecord>(store, &active, &patience).await?;
        if active.is_some_and(|active| goes_back(&active.record)) {
            return Ok(PreemptAnswer::AlreadyGoingBack);
        }
        let mut record = stored.record.clone();
        record.preempt = Some(preempt.clone());
        // The fence stays the holder's: an order does not take over.
        match store.replace(&stored, &record, record.fence).await? {
            Write::Done(_) => return Ok(PreemptAnswer::Ordered),
            Write::Conflict => {
                let changed = || RecordError::Changed {
                    object: store.describe(&name),
                    writer: "its holder, again and again,".to_owned(),
                };
                patience.wait_for_turn(changed).await?;
            }
            Write::Unclear(error) => patience.wait(error).await?,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{entered, record};
    use crate::{Chain, Phase};

    #[test]
    fn a_rollback_is_not_told_to_stop_by_another_one() {
        let mut active = record(Chain::Slots);
        entered(&mut active, Phase::Switching(1), 1);
        assert!(!goes_back(&active));
        active.kind = Kind::Rollback;
        assert!(goes_back(&active));
        let mut active = record(Chain::Slots);
        entered(&mut active, Phase::Abandoning, 1);
        assert!(goes_back(&active));
    }
}
