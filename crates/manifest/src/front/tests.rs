use super::*;
use crate::parse::parse;

fn object(yaml: &str) -> Object {
    parse("front.yaml", yaml).expect("valid").remove(0)
}

fn bases() -> BTreeSet<String> {
    BTreeSet::from(["web".to_owned(), "api".to_owned()])
}

fn shares(front: &Object) -> Vec<String> {
    backends(front.kind(), front.value())
        .into_iter()
        .map(|backend| format!("{} {}", backend.service, backend.weight))
        .collect()
}

const TRAEFIK: &str = "apiVersion: traefik.io/v1alpha1\nkind: TraefikService\nmetadata: {name: shop}\nspec: {weighted: {services: [{name: web, port: 80}]}}\n";

#[test]
fn a_new_front_points_at_the_slot_with_an_explicit_weight() {
    let mut front = object(TRAEFIK);
    point_at(&mut front, &bases(), Slot::Green);
    assert_eq!(
        front.value()["spec"]["weighted"]["services"],
        serde_json::json!([{"name": "web-green", "port": 80, "weight": 1}])
    );
}

#[test]
fn applying_a_front_again_keeps_the_live_weights() {
    let live = object(
        "apiVersion: traefik.io/v1alpha1\nkind: TraefikService\nmetadata: {name: shop}\nspec: {weighted: {services: [{name: web-blue, port: 80, weight: 90}, {name: web-green, port: 80, weight: 10}, {name: other, port: 80}]}}\n",
    );
    let mut front = object(TRAEFIK);
    let kept = keep_live(&mut front, live.value(), &bases(), Slot::Green);
    assert_eq!(shares(&front), ["web-blue 90", "web-green 10"]);
    assert_eq!(kept.from_live, BTreeSet::from(["web".to_owned()]));
    assert!(kept.new.is_empty());
}

#[test]
fn the_unslotted_side_of_an_adopted_application_stays_the_backend() {
    let live = object(
        "apiVersion: traefik.io/v1alpha1\nkind: TraefikService\nmetadata: {name: shop}\nspec: {weighted: {services: [{name: web, port: 80}]}}\n",
    );
    let mut front = object(TRAEFIK);
    keep_live(&mut front, live.value(), &bases(), Slot::Blue);
    assert_eq!(shares(&front), ["web 1"]);
}

const ROUTE: &str = "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: shop}\nspec:\n  rules:\n  - matches: [{path: {value: /new}}]\n    backendRefs: [{name: web, port: 80}]\n  - matches: [{path: {value: /api}}]\n    backendRefs: [{name: api, port: 80}, {name: mirror, port: 80, weight: 0}]\n  - matches: [{path: {value: /}}]\n    backendRefs: [{name: web, port: 80}]\n";

#[test]
fn rules_are_matched_by_their_conditions_and_a_new_rule_takes_the_live_share() {
    let live = object(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: shop}\nspec:\n  rules:\n  - matches: [{path: {value: /}}]\n    backendRefs: [{name: web-blue, port: 80, weight: 100}, {name: web-green, port: 80, weight: 0}]\n  - matches: [{path: {value: /old}}]\n    backendRefs: [{name: web-blue, port: 80, weight: 100}]\n",
    );
    let mut front = object(ROUTE);
    let kept = keep_live(&mut front, live.value(), &bases(), Slot::Green);
    assert_eq!(
        shares(&front),
        [
            "web-blue 100",
            "web-green 0",
            "api-green 1",
            "mirror 0",
            "web-blue 100",
            "web-green 0"
        ],
        "the new path takes the share that is live; `api` is new and points at the deployed slot"
    );
    assert_eq!(kept.new, BTreeSet::from(["api".to_owned()]));
}

#[test]
fn a_route_can_name_what_is_no_service() {
    let route = object(
        "apiVersion: traefik.io/v1alpha1\nkind: IngressRoute\nmetadata: {name: shop}\nspec: {routes: [{match: a, services: [{name: web, kind: TraefikService}, {name: web, port: 80}]}]}\n",
    );
    assert_eq!(shares(&route), ["web 1"]);
}

#[test]
fn a_virtual_service_keeps_the_domain_of_its_hosts() {
    let mut front = object(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: shop}\nspec: {http: [{route: [{destination: {host: web.shop.svc.cluster.local}, weight: 100}]}]}\n",
    );
    point_at(&mut front, &bases(), Slot::Blue);
    let entry = &front.value()["spec"]["http"][0]["route"][0];
    assert_eq!(
        entry["destination"]["host"],
        "web-blue.shop.svc.cluster.local"
    );
    assert_eq!(entry["weight"], 100);
}

#[test]
fn an_ingress_points_at_the_slot_and_is_kept_path_by_path() {
    let yaml = "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: shop}\nspec: {rules: [{http: {paths: [{path: /, backend: {service: {name: web, port: {number: 80}}}}, {path: /x, backend: {service: {name: other, port: {number: 80}}}}]}}]}\n";
    let mut live = object(yaml);
    point_at(&mut live, &bases(), Slot::Blue);
    assert_eq!(shares(&live), ["web-blue 1", "other 1"]);
    let mut again = object(yaml);
    keep_live(&mut again, live.value(), &bases(), Slot::Green);
    assert_eq!(shares(&again), ["web-blue 1", "other 1"]);
}

#[test]
fn a_front_service_keeps_its_live_selector_and_says_when_it_differs() {
    let yaml = |selector: &str| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: web}}\nspec: {{selector: {selector}}}\n"
        )
    };
    let live = object(&yaml("{app: web, switchyard.dev/slot: blue}"));
    let mut same = object(&yaml("{app: web}"));
    let kept = keep_live(&mut same, live.value(), &bases(), Slot::Green);
    assert_eq!(same.value()["spec"], live.value()["spec"]);
    assert!(!kept.selector_differs);
    let mut other = object(&yaml("{app: shop}"));
    let kept = keep_live(&mut other, live.value(), &bases(), Slot::Green);
    assert_eq!(other.value()["spec"], live.value()["spec"]);
    assert!(kept.selector_differs);
}

fn canary_ingress(service: &str, weights: &str) -> Object {
    object(&format!(
        "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {{name: shop-next, annotations: {{nginx.ingress.kubernetes.io/canary: \"true\"{weights}}}}}\nspec: {{rules: [{{host: shop.test, http: {{paths: [{{path: /, backend: {{service: {{name: {service}, port: {{number: 80}}}}}}}}]}}}}]}}\n"
    ))
}

#[test]
fn a_canary_ingress_sends_what_its_annotation_says_and_an_unset_weight_is_none() {
    let of = |weights: &str| shares(&canary_ingress("web-canary", weights));
    assert_eq!(of(""), ["web-canary 0"]);
    let weight = ", nginx.ingress.kubernetes.io/canary-weight: \"10\"";
    assert_eq!(of(weight), ["web-canary 10"]);
    let canary = canary_ingress("web-canary", weight);
    let shares = CanaryIngress::of(canary.kind(), canary.value()).unwrap();
    assert_eq!((shares.canary, shares.main), (10, 90));
    let main = object(
        "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: shop}\nspec: {rules: [{http: {paths: [{path: /, backend: {service: {name: web, port: {number: 80}}}}]}}]}\n",
    );
    assert_eq!(CanaryIngress::of(main.kind(), main.value()), None);
}

#[test]
fn a_canary_ingress_keeps_its_live_weight_and_slot_and_a_new_one_names_the_other_slot() {
    let live = canary_ingress(
        "web-green",
        ", nginx.ingress.kubernetes.io/canary-weight: \"100\"",
    );
    let mut again = canary_ingress(
        "web",
        ", nginx.ingress.kubernetes.io/canary-weight: \"0\", nginx.ingress.kubernetes.io/canary-weight-total: \"1000\"",
    );
    keep_live(&mut again, live.value(), &bases(), Slot::Blue);
    assert_eq!(again.value(), live.value());
    let mut new = canary_ingress("web", "");
    point_at(&mut new, &bases(), Slot::Blue);
    assert_eq!(shares(&new), ["web-green 0"]);
}
