//! A cluster that is not ours: adds a Traefik process, the kinds that are missing, a Gateway, and
//! service accounts for the users of the sandbox. Starts and ends nothing else.

use std::path::{Path, PathBuf};

use kube::config::Kubeconfig;
use serde_json::json;

use crate::{
    authority::{Credentials, kubeconfig, token_of},
    definitions::{Identities, add_front_door, add_kinds, selector_of},
    description::{Description, lock},
    down::remove_everything,
    error::{Context as _, Result, SandboxError, create_dir, write},
    instance::{FRONT_DOOR_PORT, Layout, SANDBOX_NAMESPACE, User},
    kubectl::Kubectl,
    process,
    readiness::wait_for_ping,
    steps::Steps,
    traefik::{API_PORT, METRICS_PORT, Settings},
};

/// Where this Traefik listens.
const ADDRESS: &str = "127.0.0.1";
/// How long the users' tokens last.
const TOKEN_DURATION: &str = "24h";

/// What to work with.
#[derive(Debug, Clone)]
pub(crate) struct ForeignOptions {
    pub(crate) layout: Layout,
    pub(crate) programs: PathBuf,
    /// The program `sandbox`.
    pub(crate) sandbox: PathBuf,
    /// The kubeconfig of somebody who may create cluster roles.
    pub(crate) kubeconfig: PathBuf,
    /// The first part of image references, where the cluster finds the demo applications.
    pub(crate) registry: Option<String>,
}

/// Adds the sandbox's parts to the cluster. Traefik runs in this process's network: from there
/// the addresses of pods have to be reachable.
pub(crate) fn join(options: &ForeignOptions) -> Result<()> {
    let steps = Steps::begin();
    let layout = &options.layout;
    let _lock = lock(layout, steps)?;
    if Description::load(layout).is_ok_and(|found| found.network_namespace.is_some()) {
        return Err(SandboxError::new(format!(
            "sandbox `{}` runs a cluster of its own",
            layout.name
        ))
        .with_hint("give another --name, or run `scripts/cluster down` first"));
    }
    remove_everything(layout)?;
    create_dir(&layout.state.join("log"))?;
    create_dir(&layout.pki())?;
    let (server, ca) = copy_kubeconfig(options)?;
    let kubectl = Kubectl {
        program: options.programs.join("kubectl"),
        kubeconfig: layout.kubeconfig(User::Admin),
    };
    kubectl.run(&["get", "--raw", "/readyz"], "")?;
    steps.done(format!("{server} is ready"));
    add_kinds(&kubectl, &options.programs)?;
    add_front_door(
        &kubectl,
        &options.programs,
        &layout.name,
        Identities::ServiceAccounts,
    )?;
    add_users(layout, &kubectl, &server, &ca)?;
    steps.done("definitions, roles, Gateway, service accounts");
    let settings = Settings {
        name: "traefik".to_owned(),
        address: ADDRESS.to_owned(),
        cluster: server.clone(),
        token: token_of(layout, "traefik"),
        ca: (!ca.is_empty()).then(|| cluster_ca(layout)),
    };
    process::start(layout, &settings.launch(layout, &options.programs)?)?;
    let api = format!("http://{ADDRESS}:{API_PORT}");
    let runtime = tokio::runtime::Runtime::new().context(|| "cannot start a runtime")?;
    runtime.block_on(wait_for_ping(layout, &api))?;
    Description {
        name: layout.name.clone(),
        programs: options.programs.clone(),
        sandbox: options.sandbox.clone(),
        apps: None,
        network_namespace: None,
        api_server: server,
        kubeconfig: layout.kubeconfig(User::Admin),
        ca: cluster_ca(layout),
        front_door: format!("http://{ADDRESS}:{FRONT_DOOR_PORT}"),
        traefik_api: api,
        traefik_metrics: format!("http://{ADDRESS}:{METRICS_PORT}/metrics"),
        registry: options.registry.clone(),
    }
    .save(layout)?;
    steps.done("up: Traefik serves a cluster that is not ours");
    Ok(())
}

fn cluster_ca(layout: &Layout) -> PathBuf {
    layout.pki().join("cluster-ca.crt")
}

/// Keeps the current context only, with all files inlined; returns the server and its authority.
fn copy_kubeconfig(options: &ForeignOptions) -> Result<(String, String)> {
    let layout = &options.layout;
    let given = Kubectl {
        program: options.programs.join("kubectl"),
        kubeconfig: options.kubeconfig.clone(),
    };
    let flat = given.run(&["config", "view", "--raw", "--flatten", "--minify"], "")?;
    write(&layout.kubeconfig(User::Admin), &flat)?;
    let shown = options.kubeconfig.display();
    let parsed = Kubeconfig::from_yaml(&flat).context(|| format!("cannot use {shown}"))?;
    let cluster = parsed
        .clusters
        .first()
        .and_then(|named| named.cluster.as_ref());
    let server = cluster.and_then(|cluster| cluster.server.clone());
    let server = server.ok_or_else(|| SandboxError::new(format!("{shown} names no server")))?;
    let data = cluster.and_then(|cluster| cluster.certificate_authority_data.clone());
    let ca = match data {
        Some(data) => decode(&data)?,
        None => String::new(),
    };
    write(&cluster_ca(layout), &ca)?;
    Ok((server, ca))
}

fn decode(data: &str) -> Result<String> {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let bytes = STANDARD
        .decode(data)
        .context(|| "the authority's certificate is not base64")?;
    String::from_utf8(bytes).context(|| "the authority's certificate is not text")
}

fn add_users(layout: &Layout, kubectl: &Kubectl, server: &str, ca: &str) -> Result<()> {
    let users = ["traefik", User::Deployer.name(), User::Reader.name()];
    let accounts = users.map(|name| {
        json!({
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": name, "namespace": SANDBOX_NAMESPACE},
        })
    });
    let list = json!({"apiVersion": "v1", "kind": "List", "items": accounts});
    kubectl.apply(&["-f", "-"], &list.to_string())?;
    let duration = format!("--duration={TOKEN_DURATION}");
    for user in users {
        let words = [
            "create",
            "token",
            user,
            "--namespace",
            SANDBOX_NAMESPACE,
            &duration,
        ];
        write(&token_of(layout, user), kubectl.run(&words, "")?.trim())?;
    }
    for user in [User::Deployer, User::Reader] {
        let token = crate::error::read(&token_of(layout, user.name()))?;
        let config = kubeconfig(server, ca, user.name(), &Credentials::Token(&token));
        write(&layout.kubeconfig(user), config)?;
    }
    Ok(())
}

/// Removes what [`join`] added to the cluster, except the kinds: others may use them by now.
pub(crate) fn leave(description: &Description, steps: Steps) {
    let kubectl = Kubectl {
        program: description.programs.join("kubectl"),
        kubeconfig: description.kubeconfig.clone(),
    };
    let selector = selector_of(&description.name);
    let kinds = "gatewayclasses,ingressclasses,clusterrolebindings,clusterroles,namespaces";
    let words = [
        "delete",
        kinds,
        "--selector",
        &selector,
        "--wait=false",
        "--request-timeout=20s",
    ];
    match kubectl.run(&words, "") {
        Ok(_) => steps.done("objects of the sandbox deleted; the kinds stay"),
        // A cluster that is gone took them with it; the local part still has to end.
        Err(error) => steps.done(format!(
            "objects are left in the cluster: {}",
            error.chain()
        )),
    }
}

/// The kubeconfig to join: the one that is given, or that `KUBECONFIG` names.
pub(crate) fn chosen_kubeconfig(given: &Path, variable: Option<String>) -> Result<PathBuf> {
    if !given.as_os_str().is_empty() {
        return Ok(given.to_owned());
    }
    let variable = variable.filter(|value| !value.is_empty());
    variable.map(PathBuf::from).ok_or_else(|| {
        SandboxError::new("--use-kubeconfig names no file and KUBECONFIG is not set")
    })
}
