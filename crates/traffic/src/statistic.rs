//! What counted answers prove: the bound on lost requests, and whether observed shares fit.
//! Exact binomial intervals (Clopper and Pearson, 1934); no clock, no network.

use crate::share::Percent;

/// Confidence of every bound this crate states.
pub const CONFIDENCE: f64 = 0.95;

/// The largest loss rate, 0 to 1, that `lost` of `probes` still allows at 95 %.
///
/// One-sided: with no loss in N probes it is 1 − 0.05^(1/N), about 3/N. Without a probe nothing is
/// known, and the bound is 1.
pub fn loss_bound(probes: u64, lost: u64) -> f64 {
    upper_bound(lost, probes, 1.0 - CONFIDENCE)
}

/// The two-sided 95 % interval for the rate behind `hits` of `trials`.
pub fn interval(hits: u64, trials: u64) -> (f64, f64) {
    let tail = (1.0 - CONFIDENCE) / 2.0;
    (
        lower_bound(hits, trials, tail),
        upper_bound(hits, trials, tail),
    )
}

/// What the answers of a window say about the share that a side was given.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ShareVerdict {
    /// The share lies inside the interval that the answers allow.
    Fits {
        /// The observed share, 0 to 1.
        observed: f64,
    },
    /// The share lies outside it.
    Differs {
        /// The observed share, 0 to 1.
        observed: f64,
        /// The interval that the answers allow.
        interval: (f64, f64),
    },
    /// Too few answers to tell this share from one ten points away.
    TooFew {
        /// Answers needed.
        needed: u64,
    },
}

/// Compares the share that `hits` of `answers` shows with the one that was set.
///
/// 0 % and 100 % are exact: a single answer of the other side contradicts them.
pub fn share_verdict(hits: u64, answers: u64, set: Percent) -> ShareVerdict {
    let needed = answers_needed(set);
    if answers < needed {
        return ShareVerdict::TooFew { needed };
    }
    let observed = hits as f64 / answers as f64;
    let (low, high) = interval(hits, answers);
    let expected = f64::from(set.get()) / 100.0;
    let fits = match set {
        Percent::ALL => hits == answers,
        Percent::NONE => hits == 0,
        _ => low <= expected && expected <= high,
    };
    if fits {
        ShareVerdict::Fits { observed }
    } else {
        ShareVerdict::Differs {
            observed,
            interval: (low, high),
        }
    }
}

/// Answers that a window needs before its shares are judged.
///
/// For 0 % and 100 %: 30, a bound of 10 %. In between: enough that the interval is at most twenty
/// points wide (normal approximation, z = 1.96, half width 0.1).
pub fn answers_needed(set: Percent) -> u64 {
    match set {
        Percent::NONE | Percent::ALL => 30,
        _ => {
            let rate = f64::from(set.get()) / 100.0;
            let needed = 1.96_f64.powi(2) * rate * (1.0 - rate) / 0.01;
            (needed.ceil() as u64).max(30)
        }
    }
}

fn upper_bound(hits: u64, trials: u64, tail: f64) -> f64 {
    if hits >= trials {
        return 1.0;
    }
    // P(X <= hits | p) = I_{1-p}(n - k, k + 1): the bound is the p that makes it `tail`.
    bisect(|p| regularised_beta(1.0 - p, (trials - hits) as f64, hits as f64 + 1.0) > tail)
}

fn lower_bound(hits: u64, trials: u64, tail: f64) -> f64 {
    if hits == 0 || trials == 0 {
        return 0.0;
    }
    // P(X >= hits | p) = I_p(k, n - k + 1): the bound is the p that makes it `tail`.
    bisect(|p| regularised_beta(p, hits as f64, (trials - hits) as f64 + 1.0) < tail)
}

/// The point in 0…1 where `below` turns from true to false.
fn bisect(below: impl Fn(f64) -> bool) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..80 {
        let middle = (low + high) / 2.0;
        if below(middle) {
            low = middle
        } else {
            high = middle
        }
    }
    (low + high) / 2.0
}

/// The regularised incomplete beta function I_x(a, b), by Lentz's continued fraction
/// (Numerical Recipes, 6.4).
fn regularised_beta(x: f64, a: f64, b: f64) -> f64 {
    if x <= 0.0 {
        return 0.0;
    }
    if x >= 1.0 {
        return 1.0;
    }
    let front = (ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b) + a * x.ln() + b * (-x).ln_1p()).exp();
    // The fraction converges quickly only on this side of the mean; the other one by symmetry.
    if x < (a + 1.0) / (a + b + 2.0) {
        front * beta_fraction(x, a, b) / a
    } else {
        1.0 - front * beta_fraction(1.0 - x, b, a) / b
    }
}

fn beta_fraction(x: f64, a: f64, b: f64) -> f64 {
    const TINY: f64 = 1e-300;
    let clamp = |value: f64| if value.abs() < TINY { TINY } else { value };
    let mut c = 1.0;
    let mut d = 1.0 / clamp(1.0 - (a + b) * x / (a + 1.0));
    let mut result = d;
    for step in 1..=500_u32 {
        let m = f64::from(step);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        d = 1.0 / clamp(1.0 + even * d);
        c = clamp(1.0 + even / c);
        result *= d * c;
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        d = 1.0 / clamp(1.0 + odd * d);
        c = clamp(1.0 + odd / c);
        let change = d * c;
        result *= change;
        if (change - 1.0).abs() < 1e-14 {
            break;
        }
    }
    result
}

/// The logarithm of the gamma function for positive numbers (Lanczos, g = 7, n = 9).
fn ln_gamma(x: f64) -> f64 {
    const COEFFICIENTS: [f64; 8] = [
        676.520_368_121_885_1,
        -1_259.139_216_722_402_8,
        771.323_428_777_653_1,
        -176.615_029_162_140_6,
        12.507_343_278_686_905,
        -0.138_571_095_265_720_12,
        9.984_369_578_019_572e-6,
        1.505_632_735_149_311_6e-7,
    ];
    let x = x - 1.0;
    let mut sum = 0.999_999_999_999_809_9;
    for (index, coefficient) in COEFFICIENTS.iter().enumerate() {
        sum += coefficient / (x + index as f64 + 1.0);
    }
    let t = x + 7.5;
    0.5 * (2.0 * std::f64::consts::PI).ln() + (x + 0.5) * t.ln() - t + sum.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(left: f64, right: f64) -> bool {
        (left - right).abs() < 1e-6
    }

    #[test]
    fn clean_probes_bound_the_loss_to_about_three_over_n() {
        for probes in [10_u64, 100, 1_000, 100_000] {
            let exact = 1.0 - 0.05_f64.powf(1.0 / probes as f64);
            assert!(close(loss_bound(probes, 0), exact), "{probes}");
            assert!(loss_bound(probes, 0) <= 3.0 / probes as f64);
        }
    }

    #[test]
    fn nothing_probed_bounds_nothing() {
        assert!(close(loss_bound(0, 0), 1.0));
        assert!(close(loss_bound(5, 5), 1.0));
    }

    // Reference values: R 4.3, binom.test(k, n)$conf.int.
    #[test]
    fn intervals_are_clopper_pearsons() {
        for (hits, trials, low, high) in [
            (5, 10, 0.187_086_0, 0.812_914_0),
            (0, 20, 0.0, 0.168_433_5),
            (54, 60, 0.794_947_3, 0.962_383_9),
        ] {
            let (lower, upper) = interval(hits, trials);
            assert!((lower - low).abs() < 1e-4, "{hits}/{trials}: {lower}");
            assert!((upper - high).abs() < 1e-4, "{hits}/{trials}: {upper}");
        }
    }

    #[test]
    fn all_means_all() {
        assert!(matches!(
            share_verdict(30, 30, Percent::ALL),
            ShareVerdict::Fits { .. }
        ));
        assert!(matches!(
            share_verdict(9_999, 10_000, Percent::ALL),
            ShareVerdict::Differs { .. }
        ));
        assert!(matches!(
            share_verdict(1, 10_000, Percent::NONE),
            ShareVerdict::Differs { .. }
        ));
    }

    #[test]
    fn a_share_is_judged_by_its_interval_and_not_on_a_handful() {
        let tenth = Percent::new(10).unwrap();
        assert!(matches!(
            share_verdict(1, 9, tenth),
            ShareVerdict::TooFew { needed: 35 }
        ));
        assert!(matches!(
            share_verdict(6, 60, tenth),
            ShareVerdict::Fits { .. }
        ));
        assert!(matches!(
            share_verdict(30, 60, tenth),
            ShareVerdict::Differs { .. }
        ));
    }
}
