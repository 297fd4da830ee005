//! A small shop in a namespace of its own: two slots behind a front of each kind, with pods that
//! do not drain, and `traffic-switch` run on it as a step.

#![allow(dead_code)] // Each test file uses its own part.

pub(crate) mod canary;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::Value;
use switchyard_cluster::{Cluster, ConnectOptions};
use switchyard_harness::{Ended, Started, Step};
use switchyard_record::{
    Chain, ClaimRequest, DeploymentId, DeploymentIdParts, DeploymentRecord, Freshness, Intent,
    Kind, Opening, Phase, Session, SessionOptions, Store,
};
use switchyard_sandbox::fault_proxy::FaultProxy;
use switchyard_sandbox::load::{LoadPlan, LoadReport, RunningLoad};
use switchyard_sandbox::{Istio, Sandbox, SandboxError, TestNamespace, User};

/// The versions of the two slots.
pub(crate) const OLD: &str = "v1.0.0";
pub(crate) const NEW: &str = "v1.1.0";
/// How long a condition may take to come about.
const LIMIT: Duration = Duration::from_secs(180);

/// Which kind of front the shop has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FrontKind {
    Service,
    Traefik,
    Gateway,
    Istio,
    IstioSubsets,
    Nginx,
}

impl FrontKind {
    /// Those whose data plane the sandbox has without being asked for it.
    pub(crate) const ALL: [Self; 3] = [Self::Service, Self::Traefik, Self::Gateway];

    pub(crate) fn target(self) -> &'static str {
        match self {
            Self::Service => "service/web",
            Self::Traefik => "traefik/web",
            Self::Gateway => "gateway/web",
            Self::Istio | Self::IstioSubsets => "istio/web",
            Self::Nginx => "nginx/web-next:web",
        }
    }

    /// Resource and name, as kubectl takes them.
    pub(crate) fn object(self) -> &'static str {
        match self {
            Self::Service => "service/web",
            Self::Traefik => "traefikservice/web",
            Self::Gateway => "httproute/web",
            Self::Istio | Self::IstioSubsets => "virtualservice.networking.istio.io/web",
            Self::Nginx => "ingress/web-next",
        }
    }

    pub(crate) fn is_weighted(self) -> bool {
        self != Self::Service
    }
}

/// A namespace with the shop in it.
pub(crate) struct Shop {
    pub(crate) sandbox: Sandbox,
    pub(crate) namespace: TestNamespace,
    pub(crate) front: FrontKind,
    pub(crate) run_id: String,
    /// The mesh whose gateways send the shop's traffic, where it is one.
    pub(crate) istio: Option<Istio>,
}

impl Shop {
    /// Blue is live with three pods, green is up with three pods of the new version.
    pub(crate) async fn open(front: FrontKind) -> Self {
        Self::open_with(front, 3, 3).await
    }

    pub(crate) async fn open_with(front: FrontKind, blue: u32, green: u32) -> Self {
        Self::open_in(Sandbox::shared(), front, blue, green).await
    }

    pub(crate) async fn open_in(sandbox: Sandbox, front: FrontKind, blue: u32, green: u32) -> Self {
        let namespace = sandbox.namespace("switch").await;
        let istio = mesh_of(front, &sandbox).await;
        let shop = Self {
            sandbox,
            namespace,
            front,
            run_id: "1001".to_owned(),
            istio,
        };
        shop.apply(&shop.side("blue", OLD, blue));
        shop.apply(&shop.side("green", NEW, green));
        shop.apply(&shop.front_manifest());
        shop.wait_pods("blue", blue);
        shop.wait_pods("green", green);
        shop.wait_answers().await;
        shop
    }

    pub(crate) fn apply(&self, manifests: &str) {
        if let Err(error) = self.namespace.apply(manifests) {
            panic!("{}", error.chain());
        }
    }

    pub(crate) fn kubectl(&self, arguments: &[&str]) -> String {
        match self.namespace.kubectl(arguments) {
            Ok(text) => text,
            Err(error) => panic!("{}", error.chain()),
        }
    }

    fn side(&self, slot: &str, version: &str, replicas: u32) -> String {
        let image = self.sandbox.image("web", version);
        format!(
            r#"
apiVersion: apps/v1
kind: Deployment
metadata: {{name: web-{slot}, labels: {{switchyard.dev/application: web, switchyard.dev/slot: {slot}}}}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: web, switchyard.dev/slot: {slot}}}}}
  template:
    metadata: {{labels: {{app: web, switchyard.dev/application: web, switchyard.dev/slot: {slot}}}}}
    spec:
      terminationGracePeriodSeconds: 5
      containers:
      - name: web
        image: {image}
        ports: [{{name: http, containerPort: 8080}}]
        readinessProbe: {{httpGet: {{path: /health, port: http}}, periodSeconds: 1}}
---
apiVersion: v1
kind: Service
metadata: {{name: web-{slot}}}
spec:
  selector: {{app: web, switchyard.dev/slot: {slot}}}
  ports: [{{name: http, port: 80, targetPort: http}}]
"#
        )
    }

    pub(crate) fn host(&self) -> String {
        format!("{}.test", self.namespace.name())
    }

    fn front_manifest(&self) -> String {
        let host = self.host();
        match self.front {
            FrontKind::Service => format!(
                r#"
apiVersion: v1
kind: Service
metadata: {{name: web}}
spec:
  selector: {{app: web, switchyard.dev/slot: blue}}
  ports: [{{name: http, port: 80, targetPort: http}}]
---
{}"#,
                ingress_route(&host, "{name: web, port: 80}")
            ),
            FrontKind::Traefik => format!(
                r#"
apiVersion: traefik.io/v1alpha1
kind: TraefikService
metadata: {{name: web}}
spec: {{weighted: {{services: [{{name: web-blue, port: 80}}]}}}}
---
{}"#,
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
  - backendRefs: [{{name: web-blue, port: 80}}]
"#
            ),
            FrontKind::Istio => self.virtual_service("host: web-blue"),
            FrontKind::IstioSubsets => format!(
                r"
apiVersion: v1
kind: Service
metadata: {{name: web}}
spec:
  selector: {{app: web}}
  ports: [{{name: http, port: 80, targetPort: http}}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: web}}
spec:
  host: web
  subsets:
  - {{name: blue, labels: {{switchyard.dev/slot: blue}}}}
  - {{name: green, labels: {{switchyard.dev/slot: green}}}}
---
{}",
                self.virtual_service("host: web, subset: blue")
            ),
            FrontKind::Nginx => self.ingresses("web-blue", "web-green"),
        }
    }

    /// A main Ingress and a canary beside it that gets nothing.
    fn ingresses(&self, main: &str, canary: &str) -> String {
        let host = self.host();
        let annotations = r#"nginx.ingress.kubernetes.io/canary: "true""#;
        [("web", "", main), ("web-next", annotations, canary)]
            .map(|(name, annotations, service)| {
                format!(
                    r#"
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{name: {name}, annotations: {{{annotations}}}}}
spec:
  ingressClassName: nginx
  rules:
  - host: {host}
    http: {{paths: [{{path: /, pathType: Prefix, backend: {{service: {{name: {service}, port: {{number: 80}}}}}}}}]}}
"#
                )
            })
            .join("---")
    }

    /// A VirtualService at every gateway of the mesh, with one destination.
    fn virtual_service(&self, destination: &str) -> String {
        let host = self.host();
        let gateways: Vec<_> = self.istio.iter().flat_map(Istio::gateways).collect();
        format!(
            r#"
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: web}}
spec:
  hosts: ["{host}"]
  gateways: {gateways:?}
  http:
  - route: [{{destination: {{{destination}, port: {{number: 80}}}}}}]
"#
        )
    }

    /// Waits until exactly so many pods of a slot are ready.
    pub(crate) fn wait_pods(&self, slot: &str, ready: u32) {
        self.wait_ready(&format!("deployment/web-{slot}"), ready);
    }

    /// Waits until exactly so many pods of a workload are ready: kubectl watches them, in one process.
    pub(crate) fn wait_ready(&self, workload: &str, ready: u32) {
        const PATH: &str = "{.status.readyReplicas}";
        if ready == 0 {
            // Such a field is left out, and kubectl waits for values.
            self.wait(&format!("no ready pods of {workload}"), || {
                self.kubectl(&["get", workload, "-o", &format!("jsonpath={PATH}")])
                    .is_empty()
            });
            return;
        }
        let reached = format!("--for=jsonpath={PATH}={ready}");
        let limit = format!("--timeout={}s", LIMIT.as_secs());
        self.kubectl(&["wait", workload, &reached, &limit]);
    }

    pub(crate) fn wait(&self, what: &str, mut is_so: impl FnMut() -> bool) {
        let started = Instant::now();
        while !is_so() {
            assert!(started.elapsed() < LIMIT, "{what} did not come about");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Waits until the front door answers for this shop.
    pub(crate) async fn wait_answers(&self) {
        let client = switchyard_sandbox::HttpClient::plain();
        let host = self.host();
        let started = Instant::now();
        loop {
            let plan = LoadPlan::new(&self.url(), 20).unwrap().host(&host).unwrap();
            let report = plan.run_for(Duration::from_millis(250)).await.unwrap();
            if report.lost == 0 && report.succeeded > 0 {
                break;
            }
            assert!(
                started.elapsed() < LIMIT,
                "the front door does not answer: {}",
                report.summary()
            );
        }
        drop(client);
    }

    pub(crate) fn url(&self) -> String {
        match &self.istio {
            Some(istio) => format!("{}/", istio.front_door(0)),
            None => format!("{}/", self.sandbox.front_door()),
        }
    }

    /// Load through the front door. What a busy machine answers late is not lost.
    pub(crate) fn load(&self, rate: u32) -> RunningLoad {
        LoadPlan::new(&self.url(), rate)
            .unwrap()
            .host(&self.host())
            .unwrap()
            .time_limit(Duration::from_secs(40))
            .start()
    }

    /// A step with what every command takes.
    pub(crate) fn step(&self, command: &str) -> Step {
        self.of_deployment(Step::new(env!("CARGO_BIN_EXE_traffic-switch")))
            .input("command", command)
    }

    /// A step of any program with where it belongs.
    pub(crate) fn of_deployment(&self, step: Step) -> Step {
        step.variable("GITHUB_RUN_ID", &self.run_id)
            .input(
                "kubeconfig",
                self.sandbox
                    .kubeconfig(User::Deployer)
                    .display()
                    .to_string(),
            )
            .input("namespace", self.namespace.name())
            .input("cluster", "main")
            .input("environment", "production")
            .input("application", "web")
    }

    /// A step that asks every proxy and probes the front door.
    pub(crate) fn proving(&self, command: &str) -> Step {
        let step = self.step(command);
        let step = match &self.istio {
            Some(istio) => step.input("envoy-admin", istio.admin().join(",")),
            None => step
                .input("traefik-api", self.sandbox.traefik_api())
                .input("traefik-metrics", self.sandbox.traefik_metrics()),
        };
        step.input("kube-proxy-metrics", "http://10.10.0.1:10249")
            .input("verify-url", self.url())
            .input("verify-host", self.host())
            .input("version-header", "x-app-version")
            .input("longest-request", "2s")
            .input("timeout", "150s")
    }

    /// A switch to green with all proof.
    pub(crate) fn switch(&self) -> Step {
        self.proving("switch")
            .input("targets", self.front.target())
            .input("to", "green")
            .input("expect-version", NEW)
    }

    /// A step that talks to the API server through a proxy with faults.
    pub(crate) fn through(&self, step: Step, proxy: &FaultProxy) -> Step {
        let kubeconfig = self.sandbox.kubeconfig_through(proxy, User::Deployer);
        step.input("kubeconfig", kubeconfig.unwrap().display().to_string())
    }

    /// Waits until the record of this run stands in a phase, and fails with what the step said
    /// when it ends before.
    pub(crate) async fn wait_phase_of(&self, mut step: Started, phase: Phase) -> Started {
        let store = Store::new(self.client().await, self.namespace.name());
        let started = Instant::now();
        loop {
            let record = store.deployment(&self.id()).await.unwrap();
            if record.is_some_and(|stored| stored.record.phase == phase) {
                return step;
            }
            if step.child().try_wait().unwrap().is_some() || started.elapsed() > LIMIT {
                panic!("phase {phase} was not reached:\n{}", step.finish().log());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until the record of this run stands in a phase.
    pub(crate) async fn wait_phase(&self, phase: Phase) {
        let store = Store::new(self.client().await, self.namespace.name());
        let started = Instant::now();
        loop {
            let record = store.deployment(&self.id()).await.unwrap();
            if record.is_some_and(|stored| stored.record.phase == phase) {
                return;
            }
            assert!(started.elapsed() < LIMIT, "phase {phase} was not reached");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Whether somebody holds the application's lease.
    pub(crate) fn is_leased(&self) -> bool {
        let holder = self.kubectl(&[
            "get",
            "lease/switchyard-web",
            "-o",
            "jsonpath={.spec.holderIdentity}",
        ]);
        !holder.is_empty()
    }

    pub(crate) fn scale(&self, slot: &str, replicas: u32) {
        self.kubectl(&[
            "scale",
            &format!("deployment/web-{slot}"),
            &format!("--replicas={replicas}"),
        ]);
    }

    /// The live front object.
    pub(crate) fn front_object(&self) -> Value {
        serde_json::from_str(&self.kubectl(&["get", self.front.object(), "-o", "json"])).unwrap()
    }

    /// What the front sends where, as `status` says.
    pub(crate) fn weights(&self) -> Value {
        let ended = self
            .step("status")
            .input("targets", self.front.target())
            .run();
        assert_eq!(ended.code, Some(0), "{}", ended.log());
        serde_json::from_str(&ended.outputs["weights"]).unwrap()
    }

    pub(crate) async fn client(&self) -> kube::Client {
        self.cluster().await.client()
    }

    pub(crate) async fn cluster(&self) -> Cluster {
        let options = ConnectOptions {
            kubeconfig: Some(self.sandbox.kubeconfig(User::Deployer)),
            namespace: Some(self.namespace.name().to_owned()),
            ..ConnectOptions::default()
        };
        Cluster::connect(&options).await.unwrap()
    }

    /// The identity that the steps compute.
    pub(crate) fn id(&self) -> DeploymentId {
        self.id_of(&self.run_id)
    }

    pub(crate) fn id_of(&self, run_id: &str) -> DeploymentId {
        DeploymentId::new(DeploymentIdParts {
            repository: "example/shop".to_owned(),
            run_id: run_id.to_owned(),
            environment: "production".to_owned(),
            cluster: "main".to_owned(),
            namespace: self.namespace.name().to_owned(),
            application: "web".to_owned(),
        })
        .unwrap()
    }

    /// The record of this run's deployment.
    pub(crate) async fn record(&self) -> DeploymentRecord {
        let store = Store::new(self.client().await, self.namespace.name());
        store
            .deployment(&self.id())
            .await
            .unwrap()
            .expect("a record")
            .record
    }

    /// The application's record.
    pub(crate) async fn application(&self) -> switchyard_record::ApplicationRecord {
        let store = Store::new(self.client().await, self.namespace.name());
        store
            .application("web")
            .await
            .unwrap()
            .expect("a record")
            .record
    }

    /// A session of this run on the record, as another step would open one.
    pub(crate) async fn session(&self) -> Session {
        let mut session =
            Session::open(self.client().await, self.id(), SessionOptions::new("dana"))
                .await
                .unwrap();
        let request = ClaimRequest {
            intent: Intent::Deploy(Opening::new(Kind::Deploy, Chain::Slots)),
            attempt: 1,
            inputs: None,
            freshness: Freshness::OncePerRun,
        };
        session.claim(request).await.unwrap();
        session
    }

    /// Ends this run's deployment as a success, as the last steps of a chain do.
    pub(crate) async fn succeed(&self) {
        let mut session = self.session().await;
        for phase in [Phase::Quieting, Phase::Retired] {
            session.advance(phase).await.unwrap();
        }
        let result = switchyard_record::DeploymentResult {
            verdict: switchyard_record::Verdict::Succeeded,
            cause: None,
            by: "dana".to_owned(),
        };
        session.finish(result).await.unwrap();
        session.close().await;
    }
}

/// The mesh that a front needs. Two gateways: who asks one of them has asked half.
async fn mesh_of(front: FrontKind, sandbox: &Sandbox) -> Option<Istio> {
    match front {
        FrontKind::Service | FrontKind::Traefik | FrontKind::Gateway | FrontKind::Nginx => None,
        FrontKind::Istio | FrontKind::IstioSubsets => {
            let started = Istio::start(sandbox, 2).await;
            let fail = |error: SandboxError| panic!("{}\nhint: {:?}", error.chain(), error.hint());
            Some(started.unwrap_or_else(fail))
        }
    }
}

fn ingress_route(host: &str, service: &str) -> String {
    format!(
        r#"
apiVersion: traefik.io/v1alpha1
kind: IngressRoute
metadata: {{name: web}}
spec:
  entryPoints: [web]
  routes:
  - kind: Rule
    match: Host(`{host}`)
    services: [{service}]
"#
    )
}

/// Runs a step without blocking the load that runs beside it.
pub(crate) fn run(step: Step) -> Ended {
    tokio::task::block_in_place(|| step.run())
}

/// Waits for a started step without blocking the load that runs beside it.
pub(crate) fn finish(started: Started) -> Ended {
    tokio::task::block_in_place(|| started.finish())
}

/// Fails unless every request was answered.
pub(crate) fn assert_nothing_lost(report: &LoadReport) {
    let path = PathBuf::from("failures");
    let failures: Vec<_> = report.failures.iter().take(5).collect();
    assert_eq!(
        report.lost,
        0,
        "{}\n{failures:#?} {}",
        report.summary(),
        path.display()
    );
    assert!(report.succeeded > 0);
}
