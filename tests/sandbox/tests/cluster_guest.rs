//! In a cluster that is not ours the sandbox adds a Traefik and what belongs to it, and takes only
//! that away. Runs inside the shared sandbox's network namespace.

mod support;

use support::{Subject, wait_until};
use switchyard_sandbox::Sandbox;

const SANDBOX: &str = env!("CARGO_BIN_EXE_sandbox");
const OURS: &str = "app.kubernetes.io/instance=guest";

/// A manifest with a route to Traefik's own ping.
const ROUTE: &str = r#"{"apiVersion": "traefik.io/v1alpha1", "kind": "IngressRoute",
    "metadata": {"name": "ping"}, "spec": {"entryPoints": ["web"], "routes": [{
    "kind": "Rule", "match": "Host(`guest.test`)",
    "services": [{"kind": "TraefikService", "name": "ping@internal"}]}]}}"#;

fn apply(host: &Subject, manifest: &str) {
    let kubectl = host.variable("SWITCHYARD_SANDBOX_KUBECTL");
    let command = format!("echo '{manifest}' | {kubectl} apply -f -");
    host.inside(&["sh", "-c", &command]);
}

#[test]
fn a_guest_adds_a_front_door_and_removes_only_its_own() {
    let _shared = Sandbox::shared();
    let host = Subject::fresh("guest-host");
    host.succeed(&["up", "--cluster-only"]);
    assert_eq!(host.components().len(), 9, "no Traefik");
    let components = host.components();
    let kubeconfig = host.variable("KUBECONFIG");

    let guest = |words: &[&str]| host.inside(&[&[SANDBOX, "--name", "guest"][..], words].concat());
    guest(&[
        "up",
        "--use-kubeconfig",
        &kubeconfig,
        "--registry",
        "10.10.0.1:5000",
    ]);
    guest(&["status"]);
    assert_eq!(
        host.kubectl(&["get", "clusterroles", "-l", OURS, "-o", "name"])
            .lines()
            .count(),
        3
    );
    apply(&host, ROUTE);
    let load = [
        "--url=http://127.0.0.1:8000/",
        "--host=guest.test",
        "--rate=5",
        "--duration=1s",
    ];
    let ask = [
        &["exec", "--", SANDBOX, "--name", "guest", "load"][..],
        &load,
    ]
    .concat();
    wait_until("the guest's front door serves the route", || {
        host.run(&ask).status.success()
    });
    let variables = guest(&["env"]);
    let state = variables
        .lines()
        .find_map(|line| line.strip_prefix("SWITCHYARD_SANDBOX_STATE="));
    let deployer = format!(
        "--kubeconfig={}/deployer.kubeconfig",
        state.expect("a state")
    );
    let name = "-o=jsonpath={.status.userInfo.username}";
    let name = host.kubectl(&[&deployer, "auth", "whoami", name]);
    assert_eq!(name, "system:serviceaccount:switchyard-sandbox:deployer");

    guest(&["down"]);
    let left = host.kubectl(&[
        "get",
        "clusterroles,clusterrolebindings",
        "-l",
        OURS,
        "-o",
        "name",
    ]);
    assert_eq!(left, "");
    let kinds = host.kubectl(&["get", "crd", "ingressroutes.traefik.io", "-o", "name"]);
    assert!(
        kinds.contains("ingressroutes"),
        "definitions stay: others may use them"
    );
    host.kubectl(&["get", "ingressroute", "ping"]);
    assert_eq!(host.components(), components, "the host is as it was");
}

#[test]
fn a_guest_refuses_a_cluster_whose_front_door_is_somebody_elses() {
    let shared = Sandbox::shared();
    let kubeconfig = shared.kubeconfig(switchyard_sandbox::User::Admin);
    let guest = Subject::fresh("guest-refused");
    let refused = guest.run(&["up", "--use-kubeconfig", &kubeconfig.to_string_lossy()]);
    assert_eq!(refused.status.code(), Some(3));
    let message = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        message.contains("belongs to sandbox `switchyard`"),
        "{message}"
    );
}
