//! What the tests on a real cluster share: demo applications as manifests, and the step under test.

#![allow(dead_code, reason = "each test binary uses its own part")]

use std::io::{BufRead as _, BufReader};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use switchyard_harness::{Ended, Started, Step};
use switchyard_sandbox::{HttpClient, Sandbox, TestNamespace, User};

/// A demo application to apply.
pub(crate) struct App {
    name: String,
    image: String,
    replicas: u32,
    environment: Vec<(String, String)>,
    patch: Vec<(String, Value)>,
}

impl App {
    /// The `api` application, one replica of `v1.0.0`.
    pub(crate) fn new(sandbox: &Sandbox, name: &str) -> Self {
        Self {
            name: name.to_owned(),
            image: sandbox.image("api", "v1.0.0"),
            replicas: 1,
            environment: Vec::new(),
            patch: Vec::new(),
        }
    }

    pub(crate) fn image(mut self, image: impl Into<String>) -> Self {
        self.image = image.into();
        self
    }

    pub(crate) fn replicas(mut self, replicas: u32) -> Self {
        self.replicas = replicas;
        self
    }

    pub(crate) fn variable(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Replaces what stands at a JSON pointer of the Deployment.
    pub(crate) fn with(mut self, pointer: &str, value: Value) -> Self {
        self.patch.push((pointer.to_owned(), value));
        self
    }

    /// A Deployment as JSON.
    pub(crate) fn deployment(&self) -> Value {
        let environment = self.environment.iter();
        let environment: Vec<_> = environment
            .map(|(name, value)| json!({"name": name, "value": value}))
            .collect();
        let mut object = json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": self.name},
            "spec": {
                "replicas": self.replicas,
                "selector": {"matchLabels": {"app": self.name}},
                "template": {
                    "metadata": {"labels": {"app": self.name}},
                    "spec": {
                        "terminationGracePeriodSeconds": 10,
                        "containers": [{
                            "name": "app", "image": self.image, "env": environment,
                            "ports": [
                                {"name": "http", "containerPort": 8080},
                                {"name": "control", "containerPort": 8081}
                            ],
                            "readinessProbe": {
                                "httpGet": {"path": "/api/health/ready", "port": "http"},
                                "periodSeconds": 1, "failureThreshold": 1
                            }
                        }]
                    }
                }
            }
        });
        for (pointer, value) in &self.patch {
            set(&mut object, pointer, value.clone());
        }
        object
    }

    /// A Service in front of it, port 80.
    pub(crate) fn service(&self) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": self.name},
            "spec": {
                "selector": {"app": self.name},
                "ports": [
                    {"name": "http", "port": 80, "targetPort": "http"},
                    {"name": "control", "port": 81, "targetPort": "control"}
                ]
            }
        })
    }

    /// Applies Deployment and Service.
    pub(crate) fn apply(&self, namespace: &TestNamespace) {
        apply(namespace, &[self.deployment(), self.service()]);
    }
}

/// Sets a field, making the objects on the way to it.
fn set(object: &mut Value, pointer: &str, value: Value) {
    let mut current = object;
    for step in pointer.trim_start_matches('/').split('/') {
        current = match step.parse::<usize>() {
            Ok(index) if current.is_array() => &mut current[index],
            _ => &mut current[step],
        };
    }
    *current = value;
}

pub(crate) fn apply(namespace: &TestNamespace, objects: &[Value]) {
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
    let applied = namespace.apply(&list.to_string());
    applied.unwrap_or_else(|error| panic!("{}", error.chain()));
}

/// The step under test, as the deployer in this namespace.
pub(crate) fn step(sandbox: &Sandbox, namespace: &TestNamespace) -> Step {
    Step::new(env!("CARGO_BIN_EXE_health-wait"))
        .input(
            "kubeconfig",
            sandbox.kubeconfig(User::Deployer).display().to_string(),
        )
        .input("namespace", namespace.name())
}

/// The header in which the demo applications say their version.
pub(crate) const VERSION_HEADER: &str = "x-app-version";

/// Runs a step away from the runtime's own threads.
pub(crate) async fn run(step: Step) -> Ended {
    tokio::task::spawn_blocking(|| step.run()).await.unwrap()
}

/// Waits for the end of a started step away from the runtime's own threads.
pub(crate) async fn finish(started: Started) -> Ended {
    tokio::task::spawn_blocking(|| started.finish())
        .await
        .unwrap()
}

/// Waits until `condition` holds; a limit ends a test that would wait for ever.
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < deadline, "{what} never happened");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Collects what a step says while it runs.
pub(crate) fn listen(started: &mut Started) -> Arc<Mutex<String>> {
    let said = Arc::new(Mutex::new(String::new()));
    let heard = Arc::clone(&said);
    let stream = started.child().stdout.take().unwrap();
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            *heard.lock().unwrap() += &(line + "\n");
        }
    });
    said
}

/// Makes every pod ready, past the Service, which has no endpoint before. A pod that runs may not listen yet.
pub(crate) async fn make_ready(namespace: &TestNamespace) {
    let ips = "jsonpath={.items[*].status.podIP}";
    let ips = namespace.kubectl(&["get", "pods", "-o", ips]).unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    for ip in ips.split_whitespace() {
        let url = format!("http://{ip}:8081/control");
        let change = json!({"ready": true});
        let answer = loop {
            match HttpClient::plain().post_json(&url, &change).await {
                Ok(answer) => break answer,
                Err(error) => assert!(Instant::now() < deadline, "{url}: {error}"),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        assert!(answer.status.is_success(), "{}", answer.text());
    }
}

/// Waits until so many pods run; they are not ready before somebody makes them so.
pub(crate) async fn pods_run(namespace: &TestNamespace, count: usize) {
    let phases = ["get", "pods", "-o", "jsonpath={.items[*].status.phase}"];
    until("running pods", || {
        let phases = namespace.kubectl(&phases).unwrap();
        phases.matches("Running").count() == count
    })
    .await;
}
