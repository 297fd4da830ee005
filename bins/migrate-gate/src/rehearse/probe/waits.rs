//! What one probe has waited so far, shared between its task and who asks.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

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
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    waits: Waits,
    /// When the migration began, where it has.
    begun: Option<Instant>,
}

impl Shared {
    /// What it has waited.
    pub(super) fn read(&self) -> Waits {
        self.lock().waits.clone()
    }

    /// Takes a wait until now, of an attempt that is done or still waits. What of it was before the migration is not
    /// the migration's.
    pub(super) fn waited(&self, since: Instant) {
        let mut state = self.lock();
        let since = state.begun.map_or(since, |begun| since.max(begun));
        state.waits.longest = state.waits.longest.max(since.elapsed());
    }

    /// Counts an attempt that had its answer.
    pub(super) fn answered(&self) {
        self.lock().waits.attempts += 1;
        self.changed.notify_waiters();
    }

    /// Counts an attempt that found no table.
    pub(super) fn absent(&self) {
        let mut state = self.lock();
        state.waits.absent += 1;
        state.waits.attempts += 1;
        drop(state);
        self.changed.notify_waiters();
    }

    /// Ends the probe with a reason.
    pub(super) fn fail(&self, reason: String) {
        self.lock().waits.error = Some(reason);
        self.changed.notify_waiters();
    }

    /// Takes what was waited so far for noise.
    pub(super) fn begin(&self) {
        let mut state = self.lock();
        state.waits.at_rest = state.waits.longest;
        state.waits.longest = Duration::ZERO;
        state.begun = Some(Instant::now());
    }

    /// Resolves when a number of attempts is made, or the probe has ended.
    pub(super) async fn reached(&self, attempts: u64) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // Registered before the look, so that no change is missed.
            changed.as_mut().enable();
            {
                let waits = &self.lock().waits;
                if waits.attempts >= attempts || waits.error.is_some() {
                    return;
                }
            }
            changed.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One that waited for somebody else when the migration began was the migration's with all of its wait.
    #[test]
    fn what_was_waited_before_the_migration_is_noise() {
        let shared = Shared::default();
        let long = Duration::from_secs(5);
        let since = Instant::now().checked_sub(long).unwrap();
        shared.waited(since);
        shared.begin();
        let at_rest = shared.read().at_rest;
        assert!(at_rest >= long, "{at_rest:?}");
        shared.waited(since);
        let longest = shared.read().longest;
        assert!(longest < long, "{longest:?}");
    }
}
