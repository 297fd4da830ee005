//! Manifests that another program renders: a kustomization by `kubectl kustomize`, a chart by Helm.

mod shop;

use std::path::{Path, PathBuf};
use std::process::Command;

use shop::Shop;
use switchyard_harness::{Step, expect_code, expect_said};
use tempfile::TempDir;

/// A folder with these files.
fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, text) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(path, text).expect("written");
    }
    folder
}

/// A step that finds this program, and the system's, but nothing else that somebody installed.
fn step_with(shop: &Shop, program: &Path) -> Step {
    let step = shop.step("apply");
    let tools = step.folder().join("tools");
    std::fs::create_dir(&tools).expect("made");
    let name = program.file_name().expect("a name");
    std::os::unix::fs::symlink(program, tools.join(name)).expect("linked");
    step.variable("PATH", format!("{}:/usr/bin:/bin", tools.display()))
}

/// The Helm that the project pins; `scripts/test` has built it before.
fn helm() -> PathBuf {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/tools");
    let output = Command::new(tools).arg("helm").output();
    let output = output.expect("scripts/tools runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let folder = String::from_utf8(output.stdout).expect("a path");
    Path::new(folder.trim()).join("helm")
}

#[tokio::test]
async fn a_kustomization_is_rendered_and_applied() {
    let shop = Shop::open("kustomization").await;
    let web = shop.web("v1.0.0");
    let kustomization = "resources: [web.yaml]\nnamePrefix: eu-\n";
    let files = folder(&[("web.yaml", &web), ("kustomization.yaml", kustomization)]);
    let apply = |files: &TempDir| {
        let folder = files.path().display().to_string();
        step_with(&shop, &shop.sandbox.kubectl())
            .input("kustomization", folder)
            .run()
    };
    let ended = apply(&files);
    expect_code(&ended, 0);
    expect_said(&ended, &["rendering: kubectl kustomize"]);
    assert_eq!(shop.names("deployment"), ["eu-web"]);
    let broken = apply(&folder(&[(
        "kustomization.yaml",
        "resources: [nowhere.yaml]\n",
    )]));
    expect_code(&broken, 2);
    expect_said(
        &broken,
        &["kustomize", "ended with exit code 1", "nowhere.yaml"],
    );
}

const CHART: &str = "apiVersion: v2\nname: shop\nversion: 1.2.3\nappVersion: v1.0.0\n";
const VALUES: &str = "version: v1.0.0\nreplicas: 2\ngreeting: hello\n";
const WEB: &str = r#"apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ .Release.Name }}-config
  namespace: {{ .Release.Namespace }}
  labels: {helm.sh/chart: "{{ .Chart.Name }}-{{ .Chart.Version }}"}
data: {GREETING: {{ required "a greeting is needed" .Values.greeting | quote }}}
---
apiVersion: v1
kind: Service
metadata: {name: {{ .Release.Name }}}
spec:
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: 8080}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: {{ .Release.Name }}}
spec:
  replicas: {{ .Values.replicas }}
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: web
        image: "REPOSITORY:{{ .Values.version }}"
        envFrom: [{configMapRef: {name: {{ .Release.Name }}-config}}]
        ports: [{containerPort: 8080}]
        readinessProbe: {httpGet: {path: /health, port: 8080}, periodSeconds: 1}
"#;
const HOOK: &str = r#"apiVersion: batch/v1
kind: Job
metadata:
  name: {{ .Release.Name }}-migrate
  annotations: {helm.sh/hook: pre-upgrade}
spec: {template: {spec: {restartPolicy: Never, containers: [{name: migrate, image: nowhere}]}}}
"#;

fn chart(shop: &Shop) -> TempDir {
    let image = shop.sandbox.image("web", "v1.0.0");
    let web = WEB.replace("REPOSITORY", image.trim_end_matches(":v1.0.0"));
    folder(&[
        ("Chart.yaml", CHART),
        ("values.yaml", VALUES),
        ("templates/web.yaml", &web),
        ("templates/migrate.yaml", HOOK),
        ("templates/NOTES.txt", "{{ .Release.Name }} is installed"),
        ("production.yaml", "replicas: 1\ngreeting: welcome\n"),
    ])
}

#[tokio::test]
async fn a_chart_is_rendered_by_helm_with_its_values_and_without_its_hooks() {
    let shop = Shop::open("chart").await;
    let chart = chart(&shop);
    let helm = helm();
    let path = |name: &str| chart.path().join(name).display().to_string();
    let apply = || {
        step_with(&shop, &helm)
            .input("chart", chart.path().display().to_string())
            .input("values", path("production.yaml"))
            .input("release", "web")
    };
    let ended = apply().run();
    expect_code(&ended, 0);
    expect_said(&ended, &["rendering: helm template web"]);
    assert_eq!(ended.outputs["applied"], "3");
    let config = shop.get("configmap/web-config");
    assert_eq!(config["data"]["GREETING"], "welcome");
    assert_eq!(config["metadata"]["labels"]["helm.sh/chart"], "shop-1.2.3");
    assert_eq!(shop.get("deployment/web")["spec"]["replicas"], 1);
    assert!(
        shop.names("job").is_empty(),
        "hooks are Helm's own business"
    );
    shop.wait_for("web");
    assert_eq!(apply().run().outputs["changed"], "0");
}

#[tokio::test]
async fn a_chart_goes_into_a_slot_under_the_name_of_its_application() {
    let shop = Shop::open("chart-slot").await;
    let chart = chart(&shop);
    let image = shop.sandbox.image("web", "v1.0.0");
    let ended = step_with(&shop, &helm())
        .input("chart", chart.path().display().to_string())
        .input("application", "web")
        .input("environment", "production")
        .input("cluster", "sandbox")
        .input("slot", "blue")
        .input("front", "service/web")
        .input("images", image.replace(":v1.0.0", "=:v1.1.0"))
        .run();
    expect_code(&ended, 0);
    assert_eq!(shop.names("deployment"), ["web-blue"]);
    let deployment = shop.get("deployment/web-blue");
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    assert!(
        container["image"]
            .as_str()
            .is_some_and(|image| image.ends_with(":v1.1.0"))
    );
    assert_eq!(
        container["envFrom"][0]["configMapRef"]["name"],
        "web-config-blue"
    );
}

#[tokio::test]
async fn a_chart_that_helm_cannot_render_is_refused_with_helms_reason() {
    let shop = Shop::open("chart-broken").await;
    let chart = chart(&shop);
    let helm = helm();
    let values = |text: &str| {
        let step = step_with(&shop, &helm)
            .input("chart", chart.path().display().to_string())
            .input("release", "web");
        let file = step.file("values.yaml", text);
        step.input("values", file).run()
    };
    let missing = values("greeting: null\n");
    expect_code(&missing, 2);
    expect_said(&missing, &["`helm template web", "a greeting is needed"]);
    let nonsense = values("replicas: [\n");
    expect_code(&nonsense, 2);
    let nowhere = step_with(&shop, &helm)
        .input("chart", "/nowhere/chart")
        .input("release", "web")
        .run();
    expect_code(&nowhere, 2);
    expect_said(&nowhere, &["/nowhere/chart"]);
    let without = shop
        .step("apply")
        .variable("PATH", "/usr/bin:/bin")
        .input("chart", chart.path().display().to_string())
        .input("release", "web")
        .run();
    expect_code(&without, 2);
    expect_said(&without, &["needs `helm`", "not on PATH"]);
    assert!(shop.names("deployment").is_empty());
}
