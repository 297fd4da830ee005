//! Argo Rollouts: its controller beside the cluster, its kinds in it, and the scenarios in its hands. What
//! `kubectl argo rollouts promote` and `abort` write is written by kubectl itself.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use switchyard_sandbox::load::RunningLoad;
use switchyard_sandbox::{Istio, TestNamespace, User};

use super::{Plane, START, Scenario, WATCH, settle};
use crate::Bench;
use crate::canary::PODS;
use crate::canary::ours::{CALM, Seen, users};
use crate::canary::shop::{CANARY, LIVE, istio_front, pod, traefik_front, until};
use crate::loss::Door;
use crate::prometheus::Prometheus;

/// The steps at which it waits for a person.
const AT_HALF: &str = "2";
const AT_ALL: &str = "4";
/// How long it keeps a canary that was given up, by default.
const KEPT: Duration = Duration::from_secs(30);

pub(super) struct Argo {
    // In this order: its controller ends before what it looks at.
    controller: Controller,
    _prometheus: Prometheus,
    namespace: TestNamespace,
    plane: Plane,
    istio: Option<Istio>,
    door: Door,
    _folder: tempfile::TempDir,
}

struct Controller(Child);

impl Drop for Controller {
    fn drop(&mut self) {
        // Its lease and its logs are of no use any more.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Argo {
    /// Starts a controller for a namespace of its own, and brings the application up.
    pub(super) async fn start(
        bench: &Bench,
        programs: &Path,
        plane: Plane,
    ) -> anyhow::Result<Self> {
        let namespace = bench.sandbox.namespace("bench-argo").await;
        let kinds = programs.join("kinds.yaml");
        let kinds = kinds.to_str().context("a path that is text")?;
        namespace.kubectl(&["apply", "--server-side", "-f", kinds])?;
        for kind in ["rollouts", "analysistemplates", "analysisruns"] {
            until(&format!("{kind} are served"), &mut || {
                Ok(namespace.kubectl(&["get", kind]).is_ok())
            })?;
        }
        let folder = tempfile::tempdir()?;
        let istio = match plane {
            Plane::Traefik => None,
            Plane::Istio => Some(Istio::start(&bench.sandbox, 2).await?),
        };
        let (url, metrics) = match &istio {
            None => (
                bench.sandbox.front_door().to_owned(),
                vec![bench.sandbox.traefik_metrics().to_owned()],
            ),
            Some(istio) => {
                let of = |admin: String| format!("{admin}/stats/prometheus");
                (
                    istio.front_door(0),
                    istio.admin().into_iter().map(of).collect(),
                )
            }
        };
        let prometheus = Prometheus::start(folder.path(), &metrics)?;
        let host = format!("{}.example.com", namespace.name());
        let argo = Self {
            controller: controller(bench, programs, namespace.name(), folder.path())?,
            plane,
            istio,
            door: Door { url, host },
            namespace,
            _folder: folder,
            _prometheus: prometheus,
        };
        let url = argo._prometheus.url();
        argo.namespace
            .apply(&argo.objects(&bench.sandbox.image("api", LIVE), &url))?;
        argo.until_status("phase", "Healthy")?;
        argo.door.answers().await?;
        Ok(argo)
    }

    /// Gives the canary half of the traffic, and plays the rest.
    pub(super) async fn play(mut self, bench: &Bench, scenario: Scenario) -> anyhow::Result<Seen> {
        let load = users(bench, &self.door)?;
        let image = bench.sandbox.image("api", CANARY);
        tokio::task::block_in_place(|| {
            let path = "/spec/template/spec/containers/0/image";
            let patch = format!(r#"[{{"op":"replace","path":"{path}","value":"{image}"}}]"#);
            self.patch("--type=json", &patch)?;
            self.until_paused(AT_HALF, "50")
        })?;
        tokio::time::sleep(CALM).await;
        self.until_paused(AT_HALF, "50")
            .context("before anything was wrong")?;
        let results = "jsonpath={.items[*].status.metricResults[*].successful}";
        let measured = ["get", "analysisruns", "-o", results];
        anyhow::ensure!(
            !self.namespace.kubectl(&measured)?.is_empty(),
            "Argo's analysis has measured nothing"
        );
        let (began, left) = self.act(bench, &load, scenario).await?;
        settle(&load, left).await;
        if scenario == Scenario::Abort {
            tokio::time::sleep(KEPT).await;
        }
        anyhow::ensure!(
            self.controller.0.try_wait()?.is_none(),
            "Argo's controller has ended"
        );
        Seen::of(load, began, left).await
    }

    /// Plays a scenario; returns when it began and which version is to be left.
    async fn act(
        &self,
        bench: &Bench,
        load: &RunningLoad,
        scenario: Scenario,
    ) -> anyhow::Result<(Duration, Option<&'static str>)> {
        match scenario {
            Scenario::Promotion => {
                let began = load.elapsed();
                tokio::task::block_in_place(|| {
                    self.go_on()?;
                    self.until_paused(AT_ALL, "100")?;
                    self.go_on()?;
                    self.until_status("phase", "Healthy")
                })?;
                Ok((began, Some(LIVE)))
            }
            Scenario::Abort => {
                let began = load.elapsed();
                self.abort()?;
                Ok((began, Some(CANARY)))
            }
            Scenario::Broken(breakage) => {
                let canary = self.pods_of("currentPodHash")?;
                let began = load.elapsed();
                breakage.strike(bench, &self.namespace, &canary).await?;
                Ok((began, breakage.left()))
            }
            Scenario::Shrunk => {
                let began = tokio::task::block_in_place(|| {
                    self.go_on()?;
                    self.until_paused(AT_ALL, "100")?;
                    self.shrink()?;
                    let began = load.elapsed();
                    self.abort()?;
                    anyhow::Ok(began)
                })?;
                Ok((began, Some(CANARY)))
            }
            Scenario::SecondWriter => {
                super::second_writer(self.plane, &self.namespace, "api-stable")?;
                let began = load.elapsed();
                self.abort()?;
                Ok((began, Some(CANARY)))
            }
        }
    }

    /// Takes the pods of the old side away, as somebody else would, and waits until none of these is left.
    fn shrink(&self) -> anyhow::Result<()> {
        let old = self.pods_of("stableRS")?;
        let names = |selector: &str| {
            let words = ["get", "pods", "-o", "name", "--selector", selector];
            self.namespace.kubectl(&words)
        };
        let before = names(&old)?;
        let hash = self.status("stableRS")?;
        let set = format!("replicaset/api-{hash}");
        self.namespace.kubectl(&["scale", &set, "--replicas=0"])?;
        until("the pods of the old side are gone", &mut || {
            let now = names(&old)?;
            Ok(!before
                .lines()
                .any(|name| now.lines().any(|left| left == name)))
        })
    }

    fn pods_of(&self, hash: &str) -> anyhow::Result<String> {
        let hash = self.status(hash)?;
        anyhow::ensure!(!hash.is_empty(), "the Rollout names no ReplicaSet");
        Ok(format!("rollouts-pod-template-hash={hash}"))
    }

    /// What `kubectl argo rollouts promote` writes.
    fn go_on(&self) -> anyhow::Result<()> {
        self.patch_status(r#"{"status":{"pauseConditions":null}}"#)
    }

    /// What `kubectl argo rollouts abort` writes.
    fn abort(&self) -> anyhow::Result<()> {
        self.patch_status(r#"{"status":{"abort":true}}"#)
    }

    fn patch_status(&self, patch: &str) -> anyhow::Result<()> {
        let words = ["patch", "rollout", "api", "--subresource=status"];
        let patch = ["--type=merge", "-p", patch];
        self.namespace.kubectl(&[&words[..], &patch].concat())?;
        Ok(())
    }

    fn patch(&self, kind: &str, patch: &str) -> anyhow::Result<()> {
        self.namespace
            .kubectl(&["patch", "rollout", "api", kind, "-p", patch])?;
        Ok(())
    }

    fn status(&self, path: &str) -> anyhow::Result<String> {
        let path = format!("jsonpath={{.status.{path}}}");
        Ok(self
            .namespace
            .kubectl(&["get", "rollout", "api", "-o", &path])?)
    }

    fn until_status(&self, path: &str, wanted: &str) -> anyhow::Result<()> {
        until(&format!("the Rollout's {path} is {wanted}"), &mut || {
            Ok(self.status(path)? == wanted)
        })
    }

    /// Waits until it waits for a person at a step, with this weight.
    fn until_paused(&self, step: &str, weight: &str) -> anyhow::Result<()> {
        self.until_status("currentStepIndex", step)?;
        self.until_status("canary.weights.canary.weight", weight)?;
        self.until_status("phase", "Paused")
    }

    /// The share of failed requests at the door: a route that Traefik has taken away answers 404 there, and has
    /// no numbers of its own.
    fn errors(&self) -> String {
        let (failed, all) = match self.plane {
            Plane::Traefik => {
                let requests = "traefik_entrypoint_requests_total";
                let door = r#"entrypoint="web""#;
                (
                    format!(r#"{requests}{{{door},code=~"[45].."}}"#),
                    format!("{requests}{{{door}}}"),
                )
            }
            Plane::Istio => {
                // A listener's address is a part of its numbers' names.
                let requests = r#"__name__=~"envoy_http_.+_downstream_rq_xx""#;
                let door = r#"envoy_http_conn_manager_prefix!="admin""#;
                (
                    format!(r#"{{{requests},{door},envoy_response_code_class=~"[45]"}}"#),
                    format!("{{{requests},{door}}}"),
                )
            }
        };
        format!("(sum(rate({failed}[4s])) or vector(0)) / sum(rate({all}[4s]))")
    }

    /// The route with everything at the old side, and how the Rollout names it.
    fn front(&self) -> (String, &'static str) {
        let host = &self.door.host;
        match self.plane {
            Plane::Traefik => {
                let services = "{name: api-stable, port: 80, weight: 100}, {name: api-canary, port: 80, weight: 0}";
                (
                    traefik_front(host, services),
                    "traefik: {weightedTraefikServiceName: api}",
                )
            }
            Plane::Istio => {
                let gateways: Vec<String> = self.istio.iter().flat_map(Istio::gateways).collect();
                let to = |host: &str, weight: u32| {
                    format!(
                        "{{destination: {{host: {host}, port: {{number: 80}}}}, weight: {weight}}}"
                    )
                };
                let destinations = [to("api-stable", 100), to("api-canary", 0)].join(", ");
                (
                    istio_front(host, &gateways, &destinations),
                    "istio: {virtualService: {name: api, routes: [primary]}}",
                )
            }
        }
    }

    fn objects(&self, image: &str, prometheus: &str) -> String {
        let query = self.errors();
        let (front, routing) = self.front();
        format!(
            "apiVersion: argoproj.io/v1alpha1
kind: Rollout
metadata: {{name: api}}
spec:
  replicas: {PODS}
  selector: {{matchLabels: {{app: api}}}}
  strategy:
    canary:
      stableService: api-stable
      canaryService: api-canary
      trafficRouting: {{{routing}}}
      analysis: {{templates: [{{templateName: errors}}], startingStep: {AT_HALF}}}
      steps:
        - setCanaryScale: {{replicas: {PODS}}}
        - setWeight: 50
        - pause: {{}}
        - setWeight: 100
        - pause: {{}}
  template:
{pod}---
apiVersion: argoproj.io/v1alpha1
kind: AnalysisTemplate
metadata: {{name: errors}}
spec:
  metrics:
    - name: errors
      interval: {interval}s
      failureLimit: 0
      successCondition: result[0] < 0.01
      provider:
        prometheus:
          address: {prometheus}
          query: '{query}'
---
apiVersion: v1
kind: Service
metadata: {{name: api-stable}}
spec:
  selector: {{app: api}}
  ports: [{{name: http, port: 80, targetPort: http}}]
---
apiVersion: v1
kind: Service
metadata: {{name: api-canary}}
spec:
  selector: {{app: api}}
  ports: [{{name: http, port: 80, targetPort: http}}]
---
{front}",
            pod = pod(image, START),
            interval = WATCH.interval.as_secs(),
        )
    }
}

fn controller(
    bench: &Bench,
    programs: &Path,
    namespace: &str,
    folder: &Path,
) -> anyhow::Result<Controller> {
    let log = std::fs::File::create(folder.join("controller.log"))?;
    let mut command = Command::new(programs.join("argo-rollouts"));
    command
        .arg("--kubeconfig")
        .arg(bench.sandbox.kubeconfig(User::Admin));
    command.args(["--namespaced", "--namespace", namespace]);
    command.args(["--leader-elect=false", "--loglevel", "warn"]);
    for port in ["--metricsPort", "--healthzPort"] {
        let free = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        command.arg(port).arg(free.port().to_string());
    }
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log);
    let child = command.spawn().context("start Argo's controller")?;
    Ok(Controller(child))
}
