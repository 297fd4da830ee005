//! How much a counter has grown from look to look, exactly.
//!
//! `increase()` extrapolates to the ends of its window, so its counts are no whole numbers, and it misses the first
//! appearance of a series: the first error of a pod counts as none. Here each series is remembered, and what a new one
//! shows has happened.

use std::collections::BTreeMap;

use crate::answer::Series;

/// What is remembered of a counter's series.
#[derive(Clone, Debug, Default)]
pub struct Counter {
    known: BTreeMap<BTreeMap<String, String>, f64>,
    has_begun: bool,
}

impl Counter {
    /// Takes what the series show now and gives what they have grown by, all together, since the last time. The first
    /// time there is nothing to compare with, and so no number.
    ///
    /// A series with a name of its own that falls has begun anew: what it shows has happened since (as `increase()`
    /// reads it). A sum that falls has lost a series, which tells nothing; it is taken anew.
    pub fn grown(&mut self, series: &[Series]) -> Option<u64> {
        let mut grown = 0.0;
        for one in series {
            let Some(now) = one.last().map(|sample| sample.value) else {
                continue;
            };
            if !now.is_finite() || now < 0.0 {
                continue;
            }
            let is_own = one.labels.contains_key("__name__");
            grown += match self.known.insert(one.labels.clone(), now) {
                Some(before) if now >= before => now - before,
                Some(_) | None if is_own => now,
                Some(_) | None => 0.0,
            };
        }
        let first = !std::mem::replace(&mut self.has_begun, true);
        // Counters count whole events; what floating point leaves of them is rounded away.
        (!first).then_some(grown.round() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::Sample;

    fn series(pod: &str, value: f64) -> Series {
        let labels = [("__name__", "requests_total"), ("pod", pod)];
        Series {
            labels: labels
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            samples: vec![Sample { at: 0.0, value }],
        }
    }

    fn sum(value: f64) -> Series {
        Series {
            labels: BTreeMap::new(),
            samples: vec![Sample { at: 0.0, value }],
        }
    }

    #[test]
    fn a_counter_is_compared_with_what_it_was() {
        let mut counter = Counter::default();
        assert_eq!(counter.grown(&[series("a", 100.0)]), None);
        assert_eq!(counter.grown(&[series("a", 130.0)]), Some(30));
        assert_eq!(counter.grown(&[series("a", 130.0)]), Some(0));
    }

    #[test]
    fn the_first_error_of_all_counts() {
        let mut counter = Counter::default();
        assert_eq!(counter.grown(&[]), None);
        assert_eq!(counter.grown(&[series("a", 1.0)]), Some(1));
    }

    #[test]
    fn a_pod_that_begins_anew_counts_from_zero() {
        let mut counter = Counter::default();
        counter.grown(&[series("a", 100.0)]);
        assert_eq!(counter.grown(&[series("a", 7.0)]), Some(7));
    }

    #[test]
    fn a_series_that_comes_back_is_compared_with_what_it_was() {
        let mut counter = Counter::default();
        counter.grown(&[series("a", 100.0), series("b", 5.0)]);
        assert_eq!(counter.grown(&[series("b", 6.0)]), Some(1));
        assert_eq!(
            counter.grown(&[series("a", 110.0), series("b", 6.0)]),
            Some(10)
        );
    }

    #[test]
    fn a_sum_that_falls_says_nothing() {
        let mut counter = Counter::default();
        counter.grown(&[sum(1000.0)]);
        assert_eq!(counter.grown(&[sum(400.0)]), Some(0));
        assert_eq!(counter.grown(&[sum(410.0)]), Some(10));
    }

    #[test]
    fn what_is_no_number_is_not_counted() {
        let mut counter = Counter::default();
        counter.grown(&[sum(1.0)]);
        assert_eq!(counter.grown(&[sum(f64::NAN)]), Some(0));
    }
}
