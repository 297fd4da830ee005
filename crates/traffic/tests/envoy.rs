//! What counts as proof that an Envoy has a VirtualService, on answers as istiod's Envoys give them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use switchyard_traffic::envoy::{EnvoyExpectation, ExpectedRoute, Subset, judge_envoy};
use switchyard_traffic::envoy_admin::{EnvoyState, parse_clusters, parse_routes};
use switchyard_traffic::evidence::{Servers, Verification};

fn cluster(side: &str) -> String {
    format!("outbound|80||web-{side}.shop.svc.cluster.local")
}

fn route(name: &str, of: &str, weights: &[(&str, u32)]) -> Value {
    let action = match weights {
        [(side, _)] => json!({"cluster": cluster(side)}),
        several => {
            let clusters = several
                .iter()
                .map(|(side, weight)| json!({"name": cluster(side), "weight": weight}));
            json!({"weighted_clusters": {"clusters": clusters.collect::<Vec<_>>()}})
        }
    };
    let config = format!("/apis/networking.istio.io/v1/namespaces/shop/virtual-service/{of}");
    json!({"name": name, "route": action,
        "metadata": {"filter_metadata": {"istio": {"config": config}}}})
}

fn state(routes: &[Value], hosts: &[(&str, &[&str])]) -> EnvoyState {
    let dump = json!({"configs": [{"route_config": {"virtual_hosts": [{"routes": routes}]}}]});
    let clusters = hosts.iter().map(|(side, addresses)| {
        let hosts = addresses.iter().map(|address| {
            json!({"address": {"socket_address": {"address": address, "port_value": 8080}},
                "health_status": {"eds_health_status": "HEALTHY"}})
        });
        json!({"name": cluster(side), "host_statuses": hosts.collect::<Vec<_>>()})
    });
    let clusters = json!({"cluster_statuses": clusters.collect::<Vec<_>>()});
    EnvoyState {
        routes: parse_routes(dump.to_string().as_bytes()).unwrap(),
        clusters: parse_clusters(clusters.to_string().as_bytes()).unwrap(),
    }
}

const BLUE: (&str, &[&str]) = ("blue", &["10.0.0.1"]);
const GREEN: (&str, &[&str]) = ("green", &["10.0.0.2", "10.0.0.3"]);

fn servers() -> Servers {
    let set = |list: &[&str]| {
        list.iter()
            .map(|one| format!("{one}:8080"))
            .collect::<BTreeSet<_>>()
    };
    BTreeMap::from([
        ("web-blue".to_owned(), set(BLUE.1)),
        ("web-green".to_owned(), set(GREEN.1)),
    ])
}

fn rule(place: &str, rule: Option<&str>, weights: &[(&str, u32)]) -> ExpectedRoute {
    ExpectedRoute {
        place: place.to_owned(),
        rule: rule.map(str::to_owned),
        weights: weights
            .iter()
            .map(|(side, weight)| (format!("web-{side}"), *weight))
            .collect(),
        ports: BTreeMap::from([("web-green".to_owned(), 80)]),
    }
}

fn expected(routes: Vec<ExpectedRoute>) -> EnvoyExpectation {
    EnvoyExpectation {
        namespace: "shop".to_owned(),
        virtual_service: Some("web".to_owned()),
        subsets: BTreeMap::new(),
        routes,
    }
}

fn waits_for(expected: &EnvoyExpectation, seen: &EnvoyState) -> String {
    match judge_envoy(expected, seen, &servers()) {
        Verification::Pending { waiting_for } => waiting_for,
        other @ (Verification::Verified | Verification::Unverifiable { .. }) => panic!("{other}"),
    }
}

#[test]
fn weights_and_hosts_together_are_proof() {
    let seen = state(
        &[route("", "web", &[("blue", 90), ("green", 10)])],
        &[BLUE, GREEN],
    );
    let shared =
        |blue, green| expected(vec![rule("any", None, &[("blue", blue), ("green", green)])]);
    assert_eq!(
        judge_envoy(&shared(90, 10), &seen, &servers()),
        Verification::Verified
    );
    insta::assert_snapshot!(waits_for(&shared(50, 50), &seen), @"VirtualService `shop/web`: a route sends web-blue 90, web-green 10 instead of web-blue 50, web-green 50");
}

#[test]
fn a_side_at_zero_is_not_routed_to_and_its_hosts_must_be_known_all_the_same() {
    let prepared = expected(vec![rule("any", None, &[("blue", 100), ("green", 0)])]);
    for routes in [
        [route("", "web", &[("blue", 100)])],
        [route("", "web", &[("blue", 100), ("green", 0)])],
    ] {
        let verdict = judge_envoy(&prepared, &state(&routes[..1], &[BLUE, GREEN]), &servers());
        // istiod leaves out what gets nothing; an entry of 0 is one that it has not made.
        assert_eq!(
            verdict.is_verified(),
            routes[0]["route"]["cluster"].is_string()
        );
    }
    let routes = [route("", "web", &[("blue", 100)])];
    insta::assert_snapshot!(waits_for(&prepared, &state(&routes, &[BLUE])), @"`web-green` has no cluster");
    let few: (&str, &[&str]) = ("green", &["10.0.0.2"]);
    insta::assert_snapshot!(waits_for(&prepared, &state(&routes, &[BLUE, few])), @"`web-green` has the hosts 10.0.0.2:8080 instead of 10.0.0.2:8080, 10.0.0.3:8080");
}

#[test]
fn a_dropped_side_that_is_still_routed_to_is_no_proof() {
    let settled = expected(vec![rule("any", None, &[("green", 100)])]);
    let seen = |weights: &[(&str, u32)]| state(&[route("", "web", weights)], &[BLUE, GREEN]);
    assert!(judge_envoy(&settled, &seen(&[("green", 100)]), &servers()).is_verified());
    for stale in [&[("blue", 100)][..], &[("blue", 1), ("green", 99)]] {
        assert!(judge_envoy(&settled, &seen(stale), &servers()).is_pending());
    }
}

#[test]
fn every_rule_must_be_there_and_routes_of_others_prove_nothing() {
    let both = expected(vec![
        rule("rule api", Some("api"), &[("green", 100)]),
        rule("rule rest", Some("rest"), &[("blue", 40), ("green", 10)]),
    ]);
    let api = || route("api.first-match", "web", &[("green", 100)]);
    let rest = |blue, green| route("rest", "web", &[("blue", blue), ("green", green)]);
    let judged = |routes: &[Value]| judge_envoy(&both, &state(routes, &[BLUE, GREEN]), &servers());
    assert!(judged(&[api(), rest(40, 10)]).is_verified());
    assert!(judged(&[api()]).is_pending());
    assert!(judged(&[api(), rest(50, 50)]).is_pending());
    assert!(judged(&[rest(40, 10), route("api", "other", &[("green", 100)])]).is_pending());
    assert!(judged(&[]).is_pending());
    // What somebody else's VirtualService sends where is not ours to judge.
    let other = route("x", "other", &[("blue", 1), ("green", 1)]);
    assert!(judged(&[api(), rest(40, 10), other]).is_verified());
}

#[test]
fn the_routes_of_a_delegate_are_found_in_whatever_delegates_to_it() {
    let delegate = EnvoyExpectation {
        virtual_service: None,
        ..expected(vec![rule("any", None, &[("green", 100)])])
    };
    let seen = state(&[route("", "root", &[("green", 100)])], &[GREEN]);
    assert!(judge_envoy(&delegate, &seen, &servers()).is_verified());
    assert!(judge_envoy(&delegate, &state(&[], &[GREEN]), &servers()).is_pending());
}

#[test]
fn a_side_that_is_a_subset_is_its_own_cluster_and_not_that_of_the_whole_host() {
    let of_subset = |value: &Value| -> Value {
        let text = value.to_string();
        let text = text
            .replace("||web-blue.", "|blue|web.")
            .replace("||web-green.", "|green|web.");
        serde_json::from_str(&text).unwrap()
    };
    let subset = |name: &str| Subset {
        host: "web".to_owned(),
        name: name.to_owned(),
    };
    let expected = EnvoyExpectation {
        subsets: BTreeMap::from([
            ("web-blue".to_owned(), subset("blue")),
            ("web-green".to_owned(), subset("green")),
        ]),
        ..expected(vec![rule("any", None, &[("blue", 90), ("green", 10)])])
    };
    let route = route("", "web", &[("blue", 90), ("green", 10)]);
    let mut seen = state(&[of_subset(&route)], &[BLUE, GREEN]);
    for cluster in &mut seen.clusters {
        let renamed = of_subset(&json!(cluster.name));
        cluster.name = renamed.as_str().unwrap().to_owned();
    }
    assert!(judge_envoy(&expected, &seen, &servers()).is_verified());
    // The host's own cluster holds both sides' pods and proves nothing.
    seen.clusters[1].name = "outbound|80||web.shop.svc.cluster.local".to_owned();
    insta::assert_snapshot!(waits_for(&expected, &seen), @"`web-green` has no cluster");
    let plain = state(&[route], &[BLUE, GREEN]);
    assert!(judge_envoy(&expected, &plain, &servers()).is_pending());
}
