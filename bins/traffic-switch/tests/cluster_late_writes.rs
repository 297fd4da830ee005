//! A write of a route that gets no answer, is looked for and not found, and arrives later than that.
//! It is ours when it shows, and it cannot show any more once the route is said to be somewhere.

mod support;

use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::json;
use support::{FrontKind, Shop, assert_nothing_lost, finish, run};
use switchyard_record::{Outcome, Phase};
use switchyard_sandbox::fault_proxy::{Fault, FaultProxy, FaultRule};

/// Where the shop's route is.
const ROUTE: &str = "/traefikservices/web";

fn on_route(method: Method, fault: Fault) -> FaultRule {
    FaultRule::every(fault).method(method).path(ROUTE)
}

fn seen(proxy: &FaultProxy, method: &Method) -> usize {
    let requests = proxy.requests();
    let of_route = requests
        .iter()
        .filter(|request| request.method == *method && request.path.contains(ROUTE));
    of_route.count()
}

/// Reads of the route since a write of it was kept back.
fn looks_since_late(proxy: &FaultProxy) -> usize {
    let requests = proxy.requests();
    let since = requests
        .iter()
        .skip_while(|request| request.fault != Some(Fault::Late));
    let looks = since.filter(|request| request.method == Method::GET);
    looks.filter(|request| request.path.contains(ROUTE)).count()
}

/// Starts a switch through a proxy, and injects rules once the fence is on its way: the next PATCH is
/// the first write of the route.
fn switch_with(
    shop: &Shop,
    proxy: &FaultProxy,
    rules: Vec<FaultRule>,
) -> switchyard_harness::Started {
    let pause = Duration::from_millis(1500);
    proxy.inject(on_route(Method::PATCH, Fault::Delay(pause)).times(1));
    let started = shop.through(shop.switch(), proxy).start();
    shop.wait("the fence", || seen(proxy, &Method::PATCH) == 1);
    for rule in rules {
        proxy.inject(rule);
    }
    started
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_arrives_after_it_was_looked_for_is_known_as_our_own() {
    let shop = Shop::open_with(FrontKind::Traefik, 1, 1).await;
    let load = shop.load(50);
    let proxy = FaultProxy::start(&shop.sandbox).await.unwrap();
    let pause = Duration::from_secs(2);
    let rules = vec![
        on_route(Method::PATCH, Fault::Late).times(1),
        on_route(Method::GET, Fault::Delay(pause)),
    ];
    let started = switch_with(&shop, &proxy, rules);
    // It is looked for, and then the route is read again to decide anew: it arrives in between.
    shop.wait("the second look", || looks_since_late(&proxy) == 2);
    assert_eq!(proxy.deliver().await.unwrap(), [StatusCode::OK]);
    proxy.clear();

    let ended = finish(started);
    assert_eq!(ended.code, Some(0), "{}", ended.log());
    assert_eq!(shop.weights(), json!({"green": 100}));
    assert_nothing_lost(&load.stop().await.unwrap());
    let journal = shop.record().await.journal;
    assert_eq!(journal[0].outcome, Outcome::Applied);
    assert!(journal.iter().all(|entry| !entry.is_open()), "{journal:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn traffic_that_is_said_to_be_back_is_not_moved_by_a_write_that_arrives_later() {
    let shop = Shop::open_with(FrontKind::Traefik, 1, 1).await;
    let load = shop.load(50);
    let proxy = FaultProxy::start(&shop.sandbox).await.unwrap();
    // The preparation goes through, and no attempt to move the traffic gets an answer.
    let rules = vec![
        on_route(Method::PATCH, Fault::Delay(Duration::ZERO)).times(1),
        on_route(Method::PATCH, Fault::Late).times(4),
    ];
    let ended = finish(switch_with(&shop, &proxy, rules));
    assert_eq!(ended.code, Some(3), "{}", ended.log());
    assert!(
        ended.log().contains("traffic is back where it was"),
        "{}",
        ended.log()
    );
    let record = shop.record().await;
    assert_eq!(record.phase, Phase::RolledBack);
    assert_eq!(record.open_entries().count(), 0, "{:?}", record.journal);

    assert_eq!(proxy.kept_back(), 4);
    let answers = proxy.deliver().await.unwrap();
    assert!(
        answers.iter().all(|status| status.is_client_error()),
        "{answers:?}"
    );
    assert_eq!(shop.weights(), json!({"blue": 100}));
    assert_nothing_lost(&load.stop().await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_arrives_after_its_process_died_is_known_by_the_one_that_resumes() {
    let shop = Shop::open_with(FrontKind::Traefik, 1, 1).await;
    let load = shop.load(50);
    let proxy = FaultProxy::start(&shop.sandbox).await.unwrap();
    let pause = Duration::from_millis(1500);
    proxy.inject(on_route(Method::PATCH, Fault::Delay(pause)).times(1));
    let switch = shop
        .switch()
        .variable("SWITCHYARD_FAULT_ABORT_AFTER", "settle:1");
    let started = shop.through(switch, &proxy).start();
    shop.wait("the fence", || seen(&proxy, &Method::PATCH) == 1);
    proxy.inject(on_route(Method::PATCH, Fault::Late).times(1));
    let killed = finish(started);
    assert_eq!(killed.code, None, "{}", killed.log());
    let journal = shop.record().await.journal;
    assert_eq!(journal[0].outcome, Outcome::Unknown, "{journal:?}");
    assert_eq!(proxy.deliver().await.unwrap(), [StatusCode::OK]);

    let rescue = run(shop.proving("rescue"));
    assert_eq!(rescue.code, Some(0), "{}", rescue.log());
    assert_eq!(rescue.outputs["result"], "rolled-back");
    assert_eq!(shop.weights(), json!({"blue": 100}));
    let record = shop.record().await;
    assert_eq!(record.journal[0].outcome, Outcome::Applied);
    assert_eq!(record.open_entries().count(), 0, "{:?}", record.journal);
    assert_nothing_lost(&load.stop().await.unwrap());
}
