//! Are the new side's latencies longer? Mann–Whitney's test on fresh samples of each look, its p-values turned into
//! a bet that may be looked at again and again.

use crate::evidence::Evidence;
use crate::numbers::{ln_mean_exp, normal_tail};

/// Samples of each side below which no block is judged: identical versions would be told apart by chance (of two
/// a side in 23 % of comparisons, of five in 0.3 %, at Kayenta's level).
pub const FEWEST_SAMPLES: usize = 5;

/// Samples of both sides up to which ranks are counted out exactly; above, the normal approximation with its
/// corrections for ties and continuity is as good.
const EXACT_UP_TO: usize = 24;

/// Exponents of the bets `k · p^(k−1)` on small p-values (Vovk and Wang 2021), mixed.
const EXPONENTS: [f64; 7] = [0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.9];

/// Tests whether latencies are longer than a baseline's by more than is tolerated.
#[derive(Clone, Debug)]
pub struct SlowerThan {
    tolerance: f64,
    margin: f64,
    canary: Vec<f64>,
    baseline: Vec<f64>,
    bets: [f64; EXPONENTS.len()],
    blocks: u32,
}

impl SlowerThan {
    /// A latency may be `tolerance` times the baseline's plus `margin`, in the unit of the samples.
    #[must_use]
    pub fn new(tolerance: f64, margin: f64) -> Self {
        Self {
            tolerance: tolerance.max(1.0),
            margin: margin.max(0.0),
            canary: Vec::new(),
            baseline: Vec::new(),
            bets: [0.0; EXPONENTS.len()],
            blocks: 0,
        }
    }

    /// Takes further samples of both sides. They are judged as one block as soon as there are enough of both, and
    /// never again: each sample counts once.
    pub fn add(&mut self, canary: &[f64], baseline: &[f64]) {
        let finite = |sample: &&f64| sample.is_finite();
        self.canary.extend(canary.iter().filter(finite));
        let allowed = baseline.iter().filter(finite);
        let allowed = allowed.map(|sample| sample * self.tolerance + self.margin);
        self.baseline.extend(allowed);
        if self.canary.len() < FEWEST_SAMPLES || self.baseline.len() < FEWEST_SAMPLES {
            return;
        }
        let p = p_longer(&self.canary, &self.baseline);
        for (bet, exponent) in self.bets.iter_mut().zip(EXPONENTS) {
            *bet += exponent.ln() + (exponent - 1.0) * p.ln();
        }
        self.blocks += 1;
        self.canary.clear();
        self.baseline.clear();
    }

    /// Blocks that were judged.
    #[must_use]
    pub fn blocks(&self) -> u32 {
        self.blocks
    }

    /// The case against "no slower than is tolerated".
    #[must_use]
    pub fn evidence(&self) -> Evidence {
        Evidence::of_ln(ln_mean_exp(&self.bets))
    }
}

/// The probability that samples of one and the same distribution come out as they did or with those of `canary` still
/// longer: the one-sided p-value of Mann–Whitney's test, with ties at their middle rank.
fn p_longer(canary: &[f64], baseline: &[f64]) -> f64 {
    let ranks = doubled_ranks(canary, baseline);
    let of_canary: u64 = ranks[..canary.len()].iter().sum();
    if ranks.len() <= EXACT_UP_TO {
        exact_tail(&ranks, canary.len(), of_canary)
    } else {
        normal_approximation(&ranks, canary.len(), of_canary)
    }
}

/// Twice the middle ranks, which makes them whole, of `canary` first and then of `baseline`.
fn doubled_ranks(canary: &[f64], baseline: &[f64]) -> Vec<u64> {
    let all: Vec<f64> = canary.iter().chain(baseline).copied().collect();
    let mut order: Vec<usize> = (0..all.len()).collect();
    order.sort_by(|one, other| all[*one].total_cmp(&all[*other]));
    let mut ranks = vec![0; all.len()];
    let mut begin = 0;
    while begin < order.len() {
        let tied = order[begin..].iter();
        let end = begin
            + tied
                .take_while(|index| all[**index] == all[order[begin]])
                .count();
        for index in &order[begin..end] {
            ranks[*index] = (begin + 1 + end) as u64;
        }
        begin = end;
    }
    ranks
}

/// Of all ways to choose `chosen` of the ranks, the share whose sum is at least `least`.
fn exact_tail(ranks: &[u64], chosen: usize, least: u64) -> f64 {
    let most: usize = ranks.iter().map(|rank| *rank as usize).sum();
    // ways[k][s]: in how many ways k ranks sum up to s.
    let mut ways = vec![vec![0.0_f64; most + 1]; chosen + 1];
    ways[0][0] = 1.0;
    let mut reached = 0;
    for rank in ranks {
        let rank = *rank as usize;
        reached += rank;
        for count in (1..=chosen).rev() {
            let (fewer, these) = ways.split_at_mut(count);
            let (fewer, these) = (&fewer[count - 1], &mut these[0]);
            for sum in rank..=reached {
                these[sum] += fewer[sum - rank];
            }
        }
    }
    let all: f64 = ways[chosen].iter().sum();
    let tail: f64 = ways[chosen].iter().skip(least as usize).sum();
    (tail / all).clamp(f64::MIN_POSITIVE, 1.0)
}

fn normal_approximation(ranks: &[u64], chosen: usize, sum: u64) -> f64 {
    let all = ranks.len() as f64;
    let chosen = chosen as f64;
    let mean = ranks.iter().map(|rank| *rank as f64).sum::<f64>() / all;
    let squares: f64 = ranks.iter().map(|rank| (*rank as f64 - mean).powi(2)).sum();
    // Variance of a sum drawn without replacement; ties are in `squares` already.
    let variance = chosen * (all - chosen) * squares / (all * (all - 1.0));
    if variance <= 0.0 {
        return 1.0;
    }
    // Doubled ranks: the continuity correction of a half is one here.
    let z = (sum as f64 - chosen * mean - 1.0) / variance.sqrt();
    normal_tail(z).max(f64::MIN_POSITIVE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(one: f64, other: f64) {
        assert!((one - other).abs() < 1e-9, "{one} {other}");
    }

    #[test]
    fn p_values_are_those_of_the_tables() {
        // All five longer than all five: one of 252 ways.
        close(
            p_longer(&[6.0, 7.0, 8.0, 9.0, 10.0], &[1.0, 2.0, 3.0, 4.0, 5.0]),
            1.0 / 252.0,
        );
        close(
            p_longer(&[1.0, 2.0, 3.0, 4.0, 5.0], &[6.0, 7.0, 8.0, 9.0, 10.0]),
            1.0,
        );
        // U = 23 of 25: four of 252 ways are at least as long (1 + 1 + 2).
        close(
            p_longer(&[4.0, 7.0, 8.0, 9.0, 10.0], &[1.0, 2.0, 3.0, 5.0, 6.0]),
            4.0 / 252.0,
        );
    }

    #[test]
    fn samples_that_are_all_alike_say_nothing() {
        close(p_longer(&[1.0; 5], &[1.0; 5]), 1.0);
        close(p_longer(&[1.0; 50], &[1.0; 50]), 1.0);
    }

    #[test]
    fn the_approximation_joins_the_exact_count() {
        let canary: Vec<f64> = (0..30).map(|index| f64::from(index) + 4.5).collect();
        let baseline: Vec<f64> = (0..30).map(f64::from).collect();
        let ranks = doubled_ranks(&canary, &baseline);
        let sum = ranks[..30].iter().sum();
        let exact = exact_tail(&ranks, 30, sum);
        let approximate = normal_approximation(&ranks, 30, sum);
        assert!(
            (exact / approximate - 1.0).abs() < 0.05,
            "{exact} {approximate}"
        );
    }

    #[test]
    fn fewer_than_five_a_side_are_kept_for_the_next_look() {
        let mut test = SlowerThan::new(1.0, 0.0);
        test.add(&[9.0; 4], &[1.0; 50]);
        assert_eq!(test.blocks(), 0);
        test.add(&[9.0], &[]);
        assert_eq!(test.blocks(), 1);
    }

    #[test]
    fn a_slow_version_convinces_and_one_within_the_tolerance_does_not() {
        let baseline: Vec<f64> = (0..20).map(|index| 0.1 + f64::from(index) / 1e3).collect();
        let slow: Vec<f64> = baseline.iter().map(|sample| sample * 1.5).collect();
        let mut strict = SlowerThan::new(1.2, 0.0);
        let mut tolerant = SlowerThan::new(1.2, 0.1);
        for test in [&mut strict, &mut tolerant] {
            for _ in 0..3 {
                test.add(&slow, &baseline);
            }
        }
        assert!(strict.evidence().convinces(0.001), "{}", strict.evidence());
        assert!(!tolerant.evidence().convinces(0.5));
    }

    #[test]
    fn what_is_no_number_is_no_sample() {
        let mut test = SlowerThan::new(1.0, 0.0);
        test.add(&[f64::NAN, f64::INFINITY, 1.0, 1.0, 1.0, 1.0], &[1.0; 5]);
        assert_eq!(test.blocks(), 0);
    }
}
