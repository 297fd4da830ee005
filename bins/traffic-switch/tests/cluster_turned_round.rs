//! A rollback that another run has begun and not ended: wherever it stands, whoever orders a rollback
//! gets one, or is told exactly what to do.

mod support;

use serde_json::json;
use support::{FrontKind, Shop, assert_nothing_lost, run};
use switchyard_record::{
    Chain, ClaimRequest, Freshness, Intent, Kind, Opening, Phase, Session, SessionOptions, Verdict,
};

/// Runs of the deployment, of the rollback that did not end, and of the one that is ordered then.
const DEPLOYED: &str = "1001";
const UNFINISHED: &str = "2002";
const ORDERED: &str = "3003";

/// How the unfinished rollback came to stand where it does.
#[derive(Clone, Copy, Debug)]
enum Stands {
    /// Claimed, and no more.
    Claimed,
    /// Killed at a fault point of its way to the old version.
    Killed(&'static str),
    /// Killed at a fault point after the old version had failed its proof.
    TurnedRound(&'static str),
    /// Killed in the middle, and then left to a person.
    NeedsPerson,
    /// Claimed, and killed while its claim was given up.
    Abandoning,
}

/// Green has taken over from blue and counts as good, and then a rollback of it got stuck.
async fn stuck(stands: Stands) -> Shop {
    let mut shop = Shop::open_with(FrontKind::Traefik, 1, 1).await;
    let switched = run(shop.switch());
    assert_eq!(switched.code, Some(0), "{}", switched.log());
    shop.succeed().await;
    shop.run_id = UNFINISHED.to_owned();
    match stands {
        Stands::Claimed => claim(&shop, roll_back()).await.close().await,
        Stands::Killed(fault) => die(&shop, fault, "v1.0.0"),
        Stands::TurnedRound(fault) => die(&shop, fault, "v9.9.9"),
        Stands::NeedsPerson => {
            die(&shop, "settle:2", "v1.0.0");
            let mut session = claim(&shop, Intent::Rescue).await;
            let why = "somebody has changed it";
            session
                .advance_because(Phase::NeedsPerson, why)
                .await
                .unwrap();
            session.close().await;
        }
        Stands::Abandoning => {
            let mut session = claim(&shop, roll_back()).await;
            session
                .advance_because(Phase::Abandoning, "it could not begin")
                .await
                .unwrap();
            session.close().await;
        }
    }
    shop
}

fn die(shop: &Shop, fault: &str, expected: &str) {
    let step = shop
        .proving("rollback")
        .input("expect-version", expected)
        .input("timeout", "10s")
        .variable("SWITCHYARD_FAULT_ABORT_AFTER", fault);
    let killed = run(step);
    assert_eq!(killed.code, None, "{fault}: {}", killed.log());
}

fn roll_back() -> Intent {
    Intent::RollBack(Opening::new(Kind::Rollback, Chain::Slots))
}

async fn claim(shop: &Shop, intent: Intent) -> Session {
    let options = SessionOptions::new("dana");
    let mut session = Session::open(shop.client().await, shop.id(), options)
        .await
        .unwrap();
    let request = ClaimRequest {
        intent,
        attempt: 1,
        inputs: None,
        freshness: Freshness::OncePerRun,
    };
    session.claim(request).await.unwrap();
    session
}

/// Orders a rollback of another run and sees that it leads to the old version.
async fn assert_rolled_back(stands: Stands) {
    let mut shop = stuck(stands).await;
    let load = shop.load(30);
    shop.run_id = ORDERED.to_owned();
    let ended = run(shop.proving("rollback"));
    assert_eq!(ended.code, Some(0), "{stands:?}: {}", ended.log());
    assert_eq!(ended.outputs["result"], "rolled-back", "{stands:?}");
    assert_eq!(ended.outputs["active"], "blue", "{stands:?}");
    assert_eq!(shop.weights(), json!({"blue": 100}), "{stands:?}");
    assert_nothing_lost(&load.stop().await.unwrap());
    let application = shop.application().await;
    assert_eq!(application.active, None, "{stands:?}");
    let live = application.live.unwrap();
    assert_eq!(live.side, switchyard_record::Side::BLUE, "{stands:?}");
    if live.deployment == Some(shop.id()) {
        // It is a rollback of this run's own, so its re-run has nothing left to do.
        let again = run(shop.proving("rollback"));
        assert_eq!(again.code, Some(0), "{stands:?}: {}", again.log());
        assert_eq!(again.outputs["result"], "nothing-to-do", "{stands:?}");
        assert_eq!(shop.weights(), json!({"blue": 100}), "{stands:?}");
    }
}

async fn assert_all_rolled_back(all: &[Stands]) {
    let running: Vec<_> = all
        .iter()
        .map(|stands| tokio::spawn(assert_rolled_back(*stands)))
        .collect();
    for one in running {
        one.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_of_another_run_that_still_goes_forward_is_finished() {
    assert_all_rolled_back(&[
        Stands::Claimed,
        Stands::Killed("plan:1"),
        Stands::Killed("mutation:2"),
        Stands::Killed("phase:soaking"),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_of_another_run_that_has_turned_round_is_ended_and_another_one_made() {
    assert_all_rolled_back(&[
        Stands::TurnedRound("phase:reverting"),
        Stands::TurnedRound("mutation:3"),
        Stands::NeedsPerson,
        Stands::Abandoning,
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_run_that_began_a_rollback_which_turned_round_may_order_it_again() {
    let shop = stuck(Stands::TurnedRound("phase:reverting")).await;
    let ended = run(shop.proving("rollback").variable("GITHUB_RUN_ATTEMPT", "2"));
    assert_eq!(ended.code, Some(0), "{}", ended.log());
    assert_eq!(shop.weights(), json!({"blue": 100}));
    assert_eq!(
        shop.record().await.result.unwrap().verdict,
        Verdict::Superseded
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_else_has_written_meanwhile_is_left_to_a_person() {
    let mut shop = stuck(Stands::NeedsPerson).await;
    let weights = |blue: u32, green: u32| {
        let services = json!([
            {"name": "web-blue", "port": 80, "weight": blue},
            {"name": "web-green", "port": 80, "weight": green},
        ]);
        let patch = json!({"spec": {"weighted": {"services": services}}});
        shop.kubectl(&[
            "patch",
            "traefikservice/web",
            "--type",
            "merge",
            "--field-manager",
            "somebody-else",
            "-p",
            &patch.to_string(),
        ]);
    };
    let ours = shop.front_object()["spec"].clone();
    weights(30, 70);
    let foreign = shop.front_object()["spec"].clone();
    let unfinished = shop.id();
    shop.run_id = ORDERED.to_owned();
    let refused = run(shop.proving("rollback"));
    assert_eq!(refused.code, Some(1), "{}", refused.log());
    assert!(
        refused.log().contains("`somebody-else`") && refused.log().contains("hint: put it to"),
        "{}",
        refused.log()
    );
    assert_eq!(shop.front_object()["spec"], foreign);
    let active = shop.application().await.active.unwrap();
    assert_eq!(active.deployment, unfinished, "it still needs a person");

    let patch = json!({"spec": ours}).to_string();
    shop.kubectl(&[
        "patch",
        "traefikservice/web",
        "--type",
        "merge",
        "-p",
        &patch,
    ]);
    let ended = run(shop.proving("rollback"));
    assert_eq!(ended.code, Some(0), "{}", ended.log());
    assert_eq!(shop.weights(), json!({"blue": 100}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_that_cannot_be_finished_is_not_taken_back_in_its_place() {
    let mut shop = stuck(Stands::Claimed).await;
    let deployed = shop.id_of(DEPLOYED).record_name();
    shop.kubectl(&["delete", "configmap", &deployed]);
    let unfinished = shop.id();
    shop.run_id = ORDERED.to_owned();
    let ended = run(shop.proving("rollback"));
    assert_eq!(ended.code, Some(1), "{}", ended.log());
    for part in [
        "cannot be finished",
        DEPLOYED,
        &format!("`traffic-switch rescue` with `deployment-id: {unfinished}`"),
        "`new-deployment: true`",
    ] {
        assert!(
            ended.log().contains(part),
            "no `{part}` in:\n{}",
            ended.log()
        );
    }
    let active = shop.application().await.active.unwrap();
    assert_eq!(active.deployment, unfinished);
}
