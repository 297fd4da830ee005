//! `migrate-gate lint` against Squawk over the same thousand migrations: time, what is found, and what is
//! reported although it is harmless.

mod migrations;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output};

use crate::lint::migrations::{COUNT, Project};
use crate::measure::{self, Cost};
use crate::table::Figure;
use crate::{Bench, progress};

const RUNS: usize = 5;

/// Both programs end with 1 when they find something.
const FOUND: i32 = 1;

pub(crate) fn measure(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    progress("migrate-gate lint and squawk, in turn");
    let project = Project::write()?;
    let (mut ours, mut peer) = (Vec::new(), Vec::new());
    let (mut our_reports, mut peer_reports) = (BTreeSet::new(), BTreeSet::new());
    for _ in 0..RUNS {
        let (cost, output) = measure::run_short_to_exit(&mut lint(bench, project.path()), FOUND)?;
        ours.push(cost);
        our_reports = reported(&output, &project);
        let (cost, output) = measure::run_short_to_exit(&mut squawk(bench, project.path()), FOUND)?;
        peer.push(cost);
        peer_reports = reported(&output, &project);
    }
    let (ours, peer) = (measure::median(ours)?, measure::median(peer)?);
    let milliseconds = |cost: Cost| cost.wall.as_secs_f64() * 1e3;
    let caught = |reports: &BTreeSet<String>| reports.intersection(project.harmful()).count();
    let alarms = |reports: &BTreeSet<String>| reports.difference(project.harmful()).count();
    let harmful = project.harmful().len();
    let harmless = COUNT - harmful;
    Ok(vec![
        Figure {
            what: format!("lint of {COUNT} migrations, start to exit, median of {RUNS}"),
            ours: format!("{:.0} ms", milliseconds(ours)),
            peer: format!("{:.0} ms (`squawk`)", milliseconds(peer)),
            measured: milliseconds(ours) / milliseconds(peer),
            goal: 1.0,
            unit: "",
        },
        Figure {
            what: format!("harmful migrations of {harmful} that lint misses"),
            ours: (harmful - caught(&our_reports)).to_string(),
            peer: format!("{} (`squawk`)", harmful - caught(&peer_reports)),
            measured: count(harmful - caught(&our_reports)),
            goal: 0.0,
            unit: "missed",
        },
        Figure {
            what: format!("harmless migrations of {harmless} that lint reports"),
            ours: alarms(&our_reports).to_string(),
            peer: format!("{} (`squawk`)", alarms(&peer_reports)),
            measured: count(alarms(&our_reports)),
            goal: 0.0,
            unit: "reported",
        },
    ])
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a thousand fits a float's mantissa"
)]
fn count(number: usize) -> f64 {
    number as f64
}

fn lint(bench: &Bench, project: &Path) -> Command {
    let mut command = Command::new(bench.binaries.join("migrate-gate"));
    command.args(["lint", "--path"]).arg(project);
    command.env_remove("GITHUB_ACTIONS");
    command
}

fn squawk(bench: &Bench, project: &Path) -> Command {
    let mut command = Command::new(bench.python_tools.join("squawk"));
    command.args([
        "--reporter=gcc",
        "--pg-version=15.0",
        "migrations/*/migration.sql",
    ]);
    command.current_dir(project);
    command
}

/// The migrations that a report names: both programs write the file's path before the line's number.
fn reported(output: &Output, project: &Project) -> BTreeSet<String> {
    let text =
        [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    let lines = text.iter().flat_map(|text| text.lines());
    let names = lines.filter_map(|line| {
        let (before, _) = line.split_once("/migration.sql:")?;
        before.rsplit('/').next()
    });
    names
        .filter(|name| project.has(name))
        .map(str::to_owned)
        .collect()
}
