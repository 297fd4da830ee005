//! A Prometheus of a measurement's own. Knows none of the questions.

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;

/// Ends when it is dropped.
pub(crate) struct Prometheus {
    process: Child,
    address: String,
}

impl Prometheus {
    /// Starts one that scrapes itself and these addresses every second, with its files in `folder`.
    pub(crate) fn start(folder: &Path, others: &[String]) -> anyhow::Result<Self> {
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        let itself = format!("http://{address}/metrics");
        let jobs = std::iter::once(&itself).chain(others);
        let jobs = jobs.enumerate().map(|(number, url)| {
            let target = url.trim_start_matches("http://");
            let (target, path) = target.split_once('/').unwrap_or((target, "metrics"));
            format!(
                "- job_name: job-{number}\n  metrics_path: /{path}\n  static_configs:\n  - targets: ['{target}']\n"
            )
        });
        let configuration = format!(
            "global: {{scrape_interval: 1s}}\nscrape_configs:\n{}",
            jobs.collect::<String>()
        );
        let file = folder.join("prometheus.yml");
        std::fs::write(&file, configuration)?;
        let process = Command::new("/usr/bin/prometheus")
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
        let started = Self { process, address };
        let deadline = Instant::now() + Duration::from_secs(60);
        while TcpStream::connect(&started.address).is_err() {
            anyhow::ensure!(Instant::now() < deadline, "Prometheus does not listen");
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(started)
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // Its samples are of no use any more.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
