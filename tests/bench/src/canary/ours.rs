//! A canary in the hands of our programs, as the steps of `deploy-canary.yml` call them.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use switchyard_sandbox::load::{LoadReport, RunningLoad};

use super::breakage::Breakage;
use super::shop::{CANARY, LIVE, Shop};
use crate::loss::Door;
use crate::{Bench, measure, progress};

/// How long an application is observed after something went wrong with it.
pub(crate) const OBSERVED: Duration = Duration::from_secs(60);
/// How long before something goes wrong; a watch has had its first looks by then.
pub(crate) const CALM: Duration = Duration::from_secs(12);
/// How long a user waits for an answer: a pod that is gone answers nothing, and nobody says so.
const PATIENCE: Duration = Duration::from_secs(2);
/// For how long nothing more may be seen of a side that is left: longer than a user waits.
pub(crate) const SILENT: Duration = Duration::from_secs(3);
/// The labels of the canary's pods.
pub(crate) const PODS: &str = "switchyard.dev/application=bench,switchyard.dev/slot=canary";

/// How a watch looks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Watch {
    pub(crate) interval: Duration,
    pub(crate) consecutive: u32,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) report: LoadReport,
    /// From what happened until nothing was lost any more; none where that went on while it was observed.
    pub(crate) unharmed: Option<Duration>,
    /// From what happened until nothing came from the side that is left; none where that went on.
    pub(crate) left: Option<Duration>,
}

impl Seen {
    /// Ends the load; `began` is when it happened, `left` the version that is to be left.
    pub(crate) async fn of(
        load: RunningLoad,
        began: Duration,
        left: Option<&str>,
    ) -> anyhow::Result<Self> {
        let report = load.stop().await?;
        let lost = report.failures.last().map(|failure| failure.after_ms);
        let answered = left.and_then(|left| report.last_ms_by_version.get(left).copied());
        Ok(Self {
            unharmed: over_after(&report, began, lost),
            left: over_after(&report, began, answered),
            report,
        })
    }

    /// From what happened until nothing was lost and nothing came from the side that is left.
    pub(crate) fn safe(&self) -> Option<Duration> {
        Some(self.unharmed?.max(self.left?))
    }
}

/// Users of an application with which something goes wrong.
pub(crate) fn users(bench: &Bench, door: &Door) -> anyhow::Result<RunningLoad> {
    Ok(door.load(bench.rate)?.time_limit(PATIENCE).start())
}

/// Gives the canary a share and holds it.
pub(crate) fn share(bench: &Bench, shop: &Shop, weight: u32) -> anyhow::Result<()> {
    let mut switch = shop.step(bench, "traffic-switch", "switch", CANARY);
    switch.args(["--targets", shop.target(), "--to", "canary"]);
    switch.args(["--weight", &weight.to_string(), "--longest-request", "1s"]);
    shop.proof(bench, &mut switch);
    measure::run(&mut switch)?;
    Ok(())
}

/// Sends all of the traffic to the main workload.
pub(crate) fn take_back(bench: &Bench, shop: &Shop) -> anyhow::Result<()> {
    measure::run(&mut take_back_command(bench, shop))?;
    Ok(())
}

pub(crate) fn take_back_command(bench: &Bench, shop: &Shop) -> Command {
    let mut rescue = shop.step(bench, "traffic-switch", "rescue", CANARY);
    rescue.args(["--longest-request", "1s", "--scale-new-down", "true"]);
    shop.proof(bench, &mut rescue);
    rescue
}

/// Deletes the canary.
pub(crate) fn retire(bench: &Bench, shop: &Shop) -> anyhow::Result<()> {
    measure::run(&mut shop.step(bench, "rollout", "retire", CANARY))?;
    Ok(())
}

/// Lets the canary take all of the traffic, updates the main workload and gives it the traffic back.
pub(crate) fn promote(bench: &Bench, shop: &Shop) -> anyhow::Result<()> {
    share(bench, shop, 100)?;
    let mut promote = shop.step(bench, "rollout", "promote", CANARY);
    promote.args(["--version", CANARY, "--files"]);
    promote.arg(shop.manifests(bench, CANARY)?);
    measure::run(&mut promote)?;
    let mut back = shop.step(bench, "traffic-switch", "switch", CANARY);
    back.args(["--targets", shop.target(), "--to", "stable"]);
    back.args(["--longest-request", "1s"]);
    shop.proof(bench, &mut back);
    measure::run(&mut back)?;
    retire(bench, shop)?;
    measure::run(&mut shop.step(bench, "rollout", "finish", CANARY))?;
    Ok(())
}

/// Gives the canary half of the traffic, watches it, breaks it, and lets the watch and the rescue do what they
/// do in a workflow.
pub(crate) async fn guarded(
    bench: &Bench,
    shop: &Shop,
    watch: Watch,
    breakage: Breakage,
) -> anyhow::Result<Seen> {
    tokio::task::block_in_place(|| {
        share(bench, shop, 10)?;
        share(bench, shop, 50)
    })?;
    let load = users(bench, shop.door())?;
    let mut watching = watch_command(bench, shop, watch)
        .spawn()
        .context("start release-watch")?;
    tokio::time::sleep(CALM).await;
    if let Some(status) = watching.try_wait()? {
        anyhow::bail!("the watch ended before anything was wrong: {status}");
    }
    let struck = load.elapsed();
    breakage.strike(bench, shop.namespace(), PODS).await?;
    let verdict = tokio::task::block_in_place(|| until_over(&mut watching, OBSERVED))?;
    let told = load.elapsed().saturating_sub(struck);
    match verdict {
        Some(1) => {
            progress(&format!(
                "the watch said no after {:.2} s",
                told.as_secs_f64()
            ));
            tokio::task::block_in_place(|| take_back(bench, shop))?;
        }
        Some(code) => anyhow::bail!("the watch ended with {code}"),
        None => progress("the watch saw nothing"),
    }
    tokio::time::sleep(SILENT).await;
    Seen::of(load, struck, breakage.left()).await
}

fn watch_command(bench: &Bench, shop: &Shop, watch: Watch) -> Command {
    let mut command = shop.step(bench, "release-watch", "", CANARY);
    command.args(["--selector", PODS, "--thresholds", "canary"]);
    command.args(["--duration", "5m", "--min-requests", "20"]);
    command
        .arg("--interval")
        .arg(format!("{}s", watch.interval.as_secs()));
    command
        .arg("--consecutive")
        .arg(watch.consecutive.to_string());
    command.args(["--verify-url", &shop.door().url]);
    command.args(["--verify-host", &shop.door().host, "--verify-rate", "20"]);
    command.args(["--version-header", "x-app-version"]);
    command.args(["--expect-version", CANARY, "--baseline-version", LIVE]);
    command.args(["--leave-at-once", "true"]);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

/// The exit code of a process that is over within a limit; else it is ended.
fn until_over(process: &mut std::process::Child, limit: Duration) -> anyhow::Result<Option<i32>> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = process.try_wait()? {
            return Ok(Some(status.code().context("it was killed")?));
        }
        if Instant::now() > deadline {
            process.kill()?;
            process.wait()?;
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// How long after `struck` the last of something was, in milliseconds of the report; none when that went on
/// until the end.
fn over_after(report: &LoadReport, struck: Duration, last: Option<u64>) -> Option<Duration> {
    let end = Duration::from_millis(report.duration_ms);
    let last = Duration::from_millis(last.unwrap_or(0));
    let is_over = end.saturating_sub(last) > SILENT / 2;
    is_over.then(|| last.saturating_sub(struck))
}
