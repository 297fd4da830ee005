//! The objects that the sandbox adds to a cluster: definitions of Traefik's and the Gateway API's
//! kinds, Traefik's roles, the Gateway and the ingress class. Applied with kubectl, as a user
//! would.

use std::{collections::BTreeSet, path::Path};

use serde_json::{Value, json};

use crate::{
    error::{Context as _, Result, SandboxError, read},
    instance::{FRONT_DOOR_PORT, InstanceName, SANDBOX_NAMESPACE},
    kubectl::Kubectl,
};

/// The file that the README tells users to apply: the least-privilege role of a deployment.
pub(crate) const DEPLOYER_ROLE: &str = include_str!("../../../docs/rbac/deployer.yaml");

/// The labels of every object that a sandbox adds to a cluster.
const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "switchyard-sandbox");
const INSTANCE: &str = "app.kubernetes.io/instance";
const CONTROLLER: &str = "traefik.io/gateway-controller";

/// Selects what this sandbox added.
pub(crate) fn selector_of(sandbox: &InstanceName) -> String {
    format!("{}={},{INSTANCE}={sandbox}", MANAGED_BY.0, MANAGED_BY.1)
}

/// Who a role is bound to.
pub(crate) fn subject(name: &str, identity: Identities) -> Value {
    match identity {
        Identities::Users => {
            json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name})
        }
        Identities::ServiceAccounts => {
            json!({"kind": "ServiceAccount", "namespace": SANDBOX_NAMESPACE, "name": name})
        }
    }
}

/// What the sandbox's users are to the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Identities {
    /// Entries of the token file of our own API server.
    Users,
    /// Service accounts, in a cluster that is not ours.
    ServiceAccounts,
}

/// Creates the kinds that the cluster lacks. Those that it has stay as they are: they may be
/// somebody else's.
pub(crate) fn add_kinds(kubectl: &Kubectl, programs: &Path) -> Result<()> {
    let listed = kubectl.run(&["get", "crd", "-o", "name"], "")?;
    let known: BTreeSet<&str> = listed
        .lines()
        .filter_map(|line| line.split('/').nth(1))
        .collect();
    let mut missing = documents_of(&programs.join("definitions/kinds"))?;
    missing.retain(|kind| !known.contains(name_of(kind)));
    if missing.is_empty() {
        return Ok(());
    }
    kubectl.apply(&["-f", "-"], &list(missing))?;
    let established = ["wait", "--for=condition=Established", "--timeout=30s"];
    let kinds = [
        "crd/gatewayclasses.gateway.networking.k8s.io",
        "crd/gateways.gateway.networking.k8s.io",
        "crd/httproutes.gateway.networking.k8s.io",
        "crd/traefikservices.traefik.io",
        "crd/ingressroutes.traefik.io",
    ];
    kubectl
        .run(&[&established[..], &kinds[..]].concat(), "")
        .map(drop)
}

/// Creates Traefik's roles as its own documents state them, the Gateway and the ingress class.
pub(crate) fn add_front_door(
    kubectl: &Kubectl,
    programs: &Path,
    sandbox: &InstanceName,
    identities: Identities,
) -> Result<()> {
    refuse_another_controller(kubectl, sandbox)?;
    let mut objects = front_door();
    for mut role in documents_of(&programs.join("definitions/roles"))? {
        if role["kind"] != "ClusterRole" {
            continue;
        }
        let name = format!("switchyard-sandbox-{}", name_of(&role));
        role["metadata"]["name"] = json!(name);
        objects.push(role);
        objects.push(json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": name},
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name,
            },
            "subjects": [subject("traefik", identities)],
        }));
    }
    for object in &mut objects {
        object["metadata"]["labels"] = json!({MANAGED_BY.0: MANAGED_BY.1, INSTANCE: sandbox});
    }
    kubectl.apply(&["-f", "-"], &list(objects))
}

fn front_door() -> Vec<Value> {
    let listener = json!({
        "name": "web",
        "protocol": "HTTP",
        // Traefik finds its entry point by this number.
        "port": FRONT_DOOR_PORT,
        "allowedRoutes": {"namespaces": {"from": "All"}},
    });
    vec![
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SANDBOX_NAMESPACE}}),
        json!({
            "apiVersion": "networking.k8s.io/v1",
            "kind": "IngressClass",
            "metadata": {"name": "nginx"},
            "spec": {"controller": "k8s.io/ingress-nginx"},
        }),
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "GatewayClass",
            "metadata": {"name": "traefik"},
            "spec": {"controllerName": CONTROLLER},
        }),
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "Gateway",
            "metadata": {"name": "front-door", "namespace": SANDBOX_NAMESPACE},
            "spec": {"gatewayClassName": "traefik", "listeners": [listener]},
        }),
    ]
}

/// Two Traefiks would both claim our Gateway, and an ingress controller our ingress class.
fn refuse_another_controller(kubectl: &Kubectl, sandbox: &InstanceName) -> Result<()> {
    let classes = kubectl.run(&["get", "gatewayclasses,ingressclasses", "-o", "json"], "")?;
    let classes: Value = serde_json::from_str(&classes).context(|| "kubectl printed no JSON")?;
    for class in classes["items"].as_array().into_iter().flatten() {
        let labels = &class["metadata"]["labels"];
        let is_a_sandboxes = labels[MANAGED_BY.0] == MANAGED_BY.1;
        let owner = labels[INSTANCE].as_str().filter(|_| is_a_sandboxes);
        let is_taken = class["spec"]["controllerName"] == CONTROLLER || name_of(class) == "nginx";
        if !is_taken || owner == Some(&sandbox.to_string()) {
            continue;
        }
        let owner = owner.map_or("somebody else".to_owned(), |name| {
            format!("sandbox `{name}`")
        });
        let kind = class["kind"].as_str().unwrap_or_default();
        let name = name_of(class);
        return Err(
            SandboxError::new(format!("{kind} `{name}` belongs to {owner}")).with_hint(
                "the sandbox's Traefik needs a cluster without Traefik and ingress-nginx",
            ),
        );
    }
    Ok(())
}

fn name_of(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

fn list(objects: Vec<Value>) -> String {
    json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string()
}

fn documents_of(folder: &Path) -> Result<Vec<Value>> {
    let mut found = Vec::new();
    let entries = std::fs::read_dir(folder);
    for entry in entries
        .context(|| format!("cannot read {}", folder.display()))?
        .flatten()
    {
        found.extend(documents(&read(&entry.path())?)?);
    }
    Ok(found)
}

/// The documents of a YAML file.
pub(crate) fn documents(text: &str) -> Result<Vec<Value>> {
    serde_saphyr::from_multiple(text).context(|| "not YAML")
}
