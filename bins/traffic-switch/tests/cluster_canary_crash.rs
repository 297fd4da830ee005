//! Steps of a canary deployment that are killed at every entry of their journal, under load through
//! the front door: run again they end, rescued they go where traffic is safe, and no request is lost.

mod support;

use std::sync::Arc;

use serde_json::{Value, json};
use support::{FrontKind, NEW, Shop, assert_nothing_lost};
use switchyard_harness::{Ended, Step};
use switchyard_record::Phase;

/// Requests a second while a case runs.
const RATE: u32 = 40;
/// How many cases run at once on a small machine.
const AT_ONCE: usize = 4;

/// Points at which a step dies that writes three times: each entry of its journal and each outcome,
/// and between a mutation and its outcome.
const DEATHS: [&str; 9] = [
    "plan:1",
    "mutation:1",
    "settle:1",
    "plan:2",
    "mutation:2",
    "settle:2",
    "plan:3",
    "mutation:3",
    "settle:3",
];

/// Fewer of them for a way back, which is the same again however often it is killed.
const DEATHS_BACK: [&str; 5] = [
    "phase:reverting",
    "mutation:1",
    "plan:2",
    "mutation:2",
    "settle:3",
];

/// What is killed, of a deployment whose canary is as large as its main workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Killed {
    /// The step that gives the canary everything.
    Stage,
    /// The step in which the updated main workload takes over.
    Takeover,
    /// The way back through the canary, once the main workload has taken over.
    ThroughCanary,
    /// The way back from the canary, once the main workload is undone.
    Back,
}

impl Killed {
    async fn opened(self) -> Shop {
        let shop = Shop::open_canary_with(FrontKind::Traefik, 1, 1).await;
        if self == Self::Stage {
            return shop;
        }
        ends(&run(quick(&shop, shop_stage(&shop))).await);
        shop.promote().await;
        if self == Self::Takeover {
            return shop;
        }
        ends(&run(self.takeover(&shop)).await);
        if self == Self::ThroughCanary {
            return shop;
        }
        let through = run(rescue(&shop)).await;
        assert_eq!(
            through.outputs["result"],
            "through-canary",
            "{}",
            through.log()
        );
        shop.undo().await;
        shop
    }

    fn takeover(self, shop: &Shop) -> Step {
        let step = shop.step("switch").input("targets", "traefik/web");
        quick(shop, step.input("to", "stable"))
    }

    fn step(self, shop: &Shop) -> Step {
        match self {
            Self::Stage => quick(shop, shop_stage(shop)),
            Self::Takeover => self.takeover(shop),
            Self::ThroughCanary | Self::Back => rescue(shop),
        }
    }
}

fn shop_stage(shop: &Shop) -> Step {
    let step = shop.step("switch").input("targets", "traefik/web");
    step.input("to", "canary").input("weight", "100")
}

fn rescue(shop: &Shop) -> Step {
    quick(shop, shop.step("rescue"))
}

/// A step that waits for no longer than these requests take.
fn quick(shop: &Shop, step: Step) -> Step {
    step.input("traefik-api", shop.sandbox.traefik_api())
        .input("traefik-metrics", shop.sandbox.traefik_metrics())
        .input("kube-proxy-metrics", "none")
        .input("longest-request", "1s")
        .input("require-verified", "data-plane")
}

async fn run(step: Step) -> Ended {
    tokio::task::spawn_blocking(|| step.run()).await.unwrap()
}

#[track_caller]
fn ends(ended: &Ended) {
    assert_eq!(ended.code, Some(0), "{}", ended.log());
}

/// What must be so in the end.
#[derive(Clone, Debug)]
struct End {
    result: &'static str,
    phase: Phase,
    weights: Value,
}

/// Kills a step at a point and runs one after it, which must come to this end.
async fn case(killed: Killed, fault: &'static str, next: fn(Killed, &Shop) -> Step, end: Arc<End>) {
    let shop = killed.opened().await;
    let load = shop.load(RATE);
    let step = killed.step(&shop);
    let died = run(step.variable("SWITCHYARD_FAULT_ABORT_AFTER", fault)).await;
    assert_eq!(died.code, None, "{killed:?} {fault}:\n{}", died.log());
    let ended = run(next(killed, &shop).variable("GITHUB_RUN_ATTEMPT", "2")).await;
    let seen = format!("{killed:?} {fault}:\n{}", ended.log());
    assert_eq!(ended.code, Some(0), "{seen}");
    assert_eq!(ended.outputs["result"], end.result, "{seen}");
    assert_eq!(shop.weights(), end.weights, "{seen}");
    let record = shop.record().await;
    assert_eq!(record.phase, end.phase, "{seen}");
    assert_eq!(record.open_entries().count(), 0, "{seen}");
    let report = load.stop().await.unwrap();
    assert_nothing_lost(&report);
    assert!(report.succeeded > 0, "{seen}");
}

/// Runs one future for every fault point, a few at a time.
async fn at_every_point(
    killed: Killed,
    points: &[&'static str],
    next: fn(Killed, &Shop) -> Step,
    end: End,
) {
    let end = Arc::new(end);
    for points in points.chunks(AT_ONCE) {
        let running: Vec<_> = points
            .iter()
            .map(|fault| tokio::spawn(case(killed, fault, next, end.clone())))
            .collect();
        for one in running {
            one.await.unwrap();
        }
    }
}

fn again(killed: Killed, shop: &Shop) -> Step {
    killed.step(shop)
}

fn rescued(_: Killed, shop: &Shop) -> Step {
    rescue(shop)
}

fn end(result: &'static str, phase: Phase, side: &str) -> End {
    End {
        result,
        phase,
        weights: json!({side: 100}),
    }
}

fn deaths(more: &[&'static str]) -> Vec<&'static str> {
    more.iter().chain(&DEATHS).copied().collect()
}

fn deaths_of_stage() -> Vec<&'static str> {
    deaths(&["phase:switching(1)", "phase:holding(1)"])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stage_that_was_killed_ends_when_it_is_run_again() {
    let holding = end("switched", Phase::Holding(1), "canary");
    at_every_point(Killed::Stage, &deaths_of_stage(), again, holding).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stage_that_was_killed_goes_back_to_the_main_workload_when_it_is_rescued() {
    let back = end("rolled-back", Phase::RolledBack, "stable");
    at_every_point(Killed::Stage, &deaths_of_stage(), rescued, back).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_takeover_that_was_killed_ends_when_it_is_run_again() {
    let soaking = end("switched", Phase::Soaking, "stable");
    at_every_point(
        Killed::Takeover,
        &deaths(&["phase:soaking"]),
        again,
        soaking,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_takeover_that_was_killed_goes_to_the_canary_when_it_is_rescued() {
    let through = end("through-canary", Phase::Reverting, "canary");
    at_every_point(
        Killed::Takeover,
        &deaths(&["phase:soaking"]),
        rescued,
        through,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_way_through_the_canary_that_was_killed_goes_on_when_it_is_rescued() {
    let through = end("through-canary", Phase::Reverting, "canary");
    at_every_point(Killed::ThroughCanary, &DEATHS_BACK, rescued, through).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_way_back_after_the_main_workload_was_undone_that_was_killed_goes_on() {
    let back = end("rolled-back", Phase::RolledBack, "stable");
    at_every_point(Killed::Back, &DEATHS_BACK[1..], rescued, back).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_undone_main_workload_answers_with_the_version_before() {
    let shop = Killed::Back.opened().await;
    let load = shop.load(RATE);
    ends(&run(rescue(&shop)).await);
    let before = load.answers_of(NEW);
    let answers = load.counts().0;
    shop.wait("more answers", || load.counts().0 > answers + 20);
    assert_eq!(load.answers_of(NEW), before);
    assert_nothing_lost(&load.stop().await.unwrap());
}
