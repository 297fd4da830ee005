//! Nonsense in every input: refused before anything is touched, naming the input, what was given and
//! what is allowed. No cluster is there to touch.

use std::fmt::Write as _;

use switchyard_harness::Step;

const KUBECONFIG: &str = "apiVersion: v1\nkind: Config\ncurrent-context: main\nclusters: [{name: a, cluster: {server: 'https://127.0.0.1:1'}}]\nusers: [{name: u, user: {token: t}}]\ncontexts: [{name: main, context: {cluster: a, user: u, namespace: shop}}]\n";

const WEB: &str = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec: {template: {spec: {containers: [{name: web, image: 'web:v1'}]}}}\n";

fn step(command: &str) -> Step {
    let step = Step::new(env!("CARGO_BIN_EXE_rollout")).input("command", command);
    let kubeconfig = step.file("kubeconfig", KUBECONFIG);
    step.input("kubeconfig", kubeconfig)
}

/// A step of apply with one good manifest.
fn apply() -> Step {
    let step = step("apply");
    let file = step.file("web.yaml", WEB);
    step.input("files", file)
}

fn roll_without_record() -> Step {
    let step = step("roll");
    let file = step.file("web.yaml", WEB);
    step.input("files", file)
}

fn roll() -> Step {
    roll_without_record().input("application", "web")
}

fn refusal(step: Step) -> String {
    let folder = step.folder().display().to_string();
    let ended = step.run();
    assert_eq!(ended.code, Some(2), "{}{}", ended.stdout, ended.stderr);
    ended
        .stdout
        .replace(&folder, "FOLDER")
        .replace("%0A", "\n  ")
}

#[test]
fn every_input_refuses_nonsense() {
    let steps: Vec<(&str, Step)> = vec![
        ("command", step("aply")),
        ("no manifests", step("apply")),
        ("files", step("apply").input("files", "nowhere/*.yaml")),
        ("files and chart", apply().input("chart", "web")),
        (
            "kustomization",
            step("apply").input("kustomization", "nowhere"),
        ),
        ("values without chart", apply().input("values", "a.yaml")),
        ("images", apply().input("images", "web:v1=web:v2")),
        ("images, unknown name", apply().input("images", "wep=:v2")),
        ("slot", apply().input("slot", "purple")),
        ("front", apply().input("front", "web")),
        (
            "front that is not there",
            apply().input("slot", "blue").input("front", "service/web"),
        ),
        (
            "after-switch in place",
            apply().input("after-switch", "deployment/web"),
        ),
        ("stage", apply().input("stage", "never")),
        ("stage in place", apply().input("stage", "after-switch")),
        ("worker in a slot", apply().input("slot", "auto")),
        ("force-conflicts", apply().input("force-conflicts", "yes")),
        ("plan", apply().input("plan", "1")),
        ("timeout", apply().input("timeout", "5")),
        ("unknown input", apply().input("imagse", "web=:v1")),
        ("input of another command", apply().input("replicas", "3")),
        ("kubeconfig", apply().input("kubeconfig", "nowhere")),
        ("context", apply().input("context", "nowhere")),
        ("scale: nothing", step("scale").input("replicas", "1")),
        (
            "scale: side",
            step("scale").input("side", "left").input("replicas", "1"),
        ),
        ("scale: no replicas", step("scale").input("side", "old")),
        (
            "scale: replicas",
            step("scale").input("side", "old").input("replicas", "-1"),
        ),
        (
            "scale: both",
            step("scale")
                .input("side", "old")
                .input("workloads", "deployment/web")
                .input("replicas", "1"),
        ),
        ("restore: nothing", step("restore")),
        (
            "restore: digest",
            step("restore")
                .input("backup-file", "a")
                .input("digest", "md5:1"),
        ),
        (
            "restore: revision",
            step("restore")
                .input("workloads", "deployment/web")
                .input("to-revision", "last"),
        ),
        ("roll: no record", roll_without_record()),
        ("roll: surge", roll().input("max-surge", "101%")),
        ("roll: unavailable", roll().input("max-unavailable", "-1")),
        ("roll: sleep", roll().input("pre-stop-sleep", "1500ms")),
        ("roll: no sleep", roll().input("pre-stop-sleep", "0")),
        (
            "roll: sleep without unit",
            roll().input("pre-stop-sleep", "5"),
        ),
        ("adopt: nothing", step("adopt")),
        (
            "adopt: kind",
            step("adopt").input("workloads", "statefulset/web"),
        ),
        ("remember: nothing", step("remember")),
        (
            "remember: notices",
            step("remember").input("notices", "slack"),
        ),
        (
            "finish: budgets",
            step("finish").input("budgets", "deploy=soon"),
        ),
    ];
    let mut text = String::new();
    for (name, step) in steps {
        let _ = writeln!(text, "{name}:\n  {}", refusal(step).trim_end());
    }
    insta::assert_snapshot!(text);
}

#[test]
fn manifests_that_are_wrong_are_refused_with_their_place() {
    let manifest = |text: &str| {
        let step = step("apply");
        let file = step.file("web.yaml", text);
        step.input("files", file)
    };
    let steps = [
        ("no YAML", manifest("a: 1\n b: 2\n")),
        ("template", manifest("image: {{ .Values.image }}\n")),
        ("no object", manifest("kind: Service\n")),
        ("empty", manifest("# nothing\n")),
        ("twice", manifest(&format!("{WEB}---\n{WEB}"))),
        (
            "other namespace",
            manifest(&WEB.replace("{name: web}", "{name: web, namespace: other}")),
        ),
        (
            "other namespace declared",
            manifest("apiVersion: v1\nkind: Namespace\nmetadata: {name: other}\n"),
        ),
    ];
    let mut text = String::new();
    for (name, step) in steps {
        let _ = writeln!(text, "{name}:\n  {}", refusal(step).trim_end());
    }
    insta::assert_snapshot!(text);
}

#[test]
fn programs_that_render_are_asked_for_when_they_are_missing() {
    let step_without = |input: &str| {
        let step = step("apply");
        let folder = step.folder().display().to_string();
        step.variable("PATH", "/nowhere").input(input, folder)
    };
    let said = refusal(step_without("kustomization"));
    assert!(
        said.contains("needs `kustomize` or `kubectl`, and neither is on PATH"),
        "{said}"
    );
    let said = refusal(step_without("chart"));
    assert!(
        said.contains("needs `helm`, and it is not on PATH"),
        "{said}"
    );
}
