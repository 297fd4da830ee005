//! The watching itself: look after look, and at once when the cluster's own watch reports something. What it ends with
//! is data; outputs and records are written elsewhere.

use std::time::{Duration, Instant};

use futures::{StreamExt, stream};
use jiff::Timestamp;
use switchyard_runner::child::{Child, ChildResult};
use switchyard_runner::{Context, Failure, values};
use switchyard_verdict::{
    Action, Conclusion, Decision, Judgement, Measurement, Ordered, Thresholds, Verdict, decide,
};

use crate::checklist::Kept;
use crate::front_door::{Ended, Probes, probe};
use crate::inputs::ReleaseWatch;
use crate::plan::{Source, measuring_limit, told_apart};
use crate::pods::Sides;
use crate::running::{Means, Raw, Running, measure};
use crate::samples::{Moment, Samples};
use crate::scale_up::Scaler;

/// Checks measured at the same time.
const CONCURRENCY: usize = 8;

/// A watch under way.
pub(crate) struct Watch<'run> {
    pub(crate) inputs: &'run ReleaseWatch,
    pub(crate) context: &'run Context,
    pub(crate) means: Means<'run>,
    pub(crate) pods: Sides,
    pub(crate) running: Vec<Running>,
    pub(crate) samples: &'run mut Samples,
    pub(crate) checklist: Option<Kept>,
    ordered: Ordered,
    started: Instant,
    look: u32,
    probes: u64,
    lost: u64,
    has_broken_circuit: bool,
}

/// How a watch ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) verdict: Verdict,
    pub(crate) action: Action,
    pub(crate) reason: String,
    /// The check that decided it.
    pub(crate) because_of: Option<String>,
}

impl<'run> Watch<'run> {
    /// A watch that has not begun.
    pub(crate) fn new(
        inputs: &'run ReleaseWatch,
        context: &'run Context,
        means: Means<'run>,
        (running, pods): (Vec<Running>, Sides),
        samples: &'run mut Samples,
    ) -> Self {
        Self {
            inputs,
            context,
            means,
            pods,
            running,
            samples,
            checklist: None,
            ordered: Ordered::default(),
            started: Instant::now(),
            look: 0,
            probes: 0,
            lost: 0,
            has_broken_circuit: false,
        }
    }

    /// Probes sent to the front door, and those without a good answer.
    pub(crate) fn probed(&self) -> (u64, u64) {
        (self.probes, self.lost)
    }

    /// Watches to the end, or to the first thing that must not go on.
    ///
    /// # Errors
    /// What keeps it from watching at all.
    pub(crate) async fn run(
        &mut self,
        mut scaler: Option<&mut Scaler<'_>>,
    ) -> Result<Outcome, Failure> {
        self.started = Instant::now();
        self.open().await?;
        loop {
            let ended = self.act(scaler.as_deref_mut()).await?;
            let left = self.inputs.duration.saturating_sub(self.started.elapsed());
            let ended = ended.or_else(|| left.is_zero().then(|| self.concluded()));
            if let Some(mut outcome) = ended {
                if let Some(scaler) = &scaler
                    && let Some(standing) = scaler.standing().await
                {
                    outcome.reason.push_str(&format!("; {standing}"));
                }
                return Ok(outcome);
            }
            self.look += 1;
            self.look_for(self.inputs.interval.min(left)).await?;
        }
    }

    /// Before the first interval: health is judged, and counters say where they begin. Numbers of a window would tell of
    /// the time before the watch.
    async fn open(&mut self) -> Result<(), Failure> {
        let moment = self.moment(Duration::ZERO);
        let opens = |source: &Source| match source {
            Source::Pods(_) | Source::Http(_) | Source::Counts { .. } => true,
            Source::FrontDoor(_) | Source::Value { .. } => false,
        };
        self.measure(moment, &Probes::default(), opens).await
    }

    async fn look_for(&mut self, span: Duration) -> Result<(), Failure> {
        let began = Instant::now();
        let ends = tokio::time::Instant::now() + span;
        let (http, inputs) = (self.means.http, self.inputs);
        let running = &self.running;
        let canary = told_apart(inputs);
        let baseline = inputs.baseline_version.as_deref();
        let proves = |one: &Running, probes: &Probes| match &one.planned.source {
            Source::FrontDoor(view) => {
                let measured = probes.measured(*view, canary, baseline);
                !one.check.is_failing()
                    && matches!(measured, Measurement::Counts { canary, .. } if one.check.proves(canary))
            }
            Source::Pods(_) | Source::Http(_) | Source::Counts { .. } | Source::Value { .. } => {
                false
            }
        };
        let is_enough = |probes: &Probes| running.iter().any(|one| proves(one, probes));
        let interval = async {
            let (probes, ended) = probe(http, inputs, span, is_enough).await;
            if ended == Ended::AsPlanned {
                tokio::time::sleep_until(ends).await;
            }
            (probes, ended)
        };
        let is_guarded = |watched| {
            let is_it = |source: &Source| matches!(source, Source::Pods(one) if *one == watched);
            let mut guards = running.iter().filter(|one| is_it(&one.planned.source));
            guards.any(|one| !one.check.is_failing())
        };
        let console = &self.context.console;
        let probes = tokio::select! {
            probes = interval => Some(probes),
            reported = self.pods.until_unhealthy(is_guarded, console) => {
                reported?;
                None
            }
        };
        let moment = self.moment(began.elapsed());
        match probes {
            Some((probes, Ended::AsPlanned)) => {
                self.measure(moment, &probes, |_| true).await?;
            }
            // Nothing else is asked before what follows from it.
            Some((probes, Ended::Early)) => {
                let is_door = |source: &Source| matches!(source, Source::FrontDoor(_));
                self.measure(moment, &probes, is_door).await?;
            }
            None => {
                let is_pods = |source: &Source| matches!(source, Source::Pods(_));
                self.measure(moment, &Probes::default(), is_pods).await?;
                if self.running.iter().all(|one| one.failing().is_none()) {
                    // A breach that does not count yet: the rest of the interval is slept, not probed.
                    tokio::time::sleep_until(ends).await;
                }
            }
        }
        self.tell(&moment);
        Ok(())
    }

    fn moment(&self, span: Duration) -> Moment {
        Moment {
            at: Timestamp::now(),
            look: self.look,
            elapsed: self.started.elapsed().as_secs_f64(),
            span: span.as_secs_f64().max(0.001),
        }
    }

    /// Measures the checks that are `wanted` and judges them.
    async fn measure(
        &mut self,
        moment: Moment,
        probes: &Probes,
        wanted: impl Fn(&Source) -> bool,
    ) -> Result<(), Failure> {
        let means = self.means;
        let limit = measuring_limit(self.inputs);
        let asked = self.running.iter().map(|one| {
            let source = &one.planned.source;
            let is_wanted = wanted(source);
            let (pods, inputs) = (&self.pods, self.inputs);
            async move {
                if !is_wanted {
                    return None;
                }
                match source {
                    Source::Pods(watched) => Some(Raw::Measured(match pods.of(*watched) {
                        Some(pods) => pods.measured(inputs.interval).await,
                        None => Measurement::NoData("no workload is watched".to_owned()),
                    })),
                    Source::FrontDoor(view) => {
                        let canary = told_apart(inputs);
                        let baseline = inputs.baseline_version.as_deref();
                        Some(Raw::Measured(probes.measured(*view, canary, baseline)))
                    }
                    Source::Http(_) | Source::Value { .. } | Source::Counts { .. } => {
                        let measured = tokio::time::timeout(limit, measure(means, source)).await;
                        measured.unwrap_or_else(|_| {
                            let text = format!("no answer within {}", values::show_duration(limit));
                            Some(Raw::Measured(Measurement::Error(text)))
                        })
                    }
                }
            }
        });
        let asked: Vec<_> = asked.collect();
        let raws: Vec<Option<Raw>> = stream::iter(asked).buffered(CONCURRENCY).collect().await;
        for (one, raw) in self.running.iter_mut().zip(raws) {
            let Some((measurement, judgement)) = raw.and_then(|raw| one.take(raw)) else {
                continue;
            };
            let charts = is_charted(one);
            let written = self.samples.judged(
                moment,
                (&one.planned.name, charts),
                &measurement,
                &judgement,
            );
            written.map_err(unwritten)?;
        }
        if let Some(checklist) = &mut self.checklist {
            checklist.look(self.started.elapsed(), &self.running);
        }
        self.count(moment, probes)?;
        self.samples.flush().map_err(unwritten)
    }

    fn count(&mut self, moment: Moment, probes: &Probes) -> Result<(), Failure> {
        self.samples.probed(moment, probes).map_err(unwritten)?;
        let lost = probes.0.iter().filter(|probe| probe.problem.is_some());
        self.lost += lost.count() as u64;
        self.probes += probes.0.len() as u64;
        if let Some(problem) = probes.last_problem() {
            self.context
                .console
                .progress(format_args!("the last probe that failed: {problem}"));
        }
        Ok(())
    }

    /// Does what has to be done now, and says whether it ends the watch.
    async fn act(&mut self, scaler: Option<&mut Scaler<'_>>) -> Result<Option<Outcome>, Failure> {
        let failing: Vec<_> = self.running.iter().filter_map(Running::failing).collect();
        let thresholds: Thresholds = self.inputs.thresholds.into();
        let decision = decide(thresholds, &failing);
        let most = self.inputs.max_scale_ups;
        let ended = match self.ordered.next(&decision, self.look, most) {
            Action::None => None,
            Action::Alert => {
                self.warn(&decision);
                None
            }
            Action::ScaleUp => {
                self.warn(&decision);
                if let Some(scaler) = scaler {
                    self.scale_up(scaler).await;
                } else if let Some(script) = &self.inputs.scale_up_run {
                    self.run_hook(script, &decision).await?;
                }
                None
            }
            Action::CircuitBreak => self.break_circuit(&decision).await?,
            Action::Rollback => Some(self.ended_by(&decision)),
        };
        Ok(ended.or_else(|| self.cannot_judge()))
    }

    fn warn(&self, decision: &Decision) {
        let line = self.line_of(decision.because_of.as_deref());
        let title = format!("release-watch: {}", decision.action);
        self.context.console.warning(&title, line);
    }

    /// More pods. What keeps it from giving them ends no watch: what it looks at is the same as before.
    async fn scale_up(&self, scaler: &mut Scaler<'_>) {
        let console = &self.context.console;
        match scaler.scale_up().await {
            Ok(done) => console.info(done),
            Err(failure) => {
                let title = format!("release-watch: {}", Action::ScaleUp);
                console.warning(&title, failure.chain());
            }
        }
    }

    /// The user's hook once; without it, or when it did not help, traffic has to go back.
    async fn break_circuit(&mut self, decision: &Decision) -> Result<Option<Outcome>, Failure> {
        let Some(script) = &self.inputs.circuit_break_run else {
            return Ok(Some(self.ended_by(decision)));
        };
        if std::mem::replace(&mut self.has_broken_circuit, true) {
            return Ok(Some(self.ended_by(decision)));
        }
        self.warn(decision);
        let is_done = self.run_hook(script, decision).await?;
        Ok((!is_done).then(|| self.ended_by(decision)))
    }

    /// Runs a command of the user's; whether it succeeded.
    async fn run_hook(&self, script: &str, decision: &Decision) -> Result<bool, Failure> {
        let name = decision.because_of.as_deref();
        let child = Child::script(script, self.inputs.hook_timeout)
            .variable("CHECK", name.unwrap_or_default())
            .variable("REASON", self.line_of(name));
        let context = self.context;
        let ended = child.run(&context.environment, &context.console, &context.cancel);
        let result = ended.await?.result;
        if result.is_success() {
            return Ok(true);
        }
        let title = format!("release-watch: {}", decision.action);
        let how = match result {
            ChildResult::Exited(code) => format!("ended with {code}"),
            ChildResult::Killed => "was killed".to_owned(),
            ChildResult::TimedOut(after) => {
                format!("was stopped after {}", values::show_duration(after))
            }
        };
        context
            .console
            .warning(&title, format_args!("its command {how}"));
        Ok(false)
    }

    fn ended_by(&self, decision: &Decision) -> Outcome {
        Outcome {
            verdict: Verdict::Fail,
            action: decision.action,
            reason: self.line_of(decision.because_of.as_deref()),
            because_of: decision.because_of.clone(),
        }
    }

    fn line_of(&self, name: Option<&str>) -> String {
        let check = self.running.iter();
        let mut check = check.filter(|one| Some(one.planned.name.as_str()) == name);
        let last = check.next().and_then(|one| one.check.last());
        let line = last.map_or("", |judgement| judgement.line.as_str());
        format!("{}: {line}", name.unwrap_or_default())
    }

    /// A check that only errs says nothing, however long one waits.
    fn cannot_judge(&self) -> Option<Outcome> {
        let most = self.inputs.max_errors;
        let lost = self.running.iter().find(|one| {
            let counts = one.planned.policies.error != switchyard_verdict::Policy::Ignore;
            counts && one.check.errors_in_a_row() >= most
        })?;
        let name = lost.planned.name.clone();
        Some(Outcome {
            verdict: Verdict::Error,
            action: Action::None,
            reason: format!("{} ({most} times in a row)", self.line_of(Some(&name))),
            because_of: Some(name),
        })
    }

    /// The end of the time: what all looks together say.
    fn concluded(&self) -> Outcome {
        let thresholds: Thresholds = self.inputs.thresholds.into();
        let conclusions = self.running.iter().map(|one| {
            let would_be = decide(thresholds, &[one.as_failing()]);
            let name = one.planned.name.as_str();
            (name, would_be.action, one.check.conclusion())
        });
        let decision = self.ordered.last();
        let mut outcome = concluded(conclusions.collect(), &decision, self.inputs.duration);
        if outcome.verdict == Verdict::Pass
            && let Some(bound) = loss_bound(self.probes, self.lost)
        {
            let text = format!(
                "; {} probes of the front door, none lost: loss below {:.2}% at 95% confidence",
                self.probes,
                bound * 100.0
            );
            outcome.reason.push_str(&text);
        }
        outcome
    }

    /// Whether answers were judged, and not pods alone.
    pub(crate) fn judged_answers(&self) -> bool {
        self.running.iter().any(|one| {
            let passed = one.check.last();
            let passed = passed.is_some_and(|last| last.verdict == Verdict::Pass);
            match &one.planned.source {
                Source::Pods(_) => false,
                Source::Http(_)
                | Source::FrontDoor(_)
                | Source::Counts { .. }
                | Source::Value { .. } => passed,
            }
        })
    }

    fn tell(&self, moment: &Moment) {
        let elapsed = moment.elapsed as u64;
        let counts = [
            Verdict::Pass,
            Verdict::Fail,
            Verdict::NoData,
            Verdict::Error,
        ]
        .map(|verdict| {
            let of_it = self.running.iter().filter_map(|one| one.check.last());
            let count = of_it.filter(|one| one.verdict == verdict).count();
            (count > 0).then(|| format!("{count} {verdict}"))
        });
        let counts: Vec<_> = counts.into_iter().flatten().collect();
        self.context.console.progress(format_args!(
            "{:02}:{:02}  {}",
            elapsed / 60,
            elapsed % 60,
            counts.join(" · ")
        ));
        for one in &self.running {
            if let Some(last) = one.check.last() {
                self.context.console.progress(format_args!(
                    "  {:<7} {}: {}",
                    last.verdict, one.planned.name, last.line
                ));
            }
        }
    }
}

/// Latencies of presets and of the user belong into the chart; other numbers have no common axis.
fn is_charted(one: &Running) -> bool {
    match &one.planned.source {
        Source::Counts { .. } => true,
        Source::Value { .. } => one.check.rule().is_in_seconds(),
        Source::Pods(_) | Source::Http(_) | Source::FrontDoor(_) => false,
    }
}

fn unwritten(cause: std::io::Error) -> Failure {
    let text = format!("the samples cannot be written: {cause}");
    Failure::message(switchyard_runner::Kind::Input, text)
        .hint("see that the disk has room, or give another `folder`")
}

/// An upper bound of the share of lost requests at 95 % confidence, when none was lost: 3/N.
pub(crate) fn loss_bound(probes: u64, lost: u64) -> Option<f64> {
    #[expect(clippy::cast_precision_loss, reason = "counts of a watch are small")]
    let probes = probes as f64;
    (lost == 0 && probes > 0.0).then(|| (3.0 / probes).min(1.0))
}

/// From what the checks say, each beside what its failing would lead to, to what the watch says. No data is never a
/// pass, and a watch that judged nothing has none. A check whose failing would only be told does not take the version
/// back by saying nothing: that is told as well.
fn concluded(
    conclusions: Vec<(&str, Action, Conclusion)>,
    decision: &Decision,
    duration: Duration,
) -> Outcome {
    let find = |verdict: Verdict, counts: fn(Action) -> bool| {
        let mut of_those = conclusions.iter().filter(|(_, action, _)| counts(*action));
        of_those.find_map(|(name, _, one)| match one {
            Conclusion::Judged(Judgement { verdict: of, line }) if *of == verdict => {
                Some(((*name).to_owned(), line.clone()))
            }
            Conclusion::Judged(_) | Conclusion::Ignored(_) => None,
        })
    };
    let because = |verdict, action, (name, line): (String, String)| Outcome {
        verdict,
        action,
        reason: format!("{name}: {line}"),
        because_of: Some(name),
    };
    if let Some(errs) = find(Verdict::Error, |_| true) {
        return because(Verdict::Error, Action::None, errs);
    }
    if let Some(unseen) = find(Verdict::NoData, Action::says_no) {
        return because(Verdict::NoData, Action::Rollback, unseen);
    }
    let passed = conclusions.iter().filter(|(_, _, one)| match one {
        Conclusion::Judged(judgement) => judgement.verdict == Verdict::Pass,
        Conclusion::Ignored(_) => false,
    });
    let passed = passed.count();
    if passed == 0 && decision.action == Action::None {
        return Outcome {
            verdict: Verdict::NoData,
            action: Action::Rollback,
            reason: "no check could be judged".to_owned(),
            because_of: None,
        };
    }
    let watched = values::show_duration(duration);
    let all = conclusions.len();
    let mut reason = format!("watched for {watched}: {passed} of {all} checks passed");
    if let Some(name) = &decision.because_of {
        reason.push_str(&format!("; {} because of {name}", decision.action));
    }
    let is_told = |action: Action| !action.says_no() && action != Action::None;
    let unseen = find(Verdict::NoData, is_told);
    if let Some((name, line)) = &unseen {
        reason.push_str(&format!("; {name}: {line}"));
    }
    let of_unseen = unseen.as_ref().map_or(Action::None, |_| Action::Alert);
    Outcome {
        verdict: Verdict::Pass,
        action: decision.action.max(of_unseen),
        reason,
        because_of: decision
            .because_of
            .clone()
            .or_else(|| unseen.map(|(name, _)| name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(verdict: Verdict) -> Conclusion {
        Conclusion::Judged(Judgement {
            verdict,
            line: format!("it is {verdict}"),
        })
    }

    fn outcome(conclusions: Vec<(&str, Conclusion)>) -> Outcome {
        outcome_of(Action::Rollback, conclusions)
    }

    /// Where each of the checks would lead to one action.
    fn outcome_of(action: Action, conclusions: Vec<(&str, Conclusion)>) -> Outcome {
        let conclusions = conclusions.into_iter();
        let conclusions = conclusions.map(|(name, one)| (name, action, one));
        let decision = Decision::default();
        concluded(conclusions.collect(), &decision, Duration::from_secs(60))
    }

    #[test]
    fn all_that_count_must_have_passed() {
        let passed = outcome(vec![
            ("a", judged(Verdict::Pass)),
            (
                "b",
                Conclusion::Ignored(Judgement {
                    verdict: Verdict::NoData,
                    line: String::new(),
                }),
            ),
        ]);
        assert_eq!(
            (passed.verdict, passed.action),
            (Verdict::Pass, Action::None)
        );
        assert_eq!(passed.reason, "watched for 1m: 1 of 2 checks passed");
    }

    #[test]
    fn no_data_fails_and_an_error_cannot_be_judged() {
        let unseen = outcome(vec![
            ("a", judged(Verdict::Pass)),
            ("b", judged(Verdict::NoData)),
        ]);
        assert_eq!(
            (unseen.verdict, unseen.action),
            (Verdict::NoData, Action::Rollback)
        );
        assert_eq!(unseen.because_of.unwrap(), "b");
        let lost = outcome(vec![
            ("b", judged(Verdict::NoData)),
            ("c", judged(Verdict::Error)),
        ]);
        assert_eq!((lost.verdict, lost.action), (Verdict::Error, Action::None));
    }

    #[test]
    fn what_would_only_be_told_takes_nothing_back_by_saying_nothing() {
        let unseen = || {
            vec![
                ("a", judged(Verdict::Pass)),
                ("p95", judged(Verdict::NoData)),
            ]
        };
        for action in [Action::Alert, Action::ScaleUp] {
            let told = outcome_of(action, unseen());
            assert_eq!(
                (told.verdict, told.action),
                (Verdict::Pass, Action::Alert),
                "{action}"
            );
            assert!(told.reason.contains("p95: it is no-data"), "{told:?}");
            assert_eq!(told.because_of.unwrap(), "p95");
        }
        let quiet = outcome_of(Action::None, unseen());
        assert_eq!((quiet.verdict, quiet.action), (Verdict::Pass, Action::None));
        for action in [Action::CircuitBreak, Action::Rollback] {
            assert_eq!(outcome_of(action, unseen()).verdict, Verdict::NoData);
        }
        let nothing_else = outcome_of(Action::Alert, vec![("p95", judged(Verdict::NoData))]);
        assert_eq!(nothing_else.verdict, Verdict::NoData);
    }

    #[test]
    fn a_watch_that_judged_nothing_has_no_data() {
        let ignored = Conclusion::Ignored(Judgement {
            verdict: Verdict::NoData,
            line: String::new(),
        });
        let nothing = outcome(vec![("a", ignored)]);
        assert_eq!(nothing.verdict, Verdict::NoData);
    }

    #[test]
    fn what_was_ordered_and_lets_it_stay_is_told() {
        let told = Decision {
            action: Action::Alert,
            because_of: Some("p95".to_owned()),
        };
        let outcome = concluded(
            vec![
                ("p95", Action::Alert, judged(Verdict::Fail)),
                ("a", Action::Alert, judged(Verdict::Pass)),
            ],
            &told,
            Duration::from_secs(60),
        );
        assert_eq!(
            (outcome.verdict, outcome.action),
            (Verdict::Pass, Action::Alert)
        );
        assert!(outcome.reason.ends_with("; alert because of p95"));
    }
}
