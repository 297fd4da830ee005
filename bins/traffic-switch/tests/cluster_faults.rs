//! What goes wrong in the cluster while traffic is switched, and what must happen: a clear error
//! with a hint, the right exit code, nothing half-done that the record does not tell, and traffic
//! that is still served.

mod support;

use std::time::Duration;

use http::{Method, StatusCode};
use jiff::Timestamp;
use serde_json::json;
use support::{FrontKind, NEW, Shop, assert_nothing_lost, finish, run};
use switchyard_harness::Ended;
use switchyard_record::{Outcome, Phase};
use switchyard_sandbox::TraefikReplica;
use switchyard_sandbox::fault_proxy::{Fault, FaultProxy, FaultRule};

fn assert_gate(ended: &Ended, parts: &[&str]) {
    assert_eq!(ended.code, Some(1), "{}", ended.log());
    for part in parts {
        assert!(
            ended.log().contains(part),
            "no `{part}` in:\n{}",
            ended.log()
        );
    }
    assert!(ended.log().contains("hint: "), "{}", ended.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_side_without_endpoints_gets_no_traffic() {
    for front in FrontKind::ALL {
        let shop = Shop::open_with(front, 2, 0).await;
        let load = shop.load(50);
        let ended = run(shop.switch());
        assert_gate(&ended, &["side `green`", "needed"]);
        assert_eq!(ended.outputs["changed"], "false");
        assert_nothing_lost(&load.stop().await.unwrap());
        assert_eq!(shop.weights(), json!({"blue": 100}));
        assert!(!shop.is_leased());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_side_with_too_few_pods_for_its_share_is_refused_unless_the_user_says_so() {
    let shop = Shop::open_with(FrontKind::Traefik, 3, 1).await;
    let ended = run(shop.switch());
    assert_gate(&ended, &["1 of 3 needed pods", "min-ready"]);
    let ended = run(shop.switch().input("weight", "10"));
    assert_eq!(
        ended.code,
        Some(0),
        "one pod is enough for a tenth: {}",
        ended.log()
    );
    let ended = run(shop.switch().input("min-ready", "1"));
    assert_eq!(ended.code, Some(0), "{}", ended.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_side_with_only_terminating_pods_gets_no_traffic() {
    let shop = Shop::open_with(FrontKind::Traefik, 2, 0).await;
    // Pods that go on serving for a while after they were told to end.
    let image = shop.sandbox.image("web", "draining");
    shop.kubectl(&[
        "set",
        "image",
        "deployment/web-green",
        &format!("web={image}"),
    ]);
    shop.kubectl(&[
        "patch",
        "deployment/web-green",
        "-p",
        r#"{"spec":{"template":{"spec":{"terminationGracePeriodSeconds":120}}}}"#,
    ]);
    shop.kubectl(&["set", "env", "deployment/web-green", "DRAIN_MS=60000"]);
    shop.scale("green", 2);
    shop.wait_pods("green", 2);
    shop.scale("green", 0);
    shop.wait("terminating pods", || {
        let pods = shop.kubectl(&[
            "get",
            "pods",
            "-l",
            "switchyard.dev/slot=green",
            "-o",
            "jsonpath={.items[*].metadata.deletionTimestamp}",
        ]);
        pods.split_whitespace().count() == 2
    });
    let ended = run(shop.switch());
    assert_gate(&ended, &["0 of 2 needed pods are routable"]);
    assert_eq!(shop.weights(), json!({"blue": 100}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_version_that_fails_its_probes_loses_the_traffic_again() {
    let shop = Shop::open(FrontKind::Traefik).await;
    shop.kubectl(&["set", "env", "deployment/web-green", "ERROR_RATE=1.0"]);
    shop.kubectl(&["rollout", "status", "deployment/web-green"]);
    let ended = run(shop.switch());
    assert_gate(
        &ended,
        &[
            "does not answer as it should",
            "traffic is back where it was",
        ],
    );
    assert_eq!(ended.outputs["result"], "rolled-back");
    assert_eq!(ended.outputs["active"], "blue");
    assert_eq!(shop.weights(), json!({"blue": 100}));
    let record = shop.record().await;
    assert_eq!(record.phase, Phase::RolledBack);
    // The next step of a failed job rolls back once more: there is nothing left to do.
    let again = run(shop.proving("rollback"));
    assert_eq!(
        (again.code, again.outputs["result"].as_str()),
        (Some(0), "nothing-to-do"),
        "{}",
        again.log()
    );
    let rescue = run(shop.proving("rescue"));
    assert_eq!(
        (rescue.code, rescue.outputs["result"].as_str()),
        (Some(0), "nothing-to-do"),
        "{}",
        rescue.log()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_that_somebody_changes_between_read_and_write_is_left_to_them() {
    let shop = Shop::open(FrontKind::Traefik).await;
    let proxy = FaultProxy::start(&shop.sandbox).await.unwrap();
    proxy.inject(
        FaultRule::every(Fault::Delay(Duration::from_secs(3)))
            .method(Method::PATCH)
            .path("/traefikservices/web")
            .times(2),
    );
    let started = shop.through(shop.switch(), &proxy).start();
    // The first patch raises the fence; the second one is the first write of the route.
    let seen = || {
        proxy
            .requests()
            .iter()
            .filter(|request| {
                request.method == Method::PATCH && request.path.contains("/traefikservices/web")
            })
            .count()
    };
    shop.wait("the write of the route", || seen() == 2);
    let foreign = json!({"spec": {"weighted": {"services": [{"name": "web-blue", "port": 80, "weight": 7}]}}});
    shop.kubectl(&[
        "patch",
        "traefikservice/web",
        "--type",
        "merge",
        "--field-manager",
        "somebody-else",
        "-p",
        &foreign.to_string(),
    ]);
    let ended = finish(started);
    assert_gate(
        &ended,
        &[
            "changed between read and write by `somebody-else`",
            "web-blue 7",
        ],
    );
    let record = shop.record().await;
    assert_eq!(record.phase, Phase::NeedsPerson);
    assert_eq!(record.journal.last().unwrap().outcome, Outcome::Foreign);
    assert_eq!(
        shop.front_object()["spec"],
        foreign["spec"],
        "what they wrote stays"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_of_fields_of_others_is_no_reason_to_stop() {
    let shop = Shop::open(FrontKind::Gateway).await;
    let proxy = FaultProxy::start(&shop.sandbox).await.unwrap();
    proxy.inject(
        FaultRule::every(Fault::Delay(Duration::from_secs(2)))
            .method(Method::PATCH)
            .path("/httproutes/web")
            .times(2),
    );
    let started = shop.through(shop.switch(), &proxy).start();
    let seen = || {
        proxy
            .requests()
            .iter()
            .filter(|request| {
                request.method == Method::PATCH && request.path.contains("/httproutes/web")
            })
            .count()
    };
    shop.wait("the write of the route", || seen() == 2);
    shop.kubectl(&["label", "httproute/web", "team=shop"]);
    let ended = finish(started);
    assert_eq!(ended.code, Some(0), "{}", ended.log());
    assert_eq!(shop.front_object()["metadata"]["labels"]["team"], "shop");
    let outcomes: Vec<_> = shop
        .record()
        .await
        .journal
        .iter()
        .map(|entry| entry.outcome)
        .collect();
    assert_eq!(outcomes[..2], [Outcome::NotApplied, Outcome::Applied]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_that_somebody_changes_while_it_is_held_stops_the_deployment() {
    let shop = Shop::open(FrontKind::Traefik).await;
    let started = shop
        .switch()
        .input("steps", "10,100")
        .input("hold", "5s")
        .start();
    shop.wait_phase(Phase::Holding(1)).await;
    let foreign = json!({"spec": {"weighted": {"services": [{"name": "web-blue", "port": 80, "weight": 50}, {"name": "web-green", "port": 80, "weight": 50}]}}});
    shop.kubectl(&[
        "patch",
        "traefikservice/web",
        "--type",
        "merge",
        "--field-manager",
        "somebody-else",
        "-p",
        &foreign.to_string(),
    ]);
    let ended = finish(started);
    assert_gate(&ended, &["`somebody-else`"]);
    assert_eq!(shop.record().await.phase, Phase::NeedsPerson);
    // A rescue does not decide for a person either.
    let rescue = run(shop.proving("rescue"));
    assert_gate(&rescue, &["needs a person"]);
    // Once it is as one of the steps left it, the order of a person takes it back.
    let settled = json!({"spec": {"weighted": {"services": [{"name": "web-blue", "port": 80, "weight": 90}, {"name": "web-green", "port": 80, "weight": 10}]}}});
    shop.kubectl(&[
        "patch",
        "traefikservice/web",
        "--type",
        "merge",
        "-p",
        &settled.to_string(),
    ]);
    let ended = run(shop.proving("rollback"));
    assert_eq!(ended.code, Some(0), "{}", ended.log());
    assert_eq!(shop.weights(), json!({"blue": 100}));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_lost_is_read_back_and_not_sent_again() {
    for (fault, outcomes) in [
        (Fault::CutAfter, vec![Outcome::Applied]),
        (
            Fault::CutBefore,
            vec![Outcome::NotApplied, Outcome::Applied],
        ),
    ] {
        let shop = Shop::open_with(FrontKind::Traefik, 1, 1).await;
        let proxy = FaultProxy::start(&shop.sandbox).await.unwrap();
        // The fence goes through; the delay only lets us tell the first write from it.
        let started = shop.through(shop.switch(), &proxy);
        proxy.inject(
            FaultRule::every(Fault::Delay(Duration::from_millis(1500)))
                .method(Method::PATCH)
                .path("/traefikservices/web")
                .times(1),
        );
        let started = started.start();
        let patches = || {
            proxy
                .requests()
                .iter()
                .filter(|request| {
                    request.method == Method::PATCH && request.path.contains("/traefikservices/web")
                })
                .count()
        };
        shop.wait("the fence", || patches() == 1);
        proxy.inject(
            FaultRule::every(fault)
                .method(Method::PATCH)
                .path("/traefikservices/web")
                .times(1),
        );
        let ended = finish(started);
        assert_eq!(ended.code, Some(0), "{}", ended.log());
        let journal = shop.record().await.journal;
        let first: Vec<_> = journal
            .iter()
            .take(outcomes.len())
            .map(|entry| entry.outcome)
            .collect();
        assert_eq!(first, outcomes);
        assert_eq!(shop.weights(), json!({"green": 100}));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn several_targets_are_switched_all_or_none() {
    let shop = Shop::open(FrontKind::Traefik).await;
    shop.apply(
        r"
apiVersion: traefik.io/v1alpha1
kind: TraefikService
metadata: {name: second}
spec: {weighted: {services: [{name: web-blue, port: 80}]}}
",
    );
    let both = || {
        shop.switch()
            .input("targets", "traefik/web\ntraefik/second:web")
    };
    let load = shop.load(100);
    let proxy = FaultProxy::start(&shop.sandbox).await.unwrap();
    proxy.inject(
        FaultRule::every(Fault::Status(StatusCode::FORBIDDEN))
            .method(Method::PATCH)
            .path("/traefikservices/second?")
            .times(0),
    );
    let started = shop.through(both(), &proxy).start();
    shop.wait_phase(Phase::Switching(1)).await;
    // From now on the second target cannot be written, on the way back neither.
    proxy.inject(
        FaultRule::every(Fault::Status(StatusCode::FORBIDDEN))
            .method(Method::PATCH)
            .path("/traefikservices/second")
            .times(1),
    );
    let ended = finish(started);
    assert_eq!(ended.code, Some(3), "{}", ended.log());
    assert!(
        ended.log().contains("traffic is back where it was"),
        "{}",
        ended.log()
    );
    assert_nothing_lost(&load.stop().await.unwrap());
    assert_eq!(shop.record().await.phase, Phase::RolledBack);
    let ended = run(shop
        .step("status")
        .input("targets", "traefik/web\ntraefik/second:web"));
    assert_eq!(
        ended.outputs["weights"],
        r#"{"blue":100}"#,
        "{}",
        ended.log()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_that_vanish_while_they_have_traffic_take_it_back() {
    for front in [FrontKind::Traefik, FrontKind::Gateway] {
        let shop = Shop::open(front).await;
        let started = shop
            .switch()
            .input("steps", "50,100")
            .input("hold", "60s")
            .start();
        let started = shop.wait_phase_of(started, Phase::Holding(1)).await;
        let load = shop.load(100);
        shop.scale("green", 0);
        let ended = finish(started);
        assert_gate(
            &ended,
            &["lost all of its endpoints", "traffic is back where it was"],
        );
        let back = Timestamp::now();
        tokio::time::sleep(Duration::from_secs(2)).await;
        let report = load.stop().await.unwrap();
        // By when a request was sent: one that waits for a dead pod is counted when it gives up.
        let late = report.failures.iter().find(|failure| failure.at > back);
        assert_eq!(late, None, "lost although traffic is back");
        assert!(report.succeeded > 0);
        assert_eq!(shop.weights(), json!({"blue": 100}));
        assert_eq!(shop.record().await.phase, Phase::RolledBack);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_replica_of_the_proxy_has_to_confirm() {
    let shop = Shop::open(FrontKind::Traefik).await;
    let second = TraefikReplica::start(&shop.sandbox).await.unwrap();
    let both = format!("{},{}", shop.sandbox.traefik_api(), second.api());
    let step = || {
        shop.switch()
            .input("traefik-api", &both)
            .input("timeout", "12s")
            .input("require-verified", "data-plane")
    };
    second.freeze().unwrap();
    let ended = run(step());
    assert_gate(
        &ended,
        &["verified is `endpoints`", "traffic is back where it was"],
    );
    assert!(
        ended.outputs["evidence"].contains(r#""confirmed":1,"of":2"#),
        "{}",
        ended.outputs["evidence"]
    );
    assert_eq!(shop.weights(), json!({"blue": 100}));
    second.thaw().unwrap();
    let ended = run(step().input("new-deployment", "true"));
    assert_eq!(ended.code, Some(0), "{}", ended.log());
    assert!(
        ended.outputs["evidence"].contains(r#""confirmed":2,"of":2"#),
        "{}",
        ended.outputs["evidence"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_selector_that_would_reach_foreign_pods_is_not_widened() {
    let shop = Shop::open_with(FrontKind::Service, 1, 1).await;
    let image = shop.sandbox.image("web", NEW);
    shop.kubectl(&[
        "run",
        "stranger",
        &format!("--image={image}"),
        "--labels=app=web",
    ]);
    shop.wait("the stranger", || {
        shop.kubectl(&["get", "pod/stranger", "-o", "jsonpath={.status.phase}"]) == "Running"
    });
    let ended = run(shop.switch());
    assert_gate(&ended, &["would also select pod `stranger`"]);
    assert_eq!(shop.weights(), json!({"blue": 100}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_selects_both_sides_already_is_refused() {
    let shop = Shop::open_with(FrontKind::Service, 1, 1).await;
    shop.kubectl(&[
        "patch",
        "service/web",
        "--type",
        "json",
        "-p",
        r#"[{"op":"remove","path":"/spec/selector/switchyard.dev~1slot"}]"#,
    ]);
    let ended = run(shop.switch());
    assert_gate(&ended, &["rollout adopt"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_that_a_gitops_controller_keeps_is_not_switched() {
    let shop = Shop::open_with(FrontKind::Traefik, 1, 1).await;
    let mark = "argocd.argoproj.io/tracking-id=shop:traefik.io/TraefikService:shop/web";
    shop.kubectl(&["annotate", shop.front.object(), mark]);
    let before = shop.front_object();
    for step in [shop.switch(), shop.switch().input("plan", "true")] {
        let ended = run(step);
        assert_eq!(ended.code, Some(1), "{}", ended.log());
        for part in [
            "traefik/web is kept by Argo CD (Application shop)",
            "hint: a switch made here would be reverted",
        ] {
            assert!(
                ended.log().contains(part),
                "no `{part}` in:\n{}",
                ended.log()
            );
        }
    }
    assert_eq!(shop.front_object(), before, "not even a fence was written");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_missing_verb_is_reported_before_anything_is_touched() {
    let shop = Shop::open_with(FrontKind::Traefik, 1, 1).await;
    let role = shop.kubectl(&["get", "role/switchyard-deployer", "-o", "json"]);
    let mut role: serde_json::Value = serde_json::from_str(&role).unwrap();
    for rule in role["rules"].as_array_mut().unwrap() {
        let is_traefik = rule["apiGroups"] == json!(["traefik.io"]);
        let is_lease = rule["apiGroups"] == json!(["coordination.k8s.io"]);
        if is_traefik || is_lease {
            rule["verbs"] = json!(["get", "list", "watch", "create"]);
        }
    }
    role["metadata"]
        .as_object_mut()
        .unwrap()
        .remove("managedFields");
    shop.namespace
        .kubectl(&[
            "patch",
            "role/switchyard-deployer",
            "--type",
            "merge",
            "-p",
            &json!({"rules": role["rules"]}).to_string(),
        ])
        .unwrap();
    let before = shop.front_object();
    let ended = run(shop.switch());
    assert_eq!(ended.code, Some(3), "{}", ended.log());
    assert!(
        ended.log().contains("2 of "),
        "all gaps at once: {}",
        ended.log()
    );
    assert!(
        ended.log().contains("patch traefikservices.traefik.io")
            && ended.log().contains("update leases.coordination.k8s.io"),
        "{}",
        ended.log()
    );
    assert!(
        ended.log().contains(
            r#"- {apiGroups: ["traefik.io"], resources: ["traefikservices"], verbs: [patch]}"#
        ),
        "{}",
        ended.log()
    );
    assert_eq!(shop.front_object(), before);
    assert!(
        !shop
            .kubectl(&["get", "configmaps,leases", "-o", "name"])
            .contains("switchyard")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_sheds_load_or_goes_away_for_a_while_is_waited_for() {
    let shop = Shop::open(FrontKind::Traefik).await;
    let load = shop.load(100);
    let proxy = FaultProxy::start(&shop.sandbox).await.unwrap();
    proxy.inject(
        FaultRule::every(Fault::TooManyRequests {
            retry_after: Some(1),
        })
        .method(Method::GET)
        .times(3),
    );
    let step = shop.switch().input("steps", "50,100").input("hold", "6s");
    let started = shop.through(step, &proxy).start();
    let started = shop.wait_phase_of(started, Phase::Holding(1)).await;
    proxy.inject(
        FaultRule::every(Fault::TooManyRequests { retry_after: None })
            .method(Method::PATCH)
            .path("/traefikservices")
            .times(1),
    );
    proxy.go_offline();
    tokio::time::sleep(Duration::from_secs(3)).await;
    proxy.go_online();
    let ended = finish(started);
    assert_eq!(ended.code, Some(0), "{}", ended.log());
    assert_nothing_lost(&load.stop().await.unwrap());
    assert_eq!(shop.weights(), json!({"green": 100}));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_stays_away_leaves_traffic_served_and_a_record_to_rescue_by() {
    let shop = Shop::open(FrontKind::Gateway).await;
    let load = shop.load(100);
    let proxy = FaultProxy::start(&shop.sandbox).await.unwrap();
    let step = shop.switch().input("steps", "50,100").input("hold", "60s");
    let started = shop.through(step, &proxy).start();
    let started = shop.wait_phase_of(started, Phase::Holding(1)).await;
    proxy.go_offline();
    let ended = finish(started);
    assert!(matches!(ended.code, Some(1 | 3)), "{}", ended.log());
    let rescue = run(shop.proving("rescue"));
    assert_eq!(rescue.code, Some(0), "{}", rescue.log());
    assert_eq!(shop.weights(), json!({"blue": 100}));
    assert_nothing_lost(&load.stop().await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_and_a_target_that_do_not_exist_are_named() {
    let shop = Shop::open_with(FrontKind::Traefik, 1, 1).await;
    let ended = run(shop.switch().input("namespace", "nowhere"));
    assert!(matches!(ended.code, Some(2 | 3)), "{}", ended.log());
    assert!(ended.log().contains("nowhere"), "{}", ended.log());
    let ended = run(shop.switch().input("targets", "traefik/absent"));
    assert_eq!(ended.code, Some(3), "{}", ended.log());
    assert!(
        ended.log().contains("traefikservices.traefik.io"),
        "{}",
        ended.log()
    );
    assert!(
        ended.log().contains("absent` does not exist"),
        "{}",
        ended.log()
    );
    assert!(!shop.is_leased());
}
