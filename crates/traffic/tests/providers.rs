//! What every provider promises, on objects as the API server would hand them out: a patch brings
//! about what was aimed at, touches nothing of others, fails on a concurrent edit, and is undone
//! without a trace.

use std::collections::BTreeMap;

use json_patch::Patch;
use proptest::prelude::*;
use serde_json::{Value, json};
use switchyard_record::Side;
use switchyard_traffic::provider::{Goal, Marks, Owned, ProviderKind, Refusal};
use switchyard_traffic::roles::{Backing, Roles};
use switchyard_traffic::routing::Routing;
use switchyard_traffic::share::Percent;

fn backing(side: Side) -> Backing {
    let selector = BTreeMap::from([("switchyard.dev/slot".to_owned(), side.to_string())]);
    Backing {
        side,
        service: side.object_name("web"),
        selector,
    }
}

fn roles() -> Roles {
    Roles {
        namespace: "shop".to_owned(),
        taking: backing(Side::GREEN),
        giving: backing(Side::BLUE),
        own_services: vec![
            "web".to_owned(),
            "web-blue".to_owned(),
            "web-green".to_owned(),
        ],
        port: None,
    }
}

fn marks() -> Marks {
    Marks {
        fence: 7,
        deployment: "acme/shop/1/production/main/shop/web".to_owned(),
    }
}

fn metadata(annotated: bool) -> Value {
    let mut metadata = json!({"name": "web", "namespace": "shop", "resourceVersion": "41", "generation": 3,
        "labels": {"team": "shop"}});
    if annotated {
        metadata["annotations"] = json!({"owner": "shop"});
    }
    metadata
}

fn service(annotated: bool) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata(annotated), "spec": {
        "selector": {"app": "web", "switchyard.dev/slot": "blue"}, "ports": [{"port": 80}]}})
}

fn traefik_service(annotated: bool, others: &[u32], weight: Option<u32>) -> Value {
    let mut services: Vec<Value> = others
        .iter()
        .enumerate()
        .map(|(index, weight)| json!({"name": format!("legacy-{index}"), "port": 80, "weight": weight}))
        .collect();
    let mut ours = json!({"name": "web-blue", "port": 80, "strategy": "wrr"});
    if let Some(weight) = weight {
        ours["weight"] = json!(weight);
    }
    services.insert(services.len() / 2, ours);
    json!({"apiVersion": "traefik.io/v1alpha1", "kind": "TraefikService", "metadata": metadata(annotated),
        "spec": {"weighted": {"services": services}}})
}

fn http_route(annotated: bool, rules: &[(Vec<u32>, Option<u32>)]) -> Value {
    let rules: Vec<Value> = rules
        .iter()
        .enumerate()
        .map(|(index, (others, weight))| {
            let mut references: Vec<Value> = others
                .iter()
                .enumerate()
                .map(|(number, weight)| json!({"group": "", "kind": "Service", "name": format!("legacy-{number}"), "port": 80, "weight": weight}))
                .collect();
            let mut ours = json!({"group": "", "kind": "Service", "name": "web-blue", "port": 8080,
                "filters": [{"type": "RequestHeaderModifier"}]});
            if let Some(weight) = weight {
                ours["weight"] = json!(weight);
            }
            references.push(ours);
            json!({"matches": [{"path": {"type": "PathPrefix", "value": format!("/{index}")}}], "backendRefs": references})
        })
        .chain([json!({"matches": [{"path": {"type": "PathPrefix", "value": "/others"}}],
            "backendRefs": [{"name": "elsewhere", "port": 80}]})])
        .collect();
    json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": metadata(annotated),
        "spec": {"parentRefs": [{"name": "main"}], "rules": rules}})
}

/// A canary of the other slot, beside the Ingress that names the live one.
fn canary_ingress(weight: Option<u32>, total: Option<u32>) -> Value {
    let mut metadata = metadata(true);
    metadata["annotations"]["nginx.ingress.kubernetes.io/canary"] = json!("true");
    metadata["annotations"]["nginx.ingress.kubernetes.io/canary-by-header"] = json!("x-canary");
    for (key, value) in [("canary-weight", weight), ("canary-weight-total", total)] {
        if let Some(value) = value {
            let key = format!("nginx.ingress.kubernetes.io/{key}");
            metadata["annotations"][key] = json!(value.to_string());
        }
    }
    let backend = json!({"service": {"name": "web-green", "port": {"number": 80}}});
    let path = |path: &str| json!({"path": path, "pathType": "Prefix", "backend": backend});
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": metadata, "spec": {
        "ingressClassName": "nginx",
        "rules": [{"host": "shop.example", "http": {"paths": [path("/"), path("/api")]}}]}})
}

fn virtual_service(annotated: bool, rules: &[(Vec<u32>, Option<u32>)]) -> Value {
    let destination = |host: &str| json!({"host": host, "port": {"number": 8080}});
    let rules: Vec<Value> = rules
        .iter()
        .enumerate()
        .map(|(index, (others, weight))| {
            let mut route: Vec<Value> = others
                .iter()
                .enumerate()
                .map(|(number, weight)| json!({"destination": destination(&format!("legacy-{number}")), "weight": weight}))
                .collect();
            let mut ours = json!({"destination": destination("web-blue.shop.svc.cluster.local"),
                "headers": {"response": {"remove": ["server"]}}});
            if let Some(weight) = weight {
                ours["weight"] = json!(weight);
            }
            route.push(ours);
            json!({"match": [{"uri": {"prefix": format!("/{index}")}}], "retries": {"attempts": 2},
                "mirror": {"host": "web-green"}, "route": route})
        })
        .chain([json!({"match": [{"uri": {"prefix": "/others"}}], "route": [{"destination": {"host": "elsewhere"}}]}),
            json!({"match": [{"uri": {"prefix": "/old"}}], "redirect": {"uri": "/"}})])
        .collect();
    json!({"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": metadata(annotated),
        "spec": {"hosts": ["shop.test"], "gateways": ["front/door"], "http": rules,
            "tls": [{"match": [{"sniHosts": ["shop.test"]}], "route": [{"destination": {"host": "web-blue"}}]}]}})
}

/// The same with sides that are subsets of one host.
fn by_subsets(mut virtual_service: Value) -> Value {
    for rule in virtual_service["spec"]["http"].as_array_mut().unwrap() {
        let route = rule.get_mut("route").and_then(Value::as_array_mut);
        for element in route.into_iter().flatten() {
            let destination = &mut element["destination"];
            if destination["host"] == "web-blue.shop.svc.cluster.local" {
                destination["host"] = json!("web.shop.svc.cluster.local");
                destination["subset"] = json!("blue");
            }
        }
    }
    virtual_service
}

fn read(kind: ProviderKind, object: &Value) -> Owned {
    kind.provider().read(object, &roles()).unwrap()
}

/// Reaches a goal and returns the object as the API server would store it.
fn reach(kind: ProviderKind, object: &Value, goal: &Goal) -> Result<Value, Refusal> {
    reach_as(kind, object, goal, &roles())
}

fn reach_as(
    kind: ProviderKind,
    object: &Value,
    goal: &Goal,
    roles: &Roles,
) -> Result<Value, Refusal> {
    let provider = kind.provider();
    let owned = provider.read(object, roles)?;
    let after = provider.aim(&owned, goal, roles)?;
    let patch = provider.patch(object, &after, roles, &marks())?;
    let written = apply(object, &patch).unwrap();
    assert_eq!(
        provider.read(&written, roles)?.routing,
        after,
        "what was written is not what was aimed at"
    );
    Ok(written)
}

fn apply(object: &Value, patch: &Patch) -> Result<Value, json_patch::PatchError> {
    let mut changed = object.clone();
    json_patch::patch(&mut changed, patch)?;
    let version: u64 = object["metadata"]["resourceVersion"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    changed["metadata"]["resourceVersion"] = json!((version + 1).to_string());
    Ok(changed)
}

/// The object without what we own and what every write changes.
fn of_others(kind: ProviderKind, object: &Value) -> Value {
    let mut rest = object.clone();
    rest["metadata"]["resourceVersion"] = Value::Null;
    let annotations = rest["metadata"].as_object_mut().unwrap();
    let others = annotations
        .remove("annotations")
        .unwrap_or_else(|| json!({}));
    let kept: Vec<_> = others
        .as_object()
        .unwrap()
        .iter()
        .filter(|(key, _)| !key.starts_with("switchyard.dev/") && !key.ends_with("/canary-weight"))
        .collect();
    rest["others"] = json!(kept);
    let ours = ["web", "web-blue", "web-green"];
    let strip = |list: &mut Value| {
        list.as_array_mut()
            .unwrap()
            .retain(|element| !ours.contains(&element["name"].as_str().unwrap()));
    };
    match kind {
        ProviderKind::Service => {
            rest["spec"]["selector"]
                .as_object_mut()
                .unwrap()
                .remove("switchyard.dev/slot");
        }
        ProviderKind::Traefik => strip(&mut rest["spec"]["weighted"]["services"]),
        ProviderKind::Gateway => {
            for rule in rest["spec"]["rules"].as_array_mut().unwrap() {
                strip(&mut rule["backendRefs"]);
            }
        }
        ProviderKind::Istio => {
            for rule in rest["spec"]["http"].as_array_mut().unwrap() {
                let Some(route) = rule.get_mut("route").and_then(Value::as_array_mut) else {
                    continue;
                };
                route.retain(|element| {
                    let host = element["destination"]["host"].as_str().unwrap();
                    !ours.contains(&host.split('.').next().unwrap())
                });
            }
        }
        // Its weight is an annotation.
        ProviderKind::Nginx => {}
    }
    rest
}

fn any_object() -> impl Strategy<Value = (ProviderKind, Value)> {
    let weight = || prop::option::of(prop::sample::select(vec![1_u32, 100, 300]));
    let others = || prop::collection::vec(0_u32..100, 0..3);
    prop_oneof![
        any::<bool>().prop_map(|annotated| (ProviderKind::Service, service(annotated))),
        (any::<bool>(), others(), weight()).prop_map(|(annotated, others, weight)| (
            ProviderKind::Traefik,
            traefik_service(annotated, &others, weight)
        )),
        (
            any::<bool>(),
            prop::collection::vec((others(), weight()), 1..4)
        )
            .prop_map(|(annotated, rules)| (ProviderKind::Gateway, http_route(annotated, &rules))),
        (
            any::<bool>(),
            prop::collection::vec((others(), weight()), 1..4)
        )
            .prop_map(|(annotated, rules)| (
                ProviderKind::Istio,
                virtual_service(annotated, &rules)
            )),
        (
            any::<bool>(),
            prop::collection::vec((others(), weight()), 1..4)
        )
            .prop_map(|(annotated, rules)| (
                ProviderKind::Istio,
                by_subsets(virtual_service(annotated, &rules))
            )),
        (
            prop::option::of(Just(0)),
            prop::option::of(prop::sample::select(vec![1, 100, 1000]))
        )
            .prop_map(|(weight, total)| (ProviderKind::Nginx, canary_ingress(weight, total))),
    ]
}

fn any_share() -> impl Strategy<Value = Percent> {
    prop::sample::select(vec![1_u32, 10, 50, 99, 100])
        .prop_map(|share| Percent::new(share).unwrap())
}

proptest! {
    #[test]
    fn a_switch_and_the_way_back_leave_what_we_own_as_it_was((kind, object) in any_object(), share in any_share()) {
        let prior = read(kind, &object).routing;
        let Ok(prepared) = reach(kind, &object, &Goal::Prepare) else { return Ok(()) };
        let Ok(shared) = reach(kind, &prepared, &Goal::Share(share)) else { return Ok(()) };
        let switched = reach(kind, &shared, &Goal::Settle(share)).unwrap();
        let back = roles().reversed();
        let prepared = reach_as(kind, &switched, &Goal::Prepare, &back).unwrap();
        let returned = reach_as(kind, &prepared, &Goal::Return(prior.clone()), &back).unwrap();
        let restored = reach_as(kind, &returned, &Goal::Restore(prior.clone()), &back).unwrap();
        prop_assert_eq!(read(kind, &restored).routing, prior);
        prop_assert_eq!(of_others(kind, &restored), of_others(kind, &object));
    }

    #[test]
    fn no_write_touches_what_belongs_to_others((kind, object) in any_object(), share in any_share()) {
        for goal in [Goal::Prepare, Goal::Share(share), Goal::Settle(share)] {
            if let Ok(written) = reach(kind, &object, &goal) {
                prop_assert_eq!(of_others(kind, &written), of_others(kind, &object));
                let fence = switchyard_traffic::provider::fence_of(&written);
                prop_assert_eq!(fence, 7);
            }
        }
    }

    #[test]
    fn reaching_a_goal_twice_changes_nothing((kind, object) in any_object(), share in any_share()) {
        for goal in [Goal::Prepare, Goal::Share(share), Goal::Settle(share)] {
            if let Ok(once) = reach(kind, &object, &goal) {
                let twice = reach(kind, &once, &goal).unwrap();
                prop_assert_eq!(read(kind, &once).routing, read(kind, &twice).routing);
            }
        }
    }

    #[test]
    fn a_write_on_top_of_anybody_elses_is_refused((kind, object) in any_object()) {
        let provider = kind.provider();
        let owned = read(kind, &object);
        let Ok(after) = provider.aim(&owned, &Goal::Share(Percent::ALL), &roles()) else { return Ok(()) };
        let patch = provider.patch(&object, &after, &roles(), &marks()).unwrap();
        let mut newer = object.clone();
        newer["metadata"]["resourceVersion"] = json!("42");
        prop_assert!(apply(&newer, &patch).is_err());
    }

    #[test]
    fn preparing_never_changes_anybodys_share_of_a_weighted_route((kind, object) in any_object()) {
        let provider = kind.provider();
        prop_assume!(kind != ProviderKind::Service);
        let before = provider.shares(&read(kind, &object).routing, &roles());
        let Ok(prepared) = reach(kind, &object, &Goal::Prepare) else { return Ok(()) };
        let after = provider.shares(&read(kind, &prepared).routing, &roles());
        for (place, shares) in before {
            prop_assert!((shares["web-blue"] - after[&place]["web-blue"]).abs() < 1e-9);
        }
    }
}

#[test]
fn an_element_that_somebody_changed_fails_the_test_of_that_element() {
    for (kind, object, path) in [
        (
            ProviderKind::Service,
            service(true),
            "/spec/selector/switchyard.dev~1slot",
        ),
        (
            ProviderKind::Traefik,
            traefik_service(true, &[20], Some(80)),
            "/spec/weighted/services/0/weight",
        ),
        (
            ProviderKind::Nginx,
            canary_ingress(Some(10), None),
            "/metadata/annotations/nginx.ingress.kubernetes.io~1canary-weight",
        ),
    ] {
        let provider = kind.provider();
        let after = provider
            .aim(&read(kind, &object), &Goal::Share(Percent::ALL), &roles())
            .unwrap();
        let patch = provider.patch(&object, &after, &roles(), &marks()).unwrap();
        let mut changed = object.clone();
        // The resourceVersion stays: the element's own test has to catch it.
        *changed.pointer_mut(path).unwrap() = json!("other");
        assert!(apply(&changed, &patch).is_err(), "{kind}");
    }
}

#[test]
fn a_service_cannot_send_a_tenth() {
    let refusal = reach(
        ProviderKind::Service,
        &service(false),
        &Goal::Share(Percent::new(10).unwrap()),
    )
    .unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "a Service can only send all traffic to one side, not 10 %"
    );
}

#[test]
fn a_services_overlap_selects_both_sides_and_is_not_widened_again() {
    let overlap = reach(ProviderKind::Service, &service(false), &Goal::Prepare).unwrap();
    assert_eq!(overlap["spec"]["selector"], json!({"app": "web"}));
    let switched = reach(ProviderKind::Service, &overlap, &Goal::Share(Percent::ALL)).unwrap();
    assert_eq!(
        switched["spec"]["selector"],
        json!({"app": "web", "switchyard.dev/slot": "green"})
    );
    let again = reach(ProviderKind::Service, &switched, &Goal::Prepare).unwrap();
    assert_eq!(again["spec"]["selector"], switched["spec"]["selector"]);
}

#[test]
fn an_adopted_side_is_pinned_by_its_template_hash_and_left_by_it() {
    let mut object = service(false);
    object["spec"]["selector"] = json!({"app": "web", "pod-template-hash": "abc12"});
    let mut roles = roles();
    roles.giving = Backing {
        side: Side::Unslotted,
        service: "web".to_owned(),
        selector: BTreeMap::from([("pod-template-hash".to_owned(), "abc12".to_owned())]),
    };
    let switched = reach_as(
        ProviderKind::Service,
        &object,
        &Goal::Share(Percent::ALL),
        &roles,
    )
    .unwrap();
    assert_eq!(
        switched["spec"]["selector"],
        json!({"app": "web", "switchyard.dev/slot": "green"})
    );
}

#[test]
fn loading_writes_explicit_weights_and_settling_drops_what_gets_nothing() {
    let object = traefik_service(false, &[], None);
    let loaded = reach(ProviderKind::Traefik, &object, &Goal::Prepare).unwrap();
    assert_eq!(
        loaded["spec"]["weighted"]["services"],
        json!([
            {"name": "web-blue", "port": 80, "strategy": "wrr", "weight": 100},
            {"name": "web-green", "port": 80, "strategy": "wrr", "weight": 0},
        ])
    );
    let settled = reach(ProviderKind::Traefik, &loaded, &Goal::Settle(Percent::ALL)).unwrap();
    assert_eq!(
        settled["spec"]["weighted"]["services"],
        json!([{"name": "web-green", "port": 80, "strategy": "wrr", "weight": 100}])
    );
}

#[test]
fn a_weight_shared_with_others_is_divided_or_refused_but_others_stay() {
    let object = traefik_service(false, &[20], Some(80));
    let shared = reach(
        ProviderKind::Traefik,
        &object,
        &Goal::Share(Percent::new(25).unwrap()),
    )
    .unwrap();
    let routing = read(ProviderKind::Traefik, &shared).routing;
    assert_eq!(routing.describe(), "web-blue 60, web-green 20");
    let object = traefik_service(false, &[20], None);
    let refusal = reach(
        ProviderKind::Traefik,
        &object,
        &Goal::Share(Percent::new(25).unwrap()),
    )
    .unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "the TraefikService: services gives our sides a weight of 1, which cannot be divided to give one of them 25 %"
    );
}

#[test]
fn backends_are_found_by_identity_in_every_rule_wherever_it_stands() {
    let object = http_route(false, &[(vec![], None), (vec![7], Some(100))]);
    let switched = reach(ProviderKind::Gateway, &object, &Goal::Settle(Percent::ALL)).unwrap();
    for index in 0..2 {
        let names: Vec<_> = switched["spec"]["rules"][index]["backendRefs"]
            .as_array()
            .unwrap()
            .iter()
            .map(|element| element["name"].as_str().unwrap().to_owned())
            .collect();
        assert!(
            names.contains(&"web-green".to_owned()) && !names.contains(&"web-blue".to_owned()),
            "{names:?}"
        );
    }
    // Somebody puts a rule in front: the way back still finds ours.
    let prior = read(ProviderKind::Gateway, &object).routing;
    let mut moved = switched.clone();
    let rule = json!({"matches": [{"path": {"type": "Exact", "value": "/new"}}], "backendRefs": [{"name": "new", "port": 1}]});
    moved["spec"]["rules"]
        .as_array_mut()
        .unwrap()
        .insert(0, rule);
    let back = roles().reversed();
    let restored = reach_as(
        ProviderKind::Gateway,
        &moved,
        &Goal::Restore(prior.clone()),
        &back,
    )
    .unwrap();
    assert_eq!(read(ProviderKind::Gateway, &restored).routing, prior);
    assert_eq!(
        restored["spec"]["rules"][0]["backendRefs"][0]["name"],
        "new"
    );
}

#[test]
fn a_new_reference_copies_filters_and_port_of_the_one_it_takes_over_from() {
    let object = http_route(false, &[(vec![], None)]);
    let switched = reach(ProviderKind::Gateway, &object, &Goal::Settle(Percent::ALL)).unwrap();
    let reference = &switched["spec"]["rules"][0]["backendRefs"][0];
    assert_eq!(reference["port"], 8080);
    assert_eq!(
        reference["filters"],
        json!([{"type": "RequestHeaderModifier"}])
    );
}

#[test]
fn a_destination_keeps_the_form_of_its_host_its_port_and_its_headers() {
    let object = virtual_service(false, &[(vec![], None)]);
    let prepared = reach(ProviderKind::Istio, &object, &Goal::Prepare).unwrap();
    let headers = json!({"response": {"remove": ["server"]}});
    let element = |side: &str, weight: u32| {
        json!({"destination": {"host": format!("web-{side}.shop.svc.cluster.local"), "port": {"number": 8080}},
            "headers": headers, "weight": weight})
    };
    assert_eq!(
        prepared["spec"]["http"][0]["route"],
        json!([element("blue", 100), element("green", 0)])
    );
    let settled = reach(ProviderKind::Istio, &prepared, &Goal::Settle(Percent::ALL)).unwrap();
    assert_eq!(
        settled["spec"]["http"][0]["route"],
        json!([element("green", 100)])
    );
}

#[test]
fn destinations_are_known_by_every_form_of_their_host_and_by_their_namespace() {
    for (host, is_ours) in [
        ("web-blue", true),
        ("web-blue.shop", true),
        ("web-blue.shop.svc", true),
        ("web-blue.shop.svc.cluster.local", true),
        ("web-blue.shop.svc.example.org", true),
        ("web-blue.other.svc.cluster.local", false),
        ("web-blue.shop.example.com", false),
        ("web-blue-2", false),
    ] {
        let mut object = virtual_service(false, &[(vec![], None)]);
        object["spec"]["http"][0]["route"][0]["destination"]["host"] = json!(host);
        let owned = read(ProviderKind::Istio, &object);
        assert_eq!(
            owned.routing.describe() == "web-blue 100",
            is_ours,
            "{host}"
        );
    }
}

#[test]
fn an_unset_weight_is_everything_alone_and_nothing_among_others() {
    let describe = |rules: &[(Vec<u32>, Option<u32>)]| {
        read(ProviderKind::Istio, &virtual_service(false, rules))
            .routing
            .describe()
    };
    assert_eq!(describe(&[(vec![], None)]), "web-blue 100");
    assert_eq!(describe(&[(vec![], Some(0))]), "web-blue 100");
    assert_eq!(describe(&[(vec![100], None)]), "neither side");
    let aside = virtual_service(false, &[(vec![100], None)]);
    let refusal = reach(ProviderKind::Istio, &aside, &Goal::Prepare).unwrap_err();
    assert!(matches!(refusal, Refusal::NothingOwned { .. }), "{refusal}");
}

#[test]
fn traffic_of_a_third_side_is_not_taken_silently() {
    let mut object = traefik_service(false, &[], Some(50));
    object["spec"]["weighted"]["services"]
        .as_array_mut()
        .unwrap()
        .push(json!({"name": "web", "port": 80, "weight": 50}));
    let refusal = reach(ProviderKind::Traefik, &object, &Goal::Prepare).unwrap_err();
    assert!(matches!(refusal, Refusal::ThirdSide { .. }), "{refusal}");
}

#[test]
fn a_route_without_either_side_is_refused() {
    let mut object = traefik_service(false, &[10], Some(50));
    object["spec"]["weighted"]["services"]
        .as_array_mut()
        .unwrap()
        .retain(|element| element["name"] != "web-blue");
    let refusal = reach(ProviderKind::Traefik, &object, &Goal::Prepare).unwrap_err();
    assert!(matches!(refusal, Refusal::NothingOwned { .. }), "{refusal}");
}

#[test]
fn order_and_unset_weights_mean_nothing_to_the_comparison() {
    let mut one = traefik_service(false, &[], Some(1));
    let mut other = traefik_service(false, &[], None);
    for (object, first) in [(&mut one, true), (&mut other, false)] {
        let list = object["spec"]["weighted"]["services"]
            .as_array_mut()
            .unwrap();
        let green = json!({"name": "web-green", "port": 80, "weight": 1});
        if first {
            list.insert(0, green)
        } else {
            list.push(green)
        }
    }
    let routing = |object: &Value| read(ProviderKind::Traefik, object).routing;
    assert_eq!(routing(&one), routing(&other));
    assert!(
        routing(&one)
            .projection()
            .agrees_with(&routing(&other).projection())
    );
}

#[test]
fn a_routing_survives_the_record() {
    for (kind, object) in [
        (ProviderKind::Service, service(false)),
        (ProviderKind::Traefik, traefik_service(false, &[3], None)),
        (
            ProviderKind::Gateway,
            http_route(false, &[(vec![], Some(5))]),
        ),
        (
            ProviderKind::Istio,
            virtual_service(false, &[(vec![], Some(5))]),
        ),
    ] {
        let routing = read(kind, &object).routing;
        assert_eq!(Routing::from_value(&routing.to_value()).unwrap(), routing);
    }
}

#[test]
fn objects_that_cannot_be_switched_say_why() {
    let mut external = service(false);
    external["spec"] = json!({"type": "ExternalName", "externalName": "x"});
    let mirror = json!({"metadata": metadata(false), "spec": {"mirroring": {}}});
    let tcp = json!({"metadata": metadata(false), "spec": {"tcp": []}});
    let subset = json!({"metadata": metadata(false), "spec": {"http": [
        {"route": [{"destination": {"host": "web", "subset": "v1"}}]}]}});
    let mixed = json!({"metadata": metadata(false), "spec": {"http": [
        {"route": [{"destination": {"host": "web", "subset": "blue"}, "weight": 90},
            {"destination": {"host": "web-green"}, "weight": 10}]}]}});
    let refusals = [
        ProviderKind::Service
            .provider()
            .read(&external, &roles())
            .unwrap_err(),
        ProviderKind::Traefik
            .provider()
            .read(&mirror, &roles())
            .unwrap_err(),
        ProviderKind::Istio
            .provider()
            .read(&tcp, &roles())
            .unwrap_err(),
        ProviderKind::Istio
            .provider()
            .read(&subset, &roles())
            .unwrap_err(),
        ProviderKind::Istio
            .provider()
            .read(&mixed, &roles())
            .unwrap_err(),
    ];
    let shown: Vec<_> = refusals
        .iter()
        .map(|refusal| format!("{refusal}\nhint: {}", refusal.hint()))
        .collect();
    insta::assert_snapshot!(shown.join("\n"), @r"
    service `shop/web` is an ExternalName
    hint: switch the Service that selects the pods
    traefikservice `shop/web` has no `spec.weighted.services`
    hint: only weighted TraefikServices can be switched: list the live side there with its port
    virtualservice `shop/web` has no `spec.http`
    hint: only HTTP routes can be switched: list the live side there, `tls` and `tcp` stay as they are
    virtualservice `shop/web` sends to subset `v1` of `web` in any request, which is no side
    hint: name the subsets of the application's host as the sides (blue, green, stable, canary), or give each side a Service of its own
    virtualservice `shop/web` sends to `web-blue` and to `web-green`, of which one is a subset and one a Service
    hint: let both sides be subsets of one host, or both be Services
    ");
}

#[test]
fn a_side_that_is_a_subset_is_added_as_one_of_the_same_host() {
    let object = by_subsets(virtual_service(false, &[(Vec::new(), None)]));
    let share = Percent::new(10).unwrap();
    let written = reach(ProviderKind::Istio, &object, &Goal::Share(share)).unwrap();
    let route = &written["spec"]["http"][0]["route"];
    let host = "web.shop.svc.cluster.local";
    assert_eq!(
        route[1]["destination"],
        json!({"host": host, "subset": "green", "port": {"number": 8080}})
    );
    assert_eq!(
        (&route[0]["weight"], &route[1]["weight"]),
        (&json!(90), &json!(10))
    );
    assert_eq!(
        read(ProviderKind::Istio, &written).routing.describe(),
        "web-blue 90, web-green 10"
    );
    let expected = ProviderKind::Istio.provider().expectation(
        &written,
        &read(ProviderKind::Istio, &written).routing,
        &roles(),
    );
    let subsets = expected.envoy.unwrap().subsets;
    let of = |side: &str| (subsets[side].host.as_str(), subsets[side].name.as_str());
    assert_eq!(
        (of("web-blue"), of("web-green")),
        (("web", "blue"), ("web", "green"))
    );
}

#[test]
fn the_plain_side_beside_a_canary_is_the_subset_stable() {
    let object = json!({"metadata": metadata(false), "spec": {"hosts": ["shop.test"], "http": [
        {"route": [{"destination": {"host": "web", "subset": "stable"}}]}]}});
    let roles = Roles {
        taking: backing(Side::Canary),
        giving: backing(Side::Stable),
        own_services: vec!["web".to_owned(), "web-canary".to_owned()],
        ..roles()
    };
    let all = reach_as(
        ProviderKind::Istio,
        &object,
        &Goal::Settle(Percent::ALL),
        &roles,
    )
    .unwrap();
    let route = &all["spec"]["http"][0]["route"];
    assert_eq!(route.as_array().unwrap().len(), 1);
    assert_eq!(
        route[0]["destination"],
        json!({"host": "web", "subset": "canary"})
    );
    let back = reach_as(
        ProviderKind::Istio,
        &all,
        &Goal::Share(Percent::NONE),
        &roles,
    )
    .unwrap();
    let stable = &back["spec"]["http"][0]["route"][1];
    assert_eq!(
        stable["destination"],
        json!({"host": "web", "subset": "stable"})
    );
}
