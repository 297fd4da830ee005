//! Logarithms of factorials and sums of exponentials, as exact tests need them.

/// ln Γ(x) for x > 0, by Lanczos' approximation (g = 7, n = 9), good to 1e-13.
fn ln_gamma(x: f64) -> f64 {
    const COEFFICIENTS: [f64; 9] = [
        0.999_999_999_999_809_9,
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
    let base = x + 7.5;
    let series = COEFFICIENTS.iter().zip(0_u32..).skip(1);
    let series: f64 = series
        .map(|(coefficient, index)| coefficient / (x + f64::from(index)))
        .sum();
    0.5 * (2.0 * std::f64::consts::PI).ln() + (x + 0.5) * base.ln() - base
        + (COEFFICIENTS[0] + series).ln()
}

/// The logarithm of "n choose k"; −∞ where k is more than n.
pub(crate) fn ln_choose(n: u64, k: u64) -> f64 {
    if k > n {
        return f64::NEG_INFINITY;
    }
    let factorial = |value: u64| ln_gamma(value as f64 + 1.0);
    factorial(n) - factorial(k) - factorial(n - k)
}

/// ln Σ exp(value), without overflow; −∞ for no values.
pub(crate) fn ln_sum_exp(values: &[f64]) -> f64 {
    let largest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if largest.is_infinite() {
        return largest;
    }
    let sum: f64 = values.iter().map(|value| (value - largest).exp()).sum();
    largest + sum.ln()
}

/// The logarithm of the mean of what `logs` are the logarithms of.
pub(crate) fn ln_mean_exp(logs: &[f64]) -> f64 {
    ln_sum_exp(logs) - (logs.len().max(1) as f64).ln()
}

/// P(Z > z) of the standard normal distribution (complementary error function of Numerical Recipes, relative error
/// below 1.2e-7 everywhere, tails included).
pub(crate) fn normal_tail(z: f64) -> f64 {
    let x = z.abs() / std::f64::consts::SQRT_2;
    let t = 1.0 / (1.0 + 0.5 * x);
    let series = [
        -1.265_512_23,
        1.000_023_68,
        0.374_091_96,
        0.096_784_18,
        -0.186_288_06,
        0.278_868_07,
        -1.135_203_98,
        1.488_515_87,
        -0.822_152_23,
        0.170_872_77,
    ];
    let polynomial = series.iter().rev().fold(0.0, |sum, term| sum * t + term);
    let tail = 0.5 * t * (-x * x + polynomial).exp();
    if z >= 0.0 { tail } else { 1.0 - tail }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(one: f64, other: f64) {
        assert!((one - other).abs() <= 1e-6 * other.abs(), "{one} {other}");
    }

    #[test]
    fn binomial_coefficients_are_those_of_the_tables() {
        close(ln_choose(5, 2).exp(), 10.0);
        close(ln_choose(60, 30).exp(), 1.182_645_815_648_612_3e17);
        assert_eq!(ln_choose(3, 4), f64::NEG_INFINITY);
    }

    #[test]
    fn normal_tails_are_those_of_the_tables() {
        close(normal_tail(0.0), 0.5);
        close(normal_tail(1.959_963_984_540_054), 0.025);
        close(normal_tail(-1.281_551_565_544_600_4), 0.9);
        close(normal_tail(6.0), 9.865_876e-10);
    }

    #[test]
    fn sums_of_exponentials_do_not_overflow() {
        close(ln_sum_exp(&[1000.0, 1000.0]), 1000.0 + 2.0_f64.ln());
        assert_eq!(ln_sum_exp(&[]), f64::NEG_INFINITY);
        assert_eq!(ln_mean_exp(&[f64::INFINITY, 0.0]), f64::INFINITY);
    }
}
