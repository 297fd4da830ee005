//! A canary that fails requests and is taken back on its evidence, then one that is promoted. The route's
//! weights are watched in the cluster, and every answer is counted by the version that gave it.

mod board;
mod route;

use switchyard_sandbox::load::KeepAlive;

use super::{RATE, STEADY, Stage, say, succeeded, unexpected};
use crate::{Doing as _, Result};
use board::Board;
use route::Route;

/// What is live at first.
const OLD: &str = "v1.0.0";
/// Fails three of ten requests.
const BAD: &str = "v1.1.0";
/// Is well.
const GOOD: &str = "v1.2.0";
const WORKFLOW: &str = "canary.yml";

/// Plays it and returns how many requests were lost, besides those that the bad version failed.
pub(super) async fn play(stage: &Stage) -> Result<u64> {
    stage.tell(&format!(
        "{OLD} is deployed in place, into an empty namespace"
    ));
    stage.run("dev.yml", Some(OLD)).await?;
    let route = Route::watch(stage)?;
    let web = stage.load("/", KeepAlive::On)?;
    let api = stage.load("/api", KeepAlive::Off)?;
    let mut board = Board::new(stage, route, &web, &api);
    stage.tell(&format!(
        "load on: {RATE} requests/s on web (kept connections), {RATE} on api (new ones); web is shown"
    ));
    board.look_on(STEADY).await;

    stage.tell(&format!(
        "{BAD} fails 30 % of its requests to web, and no test sees it; it is deployed as a canary"
    ));
    let repair = break_web(stage)?;
    let ended = stage
        .run_beside(WORKFLOW, Some(BAD), || board.look())
        .await?;
    if ended.status.success() {
        return Err(unexpected(WORKFLOW, "let a bad version through", &ended));
    }
    let reason = reason(&ended.log);
    let reason =
        reason.ok_or_else(|| unexpected(WORKFLOW, "failed before it had traffic", &ended))?;
    stage.tell(&format!("    taken back because of {reason}"));
    board.look_on(STEADY).await;
    board.require_all_on(OLD).await?;

    stage.tell(&format!("repaired: {GOOD} is deployed as a canary"));
    repair.undo(stage)?;
    let ended = stage
        .run_beside(WORKFLOW, Some(GOOD), || board.look())
        .await?;
    succeeded(WORKFLOW, &ended)?;
    board.look_on(STEADY).await;
    board.require_all_on(GOOD).await?;

    let timeline = board.timeline();
    stage.screen.settle();
    say(&format!("\nweb, by the share of the canary:\n{timeline}"));
    let mut lost = 0;
    for (name, load) in [("web", web), ("api", api)] {
        let report = load.stop().await.doing(|| "end the load".into())?;
        let failed = report.failed_by_version.get(BAD).copied().unwrap_or(0);
        lost += report.lost - failed;
        say(&format!(
            "\n{name}: {} requests, {failed} failed by {BAD} itself, {} lost otherwise\n  answered by {}",
            report.scheduled,
            report.lost - failed,
            report
                .by_version
                .iter()
                .map(|(version, count)| format!("{version} {count}"))
                .collect::<Vec<_>>()
                .join(", ")
        ));
    }
    Ok(lost)
}

/// The change that makes web fail.
struct Fault {
    well: String,
    failing: String,
}

impl Fault {
    const FILE: &str = "deploy/web.yaml";

    fn undo(&self, stage: &Stage) -> Result<()> {
        stage.consumer.change(Self::FILE, &self.failing, &self.well)
    }
}

/// Commits a version of web that fails three of ten requests, and takes the tests away that would find it
/// before it has traffic.
fn break_web(stage: &Stage) -> Result<Fault> {
    let registry = &stage.consumer.settings.registry;
    let well = format!("image: {registry}/web");
    let failing = format!("{well}\n          env: [{{name: ERROR_RATE, value: \"0.3\"}}]");
    let workflow = format!(".github/workflows/{WORKFLOW}");
    let tests = "      tests: scripts/smoke-test.sh\n";
    stage.consumer.change(&workflow, tests, "")?;
    stage.consumer.change(Fault::FILE, &well, &failing)?;
    Ok(Fault { well, failing })
}

/// Why it was taken back: by the watch that said no, or by the switch, whose probes may meet a failure before any
/// watch begins.
fn reason(log: &str) -> Option<&str> {
    of_watch(log).or_else(|| of_switch(log))
}

fn of_switch(log: &str) -> Option<&str> {
    let (_, message) = log.split_once("::error title=traffic went back::")?;
    let line = message.lines().next()?;
    Some(line.split_once("%0A").map_or(line, |(reason, _)| reason))
}

fn of_watch(log: &str) -> Option<&str> {
    let mut outputs = log
        .lines()
        .filter_map(|line| Some(line.split_once("::set-output:: ")?.1));
    outputs.find(|output| *output == "verdict=fail")?;
    outputs.next()?.strip_prefix("reason=")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_that_of_the_watch_which_said_no() {
        let log = "[x]  ::set-output:: reason=2 workloads rolled out\n\
                   [x]  ::set-output:: verdict=pass\n[x]  ::set-output:: reason=all is well\n\
                   [x]  ::set-output:: verdict=fail\n[x]  ::set-output:: reason=5 of 10 failed\n";
        assert_eq!(reason(log), Some("5 of 10 failed"));
        assert_eq!(reason("[x]  ::set-output:: reason=nothing"), None);
    }

    #[test]
    fn a_switch_that_saw_it_first_says_why_too() {
        let log = "[x]  ❗  ::error title=traffic went back::3 were lost; traffic is back%0Ahint: look\n[x]  more\n";
        assert_eq!(reason(log), Some("3 were lost; traffic is back"));
    }
}
