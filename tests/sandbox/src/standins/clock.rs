//! The clock of a stand-in, which may go wrong: a runner's or a service's clock that is off is what
//! makes a fresh token not yet, or no longer, valid.

use std::sync::atomic::{AtomicI64, Ordering};

use jiff::Timestamp;

/// This machine's clock with an error that can be set.
#[derive(Debug, Default)]
pub struct Clock {
    skew: AtomicI64,
}

impl Clock {
    /// Makes the clock go ahead (or, negative, behind) by so many seconds.
    pub fn skew(&self, seconds: i64) {
        self.skew.store(seconds, Ordering::Relaxed);
    }

    /// Seconds since 1970.
    #[must_use]
    pub fn now(&self) -> i64 {
        Timestamp::now().as_second() + self.skew.load(Ordering::Relaxed)
    }
}

/// A second as `2026-01-02T03:04:05Z`.
pub(super) fn iso(second: i64) -> String {
    formatted(second, "%Y-%m-%dT%H:%M:%SZ")
}

/// A second in another format of `strftime`, UTC.
pub(super) fn formatted(second: i64, format: &str) -> String {
    let timestamp = Timestamp::from_second(second).unwrap_or_default();
    timestamp.strftime(format).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_skewed_clock_is_off_by_what_was_set() {
        let (right, wrong) = (Clock::default(), Clock::default());
        wrong.skew(-600);
        let behind = right.now() - wrong.now();
        assert!((599..=601).contains(&behind), "{behind}");
        assert_eq!(iso(0), "1970-01-01T00:00:00Z");
    }
}
