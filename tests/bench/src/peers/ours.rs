//! The scenarios in our hands.

use super::{Scenario, WATCH, settle};
use crate::Bench;
use crate::canary::PODS;
use crate::canary::ours::{Seen, guarded, promote, share, take_back_command, users};
use crate::canary::shop::{CANARY, LIVE, Route, Shop, until};
use crate::progress;

pub(super) async fn play(bench: &Bench, scenario: Scenario) -> anyhow::Result<Seen> {
    let shop = Shop::with_canary(bench, Route::Traefik, PODS).await?;
    if let Scenario::Broken(breakage) = scenario {
        return guarded(bench, &shop, WATCH, breakage).await;
    }
    let load = users(bench, shop.door())?;
    let (began, left) = tokio::task::block_in_place(|| -> anyhow::Result<_> {
        share(bench, &shop, 10)?;
        share(bench, &shop, 50)?;
        match scenario {
            Scenario::Broken(_) | Scenario::Abort => {}
            Scenario::Promotion => {
                let began = load.elapsed();
                promote(bench, &shop)?;
                return Ok((began, Some(LIVE)));
            }
            Scenario::Shrunk => {
                share(bench, &shop, 100)?;
                shop.kubectl(&["scale", "deployment/api", "--replicas=0"])?;
                until("the main workload has no pods", &mut || {
                    let main = ["get", "pods", "-o", "name", "--selector", "app=api"];
                    Ok(shop.namespace().kubectl(&main)?.is_empty())
                })?;
            }
            Scenario::SecondWriter => super::second_writer(shop.namespace(), "api")?,
        }
        let began = load.elapsed();
        let given_up = take_back_command(bench, &shop).output()?;
        if !given_up.status.success() {
            let text = String::from_utf8_lossy(&given_up.stdout);
            progress(&format!("it was not given up: {}\n{text}", given_up.status));
        }
        Ok((began, Some(CANARY)))
    })?;
    settle(&load, left).await;
    Seen::of(load, began, left).await
}
