//! What every provider promises, on its real data plane and under load, with pods that do not
//! drain. A provider is one line in the table; what it is held to follows from its capability.

mod support;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::{FrontKind, NEW, OLD, Shop, assert_nothing_lost, run};
use switchyard_harness::Ended;
use switchyard_record::Side;
use switchyard_sandbox::load::{LoadPlan, RunningLoad};
use switchyard_sandbox::{FurtherSandbox, Sandbox};
use switchyard_traffic::engine::{SidePair, roles_of};
use switchyard_traffic::provider::{Capability, ProviderKind};
use switchyard_traffic::roles::Target;
use switchyard_traffic::routing::Routing;

/// A test for each provider, and the list of those that have one.
macro_rules! providers {
    ($($name:ident: $front:ident,)*) => {
        $(#[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            conforms(FrontKind::$front).await;
        })*

        const TABLE: &[FrontKind] = &[$(FrontKind::$front),*];
    };
}

providers! {
    service: Service,
    traefik: Traefik,
    gateway: Gateway,
    istio: Istio,
    istio_by_subsets: IstioSubsets,
    nginx_as_traefik_reads_it: Nginx,
}

/// Requests a second all the while. Not as many as the switch probes with: a proxy that takes turns would give the one
/// of each pair to one side, and the probe is always the same of them.
const RATE: u32 = 97;
/// Requests a second while shares are counted, and for how long.
const COUNTED: (u32, Duration) = (500, Duration::from_secs(5));
/// The shares that a weighted provider goes through.
const SHARES: [u32; 5] = [1, 10, 50, 99, 100];
/// How improbable the counts of an exact share may be before it is none: all the comparisons of a
/// run together fail a correct provider less than once in ten million runs.
const IMPROBABLE: f64 = 1e-9;
/// What others send to.
const LEGACY: &str = r#"{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "legacy"},
    "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "http"}]}}"#;
/// Who edits what is not theirs.
const INTRUDER: &str = "intruder";

async fn conforms(front: FrontKind) {
    let mut shop = Shop::open_with(front, 2, 2).await;
    shop.apply(LEGACY);
    shop.kubectl(&["patch", front.object(), "--type=json", "-p", others(front)]);
    let before = shop.front_object();
    plan_changes_nothing(&shop);

    let load = shop.load(RATE);
    assert_share(&shop, &load, 0).await;
    match capability(front) {
        Capability::Binary => {
            let ended = run(shop.switch().input("weight", "10"));
            assert_eq!(ended.code, Some(2), "{}", ended.log());
            reaches(&shop, &load, 100).await;
        }
        Capability::Weighted => {
            for share in SHARES {
                reaches(&shop, &load, share).await;
            }
        }
    }
    assert_eq!(
        of_others(front, &shop.front_object()),
        of_others(front, &before)
    );

    let ended = run(shop.proving("rollback"));
    assert_eq!(ended.code, Some(0), "{}", ended.log());
    assert_share(&shop, &load, 0).await;
    let restored = shop.front_object();
    assert_eq!(routing(&shop, &restored), routing(&shop, &before));
    assert_eq!(of_others(front, &restored), of_others(front, &before));
    // What is in flight to a pod that is shut down below is lost: nothing of ours is.
    assert_nothing_lost(&load.stop().await.unwrap());

    shop.run_id = "2002".to_owned();
    a_side_without_endpoints_gets_nothing(&shop);
    what_somebody_else_wrote_stays(&shop);
}

fn capability(front: FrontKind) -> Capability {
    provider(front).provider().capability()
}

fn provider(front: FrontKind) -> ProviderKind {
    target(front).provider
}

fn target(front: FrontKind) -> Target {
    front.target().parse().unwrap()
}

fn plan_changes_nothing(shop: &Shop) {
    let before = shop.front_object();
    let ended = run(shop.switch().input("plan", "true"));
    assert_eq!(ended.code, Some(0), "{}", ended.log());
    assert!(ended.log().contains(r#""op":"test""#), "{}", ended.log());
    assert_eq!(version(&shop.front_object()), version(&before));
}

/// Gives the new side a share, and counts.
async fn reaches(shop: &Shop, users: &RunningLoad, share: u32) {
    // Half and half takes a hundred probes to tell.
    let step = shop.switch().input("verify-rate", "100");
    let ended = run(step.input("weight", share.to_string()));
    assert_eq!(ended.code, Some(0), "{share} %: {}", ended.log());
    assert_eq!(ended.outputs["verified"], "front-door", "{}", ended.log());
    assert_every_replica_confirmed(shop, &ended);
    assert_share(shop, users, share).await;
}

/// All of what was asked has confirmed; what sends to pods was asked at all.
fn assert_every_replica_confirmed(shop: &Shop, ended: &Ended) {
    let evidence: Value = serde_json::from_str(&ended.outputs["evidence"]).unwrap();
    let proxies = evidence["targets"][0]["proxies"].as_array().unwrap();
    assert!(!proxies.is_empty(), "{evidence}");
    for replicas in proxies {
        assert_eq!(replicas["confirmed"], replicas["of"], "{evidence}");
    }
    if shop.istio.is_some() {
        assert_eq!(proxies[0]["proxy"], "envoy", "{evidence}");
        assert_eq!(proxies[0]["of"], 2, "{evidence}");
    }
    if shop.front == FrontKind::Nginx {
        // Not ingress-nginx itself, which nobody asked.
        assert_eq!(proxies[0]["proxy"], "traefik", "{evidence}");
    }
}

/// Sends requests of its own, so that each was sent after the share was reported as in effect. A part of the traffic is
/// counted over those of the users beside them too: a proxy that takes turns gives every second request to a side, and
/// ours may be the even ones.
async fn assert_share(shop: &Shop, users: &RunningLoad, share: u32) {
    let (rate, duration) = COUNTED;
    let plan = LoadPlan::new(&shop.url(), rate).unwrap();
    let plan = plan.host(&shop.host()).unwrap();
    let plan = plan.time_limit(Duration::from_secs(40));
    let before = [NEW, OLD].map(|version| users.answers_of(version));
    let report = plan.run_for(duration).await.unwrap();
    assert_nothing_lost(&report);
    let own = [NEW, OLD].map(|version| report.by_version.get(version).copied().unwrap_or(0));
    assert_eq!(own[0] + own[1], report.succeeded, "{}", report.summary());
    let since = [NEW, OLD].map(|version| users.answers_of(version));
    let of_users = match share {
        0 | 100 => [0, 0],
        _ => [since[0] - before[0], since[1] - before[1]],
    };
    let (new, old) = (own[0] + of_users[0], own[1] + of_users[1]);
    let all = new + old;
    assert!(
        is_probable(new, all, share),
        "{new} of {all} answers are of the new side, which is to get {share} %"
    );
}

/// Whether `hits` of `trials` may come from this share: neither tail of the exact binomial
/// distribution is improbable. 0 % and 100 % allow a single count.
fn is_probable(hits: u64, trials: u64, percent: u32) -> bool {
    match percent {
        0 => return hits == 0,
        100 => return hits == trials,
        _ => {}
    }
    let share = f64::from(percent) / 100.0;
    let (mut at_most, mut below) = (0.0, 0.0);
    let mut logarithm = trials as f64 * (-share).ln_1p();
    for count in 0..=hits {
        below = at_most;
        at_most += logarithm.exp();
        let odds = (trials - count) as f64 / (count + 1) as f64 * share / (1.0 - share);
        logarithm += odds.ln();
    }
    at_most > IMPROBABLE / 2.0 && 1.0 - below > IMPROBABLE / 2.0
}

fn a_side_without_endpoints_gets_nothing(shop: &Shop) {
    shop.scale("green", 0);
    shop.wait_pods("green", 0);
    let before = shop.front_object();
    let ended = run(shop.switch());
    assert_eq!(ended.code, Some(1), "{}", ended.log());
    let reason = "0 of 2 needed";
    assert!(ended.log().contains(reason), "{}", ended.log());
    assert_eq!(routing(shop, &shop.front_object()), routing(shop, &before));
    shop.scale("green", 2);
    shop.wait_pods("green", 2);
}

/// In the middle of a deployment, what we own is changed by somebody else.
fn what_somebody_else_wrote_stays(shop: &Shop) {
    let front = shop.front;
    let first = match capability(front) {
        Capability::Binary => shop.switch(),
        Capability::Weighted => shop.switch().input("weight", "50"),
    };
    let ended = run(first);
    assert_eq!(ended.code, Some(0), "{}", ended.log());
    let edit = ["patch", front.object(), "--type=json", "-p", theft(front)];
    shop.kubectl(&[&edit[..], &["--field-manager", INTRUDER]].concat());
    let theirs = shop.front_object();
    let next = match capability(front) {
        Capability::Binary => shop.proving("rollback"),
        Capability::Weighted => shop.switch().input("weight", "100"),
    };
    let ended = run(next);
    assert_eq!(ended.code, Some(1), "{}", ended.log());
    let name = format!("`{INTRUDER}`");
    assert!(ended.log().contains(&name), "{}", ended.log());
    let live = shop.front_object();
    assert_eq!(live["spec"], theirs["spec"], "what they wrote stays");
    assert_eq!(routing(shop, &live), routing(shop, &theirs));
}

/// A JSON Patch that adds something of others to the object, in front where there is an order.
fn others(front: FrontKind) -> &'static str {
    match front {
        FrontKind::Service | FrontKind::Traefik => {
            r#"[{"op": "add", "path": "/metadata/labels", "value": {"team": "shop"}}]"#
        }
        FrontKind::Gateway => {
            r#"[{"op": "add", "path": "/spec/rules/0", "value": {
                "matches": [{"path": {"type": "PathPrefix", "value": "/legacy"}}],
                "backendRefs": [{"name": "legacy", "port": 80, "weight": 3}]}}]"#
        }
        FrontKind::Istio | FrontKind::IstioSubsets => {
            r#"[{"op": "add", "path": "/spec/http/0", "value": {
                "match": [{"uri": {"prefix": "/legacy"}}], "timeout": "3s", "retries": {"attempts": 1},
                "mirror": {"host": "web-green"}, "route": [{"destination": {"host": "legacy"}}]}}]"#
        }
        FrontKind::Nginx => {
            r#"[{"op": "add", "path": "/metadata/annotations/nginx.ingress.kubernetes.io~1canary-by-header",
                "value": "x-canary"}]"#
        }
    }
}

/// A JSON Patch that changes what we own, in the middle of a deployment.
fn theft(front: FrontKind) -> &'static str {
    match front {
        FrontKind::Service => {
            r#"[{"op": "replace", "path": "/spec/selector/switchyard.dev~1slot", "value": "other"}]"#
        }
        FrontKind::Traefik => {
            r#"[{"op": "replace", "path": "/spec/weighted/services/0/weight", "value": 7}]"#
        }
        FrontKind::Gateway => {
            r#"[{"op": "replace", "path": "/spec/rules/1/backendRefs/0/weight", "value": 7}]"#
        }
        FrontKind::Istio | FrontKind::IstioSubsets => {
            r#"[{"op": "replace", "path": "/spec/http/1/route/0/weight", "value": 7}]"#
        }
        FrontKind::Nginx => {
            r#"[{"op": "replace", "path": "/metadata/annotations/nginx.ingress.kubernetes.io~1canary-weight",
                "value": "7"}]"#
        }
    }
}

fn version(object: &Value) -> &Value {
    &object["metadata"]["resourceVersion"]
}

/// What we own of the object, by meaning.
fn routing(shop: &Shop, object: &Value) -> Routing {
    let sides = SidePair {
        taking: Side::GREEN,
        giving: Side::BLUE,
    };
    let target = target(shop.front);
    let roles = roles_of(&target, shop.namespace.name(), &sides, &BTreeMap::new());
    let owned = target.provider.provider().read(object, &roles).unwrap();
    owned.routing
}

/// The object without what we own and what every write changes.
fn of_others(front: FrontKind, object: &Value) -> Value {
    let mut rest = object.clone();
    for field in ["resourceVersion", "generation", "managedFields"] {
        rest["metadata"][field] = Value::Null;
    }
    rest["status"] = Value::Null;
    if let Some(annotations) = rest["metadata"]["annotations"].as_object_mut() {
        annotations.retain(|key, _| !key.starts_with("switchyard.dev/"));
    }
    if rest["metadata"]["annotations"] == json!({}) {
        rest["metadata"]["annotations"] = Value::Null;
    }
    let ours = |name: &Value| {
        let name = name.as_str().unwrap_or_default();
        matches!(name, "web-blue" | "web-green")
    };
    match front {
        FrontKind::Service => rest["spec"]["selector"]["switchyard.dev/slot"] = Value::Null,
        FrontKind::Traefik => {
            let services = rest["spec"]["weighted"]["services"].as_array_mut().unwrap();
            services.retain(|service| !ours(&service["name"]));
        }
        FrontKind::Gateway => {
            for rule in rest["spec"]["rules"].as_array_mut().unwrap() {
                let references = rule["backendRefs"].as_array_mut().unwrap();
                references.retain(|reference| !ours(&reference["name"]));
            }
        }
        FrontKind::Istio => {
            for rule in rest["spec"]["http"].as_array_mut().unwrap() {
                let route = rule["route"].as_array_mut().unwrap();
                route.retain(|element| !ours(&element["destination"]["host"]));
            }
        }
        FrontKind::IstioSubsets => {
            for rule in rest["spec"]["http"].as_array_mut().unwrap() {
                let route = rule["route"].as_array_mut().unwrap();
                route.retain(|element| element["destination"]["host"] != "web");
            }
        }
        FrontKind::Nginx => {
            let annotations = rest["metadata"]["annotations"].as_object_mut().unwrap();
            annotations.remove("nginx.ingress.kubernetes.io/canary-weight");
        }
    }
    rest
}

#[test]
fn every_provider_has_a_line() {
    use clap::ValueEnum as _;
    for kind in ProviderKind::value_variants() {
        assert!(
            TABLE.iter().any(|front| provider(*front) == *kind),
            "{kind}"
        );
    }
}

#[test]
fn the_bound_of_shares_lets_only_improbable_counts_fail() {
    for share in [1, 10, 50, 90, 99] {
        let expected = 2500 * u64::from(share) / 100;
        assert!(is_probable(expected, 2500, share), "{share}");
        for other in [0, 2500] {
            assert!(!is_probable(other, 2500, share), "{other} at {share} %");
        }
    }
    // P(X >= 50 | 2500, 1 %) is 6e-6, P(X >= 64) is 4e-11.
    assert!(is_probable(50, 2500, 1) && !is_probable(64, 2500, 1));
    assert!(is_probable(2450, 2500, 99) && !is_probable(2436, 2500, 99));
    assert!(!is_probable(1, 2500, 0) && !is_probable(2499, 2500, 100));
}

/// A kind as a cluster may lack it, and what is said of it.
struct Lack {
    front: FrontKind,
    /// What kubectl is told to bring it about.
    made_by: &'static [&'static str],
    said: &'static str,
}

const LACKS: [Lack; 4] = [
    Lack {
        front: FrontKind::Istio,
        made_by: &["get", "namespaces"],
        said: "does not serve virtualservices.networking.istio.io in version v1%0Ahint: ",
    },
    Lack {
        front: FrontKind::Istio,
        made_by: &["apply", "--server-side", "-f", OLD_ISTIO],
        said: "does not serve virtualservices.networking.istio.io in version v1, only in v1beta1%0Ahint: ",
    },
    Lack {
        front: FrontKind::Traefik,
        made_by: &["delete", "crd/traefikservices.traefik.io"],
        said: "does not serve traefikservices.traefik.io in version v1alpha1%0Ahint: ",
    },
    Lack {
        front: FrontKind::Gateway,
        made_by: &[
            "patch",
            "crd/httproutes.gateway.networking.k8s.io",
            "--type=json",
            "-p",
            r#"[{"op": "test", "path": "/spec/versions/0/name", "value": "v1"},
                {"op": "replace", "path": "/spec/versions/0/served", "value": false}]"#,
        ],
        said: "does not serve httproutes.gateway.networking.k8s.io in version v1, only in v1beta1%0Ahint: ",
    },
];

/// The kind as releases of Istio before 1.22 have it.
const OLD_ISTIO: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/support/old-virtualservices.yaml"
);

async fn lacks_are_said(sandbox: &Sandbox) {
    for lack in LACKS {
        let shop = Shop {
            sandbox: sandbox.clone(),
            namespace: sandbox.namespace("lack").await,
            front: lack.front,
            run_id: "1001".to_owned(),
            istio: None,
        };
        shop.kubectl(lack.made_by);
        let switch = || run(shop.switch().input("timeout", "10s"));
        let mut ended = switch();
        // The API server takes a moment to serve what it was told.
        let started = Instant::now();
        while !ended.log().contains(lack.said) {
            assert!(
                started.elapsed() < Duration::from_secs(60),
                "not said: {}{}",
                lack.said,
                ended.log()
            );
            ended = switch();
        }
        assert_eq!(ended.code, Some(2), "{}", ended.log());
    }
}

/// Every provider's kind but the Service, which every cluster has. Everybody in a sandbox would miss
/// them, so this has one of its own.
#[test]
fn a_kind_that_is_missing_or_of_another_version_is_said_clearly() {
    let further = FurtherSandbox::start("lacking").unwrap();
    // Made inside the further sandbox's network.
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(lacks_are_said(further.sandbox()));
}
