//! Requests lost through a real proxy while all traffic moves to another version and back: a switch and
//! its rollback, against "patch the route, scale the old side to 0", by provider.
//!
//! The pods end at SIGTERM without draining, as most do.

pub(crate) mod application;
mod ours;
mod peer;

use std::time::Duration;

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
        let peer = under_load(bench, &application, || peer::there_and_back(&application)).await?;
        drop(application);

        progress(&format!("{provider}: traffic-switch, under load"));
        let application = Application::set_up(bench, provider).await?;
        let mut confirmed = Vec::new();
        let ours = under_load(bench, &application, || {
            confirmed = ours::there_and_back(bench, &application)?;
            Ok(())
        })
        .await?;
        figures.push(lost(provider, &ours, &peer));
        figures.extend(confirmation(provider, &confirmed));
    }
    Ok(figures)
}

/// Runs something that moves traffic while requests come through the front door, and goes on until
/// there were enough of them.
async fn under_load(
    bench: &Bench,
    application: &Application,
    work: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<LoadReport> {
    let plan = LoadPlan::new(bench.sandbox.front_door(), bench.rate)?
        .host(application.host())?
        .keep_alive(KeepAlive::On);
    let load = plan.start();
    while load.counts().0 < u64::from(bench.rate) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // The load runs on other threads of this runtime while this one waits for the commands.
    tokio::task::block_in_place(work)?;
    // Answered or lost: a way of switching that breaks the route for good must not be waited for.
    while load.counts().0 + load.counts().1 < REQUESTS {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(load.stop().await?)
}

fn lost(provider: Provider, ours: &LoadReport, peer: &LoadReport) -> Figure {
    #[expect(
        clippy::cast_precision_loss,
        reason = "a count of lost requests is small"
    )]
    let measured = ours.lost as f64;
    Figure {
        what: format!("{provider}: requests lost in a switch and its rollback"),
        ours: format!("{} of {}", ours.lost, ours.scheduled),
        peer: format!(
            "{} of {} (patch, scale the old side to 0)",
            peer.lost, peer.scheduled
        ),
        measured,
        goal: 0.0,
        unit: "lost",
    }
}

/// How long Traefik may wait before it takes a change over (`providersThrottleDuration`), and a second.
const THROTTLE: f64 = 2.0 + 1.0;

fn confirmation(provider: Provider, confirmed: &[Duration]) -> Option<Figure> {
    let longest = confirmed.iter().max()?;
    Some(Figure {
        what: format!("{provider}: from the route's write to evidence from every proxy"),
        ours: format!("{:.2} s", longest.as_secs_f64()),
        peer: "2 s (Traefik's throttle)".into(),
        measured: longest.as_secs_f64(),
        goal: THROTTLE,
        unit: "s",
    })
}
