//! How long a request that failed in passing is tried again.

use std::time::Duration;

use super::SessionOptions;
use crate::error::{RecordError, Result};

/// How long requests are tried while the API server cannot be reached or is overloaded.
const LIMIT: Duration = Duration::from_secs(30);
/// The same once the caller has cancelled: everything must end within seven seconds.
const LIMIT_WHEN_CANCELLED: Duration = Duration::from_secs(3);
/// Pause between two attempts, unless the server asks for another.
const PAUSE: Duration = Duration::from_millis(500);

/// The time that one operation may spend on attempts.
pub(super) struct Patience<'a> {
    options: &'a SessionOptions,
    started: Duration,
}

impl<'a> Patience<'a> {
    pub(super) fn new(options: &'a SessionOptions) -> Self {
        Self {
            options,
            started: options.clock.monotonic(),
        }
    }

    /// Waits before another attempt after an error that may pass.
    ///
    /// # Errors
    /// The error itself, when it will not pass or the time is over.
    pub(super) async fn wait(&self, error: RecordError) -> Result<()> {
        let tried = self.options.clock.monotonic().saturating_sub(self.started);
        let limit = if self.options.cancel.is_cancelled() {
            LIMIT_WHEN_CANCELLED
        } else {
            LIMIT
        };
        if tried >= limit || !error.is_passing() {
            return Err(error);
        }
        let pause = error.retry_after().unwrap_or(PAUSE);
        (self.options.progress)(&format!("{error}, trying again"));
        tokio::time::sleep(pause.min(limit.saturating_sub(tried))).await;
        Ok(())
    }

    /// Waits shortly after somebody else was faster with a write.
    ///
    /// # Errors
    /// `changed`, when that has gone on for too long.
    pub(super) async fn wait_for_turn(&self, changed: impl FnOnce() -> RecordError) -> Result<()> {
        let tried = self.options.clock.monotonic().saturating_sub(self.started);
        if tried >= LIMIT || (self.options.cancel.is_cancelled() && tried >= LIMIT_WHEN_CANCELLED) {
            return Err(changed());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        Ok(())
    }
}
