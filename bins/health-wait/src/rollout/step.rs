//! The waiting itself: rollout, start delay, checks, warm-up. The verdict goes into the report.
//! It refuses to know inputs that are not about the wait.

use std::time::{Duration, Instant};

use switchyard_cluster::rollout::{RolloutWait, Status, WaitEvent};
use switchyard_cluster::{Cluster, Deadline, Error};
use switchyard_http::Client;
use switchyard_runner::{Console, Failure, Kind, values};

use super::{names_workloads, target};
use crate::inputs::RolloutInputs;
use crate::report::Report;
use crate::warm_up::warm_up;
use switchyard_health::checks::{CheckReport, Checker};
use switchyard_health::connection::failure;
use switchyard_health::diagnosis::{Patience, diagnose};
use switchyard_health::version::VersionRule;

/// How often a wait in which nothing changes says that it goes on.
const HEARTBEAT: Duration = Duration::from_secs(30);

/// A line for a watch that is interrupted.
pub(crate) fn interrupted(error: &Error) -> String {
    let cause = std::error::Error::source(error).map_or(String::new(), |cause| {
        let mut innermost = cause;
        while let Some(deeper) = innermost.source() {
            innermost = deeper;
        }
        format!(" ({innermost})")
    });
    format!("the watch is interrupted and will be taken up again: {error}{cause}")
}

/// A wait that has not seen the cluster for a while cannot say that something is not done.
fn refuse_blind_verdict(wait: &RolloutWait, deadline: Deadline) -> Result<(), Failure> {
    let Some(blind) = wait.blind_for() else {
        return Ok(());
    };
    let text = format!(
        "not done within {}, and the API server could not be watched for the last {}",
        values::show_duration(deadline.allowed()),
        values::show_duration(blind)
    );
    Err(Failure::message(Kind::Remote, text)
        .hint("the workloads may be done by now: run the step again when the API server answers"))
}

pub(super) struct Step<'run> {
    pub(super) inputs: &'run RolloutInputs,
    pub(super) cluster: &'run Cluster,
    pub(super) http: &'run Client,
    pub(super) console: &'run Console,
    pub(super) deadline: Deadline,
}

impl Step<'_> {
    /// Waits for everything; the verdict goes into the report.
    pub(super) async fn wait(&self, report: &mut Report) -> Result<(), Failure> {
        let mut wait = None;
        if names_workloads(&self.inputs.workloads) {
            let target = target(&self.inputs.workloads);
            let begun = RolloutWait::begin(self.cluster, target, self.deadline).await;
            wait = Some(begun.map_err(failure)?);
        }
        let passed = match &mut wait {
            Some(wait) => self.roll_out(wait, report).await?,
            None => true,
        };
        let passed = passed && self.check(&mut wait, report).await?;
        if let Some(wait) = &wait {
            report.take_workloads(wait);
            if !passed {
                let lines = self.inputs.workloads.log_lines;
                report.diagnoses = diagnose(self.cluster, wait, None, lines, Patience::Ample).await;
            }
        }
        report.healthy = passed;
        if passed {
            report.reason = self.success(report);
        }
        Ok(())
    }

    fn success(&self, report: &Report) -> String {
        let elapsed = values::show_duration(self.deadline.elapsed());
        let (workloads, checks) = (report.workloads.len(), report.checks.len());
        let of = |count: usize, one: &str, many: &str| match count {
            1 => format!("1 {one}"),
            _ => format!("{count} {many}"),
        };
        let mut parts = Vec::new();
        if workloads > 0 {
            parts.push(format!(
                "{} rolled out",
                of(workloads, "workload", "workloads")
            ));
        }
        if checks > 0 {
            parts.push(format!("{} passed", of(checks, "check", "checks")));
        }
        format!("{} after {elapsed}", parts.join(", "))
    }

    /// Waits until all workloads are done. `false`: the report says why not.
    async fn roll_out(&self, wait: &mut RolloutWait, report: &mut Report) -> Result<bool, Failure> {
        for (workload, status) in wait.states() {
            self.console.progress(format_args!("{workload}: {status}"));
        }
        let mut told = Instant::now();
        loop {
            if let Some((workload, lost)) = wait.failure() {
                report.fail(workload.to_string(), lost.reason.clone());
                return Ok(false);
            }
            if wait.is_done() {
                return Ok(true);
            }
            if self.deadline.has_passed() {
                refuse_blind_verdict(wait, self.deadline)?;
                self.time_is_up(wait, report);
                return Ok(false);
            }
            self.step(wait, &mut told).await?;
        }
    }

    fn time_is_up(&self, wait: &RolloutWait, report: &mut Report) {
        let open: Vec<_> = wait
            .states()
            .filter(|(_, status)| **status != Status::Done)
            .collect();
        let limit = values::show_duration(self.deadline.allowed());
        let (what, why) = open.first().map_or_else(
            || (String::new(), String::new()),
            |(workload, status)| (workload.to_string(), status.to_string()),
        );
        let others = match open.len() {
            0 | 1 => String::new(),
            more => format!(" (and {} more)", more - 1),
        };
        report.fail(what, format!("not done within {limit}: {why}{others}"));
    }

    /// Waits for the next change and tells it; tells that the wait goes on when for long there was
    /// nothing to tell.
    async fn step(&self, wait: &mut RolloutWait, told: &mut Instant) -> Result<(), Failure> {
        let quiet = HEARTBEAT.saturating_sub(told.elapsed());
        let event = wait.next(self.deadline.at_most(quiet)).await;
        match event.map_err(failure)? {
            WaitEvent::Changed(changed) if changed.is_empty() => {
                if told.elapsed() < HEARTBEAT {
                    return Ok(());
                }
                let mut open = wait.states().filter(|(_, status)| !status.is_final());
                if let Some((workload, status)) = open.next() {
                    let elapsed = values::show_duration(self.deadline.elapsed());
                    self.console
                        .progress(format_args!("{workload}: {status} (after {elapsed})"));
                }
            }
            WaitEvent::Changed(changed) => {
                for state in changed {
                    self.console
                        .progress(format_args!("{}: {}", state.workload, state.status));
                }
            }
            WaitEvent::Interrupted(error) => self.console.progress(interrupted(&error)),
        }
        *told = Instant::now();
        Ok(())
    }

    /// The start delay, the checks in their order, and the warm-up. Ends early when a workload is
    /// lost meanwhile. `false`: the report says why.
    async fn check(
        &self,
        wait: &mut Option<RolloutWait>,
        report: &mut Report,
    ) -> Result<bool, Failure> {
        if self.inputs.checks.checks.is_empty() {
            return Ok(true);
        }
        let mut reports = Vec::new();
        let mut notes = Vec::new();
        let checks = self.check_all(&mut reports, &mut notes);
        let lost = async {
            match wait.as_mut() {
                Some(wait) => self.until_lost(wait).await,
                None => std::future::pending().await,
            }
        };
        let failed = tokio::select! {
            failed = checks => failed,
            lost = lost => {
                let (workload, reason) = lost?;
                Some((workload, format!("lost while it was being checked: {reason}")))
            }
        };
        report.checks = reports;
        report.notes = notes;
        if let Some((what, reason)) = failed {
            report.fail(what, reason);
            return Ok(false);
        }
        Ok(true)
    }

    /// Runs delay, checks and warm-up; gives what failed and why.
    async fn check_all(
        &self,
        reports: &mut Vec<CheckReport>,
        notes: &mut Vec<String>,
    ) -> Option<(String, String)> {
        let delay = self.inputs.start_delay.min(self.deadline.remaining());
        if !delay.is_zero() {
            let shown = values::show_duration(delay);
            self.console.progress(format_args!("start delay: {shown}"));
            tokio::time::sleep(delay).await;
        }
        let version = VersionRule {
            header: self.inputs.checks.version_header.clone(),
            expected: self.inputs.checks.expect_version.clone(),
        };
        let checker = Checker {
            cluster: self.cluster,
            http: self.http,
            console: self.console,
            version: &version,
            each_pod: self.inputs.checks.each_pod,
            deadline: self.deadline,
        };
        for check in self.inputs.checks.checks.iter() {
            let result = checker.run(check).await;
            let verdict = if result.passed { "passed" } else { "failed" };
            self.console.progress(format_args!(
                "check `{}` {verdict}: {}",
                result.name, result.detail
            ));
            let failed = (!result.passed).then(|| (result.name.clone(), result.detail.clone()));
            reports.push(result);
            if failed.is_some() {
                return failed;
            }
        }
        if self.inputs.warm_up > 0 {
            let checks = &self.inputs.checks.checks;
            match warm_up(self.cluster, checks, self.inputs.warm_up, self.deadline).await {
                Ok(lines) => {
                    for line in lines {
                        self.console.progress(format_args!("warm-up: {line}"));
                        notes.push(format!("warm-up: {line}"));
                    }
                }
                Err(problem) => return Some(("warm-up".to_owned(), problem)),
            }
        }
        None
    }

    async fn until_lost(&self, wait: &mut RolloutWait) -> Result<(String, String), Failure> {
        let mut told = Instant::now();
        loop {
            if let Some((workload, lost)) = wait.failure() {
                return Ok((workload.to_string(), lost.reason.clone()));
            }
            if self.deadline.has_passed() {
                // The checks see the same deadline and tell it better.
                std::future::pending::<()>().await;
            }
            self.step(wait, &mut told).await?;
        }
    }
}
