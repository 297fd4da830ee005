//! What one probe has waited so far, shared between its task and who asks.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

/// What one probe has waited.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Waits {
    /// Longest wait since the migration began.
    pub(crate) longest: Duration,
    /// Longest wait before it.
    pub(crate) at_rest: Duration,
    /// How often it asked and had its answer.
    pub(crate) attempts: u64,
    /// How often the table was not there.
    pub(crate) absent: u64,
    /// Why it ended early, where it did.
    pub(crate) error: Option<String>,
}

/// [`Waits`] between a probe's task and who asks.
#[derive(Debug, Default)]
pub(super) struct Shared {
    waits: Mutex<Waits>,
    changed: Notify,
}

impl Shared {
    /// What it has waited.
    pub(super) fn read(&self) -> Waits {
        self.lock().clone()
    }

    /// Takes a wait, of an attempt that is done or still waits.
    pub(super) fn waited(&self, wait: Duration) {
        let mut waits = self.lock();
        waits.longest = waits.longest.max(wait);
    }

    /// Counts an attempt that had its answer.
    pub(super) fn answered(&self) {
        self.lock().attempts += 1;
        self.changed.notify_waiters();
    }

    /// Counts an attempt that found no table.
    pub(super) fn absent(&self) {
        let mut waits = self.lock();
        waits.absent += 1;
        waits.attempts += 1;
        drop(waits);
        self.changed.notify_waiters();
    }

    /// Ends the probe with a reason.
    pub(super) fn fail(&self, reason: String) {
        self.lock().error = Some(reason);
        self.changed.notify_waiters();
    }

    /// Takes what was waited so far for noise.
    pub(super) fn begin(&self) {
        let mut waits = self.lock();
        waits.at_rest = waits.longest;
        waits.longest = Duration::ZERO;
    }

    /// Resolves when a number of attempts is made, or the probe has ended.
    pub(super) async fn reached(&self, attempts: u64) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // Registered before the look, so that no change is missed.
            changed.as_mut().enable();
            {
                let waits = self.lock();
                if waits.attempts >= attempts || waits.error.is_some() {
                    return;
                }
            }
            changed.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waits> {
        self.waits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
