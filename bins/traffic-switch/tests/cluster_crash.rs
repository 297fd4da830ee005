//! Switches that are killed at every entry of their journal, under load through the front door:
//! run again they end, rescued they go back, and no request is lost either way.

use std::time::Duration;

use serde_json::{Value, json};
use switchyard_harness::{Ended, Step};
use switchyard_record::{DeploymentId, DeploymentRecord, Outcome, Phase, Side, Store};
use switchyard_sandbox::load::{LoadPlan, RunningLoad};
use switchyard_sandbox::{Sandbox, TestNamespace, User};

/// Points at which the program dies: after each entry of the journal and each outcome, between
/// a mutation and its outcome, and between phases.
const DEATHS: [&str; 11] = [
    "phase:switching(1)",
    "plan:1",
    "mutation:1",
    "settle:1",
    "plan:2",
    "mutation:2",
    "settle:2",
    "plan:3",
    "mutation:3",
    "settle:3",
    "phase:soaking",
];
/// Requests a second while a case runs.
const RATE: u32 = 40;
/// How many cases run at once on a small machine.
const AT_ONCE: usize = 4;

/// An application with both sides up, all traffic on blue, and load on its front door.
struct Case {
    sandbox: Sandbox,
    namespace: TestNamespace,
    load: RunningLoad,
}

impl Case {
    async fn new(prefix: &str) -> Self {
        let sandbox = Sandbox::shared();
        let namespace = sandbox.namespace(prefix).await;
        let mut objects = Vec::new();
        for (slot, version) in [("blue", "v1.0.0"), ("green", "v1.1.0")] {
            objects.extend(side(slot, &sandbox.image("api", version)));
        }
        objects.extend(front(&host(&namespace)));
        let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
        namespace.apply(&list.to_string()).unwrap();
        for slot in ["blue", "green"] {
            let name = format!("deployment/web-{slot}");
            namespace
                .kubectl(&["rollout", "status", &name, "--timeout=120s"])
                .unwrap();
        }
        let load = load(&sandbox, &namespace).await;
        Self {
            sandbox,
            namespace,
            load,
        }
    }

    fn step(&self, command: &str) -> Step {
        Step::new(env!("CARGO_BIN_EXE_traffic-switch"))
            .argument(command)
            .input(
                "kubeconfig",
                self.sandbox
                    .kubeconfig(User::Deployer)
                    .display()
                    .to_string(),
            )
            .input("namespace", self.namespace.name())
            .input("cluster", "sandbox")
            .input("environment", "production")
            .input("application", "web")
            .input("traefik-api", self.sandbox.traefik_api())
            .input("traefik-metrics", self.sandbox.traefik_metrics())
            .input("kube-proxy-metrics", "none")
            .input("longest-request", "1s")
            .input("require-verified", "data-plane")
    }

    fn switch(&self) -> Step {
        self.step("switch")
            .input("targets", "traefik/web")
            .input("to", "green")
    }

    async fn record(&self) -> DeploymentRecord {
        let id = format!(
            "example/shop/1001/production/sandbox/{}/web",
            self.namespace.name()
        );
        let id: DeploymentId = id.parse().unwrap();
        let client = self.sandbox.client(User::Deployer).await;
        let store = Store::new(client, self.namespace.name());
        store.deployment(&id).await.unwrap().unwrap().record
    }

    /// The backends of the route, with their weights.
    fn route(&self) -> Value {
        let path = "jsonpath={.spec.weighted.services}";
        let text = self
            .namespace
            .kubectl(&["get", "traefikservice", "web", "-o", path]);
        let services: Vec<Value> = serde_json::from_str(&text.unwrap()).unwrap();
        services
            .iter()
            .map(|service| {
                (
                    service["name"].as_str().unwrap().to_owned(),
                    service["weight"].clone(),
                )
            })
            .collect()
    }

    /// Ends the load: not one request may have been lost.
    async fn assert_nothing_lost(self, fault: &str) {
        let report = self.load.stop().await.unwrap();
        assert_eq!(report.lost, 0, "{fault}: {}", report.summary());
        assert!(report.succeeded > 0, "{fault}: {}", report.summary());
    }
}

fn host(namespace: &TestNamespace) -> String {
    format!("{}.example.com", namespace.name())
}

/// Workload and Service of one side.
fn side(slot: &str, image: &str) -> Vec<Value> {
    let labels = json!({"app": "web", "switchyard.dev/slot": slot});
    let name = format!("web-{slot}");
    vec![
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": name, "labels": labels},
            "spec": {
                "replicas": 1,
                "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {"terminationGracePeriodSeconds": 5, "containers": [{
                        "name": "app", "image": image,
                        "ports": [{"name": "http", "containerPort": 8080}],
                        "readinessProbe": {"httpGet": {"path": "/api/health/ready", "port": "http"}, "periodSeconds": 1},
                    }]},
                },
            },
        }),
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": name, "labels": labels},
            "spec": {"selector": labels, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]},
        }),
    ]
}

/// The route: all traffic to blue.
fn front(host: &str) -> Vec<Value> {
    vec![
        json!({
            "apiVersion": "traefik.io/v1alpha1", "kind": "TraefikService",
            "metadata": {"name": "web"},
            "spec": {"weighted": {"services": [{"name": "web-blue", "port": 80, "weight": 100}]}},
        }),
        json!({
            "apiVersion": "traefik.io/v1alpha1", "kind": "IngressRoute",
            "metadata": {"name": "web"},
            "spec": {"entryPoints": ["web"], "routes": [{
                "kind": "Rule", "match": format!("Host(`{host}`)"),
                "services": [{"kind": "TraefikService", "name": "web"}],
            }]},
        }),
    ]
}

/// Starts the load as soon as the front door answers for this application.
async fn load(sandbox: &Sandbox, namespace: &TestNamespace) -> RunningLoad {
    let url = format!("{}/version", sandbox.front_door());
    let plan = |rate| {
        LoadPlan::new(&url, rate)
            .unwrap()
            .host(&host(namespace))
            .unwrap()
    };
    // The proxy takes up new objects in steps; two clean seconds in a row come after the last.
    let answers = async {
        let mut clean_seconds = 0;
        while clean_seconds < 2 {
            let report = plan(5).run_for(Duration::from_secs(1)).await.unwrap();
            clean_seconds = if report.lost == 0 {
                clean_seconds + 1
            } else {
                0
            };
        }
    };
    tokio::time::timeout(Duration::from_secs(60), answers)
        .await
        .expect("the front door never answered");
    plan(RATE).start()
}

/// Runs a step away from the runtime's own threads.
async fn run(step: Step) -> Ended {
    tokio::task::spawn_blocking(|| step.run()).await.unwrap()
}

#[track_caller]
fn assert_code(ended: &Ended, code: Option<i32>, fault: &str) {
    assert_eq!(ended.code, code, "{fault}:\n{}", ended.log());
}

/// Switches until the fault point, where the program dies and leaves lease and journal behind.
async fn die(case: &Case, fault: &str) {
    let ended = run(case
        .switch()
        .variable("SWITCHYARD_FAULT_ABORT_AFTER", fault))
    .await;
    assert_code(&ended, None, fault);
}

/// Runs one future for every fault point, a few at a time.
async fn at_every_point<F: Future<Output = ()> + Send + 'static>(case: impl Fn(&'static str) -> F) {
    for points in DEATHS.chunks(AT_ONCE) {
        let running: Vec<_> = points
            .iter()
            .map(|fault| tokio::spawn(case(fault)))
            .collect();
        for one in running {
            one.await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switch_that_was_killed_ends_when_it_is_run_again() {
    at_every_point(|fault| async move {
        let case = Case::new("crash-again").await;
        die(&case, fault).await;
        let ended = run(case.switch().variable("GITHUB_RUN_ATTEMPT", "2")).await;
        assert_code(&ended, Some(0), fault);
        assert_eq!(
            case.route(),
            json!({"web-green": 100}),
            "{fault}\n{}",
            ended.log()
        );

        let record = case.record().await;
        assert_eq!(record.phase, Phase::Soaking, "{fault}");
        assert_eq!(record.attempt(), 2, "{fault}");
        assert_eq!(record.open_entries().count(), 0, "{fault}");
        let known = [Outcome::Applied, Outcome::NotApplied];
        assert!(
            record
                .journal
                .iter()
                .all(|entry| known.contains(&entry.outcome)),
            "{fault}"
        );
        assert_eq!(
            record.sides.to.as_ref().map(|side| side.side),
            Some(Side::GREEN),
            "{fault}"
        );
        case.assert_nothing_lost(fault).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switch_that_was_killed_goes_back_when_it_is_rescued() {
    at_every_point(|fault| async move {
        let case = Case::new("crash-rescue").await;
        die(&case, fault).await;
        let ended = run(case.step("rescue")).await;
        assert_code(&ended, Some(0), fault);
        assert_eq!(
            ended.outputs["result"],
            "rolled-back",
            "{fault}\n{}",
            ended.log()
        );
        assert_eq!(
            case.route(),
            json!({"web-blue": 100}),
            "{fault}\n{}",
            ended.log()
        );

        let record = case.record().await;
        assert_eq!(record.phase, Phase::RolledBack, "{fault}");
        assert_eq!(record.open_entries().count(), 0, "{fault}");
        // Nothing is left to do, and that is a success.
        let again = run(case.step("rescue")).await;
        assert_code(&again, Some(0), fault);
        assert_eq!(again.outputs["result"], "nothing-to-do", "{fault}");
        case.assert_nothing_lost(fault).await;
    })
    .await;
}
