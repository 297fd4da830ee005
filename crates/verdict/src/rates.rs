//! Exact sequential tests for shares: above a limit (binomial), and above a baseline's (Fisher's conditional
//! distribution). Both bet with a mixture over how much worse it may be.

use crate::evidence::Evidence;
use crate::numbers::{ln_choose, ln_sum_exp};

/// How many times worse, as a ratio of odds, each of the bets says that it is, and its part of the stake. The mixture
/// is fair whichever holds; most of it lies where a release goes wrong in practice.
const BETS: [(f64, f64); 8] = [
    (1.25, 0.04),
    (1.5, 0.08),
    (2.0, 0.14),
    (3.0, 0.2),
    (5.0, 0.24),
    (8.0, 0.18),
    (15.0, 0.08),
    (50.0, 0.04),
];

/// Requests, and those of them that failed (or were too slow).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// All of them.
    pub requests: u64,
    /// Failed ones; never more than all.
    pub failed: u64,
}

impl Count {
    /// A count; more failed requests than requests are as many as there are.
    #[must_use]
    pub fn new(requests: u64, failed: u64) -> Self {
        Self {
            requests,
            failed: failed.min(requests),
        }
    }

    /// The share of failed ones, 0 of no request.
    #[must_use]
    pub fn share(self) -> f64 {
        self.failed as f64 / self.requests.max(1) as f64
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            requests: self.requests.saturating_add(other.requests),
            failed: self.failed.saturating_add(other.failed),
        }
    }
}

/// Tests whether a share lies above a limit. Exact at every look: the likelihood ratio of the binomial distribution.
#[derive(Clone, Debug)]
pub struct AboveLimit {
    limit: f64,
    total: Count,
}

impl AboveLimit {
    /// Against a limit, 0 to 1.
    #[must_use]
    pub fn new(limit: f64) -> Self {
        Self {
            limit: limit.clamp(0.0, 1.0),
            total: Count::default(),
        }
    }

    /// Counts further requests.
    pub fn add(&mut self, count: Count) {
        self.total = self.total.plus(count);
    }

    /// Everything counted.
    #[must_use]
    pub fn total(&self) -> Count {
        self.total
    }

    /// The case against "at most the limit".
    #[must_use]
    pub fn evidence(&self) -> Evidence {
        let failed = self.total.failed as f64;
        let good = (self.total.requests - self.total.failed) as f64;
        if self.limit <= 0.0 {
            let is_refuted = self.total.failed > 0;
            return Evidence::of_ln(if is_refuted { f64::INFINITY } else { 0.0 });
        }
        if self.limit >= 1.0 {
            return Evidence::of_ln(0.0);
        }
        let odds = self.limit / (1.0 - self.limit);
        let capitals = BETS.map(|(times, stake)| {
            let share = times * odds / (1.0 + times * odds);
            let won = failed * (share / self.limit).ln();
            stake.ln() + won + good * ((1.0 - share) / (1.0 - self.limit)).ln()
        });
        Evidence::of_ln(ln_sum_exp(&capitals))
    }
}

/// Tests whether a share lies above a baseline's, each look by itself: which of the look's failed requests fell on the
/// new side is compared with which would have by chance (Fisher). What hits both sides alike, such as a database that
/// is away for a minute, is no evidence.
#[derive(Clone, Debug)]
pub struct WorseThan {
    tolerance: f64,
    capitals: [f64; BETS.len()],
    canary: Count,
    baseline: Count,
}

impl WorseThan {
    /// Against a baseline whose odds may be exceeded `tolerance` times; 1 allows nothing.
    #[must_use]
    pub fn new(tolerance: f64) -> Self {
        Self {
            tolerance: tolerance.max(1.0),
            capitals: BETS.map(|(_, stake)| stake.ln()),
            canary: Count::default(),
            baseline: Count::default(),
        }
    }

    /// Counts the requests of one look.
    pub fn add(&mut self, canary: Count, baseline: Count) {
        self.canary = self.canary.plus(canary);
        self.baseline = self.baseline.plus(baseline);
        let failed = canary.failed + baseline.failed;
        if failed == 0 || canary.requests == 0 || baseline.requests == 0 {
            return;
        }
        let support = Support::new(canary.requests, baseline.requests, failed);
        let by_chance = support.ln_sum(self.tolerance.ln());
        for (capital, (times, _)) in self.capitals.iter_mut().zip(BETS) {
            let ln_times = f64::ln(times);
            let if_worse = support.ln_sum(self.tolerance.ln() + ln_times);
            *capital += canary.failed as f64 * ln_times + by_chance - if_worse;
        }
    }

    /// Everything counted, of the new side and of the baseline.
    #[must_use]
    pub fn totals(&self) -> (Count, Count) {
        (self.canary, self.baseline)
    }

    /// The case against "no worse than the baseline".
    #[must_use]
    pub fn evidence(&self) -> Evidence {
        Evidence::of_ln(ln_sum_exp(&self.capitals))
    }
}

/// How the failed requests of a look may fall on the two sides, with the logarithm of the number of ways.
struct Support {
    first: u64,
    ln_ways: Vec<f64>,
}

impl Support {
    fn new(canary: u64, baseline: u64, failed: u64) -> Self {
        let first = failed.saturating_sub(baseline);
        let last = failed.min(canary);
        let mut ln_ways = Vec::with_capacity(usize::try_from(last - first).unwrap_or(0) + 1);
        let mut ln = ln_choose(canary, first) + ln_choose(baseline, failed - first);
        for on_canary in first..=last {
            ln_ways.push(ln);
            if on_canary < last {
                // From one number to the next: (n−x)(m−x) / ((x+1)(N−m+x+1)).
                let up = (canary - on_canary) as f64 * (failed - on_canary) as f64;
                let down = (on_canary + 1) as f64 * (baseline + on_canary + 1 - failed) as f64;
                ln += (up / down).ln();
            }
        }
        Self { first, ln_ways }
    }

    /// ln Σ ways(x) · ratio^x.
    fn ln_sum(&self, ln_ratio: f64) -> f64 {
        let terms = self.ln_ways.iter().zip(self.first..);
        let terms: Vec<f64> = terms
            .map(|(ways, on_canary)| ways + on_canary as f64 * ln_ratio)
            .collect();
        ln_sum_exp(&terms)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn capital(evidence: Evidence) -> f64 {
        // What is shown cannot be calculated with: bisect what it convinces at.
        let (mut low, mut high) = (-700.0_f64, 700.0_f64);
        for _ in 0..60 {
            let middle = f64::midpoint(low, high);
            if evidence.convinces((-middle).exp()) {
                low = middle;
            } else {
                high = middle;
            }
        }
        low.exp()
    }

    /// Fairness, the one property that everything rests on: the expected capital after a look is what it was before.
    #[test]
    fn a_bet_against_the_limit_is_fair_when_the_limit_holds_exactly() {
        let (limit, requests) = (0.03_f64, 12_u64);
        let expected: f64 = (0..=requests)
            .map(|failed| {
                let mut test = AboveLimit::new(limit);
                test.add(Count::new(requests, failed));
                let ln = ln_choose(requests, failed)
                    + failed as f64 * limit.ln()
                    + (requests - failed) as f64 * (1.0 - limit).ln();
                ln.exp() * capital(test.evidence())
            })
            .sum();
        assert!((expected - 1.0).abs() < 1e-6, "{expected}");
    }

    proptest! {
        #[test]
        fn a_bet_against_the_baseline_is_fair_when_both_sides_are_alike(
            canary in 1_u64..30, baseline in 1_u64..60, failed in 1_u64..20,
        ) {
            let failed = failed.min(canary + baseline);
            let all = ln_choose(canary + baseline, failed);
            let expected: f64 = (failed.saturating_sub(baseline)..=failed.min(canary))
                .map(|on_canary| {
                    let mut test = WorseThan::new(1.0);
                    test.add(
                        Count::new(canary, on_canary),
                        Count::new(baseline, failed - on_canary),
                    );
                    let ways = ln_choose(canary, on_canary) + ln_choose(baseline, failed - on_canary);
                    (ways - all).exp() * capital(test.evidence())
                })
                .sum();
            prop_assert!((expected - 1.0).abs() < 1e-6, "{expected}");
        }
    }

    #[test]
    fn an_outage_that_hits_both_sides_alike_is_no_evidence() {
        let mut test = WorseThan::new(1.0);
        test.add(Count::new(200, 100), Count::new(1800, 900));
        assert!(!test.evidence().convinces(0.2));
    }

    #[test]
    fn many_more_failures_than_the_baseline_convince() {
        let mut test = WorseThan::new(1.0);
        test.add(Count::new(200, 10), Count::new(1800, 9));
        assert!(test.evidence().convinces(0.0025), "{}", test.evidence());
        assert_eq!(test.totals(), (Count::new(200, 10), Count::new(1800, 9)));
    }

    #[test]
    fn what_the_tolerance_allows_is_no_evidence() {
        let mut strict = WorseThan::new(1.0);
        let mut tolerant = WorseThan::new(3.0);
        for test in [&mut strict, &mut tolerant] {
            for _ in 0..20 {
                test.add(Count::new(1000, 20), Count::new(1000, 10));
            }
        }
        assert!(strict.evidence().convinces(0.001));
        assert!(!tolerant.evidence().convinces(0.5));
    }

    #[test]
    fn a_side_without_requests_proves_nothing() {
        let mut test = WorseThan::new(1.0);
        test.add(Count::new(0, 0), Count::new(1000, 500));
        test.add(Count::new(1000, 500), Count::new(0, 0));
        assert_eq!(test.evidence().to_string(), "none");
    }

    #[test]
    fn a_limit_of_nothing_is_refuted_by_one_and_a_limit_of_all_by_none() {
        let mut nothing = AboveLimit::new(0.0);
        nothing.add(Count::new(100_000, 0));
        assert!(!nothing.evidence().convinces(0.5));
        nothing.add(Count::new(1, 1));
        assert!(nothing.evidence().convinces(1e-9));
        let mut all = AboveLimit::new(1.0);
        all.add(Count::new(10, 10));
        assert!(!all.evidence().convinces(0.5));
    }

    #[test]
    fn great_numbers_are_judged_in_moments() {
        let mut test = WorseThan::new(1.0);
        test.add(
            Count::new(1_000_000, 30_000),
            Count::new(9_000_000, 270_000),
        );
        assert!(!test.evidence().convinces(0.1), "{}", test.evidence());
    }

    #[test]
    fn more_failures_than_requests_are_all_of_them() {
        assert_eq!(Count::new(3, 5), Count::new(3, 3));
        assert_eq!(Count::new(0, 0).share(), 0.0);
    }
}
