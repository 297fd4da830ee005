//! One check over the length of a watch: what each look says, and what all of them say in the end.

use crate::evidence::Evidence;
use crate::ranks::SlowerThan;
use crate::rates::{AboveLimit, Count, WorseThan};
use crate::rule::{Limit, Measurement, Percentile, Policies, Policy, Rule, Unit, Verdict, percent};

/// Looks in a row without data, or with an error, after which what was seen before says nothing about the present.
const FORGOTTEN_AFTER: u32 = 3;

/// What one look says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// The answer.
    pub verdict: Verdict,
    /// One line: what was measured, on how much, against which limit.
    pub line: String,
}

/// What all looks say in the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Conclusion {
    /// It counts.
    Judged(Judgement),
    /// It was to be ignored, and this is what is ignored.
    Ignored(Judgement),
}

/// A check under way.
#[derive(Clone, Debug)]
pub struct Check {
    rule: Rule,
    consecutive: u32,
    policies: Policies,
    alpha: f64,
    above: Option<AboveLimit>,
    worse: Option<WorseThan>,
    slower: Option<SlowerThan>,
    requests: u64,
    breaches: u32,
    unseen: u32,
    errors: u32,
    failed: bool,
    last: Option<Judgement>,
    last_seen: Option<Judgement>,
}

impl Check {
    /// A check that has seen nothing. `consecutive` breaches in a row of a bound or of health make it fail; a test that
    /// is convinced is so after one. `alpha` is the part of the budget for each of its tests.
    #[must_use]
    pub fn new(rule: Rule, consecutive: u32, policies: Policies, alpha: f64) -> Self {
        let mut check = Self {
            consecutive: consecutive.max(1),
            policies,
            alpha,
            above: None,
            worse: None,
            slower: None,
            requests: 0,
            breaches: 0,
            unseen: 0,
            errors: 0,
            failed: false,
            last: None,
            last_seen: None,
            rule,
        };
        match &check.rule {
            Rule::Health => {}
            Rule::Rate {
                limit, tolerance, ..
            } => {
                check.above = limit.map(AboveLimit::new);
                check.worse = tolerance.map(WorseThan::new);
            }
            Rule::Value { tolerance, .. } => {
                check.slower = tolerance.map(|times| SlowerThan::new(times, 0.0));
            }
            Rule::Latency {
                limit, tolerance, ..
            } => {
                let share = limit.map(|(percentile, _)| percentile.share_above());
                check.above = share.map(AboveLimit::new);
                check.slower = tolerance.map(|times| SlowerThan::new(times, 0.0));
            }
        }
        check
    }

    /// Whether it has failed: it stays so.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.failed
    }

    /// Errors in a row, up to now.
    #[must_use]
    pub fn errors_in_a_row(&self) -> u32 {
        self.errors
    }

    /// The last look's answer.
    #[must_use]
    pub fn last(&self) -> Option<&Judgement> {
        self.last.as_ref()
    }

    /// Whether it fails at this moment: some breaches are mended.
    #[must_use]
    pub fn is_failing(&self) -> bool {
        let last = self.last.as_ref();
        last.is_some_and(|judgement| judgement.verdict == Verdict::Fail)
    }

    /// What it asks.
    #[must_use]
    pub fn rule(&self) -> &Rule {
        &self.rule
    }

    /// Takes what a look measured.
    pub fn look(&mut self, seen: &Measurement) -> Judgement {
        let judged = match seen {
            Measurement::NoData(why) => (Verdict::NoData, format!("no data: {why}")),
            Measurement::Error(why) => (Verdict::Error, format!("could not be measured: {why}")),
            Measurement::Healthy(what) => (Verdict::Pass, what.clone()),
            Measurement::Unhealthy(what) => self.breach(what.clone()),
            Measurement::Counts { canary, baseline } => self.counts(*canary, *baseline),
            Measurement::Value { canary, baseline } => self.value(*canary, *baseline),
            Measurement::Latencies { canary, baseline } => self.latencies(canary, baseline),
        };
        let judgement = self.under_policy(judged);
        match judgement.verdict {
            Verdict::Pass | Verdict::Fail => {
                self.unseen = 0;
                self.errors = 0;
                self.last_seen = Some(judgement.clone());
            }
            Verdict::NoData => {
                self.unseen += 1;
                self.errors = 0;
            }
            Verdict::Error => {
                self.unseen += 1;
                self.errors += 1;
            }
        }
        if judgement.verdict == Verdict::Pass && !self.is_held_back(seen) {
            self.breaches = 0;
        }
        self.failed |= judgement.verdict == Verdict::Fail;
        self.last = Some(judgement.clone());
        judgement
    }

    /// Whether requests of a look that is still under way, counted in the order in which they were sent, prove a share
    /// above the limit. The bet against a limit is fair after every request, so it may be looked at at any time; the one
    /// against a baseline is fair look by look, and is left out.
    #[must_use]
    pub fn proves(&self, further: Count) -> bool {
        let (Rule::Rate { min_requests, .. }, Some(above)) = (&self.rule, &self.above) else {
            return false;
        };
        let mut above = above.clone();
        above.add(further);
        self.requests + further.requests >= *min_requests && above.evidence().convinces(self.alpha)
    }

    /// What all looks together say. Failed once is failed; what was seen counts for as long as it is not forgotten.
    #[must_use]
    pub fn conclusion(&self) -> Conclusion {
        let nothing = Judgement {
            verdict: Verdict::NoData,
            line: "no data: it was never looked at".to_owned(),
        };
        let last = self.last.clone().unwrap_or(nothing);
        let judgement = match &self.last_seen {
            Some(seen) if self.failed || self.unseen < FORGOTTEN_AFTER => seen.clone(),
            Some(_) | None => last,
        };
        let judgement = self.undecided().unwrap_or(judgement);
        let is_ignored = match judgement.verdict {
            Verdict::Pass | Verdict::Fail => false,
            Verdict::NoData => self.policies.no_data == Policy::Ignore,
            Verdict::Error => self.policies.error == Policy::Ignore,
        };
        if is_ignored {
            Conclusion::Ignored(judgement)
        } else {
            Conclusion::Judged(judgement)
        }
    }

    /// Above its limit as far as one can see, and yet not proven: that is no pass.
    fn undecided(&self) -> Option<Judgement> {
        let above = self.above.as_ref().filter(|_| !self.failed)?;
        let allowed = match &self.rule {
            Rule::Rate { limit, .. } => (*limit)?,
            Rule::Latency { limit, .. } => limit.as_ref()?.0.share_above(),
            Rule::Health | Rule::Value { .. } => return None,
        };
        let seen = self.last_seen.as_ref()?;
        (above.total().share() > allowed).then(|| Judgement {
            verdict: Verdict::NoData,
            line: format!(
                "no data to decide it: {}; above the limit, and too few requests to be sure",
                seen.line
            ),
        })
    }

    fn under_policy(&self, (verdict, line): (Verdict, String)) -> Judgement {
        let fails = match verdict {
            Verdict::Pass | Verdict::Fail => false,
            Verdict::NoData => self.policies.no_data == Policy::Fail,
            Verdict::Error => self.policies.error == Policy::Fail,
        };
        Judgement {
            verdict: if fails { Verdict::Fail } else { verdict },
            line,
        }
    }

    /// Whether the look was a breach that waits for more of its kind.
    fn is_held_back(&self, seen: &Measurement) -> bool {
        match (seen, &self.rule) {
            (Measurement::Unhealthy(_), _) => true,
            (
                Measurement::Value { canary, .. },
                Rule::Value {
                    limit: Some(limit), ..
                },
            ) => !limit.allows(*canary),
            _ => false,
        }
    }

    /// A breach that counts once it has come often enough in a row.
    fn breach(&mut self, line: String) -> (Verdict, String) {
        self.breaches += 1;
        if self.breaches >= self.consecutive {
            return (Verdict::Fail, line);
        }
        let line = format!(
            "{line} ({} of {} in a row that count)",
            self.breaches, self.consecutive
        );
        (Verdict::Pass, line)
    }

    fn counts(&mut self, canary: Count, baseline: Option<Count>) -> (Verdict, String) {
        let Rule::Rate { min_requests, .. } = self.rule else {
            return mismatch();
        };
        self.requests += canary.requests;
        if let Some(above) = &mut self.above {
            above.add(canary);
        }
        if let (Some(worse), Some(baseline)) = (&mut self.worse, baseline) {
            worse.add(canary, baseline);
        }
        let line = self.rate_line(canary);
        if canary.requests == 0 {
            return (
                Verdict::NoData,
                format!("no data: no request since the last look; {line}"),
            );
        }
        if self.requests < min_requests {
            return (
                Verdict::NoData,
                format!("no data yet: {line}; {min_requests} requests are needed"),
            );
        }
        let compared = self.worse.as_ref().map(|worse| worse.totals().1.requests);
        if self.above.is_none() && compared == Some(0) {
            return (
                Verdict::NoData,
                format!("no data: {line}; the baseline had no request"),
            );
        }
        self.tested(line)
    }

    fn rate_line(&self, canary: Count) -> String {
        let total = self.above.as_ref().map(AboveLimit::total);
        let totals = self.worse.as_ref().map(WorseThan::totals);
        let of_canary = total.or(totals.map(|(canary, _)| canary));
        let mut line = format!("{} requests failed", share(of_canary.unwrap_or(canary)));
        if let Rule::Rate {
            limit: Some(limit), ..
        } = self.rule
        {
            line.push_str(&format!(", allowed are {}", percent(limit)));
        }
        if let (Some((_, baseline)), Rule::Rate { tolerance, .. }) = (totals, &self.rule) {
            line.push_str(&format!("; baseline {}", share(baseline)));
            if let Some(times) = tolerance.filter(|times| *times > 1.0) {
                line.push_str(&format!(", allowed is {times} times that"));
            }
        }
        line
    }

    fn value(&mut self, canary: f64, baseline: Option<f64>) -> (Verdict, String) {
        let Rule::Value {
            limit,
            unit,
            tolerance,
        } = self.rule
        else {
            return mismatch();
        };
        if !canary.is_finite() {
            return (Verdict::NoData, format!("no data: it is {canary}"));
        }
        if let (Some(slower), Some(baseline)) = (&mut self.slower, baseline) {
            slower.add(&[canary], &[baseline]);
        }
        let mut line = unit.show(canary);
        match limit {
            Some(Limit::Max(limit)) => {
                line.push_str(&format!(", allowed are at most {}", unit.show(limit)));
            }
            Some(Limit::Min(limit)) => {
                line.push_str(&format!(", wanted are at least {}", unit.show(limit)));
            }
            None => {}
        }
        if let Some(baseline) = baseline {
            line.push_str(&format!("; baseline {}", unit.show(baseline)));
        }
        if limit.is_some_and(|limit| !limit.allows(canary)) {
            return self.breach(line);
        }
        if limit.is_none() && tolerance.is_some() && !self.has_compared() {
            return (
                Verdict::NoData,
                format!("no data yet: {line}; 5 looks at both sides are needed"),
            );
        }
        self.tested(line)
    }

    fn latencies(&mut self, canary: &[f64], baseline: &[f64]) -> (Verdict, String) {
        let Rule::Latency {
            limit,
            min_requests,
            tolerance,
        } = self.rule
        else {
            return mismatch();
        };
        self.requests += canary.len() as u64;
        if let (Some(above), Some((_, seconds))) = (&mut self.above, limit) {
            let slow = canary.iter().filter(|sample| **sample > seconds).count();
            above.add(Count::new(canary.len() as u64, slow as u64));
        }
        if let Some(slower) = &mut self.slower {
            slower.add(canary, baseline);
        }
        let percentile = limit.map_or(Percentile::P95, |(percentile, _)| percentile);
        let Some(now) = percentile.of(canary) else {
            return (
                Verdict::NoData,
                "no data: no request since the last look".to_owned(),
            );
        };
        let mut line = format!(
            "{percentile} {} on {} requests",
            Unit::Seconds.show(now),
            canary.len()
        );
        if let (Some(above), Some((_, seconds))) = (&self.above, limit) {
            line.push_str(&format!(
                ", allowed are {}; {} took longer since the start",
                Unit::Seconds.show(seconds),
                share(above.total())
            ));
        }
        if let Some(of_baseline) = percentile.of(baseline) {
            let of_baseline = Unit::Seconds.show(of_baseline);
            line.push_str(&format!(
                "; baseline {of_baseline} on {} requests",
                baseline.len()
            ));
        }
        if self.requests < min_requests {
            return (
                Verdict::NoData,
                format!("no data yet: {line}; {min_requests} requests are needed"),
            );
        }
        if limit.is_none() && tolerance.is_some() && !self.has_compared() {
            return (
                Verdict::NoData,
                format!("no data yet: {line}; 5 requests of both sides are needed"),
            );
        }
        self.tested(line)
    }

    fn has_compared(&self) -> bool {
        self.slower.as_ref().is_some_and(|test| test.blocks() > 0)
    }

    /// Asks the tests. What is shown of the evidence is the strongest one.
    fn tested(&self, mut line: String) -> (Verdict, String) {
        let evidences = [
            self.above.as_ref().map(AboveLimit::evidence),
            self.worse.as_ref().map(WorseThan::evidence),
            self.slower.as_ref().map(SlowerThan::evidence),
        ];
        let strongest = evidences
            .into_iter()
            .flatten()
            .reduce(|one, other| if other > one { other } else { one });
        let Some(evidence) = strongest else {
            return (Verdict::Pass, line);
        };
        line.push_str(&format!(
            "; evidence against it {evidence}, convincing from {}",
            Evidence::needed(self.alpha)
        ));
        if evidence.convinces(self.alpha) {
            (Verdict::Fail, line)
        } else {
            (Verdict::Pass, line)
        }
    }
}

fn mismatch() -> (Verdict, String) {
    let line = "what was measured is not what the check asks for".to_owned();
    (Verdict::Error, line)
}

fn share(count: Count) -> String {
    format!(
        "{} of {} ({})",
        count.failed,
        count.requests,
        percent(count.share())
    )
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
