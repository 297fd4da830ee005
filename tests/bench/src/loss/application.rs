//! The application that is switched: v1.0.0 live on one slot, v1.1.0 ready on the other.

use std::fmt;
use std::process::Command;

use anyhow::Context as _;
use switchyard_sandbox::{TestNamespace, User};

use super::Door;
use crate::{Bench, measure, of_version};

/// What moves the traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Provider {
    Service,
    Traefik,
    Gateway,
}

impl Provider {
    pub(crate) const ALL: [Self; 3] = [Self::Service, Self::Traefik, Self::Gateway];
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Service => "service",
            Self::Traefik => "traefik",
            Self::Gateway => "gateway",
        })
    }
}

/// An application in a namespace of its own, deployed by the programs under test.
pub(crate) struct Application {
    provider: Provider,
    namespace: TestNamespace,
    host: String,
    pub(crate) kubectl: std::path::PathBuf,
    pub(crate) kubeconfig: std::path::PathBuf,
}

impl Application {
    pub(crate) async fn set_up(bench: &Bench, provider: Provider) -> anyhow::Result<Self> {
        let namespace = bench.sandbox.namespace("bench-loss").await;
        let host = format!("{}.example.com", namespace.name());
        let application = Self {
            provider,
            namespace,
            host,
            kubectl: bench.sandbox.kubectl(),
            kubeconfig: bench.sandbox.kubeconfig(User::Deployer),
        };
        application.deploy(bench, "v1.0.0")?;
        application.finish(bench)?;
        application.deploy(bench, "v1.1.0")?;
        Ok(application)
    }

    pub(crate) fn namespace(&self) -> &str {
        self.namespace.name()
    }

    /// Where users come in.
    pub(crate) fn door(&self, bench: &Bench) -> Door {
        Door {
            url: bench.sandbox.front_door().to_owned(),
            host: self.host.clone(),
        }
    }

    pub(crate) fn provider(&self) -> Provider {
        self.provider
    }

    /// The front object as `traffic-switch` names it.
    pub(crate) fn target(&self) -> &'static str {
        match self.provider {
            Provider::Service => "service/api",
            Provider::Traefik => "traefik/api",
            Provider::Gateway => "gateway/api",
        }
    }

    /// One of our programs, as a step of a run whose number is `run`.
    pub(crate) fn command(&self, bench: &Bench, program: &str, command: &str) -> Command {
        bench.program(program, command, (self.namespace(), &self.kubeconfig))
    }

    /// A step of the deployment of `version`: its run's number is the version's.
    pub(crate) fn step(
        &self,
        bench: &Bench,
        program: &str,
        command: &str,
        version: &str,
    ) -> Command {
        of_version(self.command(bench, program, command), version)
    }

    fn deploy(&self, bench: &Bench, version: &str) -> anyhow::Result<()> {
        let folder = std::env::temp_dir().join(self.namespace());
        std::fs::create_dir_all(&folder).context("make a folder for the manifests")?;
        let file = folder.join("api.yaml");
        std::fs::write(&file, self.manifests(&bench.sandbox.image("api", version)))?;
        let mut apply = self.step(bench, "rollout", "apply", version);
        apply.args(["--slot", "auto", "--version", version]);
        apply.arg("--files").arg(&file);
        if self.provider == Provider::Service {
            apply.args(["--front", "service/api"]);
        }
        measure::run(&mut apply)?;
        let mut wait = self.step(bench, "health-wait", "rollout", version);
        let slot = if version == "v1.0.0" { "blue" } else { "green" };
        wait.args(["--start-delay", "0", "--timeout", "2m", "--selector"]);
        wait.arg(format!(
            "switchyard.dev/application=bench,switchyard.dev/slot={slot}"
        ));
        measure::run(&mut wait)?;
        Ok(())
    }

    fn finish(&self, bench: &Bench) -> anyhow::Result<()> {
        let mut switch = self.step(bench, "traffic-switch", "switch", "v1.0.0");
        switch.args(["--targets", self.target(), "--longest-request", "1s"]);
        super::ours::proof(bench, &mut switch);
        measure::run(&mut switch)?;
        measure::run(&mut self.step(bench, "rollout", "finish", "v1.0.0"))?;
        Ok(())
    }

    fn manifests(&self, image: &str) -> String {
        let host = &self.host;
        let route = match self.provider {
            Provider::Service => format!(
                "---
apiVersion: traefik.io/v1alpha1
kind: IngressRoute
metadata: {{name: api}}
spec:
  routes: [{{kind: Rule, match: Host(`{host}`), services: [{{name: api, port: 80}}]}}]
"
            ),
            Provider::Traefik => format!(
                "---
apiVersion: traefik.io/v1alpha1
kind: TraefikService
metadata: {{name: api}}
spec: {{weighted: {{services: [{{name: api, port: 80, weight: 1}}]}}}}
---
apiVersion: traefik.io/v1alpha1
kind: IngressRoute
metadata: {{name: api}}
spec:
  routes: [{{kind: Rule, match: Host(`{host}`), services: [{{kind: TraefikService, name: api}}]}}]
"
            ),
            Provider::Gateway => format!(
                "---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: api}}
spec:
  parentRefs: [{{name: front-door, namespace: switchyard-sandbox}}]
  hostnames: [{host}]
  rules: [{{backendRefs: [{{name: api, port: 80, weight: 1}}]}}]
"
            ),
        };
        format!(
            "apiVersion: apps/v1
kind: Deployment
metadata: {{name: api, labels: {{app: api}}}}
spec:
  replicas: 3
  selector: {{matchLabels: {{app: api}}}}
  template:
    metadata: {{labels: {{app: api}}}}
    spec:
      containers:
        - name: api
          image: {image}
          ports: [{{name: http, containerPort: 8080}}]
          readinessProbe: {{httpGet: {{path: /api/health/ready, port: http}}, periodSeconds: 1}}
---
apiVersion: v1
kind: Service
metadata: {{name: api}}
spec:
  selector: {{app: api}}
  ports: [{{name: http, port: 80, targetPort: http}}]
{route}"
        )
    }
}
