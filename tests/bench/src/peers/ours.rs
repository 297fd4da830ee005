//! The scenarios in our hands.

use super::{Plane, SOMEBODY, START, Scenario, WATCH, settle};
use crate::canary::ours::{CALM, Seen, guarded, promote, share, take_back_command, users};
use crate::canary::shop::{CANARY, LIVE, Shop, until};
use crate::{Bench, measure, progress};

pub(super) async fn play(bench: &Bench, plane: Plane, scenario: Scenario) -> anyhow::Result<Seen> {
    let shop = Shop::with_canary(bench, plane.route(), START).await?;
    if let Scenario::Broken(breakage) = scenario {
        return guarded(bench, &shop, WATCH, breakage).await;
    }
    let load = users(bench, shop.door())?;
    let (began, left) = tokio::task::block_in_place(|| -> anyhow::Result<_> {
        share(bench, &shop, 10)?;
        share(bench, &shop, 50)?;
        std::thread::sleep(CALM);
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
            Scenario::SecondWriter => super::second_writer(plane, shop.namespace(), "api")?,
        }
        let began = load.elapsed();
        let given_up = take_back_command(bench, &shop).output()?;
        match (scenario, given_up.status.code()) {
            // It stops and names the other writer; whoever reads that orders it again with the name.
            (Scenario::SecondWriter, Some(1)) => overrule(bench, &shop)?,
            (_, Some(0)) => {}
            (_, code) => {
                let text = String::from_utf8_lossy(&given_up.stdout);
                progress(&format!("it was not given up ({code:?}):\n{text}"));
            }
        }
        Ok((began, Some(CANARY)))
    })?;
    settle(&load, left).await;
    Seen::of(load, began, left).await
}

/// The order to send the traffic back over the other writer's head.
fn overrule(bench: &Bench, shop: &Shop) -> anyhow::Result<()> {
    let mut rollback = shop.step(bench, "traffic-switch", "rollback", CANARY);
    rollback.args(["--overrule", SOMEBODY, "--longest-request", "1s"]);
    shop.proof(bench, &mut rollback);
    measure::run(&mut rollback)?;
    Ok(())
}
