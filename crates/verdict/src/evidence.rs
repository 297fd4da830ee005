//! How strong the case against a version is, and how strong it must be.

use std::fmt;

use crate::rule::Rule;

/// Share of releases without any fault that may be rolled back all the same, over all looks and all tests.
pub const RELEASE_ALPHA: f64 = 0.01;

/// The part of [`RELEASE_ALPHA`] for each test of `rule`, one of `all` rules of a watch.
#[must_use]
pub fn test_alpha<'rules>(rule: &Rule, all: impl IntoIterator<Item = &'rules Rule>) -> f64 {
    let whole: u32 = all.into_iter().map(|one| tests(one) * weight(one)).sum();
    RELEASE_ALPHA * f64::from(weight(rule)) / f64::from(whole.max(1))
}

/// Failed requests must be found within two looks, so their tests get the larger part.
fn weight(rule: &Rule) -> u32 {
    match rule {
        Rule::Rate { .. } => 2,
        Rule::Health | Rule::Value { .. } | Rule::Latency { .. } => 1,
    }
}

/// How many tests of a hypothesis a rule makes.
fn tests(rule: &Rule) -> u32 {
    match rule {
        Rule::Health => 0,
        Rule::Value { tolerance, .. } => u32::from(tolerance.is_some()),
        Rule::Rate {
            limit, tolerance, ..
        } => u32::from(limit.is_some()) + u32::from(tolerance.is_some()),
        Rule::Latency {
            limit, tolerance, ..
        } => u32::from(limit.is_some()) + u32::from(tolerance.is_some()),
    }
}

/// The capital of a bet against "it is no worse", as a logarithm: `Evidence(0)` is where it began.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Evidence(f64);

impl Evidence {
    /// Of the logarithm of the capital.
    pub(crate) fn of_ln(ln: f64) -> Self {
        Self(ln)
    }

    /// The capital that convinces at `alpha`.
    #[must_use]
    pub fn needed(alpha: f64) -> Self {
        Self(-alpha.ln())
    }

    /// Whether this convinces at `alpha`.
    #[must_use]
    pub fn convinces(self, alpha: f64) -> bool {
        self >= Self::needed(alpha)
    }
}

impl fmt::Display for Evidence {
    /// `400 : 1`; what is below `1 : 1` speaks for the version.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let capital = self.0.exp();
        match self.0 {
            ln if ln < 0.05 => formatter.write_str("none"),
            ln if ln < 2.3 => write!(formatter, "{capital:.1} : 1"),
            ln if ln < 13.8 => write!(formatter, "{capital:.0} : 1"),
            _ => formatter.write_str("over 1,000,000 : 1"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_of_a_release_is_divided_by_its_tests() {
        let rate = Rule::Rate {
            limit: Some(0.01),
            tolerance: Some(1.0),
            min_requests: 1,
        };
        let latency = Rule::Latency {
            limit: None,
            tolerance: Some(1.2),
            min_requests: 1,
        };
        let all = [Rule::Health, rate.clone(), latency.clone()];
        let (of_rate, of_latency) = (test_alpha(&rate, &all), test_alpha(&latency, &all));
        assert!((2.0 * of_rate + of_latency - RELEASE_ALPHA).abs() < 1e-12);
        assert!((of_rate - 2.0 * of_latency).abs() < 1e-12);
        assert!(test_alpha(&Rule::Health, &[]).is_finite());
    }

    #[test]
    fn evidence_convinces_from_what_is_needed() {
        assert!(Evidence::of_ln(401_f64.ln()).convinces(0.0025));
        assert!(!Evidence::of_ln(399_f64.ln()).convinces(0.0025));
    }

    #[test]
    fn evidence_is_shown_as_odds() {
        let shown = [-3.0, 0.5, 6.0, 99.0].map(|ln| Evidence::of_ln(ln).to_string());
        assert_eq!(shown, ["none", "1.6 : 1", "403 : 1", "over 1,000,000 : 1"]);
        assert_eq!(Evidence::needed(0.0025).to_string(), "400 : 1");
    }
}
