//! Whether somebody else's lease is still alive, judged by our own monotonic clock.
//!
//! Pure: what was read and when, in; the standing, out.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;

use super::holder_of;

/// What one look at a lease has shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseSeen {
    /// Identity of the holder; nothing when it was released.
    pub holder: Option<String>,
    /// When the holder says that it renewed it. Only its change means anything: the holder's
    /// clock is not ours.
    pub renewed: Option<Timestamp>,
    /// How often the holder has changed.
    pub transitions: i32,
    /// How long it lasts without renewal.
    pub duration: Duration,
}

impl LeaseSeen {
    /// Reads a lease. One without a duration gets `fallback`.
    #[must_use]
    pub fn of(lease: &Lease, fallback: Duration) -> Self {
        let spec = lease.spec.as_ref();
        let seconds = spec.and_then(|spec| spec.lease_duration_seconds);
        let duration = seconds
            .and_then(|seconds| u64::try_from(seconds).ok())
            .filter(|seconds| *seconds > 0)
            .map_or(fallback, Duration::from_secs);
        Self {
            holder: holder_of(lease).map(|holder| holder.identity),
            renewed: spec.and_then(|spec| spec.renew_time.as_ref().map(|time| time.0)),
            transitions: spec.and_then(|spec| spec.lease_transitions).unwrap_or(0),
            duration,
        }
    }
}

/// Whether a lease can be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nobody holds it.
    Free,
    /// It is held; unless it is renewed it expires after this much more time.
    Held {
        /// Time left.
        left: Duration,
    },
    /// It was not renewed for its whole duration.
    Expired,
}

/// Watches a lease until it is released or expires.
#[derive(Clone, Debug, Default)]
pub struct LeaseObserver {
    last: Option<(LeaseSeen, Duration)>,
}

impl LeaseObserver {
    /// Judges a lease that was read at `now`, a time of our monotonic clock. Its first sight
    /// counts as a renewal: how long it had been unchanged before is not known.
    pub fn see(&mut self, seen: LeaseSeen, now: Duration) -> Standing {
        if seen.holder.is_none() {
            self.last = None;
            return Standing::Free;
        }
        let since = match &self.last {
            Some((last, since)) if *last == seen => *since,
            Some(_) | None => now,
        };
        let duration = seen.duration;
        self.last = Some((seen, since));
        let unchanged = now.saturating_sub(since);
        match duration.checked_sub(unchanged) {
            Some(left) if !left.is_zero() => Standing::Held { left },
            Some(_) | None => Standing::Expired,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(holder: Option<&str>, renewed: i64) -> LeaseSeen {
        LeaseSeen {
            holder: holder.map(str::to_owned),
            renewed: Some(Timestamp::from_second(renewed).unwrap()),
            transitions: 0,
            duration: Duration::from_secs(15),
        }
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_released_lease_is_free() {
        let mut observer = LeaseObserver::default();
        assert_eq!(observer.see(seen(None, 0), at(100)), Standing::Free);
    }

    #[test]
    fn a_lease_that_is_not_renewed_expires_after_its_duration() {
        let mut observer = LeaseObserver::default();
        let lease = seen(Some("a"), 0);
        assert_eq!(
            observer.see(lease.clone(), at(100)),
            Standing::Held { left: at(15) }
        );
        assert_eq!(
            observer.see(lease.clone(), at(114)),
            Standing::Held { left: at(1) }
        );
        assert_eq!(observer.see(lease, at(115)), Standing::Expired);
    }

    #[test]
    fn a_renewal_starts_the_time_again_whatever_it_says() {
        let mut observer = LeaseObserver::default();
        observer.see(seen(Some("a"), 1_000_000), at(100));
        // The holder's clock went back: still a renewal.
        let renewed = observer.see(seen(Some("a"), 0), at(114));
        assert_eq!(renewed, Standing::Held { left: at(15) });
    }

    #[test]
    fn a_renewal_time_of_long_ago_does_not_expire_a_lease_at_first_sight() {
        let mut observer = LeaseObserver::default();
        assert_eq!(
            observer.see(seen(Some("a"), 0), at(9_999)),
            Standing::Held { left: at(15) }
        );
    }

    #[test]
    fn another_holder_starts_the_time_again() {
        let mut observer = LeaseObserver::default();
        observer.see(seen(Some("a"), 0), at(100));
        assert_eq!(
            observer.see(seen(Some("b"), 0), at(120)),
            Standing::Held { left: at(15) }
        );
    }
}
