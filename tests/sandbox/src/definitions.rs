//! The objects that the sandbox adds to a cluster: definitions of Traefik's and the Gateway API's
//! kinds, Traefik's roles, the Gateway and the ingress class. Applied with kubectl, as a user
//! would.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::{Value, json};

use crate::{
    error::{Context as _, Result, SandboxError},
    instance::{FRONT_DOOR_PORT, SANDBOX_NAMESPACE},
};

/// The file that the README tells users to apply: the least-privilege role of a deployment.
pub(crate) const DEPLOYER_ROLE: &str = include_str!("../../../docs/rbac/deployer.yaml");

/// kubectl with the kubeconfig of one user.
#[derive(Debug, Clone)]
pub(crate) struct Kubectl {
    pub(crate) program: PathBuf,
    pub(crate) kubeconfig: PathBuf,
}

impl Kubectl {
    /// Runs kubectl with an input and returns what it printed.
    pub(crate) fn run(&self, arguments: &[&str], input: &str) -> Result<String> {
        let words = arguments.join(" ");
        let mut child = Command::new(&self.program)
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context(|| format!("cannot run {}", self.program.display()))?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin
                .write_all(input.as_bytes())
                .context(|| "cannot feed kubectl")?;
        }
        let output = child
            .wait_with_output()
            .context(|| "cannot wait for kubectl")?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(SandboxError::new(format!(
            "`kubectl {words}` failed: {message}"
        )))
    }

    fn apply(&self, arguments: &[&str], input: &str) -> Result<()> {
        let mut words = vec!["apply", "--server-side", "--force-conflicts"];
        words.extend(["--field-manager", "switchyard-sandbox"]);
        words.extend(arguments);
        self.run(&words, input).map(drop)
    }
}

/// Applies the definitions found below `programs` and Traefik's roles.
pub(crate) fn apply_definitions(kubectl: &Kubectl, programs: &Path) -> Result<()> {
    let folder = programs.join("definitions");
    let folder = folder.to_string_lossy();
    let crds = format!("{folder}/kinds");
    let roles = format!("{folder}/roles");
    kubectl.apply(&["-f", &crds, "-f", &roles], "")?;
    let bindings: Vec<Value> = traefik_roles(Path::new(&roles))?
        .iter()
        .map(bind_traefik)
        .collect();
    let list = json!({"apiVersion": "v1", "kind": "List", "items": bindings});
    kubectl.apply(&["-f", "-"], &list.to_string())
}

/// Waits until the new kinds are served and creates the objects of these kinds.
pub(crate) fn apply_front_door(kubectl: &Kubectl) -> Result<()> {
    let established = ["wait", "--for=condition=Established", "--timeout=30s"];
    let kinds = [
        "crd/gatewayclasses.gateway.networking.k8s.io",
        "crd/gateways.gateway.networking.k8s.io",
        "crd/httproutes.gateway.networking.k8s.io",
        "crd/traefikservices.traefik.io",
        "crd/ingressroutes.traefik.io",
    ];
    kubectl.run(&[&established[..], &kinds[..]].concat(), "")?;
    let listener = json!({
        "name": "web",
        "protocol": "HTTP",
        // Traefik finds its entry point by this number.
        "port": FRONT_DOOR_PORT,
        "allowedRoutes": {"namespaces": {"from": "All"}},
    });
    let objects = json!([
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SANDBOX_NAMESPACE}},
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "IngressClass",
            "metadata": {"name": "nginx"},
            "spec": {"controller": "k8s.io/ingress-nginx"},
        },
        {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "GatewayClass",
            "metadata": {"name": "traefik"},
            "spec": {"controllerName": "traefik.io/gateway-controller"},
        },
        {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "Gateway",
            "metadata": {"name": "front-door", "namespace": SANDBOX_NAMESPACE},
            "spec": {"gatewayClassName": "traefik", "listeners": [listener]},
        },
    ]);
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
    kubectl.apply(&["-f", "-"], &list.to_string())
}

/// The names of the cluster roles that Traefik's own documents define.
fn traefik_roles(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    let entries = std::fs::read_dir(folder);
    for entry in entries
        .context(|| format!("cannot read {}", folder.display()))?
        .flatten()
    {
        for document in documents(&crate::error::read(&entry.path())?)? {
            if document["kind"] == "ClusterRole"
                && let Some(name) = document["metadata"]["name"].as_str()
            {
                names.push(name.to_owned());
            }
        }
    }
    Ok(names)
}

fn bind_traefik(role: &String) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": format!("switchyard-sandbox-{role}")},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [
            {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "traefik"},
        ],
    })
}

/// The documents of a YAML file.
pub(crate) fn documents(text: &str) -> Result<Vec<Value>> {
    serde_saphyr::from_multiple(text).context(|| "not YAML")
}
