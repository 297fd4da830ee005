//! When the side that lost its traffic counts as quiet.
//! Pure: it judges samples of counters; it refuses to take them and to read a clock.

use std::collections::BTreeMap;
use std::time::Duration;

/// Requests counted at each counter (a proxy replica and one of its services), at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Time since the route was confirmed.
    pub at: Duration,
    /// Counted requests by counter, finished or begun as the proxy counts them. A counter that is
    /// absent has not been used yet.
    pub finished: BTreeMap<String, f64>,
    /// Requests without an answer yet, as far as proxies tell.
    pub in_flight: u64,
}

/// How quiet the old side is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Quiet {
    /// No request was counted for at least the longest one, and no proxy tells of one: none can be
    /// in flight.
    Verified,
    /// Requests are still counted or in flight, or the time is not up.
    NotYet {
        /// For how long nothing has ended.
        flat_for: Duration,
    },
    /// Nobody counts; the hold is over and nothing is known.
    HeldUnverified,
}

impl Quiet {
    /// Whether the side may be taken down: requests that were seen to go on would be cut off.
    pub fn allows_scaling_down(&self) -> bool {
        match self {
            Self::Verified | Self::HeldUnverified => true,
            Self::NotYet { .. } => false,
        }
    }
}

/// Judges the samples taken so far.
///
/// Proxies count a request when it ends. So when nothing has ended for as long as the longest
/// request takes, nothing is in flight. Streams that outlive `longest_request` are beyond this where
/// no proxy tells what is in flight, and samples without a single counter are none: nobody counts what no proxy lists.
pub fn judge(samples: &[Sample], longest_request: Duration, elapsed: Duration) -> Quiet {
    let is_counted = samples.iter().any(|sample| !sample.finished.is_empty());
    let Some(last) = samples.last().filter(|_| is_counted) else {
        return if elapsed >= longest_request {
            Quiet::HeldUnverified
        } else {
            Quiet::NotYet {
                flat_for: Duration::ZERO,
            }
        };
    };
    let changed = samples
        .windows(2)
        .rev()
        .find(|pair| has_moved(&pair[0].finished, &pair[1].finished));
    let flat_since = match changed {
        Some(pair) => pair[1].at,
        None => samples.first().map_or(last.at, |first| first.at),
    };
    let flat_for = last.at.saturating_sub(flat_since);
    if flat_for >= longest_request && last.in_flight == 0 {
        Quiet::Verified
    } else {
        Quiet::NotYet { flat_for }
    }
}

/// Whether any counter grew. One that vanished was dropped by the proxy, which is no request; one
/// that appears has finished a request since.
fn has_moved(before: &BTreeMap<String, f64>, after: &BTreeMap<String, f64>) -> bool {
    after
        .iter()
        .any(|(counter, value)| before.get(counter).is_none_or(|earlier| value != earlier))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(at: u64, finished: &[(&str, f64)]) -> Sample {
        let finished = finished
            .iter()
            .map(|(name, value)| ((*name).to_owned(), *value))
            .collect();
        Sample {
            at: Duration::from_secs(at),
            finished,
            in_flight: 0,
        }
    }

    const LONGEST: Duration = Duration::from_secs(5);

    #[test]
    fn a_side_that_no_proxy_lists_is_held_for_and_not_called_quiet() {
        let samples = [sample(0, &[]), sample(5, &[]), sample(6, &[])];
        assert_eq!(
            judge(&samples[..1], LONGEST, Duration::ZERO),
            Quiet::NotYet {
                flat_for: Duration::ZERO
            }
        );
        assert_eq!(
            judge(&samples, LONGEST, Duration::from_secs(6)),
            Quiet::HeldUnverified
        );
    }

    #[test]
    fn flat_counters_for_the_longest_request_are_quiet() {
        let samples = [
            sample(0, &[("a", 9.0)]),
            sample(3, &[("a", 9.0)]),
            sample(5, &[("a", 9.0)]),
        ];
        assert_eq!(
            judge(&samples, LONGEST, Duration::from_secs(5)),
            Quiet::Verified
        );
    }

    #[test]
    fn a_request_that_ends_late_starts_the_time_again() {
        let samples = [
            sample(0, &[("a", 9.0)]),
            sample(4, &[("a", 10.0)]),
            sample(6, &[("a", 10.0)]),
        ];
        let judged = judge(&samples, LONGEST, Duration::from_secs(6));
        assert_eq!(
            judged,
            Quiet::NotYet {
                flat_for: Duration::from_secs(2)
            }
        );
    }

    #[test]
    fn a_counter_that_appears_is_a_request_and_one_that_vanishes_is_none() {
        let appears = [sample(0, &[]), sample(5, &[("a", 1.0)])];
        assert!(matches!(
            judge(&appears, LONGEST, LONGEST),
            Quiet::NotYet { .. }
        ));
        let vanishes = [sample(0, &[("a", 1.0)]), sample(5, &[])];
        assert_eq!(judge(&vanishes, LONGEST, LONGEST), Quiet::Verified);
    }

    #[test]
    fn a_stream_that_a_proxy_tells_of_is_in_flight_however_flat_the_counters_are() {
        let open = Sample {
            in_flight: 1,
            ..sample(9, &[("a", 9.0)])
        };
        let samples = [sample(0, &[("a", 9.0)]), open.clone()];
        let elapsed = Duration::from_secs(9);
        let judged = judge(&samples, LONGEST, elapsed);
        assert_eq!(judged, Quiet::NotYet { flat_for: elapsed });
        let closed = Sample {
            in_flight: 0,
            ..open.clone()
        };
        assert_eq!(
            judge(&[samples[0].clone(), open, closed], LONGEST, elapsed),
            Quiet::Verified
        );
    }

    #[test]
    fn a_side_with_requests_in_flight_is_not_taken_down() {
        let flat_for = Duration::from_secs(1);
        assert!(!Quiet::NotYet { flat_for }.allows_scaling_down());
        assert!(Quiet::Verified.allows_scaling_down());
        assert!(Quiet::HeldUnverified.allows_scaling_down());
    }

    #[test]
    fn without_counters_a_hold_is_a_hold_and_not_proof() {
        assert_eq!(judge(&[], LONGEST, LONGEST), Quiet::HeldUnverified);
        assert!(matches!(
            judge(&[], LONGEST, Duration::from_secs(1)),
            Quiet::NotYet { .. }
        ));
    }
}
