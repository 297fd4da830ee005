//! Proxies of more than one replica: Traefik in pods, as most clusters have it, two replicas behind one
//! Deployment, asked through port-forwards with the rights of `docs/rbac/proxies.yaml`; and two Envoy
//! gateways of a mesh.

mod support;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use support::{FrontKind, OLD, Shop, assert_nothing_lost, run};
use switchyard_harness::Step;
use switchyard_sandbox::{Sandbox, TestNamespace};

/// The rules that the documentation gives to the deployer.
const RIGHTS: &str = include_str!("../../../docs/rbac/proxies.yaml");

/// Traefik in a namespace of its own, in which the deployer has no rights yet.
struct ProxyPods {
    namespace: TestNamespace,
}

impl ProxyPods {
    async fn start(sandbox: &Sandbox, replicas: u32) -> Self {
        let program = sandbox.traefik_program();
        let image = sandbox.publish("traefik", &program).await.unwrap();
        let namespace = sandbox.namespace("proxies").await;
        let pods = Self { namespace };
        for role in ["sandbox-deployer", "switchyard-deployer"] {
            pods.kubectl(&["delete", "rolebinding", role]);
        }
        pods.namespace.apply(&pods.account()).unwrap();
        pods.namespace.apply(&deployment(&image, replicas)).unwrap();
        pods.kubectl(&["rollout", "status", "deployment/traefik", "--timeout=150s"]);
        pods
    }

    fn kubectl(&self, words: &[&str]) -> String {
        match self.namespace.kubectl(words) {
            Ok(text) => text,
            Err(error) => panic!("{}", error.chain()),
        }
    }

    /// An account with Traefik's own roles. The bindings go with the namespace, which owns them.
    fn account(&self) -> String {
        let name = self.namespace.name();
        let owner = ["get", "namespace", name, "-o", "jsonpath={.metadata.uid}"];
        let uid = self.kubectl(&owner);
        let ours = "app.kubernetes.io/managed-by=switchyard-sandbox";
        let roles = self.kubectl(&["get", "clusterroles", "-l", ours, "-o", "name"]);
        let binding = |role: &str| {
            json!({
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "ClusterRoleBinding",
                "metadata": {
                    "name": format!("{name}-{role}"),
                    "ownerReferences": [
                        {"apiVersion": "v1", "kind": "Namespace", "name": name, "uid": uid}
                    ],
                },
                "roleRef": {
                    "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role,
                },
                "subjects": [{"kind": "ServiceAccount", "namespace": name, "name": "traefik"}],
            })
        };
        let mut items = vec![json!({
            "apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "traefik"},
        })];
        let names = roles.lines().filter_map(|line| line.split('/').nth(1));
        items.extend(names.map(binding));
        json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string()
    }

    /// Gives the deployer of the tests what the documentation says.
    fn grant(&self) {
        self.namespace.apply(RIGHTS).unwrap();
        let subject = r#"[{"op": "replace", "path": "/subjects", "value":
            [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "deployer"}]}]"#;
        let patch = ["patch", "rolebinding", "switchyard-proxies", "--type=json"];
        self.kubectl(&[&patch[..], &["-p", subject]].concat());
    }

    /// Where the steps find them.
    fn asked_by(&self, step: Step) -> Step {
        let at = |port: &str| format!("{}/deployment/traefik:{port}", self.namespace.name());
        step.input("traefik-api", at("api"))
            .input("traefik-metrics", at("9100"))
            .input("require-verified", "data-plane")
    }

    /// Stops the first replica without ending it; it stays ready for a while.
    fn freeze_one(&self) -> Frozen {
        let id = "jsonpath={.items[0].status.containerStatuses[0].containerID}";
        let id = self.kubectl(&["get", "pods", "-o", id]);
        let id = id.rsplit('/').next().unwrap().to_owned();
        let is_of_container = |pid: &i32| {
            let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup"));
            groups.is_ok_and(|groups| groups.contains(&id))
        };
        let processes = std::fs::read_dir("/proc").unwrap().flatten();
        let mut ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let pid = ids.find(is_of_container).expect("the replica's process");
        kill(Pid::from_raw(pid), Signal::SIGSTOP).unwrap();
        Frozen(pid)
    }
}

/// A process that goes on when this is dropped.
struct Frozen(i32);

impl Drop for Frozen {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.0), Signal::SIGCONT);
    }
}

fn deployment(image: &str, replicas: u32) -> String {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "traefik"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "traefik"}},
            "template": {
                "metadata": {"labels": {"app": "traefik"}},
                "spec": {
                    "serviceAccountName": "traefik",
                    "terminationGracePeriodSeconds": 1,
                    "containers": [{
                        "name": "traefik", "image": image,
                        "args": [
                            "--global.checknewversion=false",
                            "--entrypoints.web.address=:8000",
                            "--entrypoints.traefik.address=:8080",
                            "--entrypoints.metrics.address=:9100",
                            "--api.insecure=true",
                            "--ping=true",
                            "--providers.kubernetescrd=true",
                            "--metrics.prometheus=true",
                            "--metrics.prometheus.entrypoint=metrics",
                            "--metrics.prometheus.addserviceslabels=true",
                        ],
                        "ports": [
                            {"name": "api", "containerPort": 8080},
                            {"name": "metrics", "containerPort": 9100},
                        ],
                        // One that does not answer stays in the list of those that have to.
                        "readinessProbe": {
                            "httpGet": {"path": "/ping", "port": "api"},
                            "periodSeconds": 1, "failureThreshold": 300,
                        },
                    }],
                },
            },
        },
    })
    .to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_replica_behind_a_deployment_is_asked_and_one_that_is_silent_proves_nothing() {
    let shop = Shop::open_with(FrontKind::Traefik, 1, 1).await;
    let proxies = ProxyPods::start(&shop.sandbox, 2).await;
    let switch = || proxies.asked_by(shop.switch());

    let ended = run(switch());
    assert_eq!(ended.code, Some(3), "{}", ended.log());
    let of = proxies.namespace.name();
    for gap in [
        format!("get deployments.apps `{of}/traefik`"),
        format!("list pods in namespace `{of}`"),
        format!("get pods/portforward in namespace `{of}`"),
        format!("create pods/portforward in namespace `{of}`"),
    ] {
        assert!(ended.log().contains(&gap), "no {gap}:\n{}", ended.log());
    }
    proxies.grant();

    let load = shop.load(50);
    let frozen = proxies.freeze_one();
    let ended = run(switch().input("timeout", "12s"));
    assert_eq!(ended.code, Some(1), "{}", ended.log());
    assert_eq!(ended.outputs["verified"], "endpoints", "{}", ended.log());
    let evidence = &ended.outputs["evidence"];
    assert!(evidence.contains(r#""confirmed":1,"of":2"#), "{evidence}");
    assert_eq!(shop.weights(), json!({"blue": 100}));
    drop(frozen);

    let ended = run(switch().input("new-deployment", "true"));
    assert_eq!(ended.code, Some(0), "{}", ended.log());
    let evidence = &ended.outputs["evidence"];
    assert!(evidence.contains(r#""confirmed":2,"of":2"#), "{evidence}");
    assert_eq!(shop.weights(), json!({"green": 100}));
    let ended = run(proxies.asked_by(shop.proving("rollback")));
    assert_eq!(ended.code, Some(0), "{}", ended.log());
    let evidence = &ended.outputs["evidence"];
    assert!(evidence.contains(r#""confirmed":2,"of":2"#), "{evidence}");
    assert_nothing_lost(&load.stop().await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_envoy_is_asked_and_without_their_word_the_front_door_still_proves() {
    let shop = Shop::open_with(FrontKind::Istio, 1, 1).await;
    let istio = shop.istio.as_ref().unwrap();
    let load = shop.load(50);
    let asking = || shop.switch().input("require-verified", "data-plane");

    istio.freeze(1).unwrap();
    let ended = run(asking().input("timeout", "12s"));
    assert_eq!(ended.code, Some(1), "{}", ended.log());
    assert_eq!(ended.outputs["verified"], "endpoints", "{}", ended.log());
    let evidence = &ended.outputs["evidence"];
    assert!(evidence.contains(r#""confirmed":1,"of":2"#), "{evidence}");
    assert_eq!(shop.weights(), json!({"blue": 100}));
    istio.thaw(1).unwrap();

    let ended = run(asking().input("new-deployment", "true"));
    assert_eq!(ended.code, Some(0), "{}", ended.log());
    let evidence = &ended.outputs["evidence"];
    assert!(evidence.contains(r#""confirmed":2,"of":2"#), "{evidence}");
    assert_eq!(shop.weights(), json!({"green": 100}));

    let back = shop.proving("rollback").input("expect-version", OLD);
    let ended = run(back.input("envoy-admin", ""));
    assert_eq!(ended.code, Some(0), "{}", ended.log());
    assert_eq!(ended.outputs["verified"], "front-door", "{}", ended.log());
    let warning = "not verified: no `envoy-admin` was given";
    assert!(ended.log().contains(warning), "{}", ended.log());
    assert_nothing_lost(&load.stop().await.unwrap());
}
