//! What a watch tells: outputs, the summary's section, and the failure that ends it. The verdict comes in.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Instant;

use serde::Serialize;
use switchyard_health::diagnosis::Diagnosis;
use switchyard_runner::summary::cell;
use switchyard_runner::{Context, Failure, Kind, values};
use switchyard_verdict::{Action, Concern, Conclusion, Verdict};

use crate::running::Running;
use crate::watch::Outcome;

pub(crate) const TITLE: &str = "release-watch";

/// What is said of one check.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct CheckReport {
    pub(crate) name: String,
    pub(crate) concern: Concern,
    pub(crate) verdict: Verdict,
    /// Whether it does not count.
    pub(crate) ignored: bool,
    pub(crate) line: String,
}

/// Everything that is told.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) checks: Vec<CheckReport>,
    pub(crate) evidence: Option<PathBuf>,
    pub(crate) chart: Option<PathBuf>,
    /// The chart as mermaid, for the summary.
    pub(crate) mermaid: Option<String>,
    /// The checklist, for the summary.
    pub(crate) checklist: Option<String>,
    /// Untrusted text: shown, never put out.
    pub(crate) diagnoses: Vec<Diagnosis>,
}

impl Report {
    /// Takes down where the checks stand.
    pub(crate) fn take_checks(&mut self, running: &[Running]) {
        let checks = running.iter().map(|one| {
            let (judgement, ignored) = match one.check.conclusion() {
                Conclusion::Judged(judgement) => (judgement, false),
                Conclusion::Ignored(judgement) => (judgement, true),
            };
            CheckReport {
                name: one.planned.name.clone(),
                concern: one.planned.concern,
                verdict: judgement.verdict,
                ignored,
                line: judgement.line,
            }
        });
        self.checks = checks.collect();
    }

    /// Writes outputs and summary; gives the failure that ends the step where the version may not stay or could not be
    /// judged.
    ///
    /// # Errors
    /// The verdict, or an output that cannot be written.
    pub(crate) fn conclude(
        &self,
        outcome: &Outcome,
        started: Instant,
        context: &Context,
    ) -> Result<(), Failure> {
        for diagnosis in &self.diagnoses {
            diagnosis.print(&context.console);
        }
        self.publish(outcome, started, context)?;
        match outcome.verdict {
            Verdict::Pass => {
                context.console.info(&outcome.reason);
                Ok(())
            }
            Verdict::Fail => Err(Failure::message(Kind::Gate, &outcome.reason)),
            Verdict::NoData => Err(Failure::message(Kind::Gate, &outcome.reason).hint(
                "what was not measured is no pass: see why there was no data, watch for longer, or lower `min-requests`",
            )),
            Verdict::Error => Err(Failure::message(Kind::Remote, &outcome.reason)
                .hint("nothing was judged; run the step again when what it asks answers")),
        }
    }

    /// Writes outputs and summary of a step that a failure ended, and hands the failure on.
    pub(crate) fn conclude_failed(
        &self,
        failure: Failure,
        started: Instant,
        context: &Context,
    ) -> Failure {
        let outcome = Outcome {
            verdict: Verdict::Error,
            action: Action::None,
            reason: failure.chain(),
            because_of: None,
        };
        if let Err(unwritten) = self.publish(&outcome, started, context) {
            // The first failure matters more than the output that could not be written.
            context.console.warning(TITLE, unwritten);
        }
        failure
    }

    fn publish(
        &self,
        outcome: &Outcome,
        started: Instant,
        context: &Context,
    ) -> Result<(), Failure> {
        let path = |path: &Option<PathBuf>| {
            let path = path.as_ref().map(|path| path.display().to_string());
            path.unwrap_or_default()
        };
        let outputs = &context.outputs;
        outputs.set("verdict", outcome.verdict)?;
        outputs.set("reason", &outcome.reason)?;
        outputs.set("action", outcome.action)?;
        outputs.set("evidence", path(&self.evidence))?;
        outputs.set("chart", path(&self.chart))?;
        let checks = serde_json::to_string(&self.checks).map_err(Failure::bug)?;
        outputs.set("checks", checks)?;
        context.summarize(TITLE, &self.markdown(outcome, started));
        Ok(())
    }

    fn markdown(&self, outcome: &Outcome, started: Instant) -> String {
        let verdict = match outcome.verdict {
            Verdict::Pass => "✅ it may stay",
            Verdict::Fail => "❌ it may not stay",
            Verdict::NoData => "❌ no data",
            Verdict::Error => "⚠️ could not be judged",
        };
        let after = values::show_duration(started.elapsed());
        let mut text = format!(
            "### {TITLE}: {verdict} after {after}\n\n{}\n\nAction: {}\n\n",
            cell(&outcome.reason),
            outcome.action
        );
        if !self.checks.is_empty() {
            text.push_str("| check | concern | verdict | measured |\n|---|---|---|---|\n");
        }
        for one in &self.checks {
            let concern = format!("{:?}", one.concern).to_lowercase();
            let ignored = if one.ignored { " (ignored)" } else { "" };
            let _ = writeln!(
                text,
                "| {} | {concern} | {}{ignored} | {} |",
                cell(&one.name),
                one.verdict,
                cell(&one.line)
            );
        }
        if let Some(checklist) = &self.checklist {
            let _ = write!(text, "\n{checklist}\n");
        }
        if let Some(mermaid) = &self.mermaid {
            let _ = write!(text, "\n{mermaid}\n");
        }
        for diagnosis in &self.diagnoses {
            text.push_str(&diagnosis.markdown());
        }
        text
    }
}
