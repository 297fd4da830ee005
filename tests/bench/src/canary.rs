//! Canaries through a real proxy: requests lost over a canary and its rollback, against "patch the weights,
//! scale the canary to 0", by weighted provider; and how long a canary that breaks keeps its traffic.
//!
//! The pods end at SIGTERM without draining, as most do.

pub(crate) mod breakage;
mod naive;
pub(crate) mod ours;
pub(crate) mod shop;

use std::time::Duration;

use crate::loss::{self, under_load};
use crate::table::Figure;
use crate::{Bench, progress};
use breakage::Breakage;
use ours::{Watch, guarded};
use shop::{AT_ONCE, CANARY, Route, Shop};

/// Pods of the main workload, and of the canary with half of the traffic.
pub(crate) const PODS: u32 = 3;
/// How often the watch looks, and how many looks in a row are needed to believe a number.
const WATCH: Watch = Watch {
    interval: Duration::from_secs(5),
    consecutive: 2,
};
/// What a watch may take besides its looks, and a rollback besides its proxies: a second.
const SLACK: Duration = Duration::from_secs(1);
/// How long the canary has half of the traffic before it is taken back.
const HELD: Duration = Duration::from_secs(3);

/// Requests lost over a canary and its rollback.
pub(crate) async fn measure(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for route in Route::ALL {
        progress(&format!("{route}: weights by hand, under load"));
        let shop = Shop::with_canary(bench, route, AT_ONCE).await?;
        let peer = under_load(bench, shop.door(), || naive::there_and_back(&shop)).await?;
        progress(&peer.summary());
        drop(shop);

        progress(&format!("{route}: a canary and its rollback, under load"));
        let shop = Shop::with_canary(bench, route, AT_ONCE).await?;
        let ours = under_load(bench, shop.door(), || {
            ours::share(bench, &shop, 10)?;
            ours::share(bench, &shop, 50)?;
            std::thread::sleep(HELD);
            ours::take_back(bench, &shop)?;
            ours::retire(bench, &shop)
        })
        .await?;
        progress(&ours.summary());
        anyhow::ensure!(
            ours.by_version.contains_key(CANARY) && peer.by_version.contains_key(CANARY),
            "{route}: the canary was given no traffic"
        );
        figures.push(loss::lost(
            &format!("{route}: requests lost in a canary of 10 and 50 % and its rollback"),
            &ours,
            &peer,
            "patch the weights, scale the canary to 0",
        ));
    }
    Ok(figures)
}

/// From the first failed request of a canary that breaks to the last one that it was given.
pub(crate) async fn breach(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    progress("a canary with half of the traffic begins to fail, under a watch");
    let shop = Shop::with_canary(bench, Route::Traefik, AT_ONCE).await?;
    let seen = guarded(bench, &shop, WATCH, Breakage::Failing).await?;
    let safe = seen.safe().ok_or_else(|| {
        anyhow::anyhow!(
            "a failing canary kept its traffic:\n{}",
            seen.report.summary()
        )
    })?;
    let looks = WATCH.interval * WATCH.consecutive;
    let goal = looks + loss::THROTTLE + SLACK;
    Ok(vec![Figure {
        what: format!(
            "a canary begins to fail: until all traffic is on the other side, {} looks of {} s",
            WATCH.consecutive,
            WATCH.interval.as_secs()
        ),
        ours: format!(
            "{:.2} s, {} of {} failed",
            safe.as_secs_f64(),
            seen.report.lost,
            seen.report.scheduled
        ),
        peer: format!(
            "{} s (the looks, Traefik's throttle, 1 s)",
            goal.as_secs_f64()
        ),
        measured: safe.as_secs_f64(),
        goal: goal.as_secs_f64(),
        unit: "s",
    }])
}
