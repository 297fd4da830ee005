//! A shop in a namespace of its own: its manifests, and steps that deploy it.

// Each test file is a crate of its own and uses its part of this.
#![allow(dead_code)]

use serde_json::Value;
use switchyard_harness::Step;
use switchyard_record::{
    ClaimRequest, DeploymentId, Freshness, Intent, Phase, Session, SessionOptions,
};
use switchyard_sandbox::{Sandbox, TestNamespace, User};

/// A namespace of one test, and what is known of it.
pub(crate) struct Shop {
    pub(crate) sandbox: Sandbox,
    pub(crate) namespace: TestNamespace,
}

impl Shop {
    /// A shop in a fresh namespace.
    pub(crate) async fn open(test: &str) -> Self {
        let sandbox = Sandbox::shared();
        let namespace = sandbox.namespace(test).await;
        Self { sandbox, namespace }
    }

    /// A step of some run that keeps a record of application `web`.
    pub(crate) fn recorded(&self, command: &str, run: &str) -> Step {
        self.step(command)
            .input("application", "web")
            .input("environment", "production")
            .input("cluster", "sandbox")
            .variable("GITHUB_RUN_ID", run)
    }

    /// A step of some run that applies manifests into the idle slot.
    pub(crate) fn apply_into_slot(&self, manifests: &str, run: &str) -> Step {
        let step = self.recorded("apply", run).input("slot", "auto");
        let file = step.file("manifests.yaml", manifests);
        step.input("files", file)
    }

    /// Moves the traffic and the record to where a switch leaves them, as another program does.
    pub(crate) async fn switch_to(&self, slot: &str, run: &str) {
        self.namespace
            .kubectl(&[
                "patch",
                "traefikservice",
                "shop",
                "--type=merge",
                "-p",
                &format!("{{\"spec\":{{\"weighted\":{{\"services\":[{{\"name\":\"web-{slot}\",\"port\":80,\"weight\":1}}]}}}}}}"),
            ])
            .expect("the route is patched");
        self.soak(run).await;
    }

    /// Moves the record to where a switch leaves it.
    pub(crate) async fn soak(&self, run: &str) {
        let id = self.id(run);
        let client = self.sandbox.client(User::Admin).await;
        let mut session = Session::open(client, id, SessionOptions::new("test"))
            .await
            .expect("the record opens");
        let request = ClaimRequest {
            intent: Intent::Continue,
            attempt: 1,
            inputs: None,
            freshness: Freshness::OncePerRun,
        };
        session
            .claim(request)
            .await
            .expect("the run's deployment is active");
        for phase in [Phase::Ready, Phase::Switching(1), Phase::Soaking] {
            session.advance(phase).await.expect("the phase follows");
        }
        session.close().await;
    }

    /// The identity of a run's deployment.
    pub(crate) fn id(&self, run: &str) -> DeploymentId {
        format!(
            "example/shop/{run}/production/sandbox/{}/web",
            self.namespace.name()
        )
        .parse()
        .expect("an identity")
    }

    /// The record of a run's deployment.
    pub(crate) fn record(&self, run: &str) -> Value {
        let map = self.get(&format!("configmap/{}", self.id(run).record_name()));
        let text = map["data"]["record.json"].as_str().expect("a record");
        serde_json::from_str(text).expect("JSON")
    }

    /// A step of the deployer in this namespace.
    pub(crate) fn step(&self, command: &str) -> Step {
        self.step_of(User::Deployer, command)
    }

    /// A step of some user in this namespace.
    pub(crate) fn step_of(&self, user: User, command: &str) -> Step {
        Step::new(env!("CARGO_BIN_EXE_rollout"))
            .input("command", command)
            .input(
                "kubeconfig",
                self.sandbox.kubeconfig(user).display().to_string(),
            )
            .input("namespace", self.namespace.name())
    }

    /// A step that applies these manifests.
    pub(crate) fn apply(&self, manifests: &str) -> Step {
        let step = self.step("apply");
        let file = step.file("manifests.yaml", manifests);
        step.input("files", file)
    }

    /// A live object as JSON.
    pub(crate) fn get(&self, object: &str) -> Value {
        let text = self
            .namespace
            .kubectl(&["get", object, "-o", "json", "--show-managed-fields"])
            .expect("the object is there");
        serde_json::from_str(&text).expect("kubectl prints JSON")
    }

    /// Names of all objects of a kind.
    pub(crate) fn names(&self, kind: &str) -> Vec<String> {
        let text = self
            .namespace
            .kubectl(&[
                "get",
                kind,
                "-o",
                "jsonpath={range .items[*]}{.metadata.name}{\"\\n\"}{end}",
            ])
            .expect("the kind is there");
        text.lines().map(str::to_owned).collect()
    }

    /// Waits until a Deployment is rolled out.
    pub(crate) fn wait_for(&self, deployment: &str) {
        self.namespace
            .kubectl(&[
                "rollout",
                "status",
                &format!("deployment/{deployment}"),
                "--timeout=60s",
            ])
            .expect("rolled out");
    }

    /// A web Deployment with its ConfigMap and Service, at some version.
    pub(crate) fn web(&self, version: &str) -> String {
        let image = self.sandbox.image("web", version);
        format!(
            r#"apiVersion: v1
kind: ConfigMap
metadata: {{name: web-config}}
data: {{GREETING: hello}}
---
apiVersion: v1
kind: Service
metadata: {{name: web}}
spec:
  selector: {{app: web}}
  ports: [{{name: http, port: 80, targetPort: 8080}}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: web}}
spec:
  replicas: 2
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: web
        image: {image}
        envFrom: [{{configMapRef: {{name: web-config}}}}]
        ports: [{{containerPort: 8080}}]
        readinessProbe: {{httpGet: {{path: /health, port: 8080}}, periodSeconds: 1}}
"#
        )
    }

    /// A main Ingress of `web` and a canary beside it, both written for the plain name.
    pub(crate) fn ingresses(&self) -> String {
        let host = format!("{}.test", self.namespace.name());
        [
            ("shop", ""),
            (
                "shop-next",
                r#"nginx.ingress.kubernetes.io/canary: "true", nginx.ingress.kubernetes.io/canary-weight: "0""#,
            ),
        ]
        .map(|(name, annotations)| {
            format!(
                r#"---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{name: {name}, annotations: {{{annotations}}}}}
spec:
  ingressClassName: nginx
  rules:
  - host: {host}
    http: {{paths: [{{path: /, pathType: Prefix, backend: {{service: {{name: web, port: {{number: 80}}}}}}}}]}}
"#
            )
        })
        .concat()
    }

    /// A TraefikService in front of `web`.
    pub(crate) fn traefik(&self) -> String {
        "---\napiVersion: traefik.io/v1alpha1\nkind: TraefikService\nmetadata: {name: shop}\nspec: {weighted: {services: [{name: web, port: 80, weight: 1}]}}\n".to_owned()
    }
}
