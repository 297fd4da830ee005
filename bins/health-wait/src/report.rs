//! What a step tells: outputs, the summary's section, and the failure that ends it.
//! It refuses to judge; the verdict comes in.

use std::fmt::Write as _;
use std::time::Instant;

use serde::Serialize;
use switchyard_cluster::rollout::{RolloutWait, Status};
use switchyard_runner::summary::cell;
use switchyard_runner::{Context, Failure, Kind};

use switchyard_health::checks::CheckReport;
use switchyard_health::diagnosis::Diagnosis;

/// Where a workload stood at the end.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct WorkloadReport {
    /// `kind/name`.
    pub(crate) workload: String,
    /// Whether its rollout is done.
    pub(crate) done: bool,
    /// Its last status in words.
    pub(crate) status: String,
    /// Pods wanted.
    pub(crate) wanted: usize,
    /// Pods ready.
    pub(crate) ready: usize,
}

/// Everything a step saw.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Report {
    /// Whether all that was asked for was seen to be healthy.
    pub(crate) healthy: bool,
    /// Why not, or what was seen.
    pub(crate) reason: String,
    /// What failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) failed_check: Option<String>,
    /// Workloads.
    pub(crate) workloads: Vec<WorkloadReport>,
    /// Checks, in the order they ran.
    pub(crate) checks: Vec<CheckReport>,
    /// Container restarts since the step began.
    pub(crate) restarts: u32,
    /// Lines that belong to the report and are no verdict.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) notes: Vec<String>,
    /// Untrusted text: shown, never put out.
    #[serde(skip)]
    pub(crate) diagnoses: Vec<Diagnosis>,
}

impl Report {
    /// Marks the step as failed at `what`.
    pub(crate) fn fail(&mut self, what: impl Into<String>, reason: impl Into<String>) {
        self.healthy = false;
        self.failed_check = Some(what.into());
        self.reason = reason.into();
    }

    /// Takes down where the workloads stand.
    pub(crate) fn take_workloads(&mut self, wait: &RolloutWait) {
        let workloads = wait.states().map(|(workload, status)| {
            let size = wait.size_of(workload);
            WorkloadReport {
                workload: workload.to_string(),
                done: *status == Status::Done,
                status: status.to_string(),
                wanted: size.wanted,
                ready: size.ready,
            }
        });
        self.workloads = workloads.collect();
        self.restarts = wait.restarts();
    }

    /// Writes outputs and summary and shows the diagnoses; gives the failure that ends the step
    /// when it is not healthy.
    ///
    /// # Errors
    /// The verdict, or an output that cannot be written.
    pub(crate) fn conclude(
        &self,
        title: &str,
        started: Instant,
        context: &Context,
    ) -> Result<(), Failure> {
        for diagnosis in &self.diagnoses {
            diagnosis.print(&context.console);
        }
        self.publish(title, started, context)?;
        if self.healthy {
            context.console.info(&self.reason);
            return Ok(());
        }
        let what = self.failed_check.as_deref().unwrap_or("health-wait");
        let text = if self.reason.contains(what) {
            self.reason.clone()
        } else {
            format!("{what}: {}", self.reason)
        };
        Err(Failure::message(Kind::Gate, text))
    }

    /// Writes outputs and summary of a step that a failure ended, and hands the failure on.
    pub(crate) fn conclude_failed(
        mut self,
        failure: Failure,
        title: &str,
        started: Instant,
        context: &Context,
    ) -> Failure {
        self.healthy = false;
        self.reason = failure.chain();
        if let Err(unwritten) = self.publish(title, started, context) {
            // The first failure matters more than the output that could not be written.
            context.console.warning(title, unwritten);
        }
        failure
    }

    fn publish(&self, title: &str, started: Instant, context: &Context) -> Result<(), Failure> {
        let seconds = started.elapsed().as_secs();
        let outputs = &context.outputs;
        outputs.set("healthy", self.healthy)?;
        outputs.set("reason", &self.reason)?;
        outputs.set(
            "failed-check",
            self.failed_check.as_deref().unwrap_or_default(),
        )?;
        outputs.set("elapsed-seconds", seconds)?;
        outputs.set("restarts", self.restarts)?;
        outputs.set("report", serde_json::to_string(self).map_err(Failure::bug)?)?;
        context.summarize(title, &self.markdown(title, seconds));
        Ok(())
    }

    fn markdown(&self, title: &str, seconds: u64) -> String {
        let verdict = if self.healthy {
            "✅ healthy"
        } else {
            "❌ not healthy"
        };
        let mut text = format!(
            "### {title}: {verdict} after {seconds} s\n\n{}\n\n",
            cell(&self.reason)
        );
        if !self.workloads.is_empty() {
            text.push_str("| workload | ready | status |\n|---|---|---|\n");
            for one in &self.workloads {
                let _ = writeln!(
                    text,
                    "| {} | {} of {} | {} |",
                    cell(&one.workload),
                    one.ready,
                    one.wanted,
                    cell(&one.status)
                );
            }
            let _ = writeln!(
                text,
                "\nContainer restarts since the step began: {}\n",
                self.restarts
            );
        }
        if !self.checks.is_empty() {
            text.push_str("| check | result | seen | requests | pods |\n|---|---|---|---|---|\n");
            for one in &self.checks {
                let _ = writeln!(
                    text,
                    "| {} | {} | {} | {} | {} |",
                    cell(&one.name),
                    if one.passed { "passed" } else { "failed" },
                    cell(&one.detail),
                    one.attempts,
                    one.pods.len()
                );
            }
            text.push('\n');
        }
        for note in &self.notes {
            let _ = writeln!(text, "- {}", cell(note));
        }
        for diagnosis in &self.diagnoses {
            text.push_str(&diagnosis.markdown());
        }
        text
    }
}
