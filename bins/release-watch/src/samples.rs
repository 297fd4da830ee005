//! Everything that was seen and said, one JSON object a line, and what of it the chart shows.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::Serialize;
use switchyard_runner::Failure;
use switchyard_verdict::{Count, Judgement, Measurement, Verdict};

use crate::front_door::{OfVersion, Probes, UNVERSIONED};
use switchyard_verdict::rule::Percentile;

/// Which curve of the chart a point belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Panel {
    /// Share of the answers, in percent.
    Share,
    /// Requests a second.
    Rate,
    /// Share of failed requests, in percent.
    Errors,
    /// 95th percentile, in milliseconds.
    Latency,
}

/// One point of the chart.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Point {
    pub(crate) panel: Panel,
    pub(crate) series: String,
    pub(crate) seconds: f64,
    pub(crate) value: f64,
}

/// When something was seen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) at: Timestamp,
    pub(crate) look: u32,
    /// Seconds since the watch began.
    pub(crate) elapsed: f64,
    /// Seconds that the look's counts were taken over.
    pub(crate) span: f64,
}

/// The file and the points.
pub(crate) struct Samples {
    folder: PathBuf,
    file: BufWriter<File>,
    points: Vec<Point>,
}

/// A line of the file.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Line<'line> {
    at: Timestamp,
    look: u32,
    elapsed: f64,
    #[serde(flatten)]
    content: Content<'line>,
}

#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
enum Content<'line> {
    Judgement {
        check: &'line str,
        verdict: Verdict,
        line: &'line str,
        #[serde(flatten)]
        numbers: Numbers,
    },
    FrontDoor {
        version: &'line str,
        requests: u64,
        failed: u64,
        p50: Option<f64>,
        p95: Option<f64>,
        p99: Option<f64>,
        seconds: &'line [f64],
    },
}

/// What was measured, where it is numbers.
#[derive(Default, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Numbers {
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    baseline: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    requests: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failed: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    baseline_requests: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    baseline_failed: Option<u64>,
}

impl Samples {
    /// An empty file in a folder that is made where it is missing.
    ///
    /// # Errors
    /// It cannot be made.
    pub(crate) fn create(folder: &Path) -> Result<Self, Failure> {
        let refused = |cause: std::io::Error| {
            let text = format!("cannot write into `{}`: {cause}", folder.display());
            Failure::message(switchyard_runner::Kind::Input, text)
                .hint("give a `folder` that can be written")
        };
        std::fs::create_dir_all(folder).map_err(refused)?;
        // The runner and this program may see the folder under different working directories.
        let folder = folder.canonicalize().map_err(refused)?;
        let file = File::create(folder.join("samples.jsonl")).map_err(refused)?;
        Ok(Self {
            folder,
            file: BufWriter::new(file),
            points: Vec::new(),
        })
    }

    /// Where the file is.
    pub(crate) fn path(&self) -> PathBuf {
        self.folder.join("samples.jsonl")
    }

    /// The folder it lies in.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// What the chart shows.
    pub(crate) fn points(&self) -> &[Point] {
        &self.points
    }

    /// Takes the shares that were confirmed last, side and percent, into the chart: what is answered beside what was set.
    pub(crate) fn set_weights(&mut self, weights: &[(String, u8)]) {
        let looked = self.points.iter().map(|point| point.seconds);
        let Some(last) = looked.clone().reduce(f64::max) else {
            return;
        };
        let first = looked.fold(last, f64::min);
        for (side, percent) in weights {
            for seconds in [first, last] {
                self.points.push(Point {
                    panel: Panel::Share,
                    series: format!("{side} (as set)"),
                    seconds,
                    value: f64::from(*percent),
                });
            }
        }
    }

    /// Writes down what was said of a check.
    pub(crate) fn judged(
        &mut self,
        moment: Moment,
        (check, charts): (&str, bool),
        measurement: &Measurement,
        judgement: &Judgement,
    ) -> std::io::Result<()> {
        if charts {
            self.chart(moment, check, measurement);
        }
        self.line(
            moment,
            Content::Judgement {
                check,
                verdict: judgement.verdict,
                line: &judgement.line,
                numbers: numbers(measurement),
            },
        )
    }

    /// Writes down the probes of a look.
    pub(crate) fn probed(&mut self, moment: Moment, probes: &Probes) -> std::io::Result<()> {
        let versions = probes.by_version();
        let all: u64 = versions.values().map(|one| one.requests).sum();
        for (version, one) in &versions {
            self.chart_version(moment, version, one, all);
            let of = |percent| Percentile::new(percent).and_then(|one_of| one_of.of(&one.seconds));
            self.line(
                moment,
                Content::FrontDoor {
                    version,
                    requests: one.requests,
                    failed: one.failed,
                    p50: of(50.0),
                    p95: of(95.0),
                    p99: of(99.0),
                    seconds: &one.seconds,
                },
            )?;
        }
        Ok(())
    }

    fn line(&mut self, moment: Moment, content: Content<'_>) -> std::io::Result<()> {
        let line = Line {
            at: moment.at,
            look: moment.look,
            elapsed: moment.elapsed,
            content,
        };
        serde_json::to_writer(&mut self.file, &line)?;
        self.file.write_all(b"\n")
    }

    /// Brings everything to the disk: a killed watch leaves what it saw.
    pub(crate) fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }

    fn point(&mut self, panel: Panel, series: &str, moment: Moment, value: f64) {
        self.points.push(Point {
            panel,
            series: series.to_owned(),
            seconds: moment.elapsed,
            value,
        });
    }

    #[expect(clippy::cast_precision_loss, reason = "counts of a look are small")]
    fn chart_version(&mut self, moment: Moment, version: &str, one: &OfVersion, all: u64) {
        let requests = one.requests as f64;
        self.point(
            Panel::Share,
            version,
            moment,
            100.0 * requests / all.max(1) as f64,
        );
        self.point(Panel::Rate, version, moment, requests / moment.span);
        let failed = 100.0 * one.failed as f64 / requests.max(1.0);
        self.point(Panel::Errors, version, moment, failed);
        if version != UNVERSIONED
            && let Some(p95) = Percentile::P95.of(&one.seconds)
        {
            self.point(Panel::Latency, version, moment, p95 * 1000.0);
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "counts of a look are small")]
    fn chart(&mut self, moment: Moment, check: &str, measurement: &Measurement) {
        match measurement {
            Measurement::Counts { canary, baseline } => {
                for (series, Count { requests, failed }) in sides(check, *canary, *baseline) {
                    let share = 100.0 * failed as f64 / requests.max(1) as f64;
                    self.point(Panel::Rate, &series, moment, requests as f64 / moment.span);
                    self.point(Panel::Errors, &series, moment, share);
                }
            }
            Measurement::Value { canary, baseline } => {
                for (series, seconds) in sides(check, *canary, *baseline) {
                    self.point(Panel::Latency, &series, moment, seconds * 1000.0);
                }
            }
            Measurement::NoData(_)
            | Measurement::Error(_)
            | Measurement::Healthy(_)
            | Measurement::Unhealthy(_)
            | Measurement::Latencies { .. } => {}
        }
    }
}

/// What a check measured of the new side, and under its own name what it measured of the old one.
fn sides<T>(check: &str, canary: T, baseline: Option<T>) -> impl Iterator<Item = (String, T)> {
    let baseline = baseline.map(|value| (format!("{check}, baseline"), value));
    std::iter::once((check.to_owned(), canary)).chain(baseline)
}

fn numbers(measurement: &Measurement) -> Numbers {
    match measurement {
        Measurement::Value { canary, baseline } => Numbers {
            value: Some(*canary),
            baseline: *baseline,
            ..Numbers::default()
        },
        Measurement::Counts { canary, baseline } => Numbers {
            requests: Some(canary.requests),
            failed: Some(canary.failed),
            baseline_requests: baseline.map(|count| count.requests),
            baseline_failed: baseline.map(|count| count.failed),
            ..Numbers::default()
        },
        Measurement::NoData(_)
        | Measurement::Error(_)
        | Measurement::Healthy(_)
        | Measurement::Unhealthy(_)
        | Measurement::Latencies { .. } => Numbers::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::front_door::Probe;

    #[test]
    fn probes_become_lines_and_points_beside_the_weights_that_were_set() {
        let folder = std::env::temp_dir().join(format!("release-watch-{}", std::process::id()));
        let mut samples = Samples::create(&folder).unwrap();
        samples.set_weights(&[("canary".to_owned(), 10)]);
        assert!(
            samples.points().is_empty(),
            "nothing was seen to draw it beside"
        );
        let probe = |version: &str| Probe {
            version: Some(version.to_owned()),
            problem: None,
            seconds: 0.1,
        };
        let probes = Probes(vec![probe("v1"), probe("v1"), probe("v1"), probe("v2")]);
        for look in 1..=2 {
            let moment = Moment {
                at: Timestamp::UNIX_EPOCH,
                look,
                elapsed: f64::from(look) * 60.0,
                span: 60.0,
            };
            samples.probed(moment, &probes).unwrap();
        }
        samples.set_weights(&[("canary".to_owned(), 10)]);
        samples.flush().unwrap();
        let shares = samples
            .points()
            .iter()
            .filter(|point| point.panel == Panel::Share);
        let shares = shares.map(|point| (point.series.as_str(), point.seconds, point.value));
        let shares: Vec<_> = shares.collect();
        assert!(shares.contains(&("v2", 60.0, 25.0)), "{shares:?}");
        assert!(
            shares.contains(&("canary (as set)", 120.0, 10.0)),
            "{shares:?}"
        );
        let text = std::fs::read_to_string(samples.path()).unwrap();
        assert_eq!(text.lines().count(), 4);
        let line: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        assert_eq!(line["kind"], "front-door");
        assert_eq!(
            (&line["version"], &line["requests"]),
            (&"v1".into(), &3.into())
        );
        std::fs::remove_dir_all(folder).unwrap();
    }
}
