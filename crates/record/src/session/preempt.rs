//! Ordering another process to stop, without holding the lease.

use super::SessionOptions;
use super::open::pause;
use crate::application::Preempt;
use crate::deployment::DeploymentRecord;
use crate::error::{RecordError, Result};
use crate::identity::DeploymentId;
use crate::journal::one_line;
use crate::store::{Store, Stored, Write};

/// How often the order is tried again after the holder was faster with a write.
const ATTEMPTS: u32 = 20;

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
    /// The active deployment is on its way back already: let it.
    AlreadyGoingBack,
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
    for _attempt in 0..ATTEMPTS {
        let Some(stored) = store.application(id.application()).await? else {
            return Ok(PreemptAnswer::NothingActive);
        };
        let Some(active) = &stored.record.active else {
            return Ok(PreemptAnswer::NothingActive);
        };
        let deployment: Option<Stored<DeploymentRecord>> =
            store.read(&active.deployment.record_name()).await?;
        if deployment.is_some_and(|deployment| deployment.record.phase.is_backward()) {
            return Ok(PreemptAnswer::AlreadyGoingBack);
        }
        let mut record = stored.record.clone();
        record.preempt = Some(preempt.clone());
        // The fence stays the holder's: an order does not take over.
        match store.replace(&stored, &record, record.fence).await? {
            Write::Done(_) => return Ok(PreemptAnswer::Ordered),
            Write::Conflict => {}
            Write::Unclear { error, retry_after } => pause(options, error, retry_after).await?,
        }
    }
    Err(RecordError::Changed {
        object: store.describe(&crate::identity::application_record_name(id.application())),
        writer: "its holder, again and again,".to_owned(),
    })
}
