//! Requests lost through a real proxy while all traffic moves to another version and back: a switch and
//! its rollback, against "patch the route, scale the old side to 0", by provider.
//!
//! The pods end at SIGTERM without draining, as most do.

pub(crate) mod application;
mod ours;
mod peer;

use std::time::Duration;

use anyhow::Context as _;
use switchyard_sandbox::load::{KeepAlive, LoadPlan, LoadReport};

use crate::table::Figure;
use crate::{Bench, progress};
use application::{Application, Provider};

/// Requests that each way of switching is measured under.
const REQUESTS: u64 = 100_000;

pub(crate) async fn measure(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for provider in Provider::ALL {
        progress(&format!("{provider}: patch and scale, under load"));
        let application = Application::set_up(bench, provider).await?;
        let door = application.door(bench);
        let peer = under_load(bench, &door, || peer::there_and_back(&application)).await?;
        drop(application);

        progress(&format!("{provider}: traffic-switch, under load"));
        let application = Application::set_up(bench, provider).await?;
        let mut confirmed = Vec::new();
        let door = application.door(bench);
        let ours = under_load(bench, &door, || {
            confirmed = ours::there_and_back(bench, &application)?;
            Ok(())
        })
        .await?;
        figures.push(lost(
            &format!("{provider}: requests lost in a switch and its rollback"),
            &ours,
            &peer,
            "patch, scale the old side to 0",
        ));
        figures.extend(confirmation(provider, &confirmed));
    }
    Ok(figures)
}

/// Where the requests of users come in.
pub(crate) struct Door {
    pub(crate) url: String,
    pub(crate) host: String,
}

impl Door {
    /// Requests on connections that are kept.
    pub(crate) fn load(&self, rate: u32) -> anyhow::Result<LoadPlan> {
        let plan = LoadPlan::new(&self.url, rate)?.host(&self.host)?;
        Ok(plan.keep_alive(KeepAlive::On))
    }

    /// Waits until somebody answers behind it.
    pub(crate) async fn answers(&self) -> anyhow::Result<()> {
        for _ in 0..120 {
            let second = self.load(20)?.run_for(Duration::from_millis(500)).await?;
            if second.lost == 0 {
                return Ok(());
            }
        }
        anyhow::bail!("{} does not answer for {}", self.url, self.host)
    }
}

/// Runs something that moves traffic while requests come through the front door, and goes on until
/// there were enough of them.
pub(crate) async fn under_load(
    bench: &Bench,
    door: &Door,
    work: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<LoadReport> {
    let load = door.load(bench.rate)?.start();
    while load.counts().0 < u64::from(bench.rate) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // The load runs on other threads of this runtime while this one waits for the commands.
    tokio::task::block_in_place(work).context("under load")?;
    // Answered or lost: a way of switching that breaks the route for good must not be waited for.
    while load.counts().0 + load.counts().1 < REQUESTS {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(load.stop().await?)
}

pub(crate) fn lost(what: &str, ours: &LoadReport, peer: &LoadReport, how: &str) -> Figure {
    Figure {
        what: what.to_owned(),
        ours: format!("{} of {}", ours.lost, ours.scheduled),
        peer: format!("{} of {} ({how})", peer.lost, peer.scheduled),
        measured: count(ours.lost),
        goal: 0.0,
        unit: "lost",
    }
}

/// A count of lost requests as a figure.
#[expect(
    clippy::cast_precision_loss,
    reason = "a count of lost requests is small"
)]
pub(crate) fn count(lost: u64) -> f64 {
    lost as f64
}

/// How long Traefik may wait before it takes a change over (`providersThrottleDuration`).
pub(crate) const THROTTLE: Duration = Duration::from_secs(2);
/// What the evidence may take besides.
const SLACK: Duration = Duration::from_secs(1);

fn confirmation(provider: Provider, confirmed: &[Duration]) -> Option<Figure> {
    let longest = confirmed.iter().max()?;
    Some(Figure {
        what: format!("{provider}: from the route's write to evidence from every proxy"),
        ours: format!("{:.2} s", longest.as_secs_f64()),
        peer: "2 s (Traefik's throttle)".into(),
        measured: longest.as_secs_f64(),
        goal: (THROTTLE + SLACK).as_secs_f64(),
        unit: "s",
    })
}
