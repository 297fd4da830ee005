//! What a watch of fifty checks costs: memory, and its share of a core, against a real Prometheus.

use std::fmt::Write as _;
use std::process::Command;

use crate::measure;
use crate::prometheus::Prometheus;
use crate::table::Figure;
use crate::{Bench, progress};

const CHECKS: usize = 50;
/// Looks six times as often as by default, so that a minute says what six would.
const INTERVAL: &str = "10s";
const DURATION: &str = "60s";

pub(crate) fn measure(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let folder = tempfile::tempdir()?;
    let prometheus = Prometheus::start(folder.path(), &[])?;
    progress("watching fifty checks for a minute");
    let mut command = Command::new(bench.binaries.join("release-watch"));
    command.env_clear();
    command.args([
        "--interval",
        INTERVAL,
        "--duration",
        DURATION,
        "--min-requests",
        "1",
    ]);
    command.args(["--prometheus-url", &prometheus.url()]);
    command.arg("--folder").arg(folder.path().join("watch"));
    // It begins with a dash: only so is it no flag.
    command.arg(format!("--checks={}", checks()));
    let (cost, _) = measure::run(&mut command)?;
    #[expect(
        clippy::cast_precision_loss,
        reason = "a process's memory fits a float's mantissa"
    )]
    let megabytes = cost.peak_memory as f64 / 1e6;
    let share = 100.0 * cost.processor.as_secs_f64() / cost.wall.as_secs_f64();
    let figure = |what: &str, measured: f64, goal, unit| Figure {
        what: format!("{CHECKS} checks watched every {INTERVAL}, {what}"),
        ours: format!("{measured:.2} {unit}"),
        peer: "–".into(),
        measured,
        goal,
        unit,
    };
    Ok(vec![
        figure("peak memory", megabytes, 40.0, "MB"),
        figure("share of a core", share, 2.0, "%"),
    ])
}

/// Numbers and counters by halves, each query another one.
fn checks() -> String {
    let mut text = String::new();
    for number in 0..CHECKS / 2 {
        let _ = write!(
            text,
            "- {{name: p95 {number}, max: 10s, query: 'histogram_quantile(0.95, sum by (le) \
             (rate(prometheus_http_request_duration_seconds_bucket{{n!=\"{number}\"}}[{INTERVAL}])))'}}\n\
             - {{name: errors {number}, max: 50%, requests: 'prometheus_http_requests_total{{n!=\"{number}\"}}', \
             errors: 'prometheus_http_requests_total{{n!=\"{number}\",code=~\"5..\"}}'}}\n"
        );
    }
    text
}
