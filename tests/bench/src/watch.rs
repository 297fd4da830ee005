//! What a watch of fifty checks costs: memory, and its share of a core, against a real Prometheus.

use std::fmt::Write as _;
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::measure;
use crate::table::Figure;
use crate::{Bench, progress};

const CHECKS: usize = 50;
/// Looks six times as often as by default, so that a minute says what six would.
const INTERVAL: &str = "10s";
const DURATION: &str = "60s";

struct Prometheus(Child);

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) fn measure(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let folder = tempfile::tempdir()?;
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let _prometheus = start(folder.path(), &address.to_string())?;
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
    command
        .arg("--prometheus-url")
        .arg(format!("http://{address}"));
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

/// A Prometheus that scrapes itself every second.
fn start(folder: &std::path::Path, address: &str) -> anyhow::Result<Prometheus> {
    let file = folder.join("prometheus.yml");
    let configuration = format!(
        "global: {{scrape_interval: 1s}}\nscrape_configs:\n- job_name: itself\n  static_configs:\n  - targets: ['{address}']\n"
    );
    std::fs::write(&file, configuration)?;
    let child = Command::new("/usr/bin/prometheus")
        .arg(format!("--config.file={}", file.display()))
        .arg(format!(
            "--storage.tsdb.path={}",
            folder.join("data").display()
        ))
        .arg(format!("--web.listen-address={address}"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("start Prometheus")?;
    let started = Prometheus(child);
    let deadline = Instant::now() + Duration::from_secs(60);
    while TcpStream::connect(address).is_err() {
        anyhow::ensure!(Instant::now() < deadline, "Prometheus does not listen");
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(started)
}
