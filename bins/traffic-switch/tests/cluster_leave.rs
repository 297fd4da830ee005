//! The way out that a watch keeps ready, on a real Traefik: traffic leaves by one write of the process that watches, and
//! the way back that follows confirms it. Where one write is not enough, nothing is written.

mod support;

use std::path::Path;
use std::sync::Arc;

use serde_json::json;
use support::canary::assert_refused;
use support::{FrontKind, Shop, assert_nothing_lost, finish, run};
use switchyard_harness::Step;
use switchyard_http::{Client, ClientSettings};
use switchyard_record::{Intent, Outcome, Phase, Session, Side};
use switchyard_traffic::engine::{Leaving, Left, Prepared, WayOut};
use switchyard_traffic::machine::Trouble;
use tokio_util::sync::CancellationToken;

/// Requests a second through the front door.
const RATE: u32 = 100;

/// A shop whose canary has half of the traffic, and the session of a step that watches it.
async fn at_half() -> (Shop, Session) {
    let shop = Shop::open_canary_with(FrontKind::Traefik, 2, 2).await;
    let ended = run(shop.stage("50"));
    assert_eq!(ended.code, Some(0), "{}", ended.log());
    let session = shop.claim(Intent::Continue).await;
    (shop, session)
}

async fn prepare(shop: &Shop, session: &mut Session) -> Prepared {
    let cluster = shop.cluster().await;
    WayOut::prepare(session, &cluster).await.unwrap()
}

async fn ready(shop: &Shop, session: &mut Session) -> WayOut {
    match prepare(shop, session).await {
        Prepared::Ready(way_out) => way_out,
        other @ (Prepared::NotShared | Prepared::Foreign(_)) => panic!("{other:?}"),
    }
}

async fn take(way_out: WayOut, session: &mut Session) -> Result<Left, Trouble> {
    let leaving = Leaving {
        reason: "errors: 3 of 10 failed".to_owned(),
        by: "dana".to_owned(),
        client: Client::new(&ClientSettings::new("test", "1")).unwrap(),
        notes: Arc::new(|_| {}),
        cancel: CancellationToken::new(),
    };
    way_out.take(session, leaving).await
}

#[tokio::test(flavor = "multi_thread")]
async fn traffic_leaves_a_canary_by_one_write_and_the_rescue_confirms_it_without_a_lost_request() {
    let (shop, mut session) = at_half().await;
    let load = shop.load(RATE);
    let way_out = ready(&shop, &mut session).await;
    assert_eq!(shop.record().await.phase, Phase::Holding(1));
    let left = take(way_out, &mut session).await.unwrap();
    assert_eq!(left, Left::Returned(Side::Stable));
    assert_eq!(shop.weights(), json!({"stable": 100}));
    session.close().await;
    let record = shop.record().await;
    assert_eq!(record.phase, Phase::Reverting);
    let last = record.journal.last().unwrap();
    assert_eq!(last.operation, "route return");
    assert_eq!(last.outcome, Outcome::Applied);
    let why = record.phases.last().unwrap().reason.as_deref();
    assert_eq!(why, Some("errors: 3 of 10 failed"));

    let rescued = run(shop.proving("rescue"));
    assert_eq!(rescued.code, Some(0), "{}", rescued.log());
    assert_eq!(rescued.outputs["result"], "rolled-back");
    assert_eq!(shop.record().await.phase, Phase::RolledBack);
    assert_nothing_lost(&load.stop().await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn traffic_stays_where_the_main_workload_is_too_small_for_it_and_leaves_to_the_canary_where_it_is_dead()
 {
    let (shop, mut session) = at_half().await;
    let way_out = ready(&shop, &mut session).await;
    shop.kubectl(&["scale", "deployment/web", "--replicas=1"]);
    shop.wait_main(1);
    let trouble = take(way_out, &mut session).await.unwrap_err();
    assert!(trouble.reason.contains("service `web`"), "{trouble:?}");
    assert_eq!(shop.weights(), json!({"stable": 50, "canary": 50}));
    assert_eq!(shop.record().await.phase, Phase::Holding(1));

    let way_out = ready(&shop, &mut session).await;
    shop.kubectl(&["scale", "deployment/web", "--replicas=0"]);
    shop.wait("main has no pods", || {
        let pods = ["get", "pods", "-l", "app=web", "-o", "name"];
        shop.kubectl(&pods).is_empty()
    });
    let left = take(way_out, &mut session).await.unwrap();
    assert_eq!(left, Left::Sheltered(Side::Canary));
    assert_eq!(shop.weights(), json!({"canary": 100}));
    session.close().await;
    let rescued = run(shop.proving("rescue"));
    assert_eq!(rescued.code, Some(0), "{}", rescued.log());
    assert_eq!(shop.weights(), json!({"stable": 100}));
    assert_eq!(shop.main_size(), "2");
}

fn somebody_else_writes(shop: &Shop) {
    let services = json!([
        {"name": "web", "port": 80, "weight": 20},
        {"name": "web-canary", "port": 80, "weight": 80},
    ]);
    let patch = json!({"spec": {"weighted": {"services": services}}}).to_string();
    shop.kubectl(&["patch", "traefikservice/web", "--type=merge", "-p", &patch]);
}

#[tokio::test(flavor = "multi_thread")]
async fn there_is_no_way_out_where_somebody_else_has_written_or_one_side_has_everything() {
    let (shop, mut session) = at_half().await;
    let way_out = ready(&shop, &mut session).await;
    somebody_else_writes(&shop);
    let trouble = take(way_out, &mut session).await.unwrap_err();
    let said = "was changed between read and write by `kubectl-patch`";
    assert!(trouble.reason.contains(said), "{trouble:?}");
    assert_eq!(shop.weights(), json!({"stable": 20, "canary": 80}));
    let Prepared::Foreign(targets) = prepare(&shop, &mut session).await else {
        panic!("somebody else has written the route");
    };
    let reason = &targets.first().unwrap().trouble.reason;
    assert!(reason.contains("was changed by `kubectl"), "{reason}");
    session.close().await;
    let ended = run(shop.proving("rescue"));
    assert_refused(&ended, 1, &["was changed by"]);

    let shop = Shop::open_canary_with(FrontKind::Traefik, 2, 2).await;
    let ended = run(shop.stage("100"));
    assert_eq!(ended.code, Some(0), "{}", ended.log());
    let mut session = shop.claim(Intent::Continue).await;
    let prepared = prepare(&shop, &mut session).await;
    assert!(matches!(prepared, Prepared::NotShared), "{prepared:?}");
    session.close().await;
}

/// `release-watch`, which lies where cargo puts all programs.
fn watch(shop: &Shop) -> Step {
    let program = Path::new(env!("CARGO_BIN_EXE_traffic-switch")).with_file_name("release-watch");
    assert!(
        program.is_file(),
        "{} is not built: cargo build --workspace --bins",
        program.display()
    );
    shop.of_deployment(Step::new(program))
        .input("workloads", "deployment/web-canary")
        .input("thresholds", "canary")
        .input("interval", "3m")
        .input("duration", "3m")
        .input("leave-at-once", "true")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_that_cannot_leave_at_once_says_who_wrote_the_route() {
    let (shop, session) = at_half().await;
    session.close().await;
    somebody_else_writes(&shop);
    let watched = run(watch(&shop).input("interval", "1s").input("duration", "2s"));
    let seen = watched.log();
    assert_eq!(watched.code, Some(0), "{seen}");
    for said in [
        "was changed by `kubectl",
        "the traffic cannot leave at once",
    ] {
        assert!(seen.contains(said), "{seen}");
    }
    assert_eq!(shop.weights(), json!({"stable": 20, "canary": 80}));
}

/// A watch whose canary loses its pods is killed at a point, or is not.
async fn a_canary_dies_under_a_watch(fault: Option<&'static str>) {
    let (shop, session) = at_half().await;
    session.close().await;
    let step = watch(&shop);
    let step = match fault {
        Some(fault) => step.variable("SWITCHYARD_FAULT_ABORT_AFTER", fault),
        None => step,
    };
    // Routes come under the watch's fence before it looks at anything.
    let fence = || shop.front_object()["metadata"]["annotations"].to_string();
    let before = fence();
    let watching = step.start();
    shop.wait("the way out is ready", || fence() != before);
    let pods = ["delete", "pods", "-l", "switchyard.dev/slot=canary"];
    shop.kubectl(&[&pods[..], &["--grace-period=0", "--force"]].concat());
    let ended = finish(watching);
    let seen = format!("{fault:?}:\n{}", ended.log());
    match fault {
        Some(_) => assert_eq!(ended.code, None, "{seen}"),
        None => {
            assert_eq!(ended.code, Some(1), "{seen}");
            let reason = &ended.outputs["reason"];
            let said = "all of the traffic was sent back to stable, which nobody has confirmed yet";
            assert!(reason.contains(said), "{seen}");
            assert_eq!(shop.weights(), json!({"stable": 100}), "{seen}");
        }
    }
    let rescued = run(shop.proving("rescue").variable("GITHUB_RUN_ATTEMPT", "2"));
    let seen = format!("{fault:?}:\n{}", rescued.log());
    assert_eq!(rescued.code, Some(0), "{seen}");
    assert_eq!(shop.weights(), json!({"stable": 100}), "{seen}");
    let record = shop.record().await;
    assert_eq!(record.phase, Phase::RolledBack, "{seen}");
    assert_eq!(record.open_entries().count(), 0, "{seen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_sends_the_traffic_of_a_dead_canary_back_and_may_be_killed_anywhere_while_it_does()
{
    let deaths = ["phase:reverting", "plan:1", "mutation:1", "settle:1"];
    let cases = deaths.map(Some).into_iter().chain([None]);
    let cases: Vec<_> = cases
        .map(|fault| tokio::spawn(a_canary_dies_under_a_watch(fault)))
        .collect();
    for case in cases {
        case.await.unwrap();
    }
}
