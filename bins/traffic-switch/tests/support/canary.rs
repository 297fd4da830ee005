//! The shop with a main workload and its canary instead of two slots, and what the steps of a
//! canary deployment do to it that are not `traffic-switch`.

use serde_json::{Value, json};
use switchyard_harness::{Ended, Step};
use switchyard_record::{
    Chain, ClaimRequest, Freshness, Intent, Kind, ObjectRef, Opening, Phase, Promotion, Session,
    SessionOptions, Side, SideState, WorkloadState,
};
use switchyard_sandbox::Sandbox;

use super::{FrontKind, NEW, OLD, Shop, ingress_route, mesh_of, run};

/// Pods of the main workload.
pub(crate) const SIZE: u32 = 3;

impl Shop {
    /// The main workload is live, and one pod of the new version is up as its canary: tested, with
    /// a record of it.
    pub(crate) async fn open_canary(front: FrontKind) -> Self {
        Self::open_canary_with(front, SIZE, 1).await
    }

    pub(crate) async fn open_canary_with(front: FrontKind, main: u32, canary: u32) -> Self {
        let sandbox = Sandbox::shared();
        let namespace = sandbox.namespace("canary").await;
        let istio = mesh_of(front, &sandbox).await;
        let shop = Self {
            sandbox,
            namespace,
            front,
            run_id: "1001".to_owned(),
            istio,
        };
        let main_labels = json!({"app": "web"});
        let canary_labels = json!({"app": "web-canary", "switchyard.dev/slot": "canary"});
        let mut items = shop.workload("web", &main_labels, OLD, main);
        items.extend(shop.workload("web-canary", &canary_labels, NEW, canary));
        shop.apply(&json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string());
        shop.apply(&shop.canary_front());
        shop.wait_main(main);
        shop.wait_pods("canary", canary);
        shop.wait_answers().await;
        shop.begin_canary(main, canary).await;
        shop
    }

    fn workload(&self, name: &str, labels: &Value, version: &str, replicas: u32) -> Vec<Value> {
        let image = self.sandbox.image("web", version);
        let container = json!({
            "name": "web", "image": image,
            "ports": [{"name": "http", "containerPort": 8080}],
            "readinessProbe": {"httpGet": {"path": "/health", "port": "http"}, "periodSeconds": 1},
        });
        vec![
            json!({
                "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
                "spec": {
                    "replicas": replicas,
                    "selector": {"matchLabels": labels},
                    "template": {
                        "metadata": {"labels": labels},
                        "spec": {"terminationGracePeriodSeconds": 5, "containers": [container]},
                    },
                },
            }),
            json!({
                "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
                "spec": {
                    "selector": labels,
                    "ports": [{"name": "http", "port": 80, "targetPort": "http"}],
                },
            }),
        ]
    }

    fn canary_front(&self) -> String {
        let host = self.host();
        match self.front {
            FrontKind::Service => panic!("a Service has no weights"),
            FrontKind::Traefik => format!(
                r"
apiVersion: traefik.io/v1alpha1
kind: TraefikService
metadata: {{name: web}}
spec: {{weighted: {{services: [{{name: web, port: 80}}]}}}}
---
{}",
                ingress_route(&host, "{name: web, kind: TraefikService}")
            ),
            FrontKind::Gateway => format!(
                r#"
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: web}}
spec:
  parentRefs: [{{name: front-door, namespace: switchyard-sandbox}}]
  hostnames: ["{host}"]
  rules:
  - backendRefs: [{{name: web, port: 80}}]
"#
            ),
            FrontKind::Istio => self.virtual_service("host: web"),
            FrontKind::IstioSubsets => self.virtual_service("host: web, subset: stable"),
            FrontKind::Nginx => self.ingresses("web", "web-canary"),
        }
    }

    /// What `rollout canary` and `health-wait` write down.
    async fn begin_canary(&self, main: u32, canary: u32) {
        let mut opening = Opening::new(Kind::Deploy, Chain::Canary);
        opening.version = Some(NEW.to_owned());
        let mut session = self.claim(Intent::Deploy(opening)).await;
        let side = |side: Side, version: &str, replicas: u32| SideState {
            side,
            version: Some(version.to_owned()),
            workloads: vec![WorkloadState {
                workload: ObjectRef::namespaced(
                    "apps/v1",
                    "Deployment",
                    self.namespace.name(),
                    &side.object_name("web"),
                ),
                uid: None,
                revision: None,
                replicas: Some(replicas),
                hpa_min: None,
            }],
        };
        let amended = session.amend(|record| {
            record.sides.from = Some(side(Side::Stable, OLD, main));
            record.sides.to = Some(side(Side::Canary, NEW, canary));
        });
        amended.await.unwrap();
        for phase in [Phase::Applied, Phase::Ready, Phase::Tested] {
            session.advance(phase).await.unwrap();
        }
        session.close().await;
    }

    /// A session of this run on its claimed record.
    pub(crate) async fn claim(&self, intent: Intent) -> Session {
        let options = SessionOptions::new("dana");
        let mut session = Session::open(self.client().await, self.id(), options)
            .await
            .unwrap();
        let request = ClaimRequest {
            intent,
            attempt: 1,
            inputs: None,
            freshness: Freshness::OncePerRun,
        };
        session.claim(request).await.unwrap();
        session
    }

    /// Waits until exactly so many pods of the main workload are ready.
    pub(crate) fn wait_main(&self, ready: u32) {
        self.wait_ready("deployment/web", ready);
    }

    pub(crate) fn scale_canary(&self, replicas: u32) {
        self.scale("canary", replicas);
        self.wait_pods("canary", replicas);
    }

    pub(crate) fn main_size(&self) -> String {
        let path = "jsonpath={.spec.replicas}";
        self.kubectl(&["get", "deployment/web", "-o", path])
    }

    /// A step that gives the canary its next share.
    pub(crate) fn stage(&self, weight: &str) -> Step {
        self.proving("switch")
            .input("targets", self.front.target())
            .input("to", "canary")
            .input("weight", weight)
    }

    /// The step in which the main workload takes over.
    pub(crate) fn to_stable(&self) -> Step {
        self.proving("switch")
            .input("targets", self.front.target())
            .input("to", "stable")
    }

    /// Gives the canary each of these shares in a step of its own, at the size that it needs.
    pub(crate) fn stages(&self, weights: &[u32]) {
        for weight in weights {
            self.scale_canary((SIZE * weight).div_ceil(100));
            let ended = run(self.stage(&weight.to_string()));
            assert_eq!(ended.code, Some(0), "{weight} %: {}", ended.log());
        }
    }

    /// What `rollout promote` writes down before it touches anything.
    pub(crate) async fn begin_promotion(&self) {
        let mut session = self.claim(Intent::Continue).await;
        session.advance(Phase::Promoting).await.unwrap();
        self.note(&mut session, Promotion::Begun).await;
        session.close().await;
    }

    /// What `rollout promote` does: the idle main workload gets the new version.
    pub(crate) async fn promote(&self) {
        self.begin_promotion().await;
        self.update_main(NEW);
        let mut session = self.claim(Intent::Continue).await;
        self.note(&mut session, Promotion::Done).await;
        session.close().await;
    }

    /// What `rollout undo` does: the idle main workload gets the version before.
    pub(crate) async fn undo(&self) {
        self.update_main(OLD);
        let mut session = self.claim(Intent::Rescue).await;
        self.note(&mut session, Promotion::Undone).await;
        session.close().await;
    }

    async fn note(&self, session: &mut Session, promotion: Promotion) {
        let amended = session.amend(|record| record.promotion = Some(promotion));
        amended.await.unwrap();
    }

    /// Replaces the pods of the main workload, which end at once when they are told to.
    pub(crate) fn update_main(&self, version: &str) {
        let image = format!("web={}", self.sandbox.image("web", version));
        self.kubectl(&["set", "image", "deployment/web", &image]);
        tokio::task::block_in_place(|| {
            self.kubectl(&["rollout", "status", "deployment/web", "--timeout=170s"]);
        });
    }

    /// Phases that the record has gone through since the tests.
    pub(crate) async fn phases_since_tested(&self) -> Vec<String> {
        let phases = self.record().await.phases;
        let names = phases.iter().map(|entry| entry.name.to_string());
        names.skip_while(|name| name != "tested").skip(1).collect()
    }
}

/// Fails unless a step said no, with all of these parts and a hint.
pub(crate) fn assert_refused(ended: &Ended, code: i32, parts: &[&str]) {
    assert_eq!(ended.code, Some(code), "{}", ended.log());
    for part in parts.iter().chain(&["hint: "]) {
        assert!(
            ended.log().contains(part),
            "no `{part}` in:\n{}",
            ended.log()
        );
    }
}
