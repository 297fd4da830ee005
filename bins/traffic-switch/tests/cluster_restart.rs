//! The API server itself ends in mid-switch and comes back, under load: in order on the way to the
//! new side, killed on the way back. Everybody in a sandbox notices, so this has one of its own.

mod support;

use std::time::Duration;

use serde_json::json;
use support::{FrontKind, Shop, assert_nothing_lost, finish};
use switchyard_record::{Phase, Verdict};
use switchyard_sandbox::{Ending, FurtherSandbox, Sandbox};

async fn loses_nothing(sandbox: &Sandbox) {
    let shop = Shop::open_in(sandbox.clone(), FrontKind::Traefik, 2, 2).await;
    let load = shop.load(100);

    let step = shop.switch().input("steps", "50,100").input("hold", "8s");
    let started = shop.wait_phase_of(step.start(), Phase::Holding(1)).await;
    sandbox.restart_api_server(Ending::InOrder).await.unwrap();
    let ended = finish(started);
    assert_eq!(ended.code, Some(0), "{}", ended.log());
    assert_eq!(ended.outputs["verified"], "front-door", "{}", ended.log());
    assert_eq!(shop.weights(), json!({"green": 100}));
    assert_eq!(shop.record().await.phase, Phase::Soaking);

    // The way back has written the route and waits for the new side to become quiet.
    let step = shop.proving("rollback").input("longest-request", "6s");
    let started = step.start();
    shop.wait("the write of the route", || {
        let services = &shop.front_object()["spec"]["weighted"]["services"];
        let services = services.as_array().unwrap();
        services
            .iter()
            .all(|service| service["name"] != "web-green" || service["weight"] == 0)
    });
    sandbox.restart_api_server(Ending::Killed).await.unwrap();
    let ended = finish(started);
    assert_eq!(ended.code, Some(0), "{}", ended.log());
    assert_eq!(ended.outputs["result"], "rolled-back");
    assert_eq!(shop.weights(), json!({"blue": 100}));

    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_nothing_lost(&load.stop().await.unwrap());
    let record = shop.record().await;
    assert_eq!(record.result.unwrap().verdict, Verdict::RolledBack);
    assert!(record.journal.iter().all(|entry| !entry.is_open()));
    assert!(shop.application().await.active.is_none());
    assert!(!shop.is_leased());
}

#[test]
fn a_switch_and_the_way_back_outlive_an_api_server_that_restarts_and_lose_nothing() {
    let further = FurtherSandbox::start("restart-switch").unwrap();
    // Made inside the further sandbox's network.
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(loses_nothing(further.sandbox()));
}
