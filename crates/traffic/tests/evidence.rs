//! What counts as proof that a write is in effect, on answers as real proxies give them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;
use switchyard_traffic::evidence::{
    KubeProxySample, Level, Replicas, Servers, TargetEvidence, TraefikExpectation, Verification,
    WeightedService, judge_kube_proxy, judge_parents, judge_plain, judge_traefik, overall,
    plain_services,
};
use switchyard_traffic::traefik_api::{ApiService, parse_services};

fn seen(blue: u32, green: u32) -> Vec<ApiService> {
    let body = json!([
        {"name": "shop-web@kubernetescrd", "weighted": {"services": [
            {"name": "shop-web-blue-80", "weight": blue}, {"name": "shop-web-green-80", "weight": green}]}},
        {"name": "shop-web-blue-80@kubernetescrd", "loadBalancer": {"servers": [{"url": "http://10.0.0.1:80"}]}},
        {"name": "shop-web-green-80@kubernetescrd", "loadBalancer": {"servers": [
            {"url": "http://10.0.0.2:80"}, {"url": "http://10.0.0.3:80"}, {"url": "http://10.0.0.9:80", "fenced": true}]}},
    ]);
    parse_services(body.to_string().as_bytes()).unwrap()
}

fn servers() -> Servers {
    let set = |list: &[&str]| {
        list.iter()
            .map(|one| (*one).to_owned())
            .collect::<BTreeSet<_>>()
    };
    BTreeMap::from([
        ("web-blue".to_owned(), set(&["10.0.0.1:80"])),
        ("web-green".to_owned(), set(&["10.0.0.2:80", "10.0.0.3:80"])),
    ])
}

fn expected(weights: &[(&str, u32)]) -> TraefikExpectation {
    let weights = weights
        .iter()
        .map(|(name, weight)| ((*name).to_owned(), *weight))
        .collect();
    TraefikExpectation {
        services: vec![WeightedService::Crd {
            namespace: "shop".to_owned(),
            name: "web".to_owned(),
        }],
        weights: BTreeMap::from([("services".to_owned(), weights)]),
        is_native: false,
    }
}

#[test]
fn weights_and_servers_together_are_proof() {
    let verdict = judge_traefik(
        &expected(&[("web-blue", 90), ("web-green", 10)]),
        &seen(90, 10),
        &servers(),
    );
    assert_eq!(verdict, Verification::Verified);
}

#[test]
fn every_difference_is_pending_and_named() {
    let mut fewer = servers();
    fewer
        .get_mut("web-green")
        .unwrap()
        .insert("10.0.0.4:80".to_owned());
    let cases = [
        judge_traefik(
            &expected(&[("web-blue", 90), ("web-green", 10)]),
            &seen(100, 0),
            &servers(),
        ),
        judge_traefik(&expected(&[("web-green", 100)]), &seen(0, 100), &servers()),
        judge_traefik(
            &expected(&[("web-blue", 90), ("web-green", 10)]),
            &seen(90, 10),
            &fewer,
        ),
        judge_traefik(
            &expected(&[("web-blue", 90), ("web-green", 10)]),
            &[],
            &servers(),
        ),
    ];
    let lines: Vec<_> = cases.iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(lines.join("\n"), @r"
    pending: TraefikService `shop/web`: `web-blue` has weight 100 instead of 90
    pending: TraefikService `shop/web`: `web-blue` is still listed
    pending: TraefikService `shop/web`: `web-green` has the servers 10.0.0.2:80, 10.0.0.3:80 instead of 10.0.0.2:80, 10.0.0.3:80, 10.0.0.4:80
    pending: TraefikService `shop/web` is not loaded
    ");
}

#[test]
fn a_route_is_found_by_its_rule_and_its_children_by_their_pods() {
    let rule = |index: usize| format!("httproute-shop-web-gw-shop-main-ep-web-{index}-1a2b3c4d5e");
    let body = json!([
        {"name": format!("{}-wrr@kubernetesgateway", rule(0)), "weighted": {"services": [
            {"name": format!("{}-svc-shop-web-blue-0", rule(0)), "weight": 50},
            {"name": format!("{}-svc-shop-web-green-1", rule(0)), "weight": 50}]}},
        {"name": format!("{}-svc-shop-web-blue-0@kubernetesgateway", rule(0)), "loadBalancer": {"servers": [{"url": "http://10.0.0.1:80"}]}},
        {"name": format!("{}-svc-shop-web-green-1@kubernetesgateway", rule(0)), "loadBalancer": {"servers": [
            {"url": "http://10.0.0.2:80"}, {"url": "http://10.0.0.3:80"}]}},
    ]);
    let seen = parse_services(body.to_string().as_bytes()).unwrap();
    let route = |rule| TraefikExpectation {
        services: vec![WeightedService::Route {
            namespace: "shop".to_owned(),
            name: "web".to_owned(),
            rule,
            place: "PathPrefix /".to_owned(),
        }],
        weights: BTreeMap::from([(
            "PathPrefix /".to_owned(),
            BTreeMap::from([("web-blue".to_owned(), 50), ("web-green".to_owned(), 50)]),
        )]),
        is_native: false,
    };
    assert_eq!(
        judge_traefik(&route(0), &seen, &servers()),
        Verification::Verified
    );
    assert!(judge_traefik(&route(1), &seen, &servers()).is_pending());
}

#[test]
fn a_service_behind_traefik_is_found_by_name_and_port_and_not_by_prefix() {
    let body = json!([
        {"name": "shop-web-80@kubernetescrd", "loadBalancer": {"servers": [{"url": "http://10.0.0.2:80"}, {"url": "http://10.0.0.3:80"}]}},
        {"name": "shop-web-blue-80@kubernetescrd", "loadBalancer": {"servers": [{"url": "http://10.0.0.1:80"}]}},
        {"name": "httproute-shop-x-gw-shop-main-ep-web-0-1a2b3c4d5e-svc-shop-web-0@kubernetesgateway",
         "loadBalancer": {"servers": [{"url": "http://10.0.0.2:80"}, {"url": "http://10.0.0.3:80"}]}},
    ]);
    let seen = parse_services(body.to_string().as_bytes()).unwrap();
    let found = plain_services(&seen, "shop", "web", &["80".to_owned(), "http".to_owned()]);
    assert_eq!(found.len(), 2);
    assert_eq!(
        judge_plain(&found, "web", &servers()["web-green"]),
        Verification::Verified
    );
    assert!(judge_plain(&found, "web", &servers()["web-blue"]).is_pending());
    assert!(judge_plain(&[], "web", &servers()["web-blue"]).is_pending());
}

#[test]
fn conditions_of_an_older_generation_prove_nothing() {
    let condition = |kind: &str, generation: i64, status: &str| json!({"type": kind, "status": status, "observedGeneration": generation, "message": "no such service"});
    let route = |conditions: serde_json::Value| json!({"status": {"parents": [{"parentRef": {"name": "main"}, "conditions": conditions}]}});
    let cases = [
        judge_parents(
            &route(json!([
                condition("Accepted", 4, "True"),
                condition("ResolvedRefs", 4, "True")
            ])),
            4,
        ),
        judge_parents(
            &route(json!([
                condition("Accepted", 3, "True"),
                condition("ResolvedRefs", 4, "True")
            ])),
            4,
        ),
        judge_parents(
            &route(json!([
                condition("Accepted", 4, "True"),
                condition("ResolvedRefs", 4, "False")
            ])),
            4,
        ),
        judge_parents(&route(json!([condition("Accepted", 4, "True")])), 4),
        judge_parents(&json!({}), 4),
    ];
    let lines: Vec<_> = cases.iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(lines.join("\n"), @r"
    verified
    pending: Gateway `main`: Accepted is of generation 3, not 4
    pending: Gateway `main`: ResolvedRefs is False no such service
    pending: Gateway `main`: no condition ResolvedRefs
    pending: no Gateway has accepted the HTTPRoute
    ");
}

#[test]
fn a_kube_proxy_that_has_not_heard_of_the_change_is_not_done() {
    let sample = |synced: f64, queued: f64, pending: Option<f64>| KubeProxySample {
        last_synced: synced,
        last_queued: queued,
        pending_changes: pending,
    };
    let before = sample(10.0, 9.0, Some(0.0));
    assert!(judge_kube_proxy(Some(&before), &sample(10.0, 9.0, Some(0.0))).is_pending());
    assert!(judge_kube_proxy(Some(&before), &sample(10.0, 11.0, Some(1.0))).is_pending());
    assert_eq!(
        judge_kube_proxy(Some(&before), &sample(12.0, 11.0, Some(0.0))),
        Verification::Verified
    );
}

#[test]
fn kube_proxys_metrics_are_read() {
    let text = "kubeproxy_sync_proxy_rules_last_timestamp_seconds{ip_family=\"IPv4\"} 1.78e+09\n\
                kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds{ip_family=\"IPv4\"} 1.77e+09\n";
    let sample = KubeProxySample::parse(text).unwrap();
    assert!(sample.last_synced > sample.last_queued);
    assert_eq!(KubeProxySample::parse("up 1\n"), None);
}

#[test]
fn a_probe_of_one_replica_is_not_proof_of_all_and_none_is_no_proof() {
    let some = Replicas::collect(
        "traefik",
        vec![
            ("a".to_owned(), Verification::Verified),
            ("b".to_owned(), Verification::pending("not loaded")),
        ],
    );
    assert_eq!((some.confirmed, some.of), (1, 2));
    assert_eq!(
        some.verification,
        Verification::pending("traefik b: not loaded")
    );
    let none = Replicas::collect("traefik", Vec::new());
    assert!(matches!(
        none.verification,
        Verification::Unverifiable { .. }
    ));
}

#[test]
fn the_level_is_that_of_the_weakest_target() {
    let target = |proxies: Vec<Replicas>| TargetEvidence {
        target: "service/web".to_owned(),
        endpoints: Verification::Verified,
        proxies,
        accepted: None,
    };
    let confirmed = || Replicas::collect("traefik", vec![("a".to_owned(), Verification::Verified)]);
    let front_door = Verification::unverifiable("no verify-url");
    assert_eq!(
        overall(&[target(vec![confirmed()]), target(vec![])], &front_door),
        Level::Endpoints
    );
    assert_eq!(
        overall(&[target(vec![confirmed()])], &front_door),
        Level::DataPlane
    );
    assert_eq!(
        overall(&[target(vec![])], &Verification::Verified),
        Level::FrontDoor
    );
    assert_eq!(overall(&[], &front_door), Level::None);
}

/// Traefik's reading of ingress-nginx's annotations: one location of main Ingress `shop`, with a canary
/// that has these endpoints, and one of another application whose names run into ours.
fn canary_seen(canary: u32, endpoints: &[&str]) -> Vec<ApiService> {
    let balancer = |name: &str, servers: &[&str]| {
        let servers: Vec<_> = servers
            .iter()
            .map(|one| json!({"url": format!("http://{one}")}))
            .collect();
        json!({"name": format!("{name}@kubernetesingressnginx"), "loadBalancer": {"servers": servers}})
    };
    let weighted = |name: &str, canary: u32| {
        json!({"name": format!("{name}-wrr@kubernetesingressnginx"), "weighted": {"services": [
            {"name": name, "weight": 100 - canary}, {"name": format!("{name}-canary"), "weight": canary}]}})
    };
    let mut all = vec![
        balancer("shop-front-web-80", &["10.0.0.1:80"]),
        weighted("shop-front-web-80", 3),
        balancer("shop-front-web-80-canary", &["10.0.0.7:80"]),
    ];
    all[0]["loadBalancer"]["servers"][0]["url"] = json!("http://10.0.0.8:80");
    all.push(balancer("shop-main-web-80", &["10.0.0.1:80"]));
    if !endpoints.is_empty() {
        all.push(weighted("shop-main-web-80", canary));
        all.push(balancer("shop-main-web-80-canary", endpoints));
    }
    parse_services(json!(all).to_string().as_bytes()).unwrap()
}

fn judge_canary(weight: u32, seen: &[ApiService], endpoints: &[&str]) -> Verification {
    let set = |list: &[&str]| {
        list.iter()
            .map(|one| (*one).to_owned())
            .collect::<BTreeSet<_>>()
    };
    let servers = BTreeMap::from([
        ("web".to_owned(), set(&["10.0.0.1:80"])),
        ("web-canary".to_owned(), set(endpoints)),
    ]);
    let weights = BTreeMap::from([
        ("web".to_owned(), 100 - weight),
        ("web-canary".to_owned(), weight),
    ]);
    let expected = TraefikExpectation {
        services: vec![WeightedService::Canary {
            namespace: "shop".to_owned(),
            main: "web".to_owned(),
            canary: "web-canary".to_owned(),
            place: "canary".to_owned(),
        }],
        weights: BTreeMap::from([("canary".to_owned(), weights)]),
        is_native: false,
    };
    judge_traefik(&expected, seen, &servers)
}

#[test]
fn a_canary_is_known_by_the_pods_that_it_and_its_main_side_send_to() {
    let pods = ["10.0.0.2:80"];
    assert!(judge_canary(10, &canary_seen(10, &pods), &pods).is_verified());
    assert!(judge_canary(50, &canary_seen(10, &pods), &pods).is_pending());
    let grown = ["10.0.0.2:80", "10.0.0.3:80"];
    assert!(judge_canary(10, &canary_seen(10, &pods), &grown).is_pending());
}

#[test]
fn a_canary_that_traefik_leaves_out_is_right_only_where_it_is_to_get_nothing() {
    let pods = ["10.0.0.2:80"];
    assert!(judge_canary(0, &canary_seen(0, &[]), &[]).is_verified());
    // It has pods, so proxies do not know it yet.
    assert!(judge_canary(0, &canary_seen(0, &[]), &pods).is_pending());
    // It is to get traffic, and everything goes to the main side.
    assert!(judge_canary(10, &canary_seen(0, &[]), &[]).is_pending());
}
