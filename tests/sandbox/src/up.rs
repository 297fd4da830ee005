//! Brings a sandbox up, or completes one that is partly there. Every step looks first and acts
//! only on what is missing, so that running it again repairs.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use crate::{
    authority::{self, token_of},
    components::Component,
    definitions::{Identities, add_front_door, add_kinds},
    description::{Description, lock},
    down::remove_everything,
    error::{Context as _, Result, SandboxError, create_dir, read},
    http_client::HttpClient,
    images::{Layer, Pushed, Registry, catalogue},
    instance::{
        API_SERVER, FRONT_DOOR, Layout, NODE_NAME, REGISTRY, SANDBOX_NAMESPACE, TRAEFIK_API,
        TRAEFIK_METRICS, User,
    },
    kubectl::Kubectl,
    network,
    process::{self, Ensured, ProcessRecord},
    steps::Steps,
};
use bytes::Bytes;
use http::Method;
use nix::sys::signal::Signal;

/// How long a component may take to become ready.
const READY_LIMIT: Duration = Duration::from_secs(90);
/// How often readiness is asked for.
const POLL: Duration = Duration::from_millis(100);

/// What `up` works with.
#[derive(Debug, Clone)]
pub(crate) struct UpOptions {
    pub(crate) layout: Layout,
    /// The Kubernetes programs, Traefik, and the folder `definitions`.
    pub(crate) programs: PathBuf,
    /// The static programs `api`, `web` and `pause`.
    pub(crate) apps: PathBuf,
    pub(crate) scope: Scope,
}

/// How much of a sandbox comes up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    Everything,
    /// A plain cluster without a front door: what a cluster of somebody else looks like.
    ClusterOnly,
}

/// Brings the sandbox up. Moves the calling thread into its network namespace.
pub(crate) fn up(options: &UpOptions) -> Result<()> {
    let steps = Steps::begin();
    let layout = &options.layout;
    require_root()?;
    require_programs(options)?;
    let _lock = lock(layout, steps)?;
    if layout.state.exists() && !network::exists(layout) {
        remove_everything(layout)?;
        steps.done("remains of an earlier run removed");
    }
    create_dir(&layout.state.join("log"))?;
    authority::prepare(layout)?;
    steps.done("certificates, tokens, kubeconfigs");
    if !network::exists(layout) {
        // An empty file of that name is what a reboot leaves.
        network::remove(layout)?;
        network::create(layout)?;
    }
    network::enter(layout)?;
    network::configure()?;
    steps.done(format!(
        "network namespace {}",
        layout.network_namespace().display()
    ));
    let runtime = tokio::runtime::Runtime::new().context(|| "cannot start a runtime")?;
    runtime.block_on(start_everything(options, steps))
}

fn require_root() -> Result<()> {
    if nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    Err(
        SandboxError::new("a sandbox needs root: it makes a network namespace and containers")
            .with_hint("run as root, or use your own cluster: --use-kubeconfig FILE"),
    )
}

fn require_programs(options: &UpOptions) -> Result<()> {
    let files = [
        "etcd",
        "kube-apiserver",
        "kubelet",
        "kubectl",
        "traefik",
        "definitions",
    ];
    let apps = ["api", "web", "pause"];
    let files = files.iter().map(|file| options.programs.join(file));
    for file in files.chain(apps.iter().map(|app| options.apps.join(app))) {
        if !file.exists() {
            return Err(SandboxError::new(format!("{} is missing", file.display()))
                .with_hint("run scripts/cluster up: it builds what the sandbox needs"));
        }
    }
    Ok(())
}

async fn start_everything(options: &UpOptions, steps: Steps) -> Result<()> {
    let layout = &options.layout;
    let cluster = Cluster::new(layout)?;
    let mut started = Vec::new();
    for component in [
        Component::Etcd,
        Component::Containerd,
        Component::Registry,
        Component::ApiServer,
    ] {
        started.push(ensure(options, component)?);
    }
    let images = push_images(options, steps);
    let api_server = async {
        cluster
            .wait(Component::ApiServer, Cluster::api_is_ready)
            .await?;
        steps.done("kube-apiserver is ready");
        Ok(())
    };
    tokio::try_join!(images, api_server)?;
    for component in [
        Component::ControllerManager,
        Component::Scheduler,
        Component::Kubelet,
        Component::KubeProxy,
    ] {
        started.push(ensure(options, component)?);
    }
    if options.scope == Scope::Everything {
        started.push(open_front_door(options, steps).await?);
    }
    cluster
        .wait(Component::Kubelet, Cluster::node_is_ready)
        .await?;
    steps.done("node is Ready");
    cluster
        .wait(Component::KubeProxy, Cluster::proxy_is_ready)
        .await?;
    if options.scope == Scope::Everything {
        cluster
            .wait(Component::Traefik, Cluster::traefik_is_ready)
            .await?;
        steps.done("Traefik serves the Gateway");
    }
    describe(options)?;
    let running = started
        .iter()
        .filter(|state| **state == Ensured::AlreadyRunning)
        .count();
    steps.done(format!(
        "up: {} components, {running} ran already",
        started.len()
    ));
    Ok(())
}

/// Adds what Traefik needs in the cluster, and starts it.
async fn open_front_door(options: &UpOptions, steps: Steps) -> Result<Ensured> {
    let kubectl = Kubectl {
        program: options.programs.join("kubectl"),
        kubeconfig: options.layout.kubeconfig(User::Admin),
    };
    let (programs, name) = (options.programs.clone(), options.layout.name.clone());
    let applied = tokio::task::spawn_blocking(move || {
        add_kinds(&kubectl, &programs)?;
        add_front_door(&kubectl, &programs, &name, Identities::Users)
    });
    applied
        .await
        .context(|| "applying definitions was interrupted")??;
    steps.done("definitions, roles, Gateway");
    ensure(options, Component::Traefik)
}

fn ensure(options: &UpOptions, component: Component) -> Result<Ensured> {
    process::ensure(
        &options.layout,
        &component.launch(&options.layout, &options.programs)?,
    )
}

fn describe(options: &UpOptions) -> Result<()> {
    let layout = &options.layout;
    let of_traefik = |address: &str| match options.scope {
        Scope::Everything => address.to_owned(),
        Scope::ClusterOnly => String::new(),
    };
    Description {
        name: layout.name.clone(),
        programs: options.programs.clone(),
        apps: Some(options.apps.clone()),
        network_namespace: Some(layout.network_namespace()),
        api_server: API_SERVER.to_owned(),
        kubeconfig: layout.kubeconfig(User::Admin),
        ca: layout.ca_certificate(),
        front_door: of_traefik(FRONT_DOOR),
        traefik_api: of_traefik(TRAEFIK_API),
        traefik_metrics: of_traefik(TRAEFIK_METRICS),
        registry: Some(REGISTRY.to_owned()),
    }
    .save(layout)
}

async fn push_images(options: &UpOptions, steps: Steps) -> Result<()> {
    let ca = read(&options.layout.ca_certificate())?;
    let registry = Registry::new(HttpClient::trusting(&ca)?);
    let deadline = Instant::now() + READY_LIMIT;
    while !registry.is_ready().await {
        refuse_dead(&options.layout, Component::Registry)?;
        if Instant::now() > deadline {
            return Err(not_ready(&options.layout, Component::Registry));
        }
        tokio::time::sleep(POLL).await;
    }
    let images = catalogue();
    let mut layers: Vec<(&str, Layer)> = Vec::new();
    let mut moved = Vec::new();
    for image in &images {
        if !layers.iter().any(|(program, _)| *program == image.program) {
            layers.push((
                image.program,
                Layer::of_program(&options.apps.join(image.program))?,
            ));
        }
        let Some((_, layer)) = layers.iter().find(|(program, _)| *program == image.program) else {
            continue;
        };
        match registry.push(image, layer).await? {
            Pushed::Moved => moved.push(image.to_string()),
            Pushed::New | Pushed::AlreadyThere => {}
        }
    }
    forget_pulled(&options.layout, &moved).await;
    steps.done(format!("{} images in the registry", images.len()));
    Ok(())
}

/// Removes images from containerd whose tag has moved: a pod with `IfNotPresent` would go on with
/// the old program.
async fn forget_pulled(layout: &Layout, references: &[String]) {
    if references.is_empty() {
        return;
    }
    let mut command = tokio::process::Command::new("ctr");
    command.arg("--address").arg(layout.containerd_socket());
    command
        .args(["--namespace", "k8s.io", "images", "rm"])
        .args(references);
    // Images that nobody pulled are not there: that is the wanted state too.
    let _ = command.output().await;
}

/// Asks the parts of a running cluster whether they are ready.
#[derive(Debug)]
pub(crate) struct Cluster {
    layout: Layout,
    client: HttpClient,
    authorization: String,
}

impl Cluster {
    pub(crate) fn new(layout: &Layout) -> Result<Self> {
        let token = read(&token_of(layout, User::Admin.name()))?;
        Ok(Self {
            layout: layout.clone(),
            client: HttpClient::trusting(&read(&layout.ca_certificate())?)?,
            authorization: format!("Bearer {token}"),
        })
    }

    /// Waits for a condition; ends at once when the component dies.
    pub(crate) async fn wait<'a, F>(&'a self, component: Component, is_ready: F) -> Result<()>
    where
        F: AsyncFn(&'a Self) -> bool,
    {
        let deadline = Instant::now() + READY_LIMIT;
        while !is_ready(self).await {
            refuse_dead(&self.layout, component)?;
            if Instant::now() > deadline {
                return Err(not_ready(&self.layout, component));
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    async fn object(&self, path: &str) -> Option<serde_json::Value> {
        let url = format!("{API_SERVER}{path}");
        let headers = [("authorization", self.authorization.as_str())];
        let answer = self
            .client
            .send(Method::GET, &url, &headers, Bytes::new())
            .await
            .ok()?;
        if answer.status.is_success() {
            answer.json().ok()
        } else {
            None
        }
    }

    pub(crate) async fn api_is_ready(&self) -> bool {
        let url = format!("{API_SERVER}/readyz");
        let headers = [("authorization", self.authorization.as_str())];
        let answer = self
            .client
            .send(Method::GET, &url, &headers, Bytes::new())
            .await;
        answer.is_ok_and(|answer| answer.status.is_success())
    }

    async fn node_is_ready(&self) -> bool {
        let node = self.object(&format!("/api/v1/nodes/{NODE_NAME}")).await;
        node.is_some_and(|node| has_condition(&node, "Ready"))
    }

    async fn proxy_is_ready(&self) -> bool {
        let answer = self.client.get("http://127.0.0.1:10256/healthz").await;
        answer.is_ok_and(|answer| answer.status.is_success())
    }

    async fn traefik_is_ready(&self) -> bool {
        let answer = self.client.get(&format!("{TRAEFIK_API}/ping")).await;
        let gateways = "/apis/gateway.networking.k8s.io/v1/namespaces";
        let path = format!("{gateways}/{SANDBOX_NAMESPACE}/gateways/front-door");
        let gateway = self.object(&path).await;
        answer.is_ok_and(|answer| answer.status.is_success())
            && gateway.is_some_and(|gateway| has_condition(&gateway, "Programmed"))
    }
}

fn has_condition(object: &serde_json::Value, kind: &str) -> bool {
    let conditions = object["status"]["conditions"].as_array();
    let mut conditions = conditions.into_iter().flatten();
    conditions.any(|condition| condition["type"] == kind && condition["status"] == "True")
}

fn refuse_dead(layout: &Layout, component: Component) -> Result<()> {
    let name = component.name();
    if ProcessRecord::load(layout, name).is_some_and(|record| record.is_alive()) {
        return Ok(());
    }
    Err(
        SandboxError::new(format!("{name} ended:\n{}", log_tail(&layout.log(name))))
            .with_hint(format!("the whole log: {}", layout.log(name).display())),
    )
}

fn not_ready(layout: &Layout, component: Component) -> SandboxError {
    let log = layout.log(component.name());
    let (name, seconds) = (component.name(), READY_LIMIT.as_secs());
    SandboxError::new(format!(
        "{name} is not ready after {seconds} s:\n{}",
        log_tail(&log)
    ))
    .with_hint(format!("the whole log: {}", log.display()))
}

fn log_tail(path: &Path) -> String {
    let text = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(8)..].join("\n")
}

/// Waits until a Traefik answers at its API's address.
pub(crate) fn wait_for_ping(layout: &Layout, api: &str) -> Result<()> {
    let runtime = tokio::runtime::Runtime::new().context(|| "cannot start a runtime")?;
    runtime.block_on(async {
        let deadline = Instant::now() + READY_LIMIT;
        let url = format!("{api}/ping");
        while HttpClient::plain().get(&url).await.is_err() {
            refuse_dead(layout, Component::Traefik)?;
            if Instant::now() > deadline {
                return Err(not_ready(layout, Component::Traefik));
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    })
}

/// How the API server is ended before it is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// SIGTERM: it finishes what it does and closes its watches.
    InOrder,
    /// SIGKILL: connections break.
    Killed,
}

/// Ends the API server and starts it again as it was; returns when it is ready.
pub(crate) async fn restart_api_server(layout: &Layout, ending: Ending) -> Result<()> {
    let description = Description::load(layout)?;
    let signal = match ending {
        Ending::InOrder => Signal::SIGTERM,
        Ending::Killed => Signal::SIGKILL,
    };
    if let Some(record) = ProcessRecord::load(layout, Component::ApiServer.name()) {
        process::stop(&record, signal, Duration::from_secs(20))?;
    }
    let launch = Component::ApiServer.launch(layout, &description.programs)?;
    process::start(layout, &launch)?;
    Cluster::new(layout)?
        .wait(Component::ApiServer, Cluster::api_is_ready)
        .await
}
