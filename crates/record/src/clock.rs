//! Time, passed in.
//!
//! Expiry of a lease is judged by the monotonic clock of this process alone: wall clocks of two
//! machines disagree.

use std::time::{Duration, Instant};

use jiff::Timestamp;

/// The two clocks that a session needs.
pub trait Clock: Send + Sync + 'static {
    /// Time since a fixed moment, never going back.
    fn monotonic(&self) -> Duration;
    /// Wall-clock time, for people to read in records.
    fn now(&self) -> Timestamp;
}

/// The clocks of this machine.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    origin: Instant,
}

impl Default for SystemClock {
    fn default() -> Self {
        Self {
            origin: Instant::now(),
        }
    }
}

impl Clock for SystemClock {
    fn monotonic(&self) -> Duration {
        self.origin.elapsed()
    }

    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}
