//! Behaviour of the reading of EndpointSlices, state by state.

use serde_json::{Value, json};

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Pod;

use super::*;

fn service(spec: Value) -> Service {
    let mut value = json!({
        "metadata": {"name": "web"},
        "spec": {
            "selector": {"app": "web"},
            "ports": [{"name": "http", "port": 80, "targetPort": 8080}]
        }
    });
    if let Value::Object(fields) = spec {
        for (key, field) in fields {
            value["spec"][key] = field;
        }
    }
    serde_json::from_value(value).unwrap()
}

fn slice(endpoints: Value) -> EndpointSlice {
    serde_json::from_value(json!({
        "metadata": {"name": "web-1"},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080}],
        "endpoints": endpoints
    }))
    .unwrap()
}

fn endpoint(pod: &str, conditions: Value) -> Value {
    json!({
        "addresses": [format!("10.0.0.{}", pod.len())],
        "conditions": conditions,
        "nodeName": format!("node-of-{pod}"),
        "targetRef": {"kind": "Pod", "name": pod, "uid": pod}
    })
}

fn ready() -> Value {
    json!({"ready": true, "serving": true, "terminating": false})
}

fn pod(name: &str, slot: &str) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": name, "uid": name, "labels": {"app": "web", "slot": slot}},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]}
    }))
    .unwrap()
}

fn asked(service: &Service, slices: &[EndpointSlice], pods: &[Pod], needed: usize) -> Routable {
    let side = BTreeMap::from([("slot".to_owned(), "green".to_owned())]);
    routable(&SideQuestion {
        service,
        slices,
        pods,
        side: &side,
        port: None,
        needed,
    })
}

#[test]
fn a_side_is_routable_when_enough_of_its_own_pods_serve() {
    let slices = [slice(json!([
        endpoint("g1", ready()),
        endpoint("g2", ready()),
        endpoint("b1", ready())
    ]))];
    let pods = [pod("g1", "green"), pod("g2", "green"), pod("b1", "blue")];
    let found = asked(&service(json!({})), &slices, &pods, 2);
    assert!(found.is_enough(), "{found:?}");
    assert_eq!(found.port, Some(8080));
    assert_eq!(found.pod_uids(), BTreeSet::from(["g1", "g2"]));
    assert_eq!(found.nodes(), BTreeSet::from(["node-of-g1", "node-of-g2"]));
    assert!(!found.is_exclusive(), "blue is still behind it");
    let found = asked(&service(json!({})), &slices, &pods, 3);
    assert_eq!(found.problem().unwrap(), "2 of 3 needed pods are routable");
}

#[test]
fn no_endpoints_are_never_enough_even_when_none_are_needed() {
    let found = asked(&service(json!({})), &[], &[], 0);
    assert_eq!(found.problem().unwrap(), "0 of 1 needed pods are routable");
}

#[test]
fn terminating_endpoints_do_not_count_although_they_serve() {
    let leaving = json!({"ready": false, "serving": true, "terminating": true});
    let slices = [slice(json!([endpoint("g1", leaving)]))];
    let found = asked(&service(json!({})), &slices, &[pod("g1", "green")], 1);
    assert_eq!(
        found.problem().unwrap(),
        "0 of 1 needed pods are routable (1 more not serving or terminating)"
    );
}

#[test]
fn a_pod_that_knows_of_its_deletion_before_the_slices_do_does_not_count() {
    let slices = [slice(json!([endpoint("g1", ready())]))];
    let mut pod = pod("g1", "green");
    pod.metadata.deletion_timestamp =
        serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
    assert!(!asked(&service(json!({})), &slices, &[pod], 1).is_enough());
}

#[test]
fn an_endpoint_of_a_pod_that_is_gone_does_not_count() {
    let slices = [slice(json!([endpoint("g1", ready())]))];
    let found = asked(&service(json!({})), &slices, &[], 1);
    assert!(!found.is_enough());
    assert_eq!(found.others.len(), 1);
}

#[test]
fn ready_pods_that_the_slices_do_not_show_yet_are_waited_for() {
    let slices = [slice(json!([endpoint("g1", ready())]))];
    let pods = [pod("g1", "green"), pod("g2", "green")];
    let found = asked(&service(json!({})), &slices, &pods, 1);
    assert_eq!(
        found.problem().unwrap(),
        "ready pods are not in its EndpointSlices yet: g2"
    );
}

#[test]
fn a_pod_in_two_slices_counts_once_and_in_its_weaker_state() {
    let down = json!({"ready": false, "serving": false, "terminating": false});
    let slices = [
        slice(json!([endpoint("g1", ready())])),
        slice(json!([endpoint("g1", down)])),
    ];
    let all = addresses(&slices);
    assert_eq!(all.len(), 1);
    assert!(!all[0].is_routable());
}

#[test]
fn unset_conditions_mean_what_the_api_says() {
    let slices = [slice(json!([{"addresses": ["10.0.0.1"]}]))];
    let all = addresses(&slices);
    assert!(all[0].is_ready && all[0].is_serving && !all[0].is_terminating);
}

#[test]
fn slices_that_disagree_on_the_port_are_not_enough() {
    let mut other = slice(json!([endpoint("g2", ready())]));
    other.ports.as_mut().unwrap()[0].port = Some(9090);
    let slices = [slice(json!([endpoint("g1", ready())])), other];
    let pods = [pod("g1", "green"), pod("g2", "green")];
    let found = asked(&service(json!({})), &slices, &pods, 2);
    assert_eq!(
        found.problem().unwrap(),
        "the Service port leads to no single port of these pods"
    );
}

#[test]
fn settings_that_weaken_what_endpoints_say_are_warned_of() {
    let service = service(json!({
        "publishNotReadyAddresses": true,
        "externalTrafficPolicy": "Local",
        "internalTrafficPolicy": "Local",
        "sessionAffinity": "ClientIP",
        "selector": {}
    }));
    assert_eq!(
        warnings(&service),
        [
            Warning::PublishesNotReady,
            Warning::LocalTrafficPolicy {
                policy: "internalTrafficPolicy"
            },
            Warning::LocalTrafficPolicy {
                policy: "externalTrafficPolicy"
            },
            Warning::SessionAffinity,
            Warning::NoSelector,
        ]
    );
}
