//! An application that is live in place, with a canary of the next version beside it, both deployed by the
//! programs under test.

use std::fmt;
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use switchyard_sandbox::{Istio, TestNamespace, User};

use crate::loss::Door;
use crate::{Bench, measure, of_version};

/// The version that is live.
pub(crate) const LIVE: &str = "v1.0.0";
/// The version of the canary.
pub(crate) const CANARY: &str = "v1.1.0";
/// How long objects may take to be ready.
const READY: &str = "2m";

/// What gives shares of the traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Route {
    Traefik,
    Gateway,
    Istio,
    /// Annotations of ingress-nginx, as Traefik reads them.
    Nginx,
}

impl Route {
    pub(crate) const ALL: [Self; 4] = [Self::Traefik, Self::Gateway, Self::Istio, Self::Nginx];
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Traefik => "traefik",
            Self::Gateway => "gateway",
            Self::Istio => "istio",
            Self::Nginx => "nginx, as Traefik reads it",
        })
    }
}

/// Pods that are ready as soon as their process runs.
pub(crate) const AT_ONCE: Duration = Duration::ZERO;

/// The application in a namespace of its own.
pub(crate) struct Shop {
    route: Route,
    start: Duration,
    namespace: TestNamespace,
    istio: Option<Istio>,
    door: Door,
    folder: tempfile::TempDir,
    kubectl: std::path::PathBuf,
    kubeconfig: std::path::PathBuf,
}

impl Shop {
    /// Sets the application up with as many pods of its canary, which has no traffic yet. A pod takes `start`
    /// from its start until it answers.
    pub(crate) async fn with_canary(
        bench: &Bench,
        route: Route,
        start: Duration,
    ) -> anyhow::Result<Self> {
        let shop = Self::live(bench, route, start).await?;
        let mut canary = shop.step(bench, "rollout", "canary", CANARY);
        canary.args(["--version", CANARY]);
        canary.args(["--canary-pods", &super::PODS.to_string()]);
        canary.arg("--files").arg(shop.manifests(bench, CANARY)?);
        measure::run(&mut canary)?;
        shop.wait(bench, CANARY, "switchyard.dev/slot=canary")?;
        Ok(shop)
    }

    /// The application without a canary.
    async fn live(bench: &Bench, route: Route, start: Duration) -> anyhow::Result<Self> {
        let namespace = bench.sandbox.namespace("bench-canary").await;
        let istio = match route {
            Route::Traefik | Route::Gateway | Route::Nginx => None,
            Route::Istio => Some(Istio::start(&bench.sandbox, 2).await?),
        };
        let url = match &istio {
            Some(istio) => istio.front_door(0),
            None => bench.sandbox.front_door().to_owned(),
        };
        let host = format!("{}.example.com", namespace.name());
        let shop = Self {
            route,
            start,
            istio,
            door: Door { url, host },
            folder: tempfile::tempdir()?,
            kubectl: bench.sandbox.kubectl(),
            kubeconfig: bench.sandbox.kubeconfig(User::Deployer),
            namespace,
        };
        let mut apply = shop.step(bench, "rollout", "apply", LIVE);
        apply.args(["--version", LIVE, "--files"]);
        apply.arg(shop.manifests(bench, LIVE)?);
        measure::run(&mut apply)?;
        shop.wait(bench, LIVE, "!switchyard.dev/slot")?;
        measure::run(&mut shop.step(bench, "rollout", "finish", LIVE))?;
        shop.door.answers().await?;
        Ok(shop)
    }

    pub(crate) fn namespace(&self) -> &TestNamespace {
        &self.namespace
    }

    pub(crate) fn route(&self) -> Route {
        self.route
    }

    /// Where users come in.
    pub(crate) fn door(&self) -> &Door {
        &self.door
    }

    /// The front object as `traffic-switch` names it.
    pub(crate) fn target(&self) -> &'static str {
        match self.route {
            Route::Traefik => "traefik/api",
            Route::Gateway => "gateway/api",
            Route::Istio => "istio/api",
            Route::Nginx => "nginx/api-next:api",
        }
    }

    /// One of our programs, as a step of the deployment of `version`: its run's number is the version's.
    pub(crate) fn step(
        &self,
        bench: &Bench,
        program: &str,
        command: &str,
        version: &str,
    ) -> Command {
        let place = (self.namespace.name(), self.kubeconfig.as_path());
        of_version(bench.program(program, command, place), version)
    }

    /// Where the data plane is asked.
    pub(crate) fn proof(&self, bench: &Bench, command: &mut Command) {
        match &self.istio {
            Some(istio) => {
                command.args(["--envoy-admin", &istio.admin().join("\n")]);
            }
            None => {
                command.args(["--traefik-api", bench.sandbox.traefik_api()]);
                command.args(["--traefik-metrics", bench.sandbox.traefik_metrics()]);
            }
        }
    }

    /// `kubectl` as the deployer.
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> anyhow::Result<()> {
        let mut command = Command::new(&self.kubectl);
        command
            .env("KUBECONFIG", &self.kubeconfig)
            .env("HOME", std::env::temp_dir());
        command.args(["-n", self.namespace.name()]).args(arguments);
        measure::run(&mut command)?;
        Ok(())
    }

    fn wait(&self, bench: &Bench, version: &str, slot: &str) -> anyhow::Result<()> {
        let mut wait = self.step(bench, "health-wait", "rollout", version);
        wait.args(["--start-delay", "0", "--timeout", READY, "--selector"]);
        wait.arg(format!("switchyard.dev/application=bench,{slot}"));
        measure::run(&mut wait)?;
        Ok(())
    }

    /// The file of the manifests of a version.
    pub(crate) fn manifests(
        &self,
        bench: &Bench,
        version: &str,
    ) -> anyhow::Result<std::path::PathBuf> {
        let file = self.folder.path().join(format!("{version}.yaml"));
        let text = format!(
            "{}---\n{}",
            workload(&bench.sandbox.image("api", version), self.start),
            self.front()
        );
        std::fs::write(&file, text).context("write the manifests")?;
        Ok(file)
    }

    fn front(&self) -> String {
        let host = &self.door.host;
        match (self.route, &self.istio) {
            (Route::Traefik, _) => traefik_front(host, "{name: api, port: 80, weight: 1}"),
            (Route::Gateway, _) => format!(
                "apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: api}}
spec:
  parentRefs: [{{name: front-door, namespace: switchyard-sandbox}}]
  hostnames: [{host}]
  rules: [{{backendRefs: [{{name: api, port: 80, weight: 1}}]}}]
"
            ),
            (Route::Nginx, _) => [
                ingress(host, "api", "", "api"),
                ingress(
                    host,
                    "api-next",
                    r#"nginx.ingress.kubernetes.io/canary: "true""#,
                    "api-canary",
                ),
            ]
            .join("---\n"),
            (Route::Istio, istio) => {
                let gateways: Vec<String> = istio.iter().flat_map(Istio::gateways).collect();
                istio_front(
                    host,
                    &gateways,
                    "{destination: {host: api, port: {number: 80}}}",
                )
            }
        }
    }
}

/// Waits for something, under a limit that is not what is measured.
pub(crate) fn until(
    what: &str,
    is_so: &mut dyn FnMut() -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let deadline = std::time::Instant::now() + Duration::from_secs(120);
    while !is_so()? {
        anyhow::ensure!(
            std::time::Instant::now() < deadline,
            "within two minutes not: {what}"
        );
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// An Ingress of everything at a host, for ingress-nginx.
fn ingress(host: &str, name: &str, annotations: &str, service: &str) -> String {
    format!(
        "apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{name: {name}, annotations: {{{annotations}}}}}
spec:
  ingressClassName: nginx
  rules:
  - host: {host}
    http: {{paths: [{{path: /, pathType: Prefix, backend: {{service: {{name: {service}, port: {{number: 80}}}}}}}}]}}
"
    )
}

/// A TraefikService of these services behind a route of this host.
pub(crate) fn traefik_front(host: &str, services: &str) -> String {
    format!(
        "apiVersion: traefik.io/v1alpha1
kind: TraefikService
metadata: {{name: api}}
spec: {{weighted: {{services: [{services}]}}}}
---
apiVersion: traefik.io/v1alpha1
kind: IngressRoute
metadata: {{name: api}}
spec:
  routes: [{{kind: Rule, match: Host(`{host}`), services: [{{kind: TraefikService, name: api}}]}}]
"
    )
}

/// A VirtualService of these destinations for this host at these gateways.
pub(crate) fn istio_front(host: &str, gateways: &[String], destinations: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: api}}
spec:
  hosts: [{host}]
  gateways: {gateways:?}
  http: [{{name: primary, route: [{destinations}]}}]
"
    )
}

/// The pods of an application as every tool here is given them: they do not drain, and what they do wrong can
/// be ordered while they run. They answer when `start` is over.
pub(crate) fn pod(image: &str, start: Duration) -> String {
    format!(
        "    metadata: {{labels: {{app: api}}}}
    spec:
      terminationGracePeriodSeconds: 5
      containers:
        - name: api
          image: {image}
          env: [{{name: START_DELAY_MS, value: \"{start}\"}}]
          ports: [{{name: http, containerPort: 8080}}, {{name: control, containerPort: 8081}}]
          readinessProbe: {{httpGet: {{path: /api/health/ready, port: http}}, periodSeconds: 1, failureThreshold: 1}}
",
        start = start.as_millis()
    )
}

fn workload(image: &str, start: Duration) -> String {
    format!(
        "apiVersion: apps/v1
kind: Deployment
metadata: {{name: api, labels: {{app: api}}}}
spec:
  replicas: {pods}
  selector: {{matchLabels: {{app: api}}}}
  template:
{pod}---
apiVersion: v1
kind: Service
metadata: {{name: api}}
spec:
  selector: {{app: api}}
  ports: [{{name: http, port: 80, targetPort: http}}]
",
        pods = super::PODS,
        pod = pod(image, start)
    )
}
