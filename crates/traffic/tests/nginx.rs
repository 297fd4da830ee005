//! What a canary Ingress means, and what it must stand beside.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use switchyard_record::Side;
use switchyard_traffic::engine::{SidePair, roles_of};
use switchyard_traffic::provider::nginx::check_beside;
use switchyard_traffic::provider::{Goal, ProviderKind, Refusal};
use switchyard_traffic::roles::{Roles, Target};
use switchyard_traffic::share::Percent;

const PREFIX: &str = "nginx.ingress.kubernetes.io";

fn roles(taking: Side, giving: Side) -> Roles {
    let target: Target = "nginx/next:web".parse().unwrap();
    let pair = SidePair { taking, giving };
    roles_of(&target, "shop", &pair, &BTreeMap::new())
}

fn canary_chain() -> Roles {
    roles(Side::Canary, Side::Stable)
}

fn ingress(name: &str, annotations: &[(&str, &str)], paths: &[(&str, &str)]) -> Value {
    let annotations: serde_json::Map<String, Value> = annotations
        .iter()
        .map(|(key, value)| (format!("{PREFIX}/{key}"), json!(value)))
        .collect();
    let paths: Vec<Value> = paths
        .iter()
        .map(|(path, service)| {
            json!({"path": path, "pathType": "Prefix",
            "backend": {"service": {"name": service, "port": {"number": 80}}}})
        })
        .collect();
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
        "metadata": {"name": name, "namespace": "shop", "resourceVersion": "1", "annotations": annotations},
        "spec": {"ingressClassName": "nginx", "rules": [{"host": "shop.example", "http": {"paths": paths}}]}})
}

fn canary(annotations: &[(&str, &str)]) -> Value {
    let all = [&[("canary", "true")], annotations].concat();
    ingress("next", &all, &[("/", "web-canary")])
}

fn described(object: &Value, roles: &Roles) -> String {
    let owned = ProviderKind::Nginx.provider().read(object, roles).unwrap();
    owned.routing.describe()
}

fn refused(object: &Value) -> String {
    let read = ProviderKind::Nginx.provider().read(object, &canary_chain());
    read.unwrap_err().to_string()
}

#[test]
fn the_main_side_has_what_the_canary_leaves_as_controllers_count_it() {
    let of = |annotations: &[(&str, &str)]| described(&canary(annotations), &canary_chain());
    assert_eq!(of(&[]), "web 100, web-canary 0");
    assert_eq!(of(&[("canary-weight", "10")]), "web 90, web-canary 10");
    let thousandths = [("canary-weight", "10"), ("canary-weight-total", "1000")];
    assert_eq!(of(&thousandths), "web 990, web-canary 10");
    // A total below 100 counts as 100, a weight above the total as all of it.
    let small = [("canary-weight", "10"), ("canary-weight-total", "20")];
    assert_eq!(of(&small), "web 90, web-canary 10");
    assert_eq!(of(&[("canary-weight", "300")]), "web 0, web-canary 100");
}

#[test]
fn the_other_slot_is_the_main_side_whichever_takes() {
    let object = ingress(
        "next",
        &[("canary", "True"), ("canary-weight", "100")],
        &[("/", "web-green")],
    );
    for (taking, giving) in [(Side::GREEN, Side::BLUE), (Side::BLUE, Side::GREEN)] {
        assert_eq!(
            described(&object, &roles(taking, giving)),
            "web-blue 0, web-green 100"
        );
    }
}

#[test]
fn one_weight_is_written_and_nothing_is_dropped_at_the_end() {
    let provider = ProviderKind::Nginx.provider();
    let roles = canary_chain();
    let object = canary(&[("canary-weight", "50")]);
    let owned = provider.read(&object, &roles).unwrap();
    for (share, weight) in [(Percent::ALL, "100"), (Percent::NONE, "0")] {
        let after = provider.aim(&owned, &Goal::Settle(share), &roles).unwrap();
        let operations = provider.edit(&object, &after, &roles).unwrap();
        let last = operations.last().unwrap();
        assert_eq!(
            last["path"],
            "/metadata/annotations/nginx.ingress.kubernetes.io~1canary-weight"
        );
        assert_eq!(last["value"], weight);
        assert!(
            operations[..operations.len() - 1]
                .iter()
                .all(|one| one["op"] == "test")
        );
    }
}

#[test]
fn a_total_that_cannot_say_the_share_is_refused() {
    let provider = ProviderKind::Nginx.provider();
    let object = canary(&[("canary-weight-total", "150")]);
    let owned = provider.read(&object, &canary_chain()).unwrap();
    let one = Goal::Share(Percent::new(1).unwrap());
    let refusal = provider.aim(&owned, &one, &canary_chain()).unwrap_err();
    assert!(
        refusal.to_string().contains("divides traffic by 150"),
        "{refusal}"
    );
    assert!(refusal.hint().contains("multiple of 100"));
}

#[test]
fn what_is_no_canary_of_ours_alone_is_refused_by_name() {
    insta::assert_snapshot!(refused(&ingress("web", &[], &[("/", "web")])),
        @r#"ingress `shop/web` is no canary: it has no annotation `nginx.ingress.kubernetes.io/canary: "true"`"#);
    insta::assert_snapshot!(refused(&ingress("next", &[("canary", "true")], &[("/", "web-canary"), ("/api", "api")])),
        @"ingress `shop/next` sends `shop.example/api` to `api`, which is no side of this application; a weight would move that too");
    insta::assert_snapshot!(refused(&ingress("next", &[("canary", "true")], &[("/", "web-canary"), ("/api", "web-green")])),
        @"ingress `shop/next` names more than one Service or port (`shop.example/api` goes to `web-green`)");
    insta::assert_snapshot!(refused(&ingress("next", &[("canary", "true")], &[("/", "web")])),
        @"ingress `shop/next` sends `shop.example/` to `web`, which cannot stand beside a main side");
    insta::assert_snapshot!(refused(&ingress("next", &[("canary", "true")], &[])),
        @"ingress `shop/next` has no path");
    insta::assert_snapshot!(refused(&canary(&[("canary-weight", "ten")])),
        @"ingress `shop/next` has the annotation `nginx.ingress.kubernetes.io/canary-weight: ten`, which is no whole number");
}

#[test]
fn a_canary_of_slots_that_are_not_asked_about_is_a_third_side() {
    let provider = ProviderKind::Nginx.provider();
    let roles = roles(Side::GREEN, Side::Unslotted);
    let object = ingress("next", &[("canary", "true")], &[("/", "web-green")]);
    let owned = provider.read(&object, &roles).unwrap();
    let refusal = provider
        .aim(&owned, &Goal::Share(Percent::ALL), &roles)
        .unwrap_err();
    assert!(matches!(refusal, Refusal::ThirdSide { service, .. } if service == "web-blue"));
}

#[test]
fn a_canary_stands_beside_one_main_ingress_of_its_class_that_sends_to_the_main_side() {
    let object = canary(&[]);
    let main = ingress("web", &[], &[("/", "web")]);
    let check = |others: &[Value]| {
        check_beside(
            &object,
            &[std::slice::from_ref(&object), others].concat(),
            &canary_chain(),
        )
    };
    assert_eq!(check(std::slice::from_ref(&main)), Ok(None));
    let sticky = ingress("web", &[("affinity", "cookie")], &[("/", "web")]);
    assert!(
        check(&[sticky])
            .unwrap()
            .unwrap()
            .contains("session affinity")
    );

    let said = |others: &[Value]| check(others).unwrap_err().to_string();
    insta::assert_snapshot!(said(&[]), @"ingress `shop/next` has no main Ingress beside it: none of its class sends `shop.example/` (the same path type, too)");
    let mut of_another_class = main.clone();
    of_another_class["spec"]["ingressClassName"] = json!("internal");
    assert_eq!(said(&[of_another_class]), said(&[]));
    let elsewhere = ingress("web", &[], &[("/", "web-blue")]);
    insta::assert_snapshot!(said(&[elsewhere]), @"ingress `shop/next` stands beside ingress `shop/web`, which sends `shop.example/` to `web-blue` and not to `web`");
    let second = ingress("old", &[("canary", "true")], &[("/", "web-canary")]);
    insta::assert_snapshot!(said(&[main, second]), @"ingress `shop/next` is not the only canary of `shop.example/`: ingress `shop/old` is one too, and controllers heed one");
}

#[test]
fn the_main_service_is_the_one_that_has_to_keep_endpoints() {
    let provider = ProviderKind::Nginx.provider();
    let needed = provider.needs_endpoints(&canary(&[]), &canary_chain());
    assert_eq!(needed.as_deref(), Some("web"));
    let route = json!({"metadata": {"name": "web"}, "spec": {"weighted": {"services": []}}});
    let traefik = ProviderKind::Traefik.provider();
    assert_eq!(traefik.needs_endpoints(&route, &canary_chain()), None);
}
