//! More than one process, or one that ends too early: leases, fences, orders to stop, signals.

mod support;

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use support::{FrontKind, Shop, assert_nothing_lost, finish, run};
use switchyard_record::{Phase, Store, Verdict};

fn signal(id: u32, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(id).unwrap()), signal).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_switch_stops_in_order_and_rescue_takes_it_back() {
    for (front, with) in [
        (FrontKind::Traefik, Signal::SIGTERM),
        (FrontKind::Gateway, Signal::SIGINT),
    ] {
        let shop = Shop::open(front).await;
        let load = shop.load(100);
        let started = shop
            .switch()
            .input("steps", "50,100")
            .input("hold", "90s")
            .start();
        let started = shop.wait_phase_of(started, Phase::Holding(1)).await;
        signal(started.id(), with);
        let told = Instant::now();
        let ended = finish(started);
        // The runner kills after ten seconds; we promise seven.
        assert!(told.elapsed() < Duration::from_secs(7));
        assert_eq!(ended.code, Some(128 + with as i32), "{}", ended.log());
        assert!(
            ended.log().contains("traffic-switch rescue"),
            "{}",
            ended.log()
        );
        let record = shop.record().await;
        assert_eq!(record.phase, Phase::Holding(1));
        assert!(record.journal.iter().all(|entry| !entry.is_open()));
        assert!(!shop.is_leased());

        let rescue = run(shop.proving("rescue").input("scale-new-down", "true"));
        assert_eq!(rescue.code, Some(0), "{}", rescue.log());
        assert_eq!(rescue.outputs["result"], "rolled-back");
        shop.wait_pods("green", 0);
        assert_nothing_lost(&load.stop().await.unwrap());
        assert_eq!(shop.weights(), json!({"blue": 100}));
        let again = run(shop.proving("rescue"));
        assert_eq!(
            (again.code, again.outputs["result"].as_str()),
            (Some(0), "nothing-to-do"),
            "{}",
            again.log()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rescue_before_the_first_switch_abandons() {
    let shop = Shop::open_with(FrontKind::Service, 1, 1).await;
    let mut session = shop.session().await;
    session.advance(Phase::Ready).await.unwrap();
    session.close().await;
    Store::new(shop.client().await, shop.namespace.name())
        .remember_notice(&shop.id(), "slack", "C0DEPLOYS01/1790000000.000100")
        .await
        .unwrap();
    let ended = run(shop.proving("rescue"));
    assert_eq!(ended.code, Some(0), "{}", ended.log());
    assert_eq!(ended.outputs["result"], "abandoned");
    assert_eq!(
        ended.outputs["notices"],
        r#"{"slack":"C0DEPLOYS01/1790000000.000100"}"#
    );
    let record = shop.record().await;
    assert_eq!(record.phase, Phase::Abandoned);
    assert_eq!(record.result.unwrap().verdict, Verdict::Abandoned);
    assert_eq!(shop.weights(), json!({"blue": 100}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rescue_without_any_record_has_nothing_to_do() {
    let shop = Shop::open_with(FrontKind::Service, 1, 1).await;
    let ended = run(shop.proving("rescue"));
    assert_eq!(
        (ended.code, ended.outputs["result"].as_str()),
        (Some(0), "nothing-to-do"),
        "{}",
        ended.log()
    );
}

/// The record is where the deployment is: from another namespace nothing is to be seen of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_rescue_that_knows_of_a_deployment_does_not_pass_for_done_in_the_wrong_namespace() {
    let shop = Shop::open_with(FrontKind::Service, 1, 1).await;
    let session = shop.session().await;
    session.close().await;
    let elsewhere = shop.sandbox.namespace("elsewhere").await;
    let rescue = || shop.proving("rescue").input("namespace", elsewhere.name());

    let told = run(rescue().input("expect-deployment", "true"));
    assert_eq!(told.code, Some(1), "{}", told.log());
    for part in [elsewhere.name(), "although one was begun", "hint: see that"] {
        assert!(told.log().contains(part), "no `{part}` in:\n{}", told.log());
    }
    let named = run(rescue().input("deployment-id", shop.id().to_string()));
    assert_eq!(named.code, Some(2), "{}", named.log());
    assert!(named.log().contains("input `namespace`"), "{}", named.log());
    // Who knows nothing is told what was not seen, in case it should have been.
    let untold = run(rescue());
    assert_eq!(untold.code, Some(0), "{}", untold.log());
    assert_eq!(untold.outputs["result"], "nothing-to-do");
    assert!(
        untold.log().contains("it was not taken back"),
        "{}",
        untold.log()
    );

    // In the right place both find it.
    let ended = run(shop.proving("rescue").input("expect-deployment", "true"));
    assert_eq!(ended.code, Some(0), "{}", ended.log());
    assert_eq!(ended.outputs["result"], "abandoned");
    let again = run(shop
        .proving("rescue")
        .input("deployment-id", shop.id().to_string()));
    assert_eq!(again.code, Some(0), "{}", again.log());
    assert_eq!(again.outputs["result"], "nothing-to-do");
    // A run that the record has never heard of is another matter.
    let unknown = run(shop
        .proving("rescue")
        .input("deployment-id", shop.id_of("4242").to_string()));
    assert_eq!(unknown.code, Some(1), "{}", unknown.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_that_is_ordered_while_a_deployment_runs_stops_it_and_goes_back() {
    let mut shop = Shop::open(FrontKind::Traefik).await;
    let load = shop.load(100);
    let running = shop
        .switch()
        .input("steps", "50,100")
        .input("hold", "90s")
        .start();
    let running = shop.wait_phase_of(running, Phase::Holding(1)).await;
    shop.run_id = "2002".to_owned();
    let ordered = run(shop
        .proving("rollback")
        .variable("GITHUB_ACTOR", "kim")
        .input("reason", "customers complain"));
    assert_eq!(ordered.code, Some(0), "{}", ordered.log());
    assert_eq!(ordered.outputs["active"], "blue");
    let stopped = finish(running);
    assert_eq!(stopped.code, Some(1), "{}", stopped.log());
    assert!(
        stopped.log().contains("kim (customers complain)"),
        "{}",
        stopped.log()
    );
    assert_nothing_lost(&load.stop().await.unwrap());
    shop.run_id = "1001".to_owned();
    let record = shop.record().await;
    assert_eq!(record.phase, Phase::RolledBack);
    assert_eq!(
        record.result.unwrap().cause.as_deref(),
        Some("customers complain")
    );
    assert_eq!(shop.weights(), json!({"blue": 100}));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_runs_at_once_the_second_is_refused_and_changes_nothing() {
    let mut shop = Shop::open(FrontKind::Traefik).await;
    let first = shop
        .switch()
        .input("steps", "50,100")
        .input("hold", "3s")
        .start();
    let first = shop.wait_phase_of(first, Phase::Switching(1)).await;
    shop.run_id = "2002".to_owned();
    let second = run(shop.switch());
    assert_eq!(second.code, Some(1), "{}", second.log());
    assert!(
        second.log().contains("is claimed by deployment"),
        "{}",
        second.log()
    );
    let first = finish(first);
    assert_eq!(first.code, Some(0), "{}", first.log());
    assert_eq!(shop.weights(), json!({"green": 100}));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lease_of_a_live_run_is_waited_for_and_that_of_a_dead_one_runs_out() {
    let shop = Shop::open_with(FrontKind::Traefik, 1, 1).await;
    let session = shop.session().await;
    let started = shop.switch().start();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(
        shop.weights(),
        json!({"blue": 100}),
        "it did not wait for the lease"
    );
    session.close().await;
    let ended = finish(started);
    assert_eq!(ended.code, Some(0), "{}", ended.log());

    // A process that died holds the lease until it was not renewed for its duration.
    let now = shop.kubectl(&[
        "get",
        "lease/switchyard-web",
        "-o",
        "jsonpath={.spec.renewTime}",
    ]);
    let dead =
        json!({"spec": {"holderIdentity": "dead", "leaseDurationSeconds": 15, "renewTime": now}});
    shop.kubectl(&[
        "patch",
        "lease/switchyard-web",
        "--type",
        "merge",
        "-p",
        &dead.to_string(),
    ]);
    let ended = run(shop.proving("rollback"));
    assert_eq!(ended.code, Some(0), "{}", ended.log());
    assert_eq!(shop.weights(), json!({"blue": 100}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_that_wakes_up_after_a_takeover_writes_nothing() {
    let shop = Shop::open(FrontKind::Traefik).await;
    let load = shop.load(100);
    let sleeper = shop
        .switch()
        .input("steps", "50,100")
        .input("hold", "25s")
        .start();
    let sleeper = shop.wait_phase_of(sleeper, Phase::Holding(1)).await;
    signal(sleeper.id(), Signal::SIGSTOP);
    let rescue = run(shop.proving("rescue"));
    assert_eq!(rescue.code, Some(0), "{}", rescue.log());
    let rescued = shop.front_object();
    signal(sleeper.id(), Signal::SIGCONT);
    let ended = finish(sleeper);
    assert_eq!(ended.code, Some(1), "{}", ended.log());
    assert!(
        ended
            .log()
            .contains("stopped without writing anything more"),
        "{}",
        ended.log()
    );
    assert_eq!(shop.front_object()["spec"], rescued["spec"]);
    assert_eq!(shop.record().await.phase, Phase::RolledBack);
    assert_nothing_lost(&load.stop().await.unwrap());
}

/// A rescue that dies is run again, wherever it died, and nothing is lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_rescue_that_was_killed_ends_when_it_is_run_again() {
    for death in [
        "phase:reverting",
        "plan:1",
        "mutation:1",
        "settle:2",
        "mutation:3",
    ] {
        let shop = Shop::open_with(FrontKind::Traefik, 2, 2).await;
        let load = shop.load(50);
        assert_eq!(run(shop.switch()).code, Some(0));
        shop.scale("blue", 0);
        shop.wait_pods("blue", 0);
        let rescue = || shop.proving("rescue").input("scale-new-down", "true");
        let killed = run(rescue().variable("SWITCHYARD_FAULT_ABORT_AFTER", death));
        assert_eq!(killed.code, None, "{death}: {}", killed.log());
        let ended = run(rescue());
        assert_eq!(ended.code, Some(0), "{death}: {}", ended.log());
        assert_eq!(
            ended.outputs["result"],
            "rolled-back",
            "{death}: {}",
            ended.log()
        );
        shop.wait_pods("green", 0);
        assert_nothing_lost(&load.stop().await.unwrap());
        assert_eq!(shop.weights(), json!({"blue": 100}));
        let record = shop.record().await;
        assert!(
            record.journal.iter().all(|entry| !entry.is_open()),
            "{death}: {:?}",
            record.journal
        );
    }
}
