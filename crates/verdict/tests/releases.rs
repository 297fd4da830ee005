//! How often a watch is wrong, over whole simulated releases with fixed seeds: 45 looks each, a canary beside its
//! baseline, the checks of the preset `canary`.

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use switchyard_verdict::rule::{Percentile, Policies, Rule};
use switchyard_verdict::{Check, Count, Measurement, test_alpha};

const RELEASES: u64 = 1_000;
const LOOKS: u32 = 45;

/// A version as its users see it.
#[derive(Clone, Copy)]
struct Version {
    error_rate: f64,
    median_seconds: f64,
}

const GOOD: Version = Version {
    error_rate: 0.005,
    median_seconds: 0.08,
};

/// The statistical checks of a canary, with their common budget.
struct Watch {
    errors: Check,
    latency: Check,
}

impl Watch {
    fn new() -> Self {
        let errors = Rule::Rate {
            limit: Some(0.01),
            tolerance: Some(1.0),
            min_requests: 100,
        };
        let latency = Rule::Latency {
            limit: Some((Percentile::P95, 0.5)),
            tolerance: Some(1.2),
            min_requests: 20,
        };
        let rules = [errors, latency];
        let [errors, latency] = rules.each_ref().map(|rule| {
            let alpha = test_alpha(rule, &rules);
            Check::new(rule.clone(), 1, Policies::default(), alpha)
        });
        Self { errors, latency }
    }

    /// One interval's requests; whether the version is rolled back after it.
    fn look(
        &mut self,
        rng: &mut SmallRng,
        requests: u64,
        canary: Version,
        baseline: Version,
    ) -> bool {
        let counts = Measurement::Counts {
            canary: Count::new(requests, failures(rng, requests, canary.error_rate)),
            baseline: Some(Count::new(
                9 * requests,
                failures(rng, 9 * requests, baseline.error_rate),
            )),
        };
        self.errors.look(&counts);
        // What the watch's own probes of the front door see: five a second would be 300; fewer are harder.
        let latencies = Measurement::Latencies {
            canary: latencies(rng, 12, canary),
            baseline: latencies(rng, 48, baseline),
        };
        self.latency.look(&latencies);
        self.errors.has_failed() || self.latency.has_failed()
    }
}

fn failures(rng: &mut SmallRng, requests: u64, rate: f64) -> u64 {
    // From one failure to the next (geometric), so that rare ones cost little.
    let (mut at, mut failed) = (0.0, 0);
    loop {
        let uniform: f64 = rng.random();
        at += ((1.0 - uniform).ln() / (1.0 - rate).ln()).floor() + 1.0;
        if at > requests as f64 {
            return failed;
        }
        failed += 1;
    }
}

/// Log-normal, as latencies are: a long tail to the right.
fn latencies(rng: &mut SmallRng, count: usize, version: Version) -> Vec<f64> {
    (0..count)
        .map(|_| {
            let (one, two): (f64, f64) = (rng.random(), rng.random());
            let normal =
                (-2.0 * (1.0 - one).ln()).sqrt() * (2.0 * std::f64::consts::PI * two).cos();
            version.median_seconds * (0.6 * normal).exp()
        })
        .collect()
}

/// The look after which each release is rolled back.
fn rolled_back(
    seed: u64,
    requests: u64,
    looks: u32,
    canary: Version,
    baseline: Version,
) -> Vec<Option<u32>> {
    (0..RELEASES)
        .map(|release| {
            let mut rng = SmallRng::seed_from_u64(seed * RELEASES + release);
            let mut watch = Watch::new();
            (1..=looks).find(|_| watch.look(&mut rng, requests, canary, baseline))
        })
        .collect()
}

fn count(releases: &[Option<u32>], within: u32) -> usize {
    releases
        .iter()
        .filter(|look| look.is_some_and(|look| look <= within))
        .count()
}

#[test]
fn an_identical_version_is_rolled_back_in_at_most_one_release_of_a_hundred() {
    for (seed, requests) in [(1, 200), (2, 1_000)] {
        let wrong = count(&rolled_back(seed, requests, LOOKS, GOOD, GOOD), LOOKS);
        assert!(
            wrong <= 10,
            "{requests} requests a look: {wrong} of {RELEASES}"
        );
    }
}

#[test]
fn an_identical_version_stays_where_both_sides_are_near_the_limit() {
    let near = Version {
        error_rate: 0.009,
        ..GOOD
    };
    let wrong = count(&rolled_back(3, 200, LOOKS, near, near), LOOKS);
    assert!(wrong <= 10, "{wrong} of {RELEASES}");
}

#[test]
fn ten_times_the_errors_are_found_within_two_looks() {
    let bad = Version {
        error_rate: 0.05,
        ..GOOD
    };
    for (seed, requests) in [(4, 200), (5, 1_000)] {
        let found = count(&rolled_back(seed, requests, 2, bad, GOOD), 2);
        assert!(
            found >= 990,
            "{requests} requests a look: {found} of {RELEASES}"
        );
    }
}

#[test]
fn a_version_that_is_twice_as_slow_is_found_within_ten_looks() {
    let slow = Version {
        median_seconds: 0.16,
        ..GOOD
    };
    let found = count(&rolled_back(6, 200, 10, slow, GOOD), 10);
    assert!(found >= 990, "{found} of {RELEASES}");
}

#[test]
fn twice_the_errors_are_found_within_the_release() {
    let worse = Version {
        error_rate: 0.01,
        ..GOOD
    };
    let found = count(&rolled_back(7, 1_000, LOOKS, worse, GOOD), LOOKS);
    assert!(found >= 990, "{found} of {RELEASES}");
}
