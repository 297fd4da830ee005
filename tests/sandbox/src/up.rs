//! Brings a sandbox up, or completes one that is partly there. Every step looks first and acts
//! only on what is missing, so that running it again repairs.

use std::{path::PathBuf, time::Duration};

use nix::sys::signal::Signal;

use crate::{
    authority,
    components::{Component, Programs},
    definitions::{Identities, add_front_door, add_kinds},
    description::{Description, lock},
    down::remove_everything,
    error::{Context as _, Result, SandboxError, create_dir},
    instance::{API_SERVER, FRONT_DOOR, Layout, REGISTRY, TRAEFIK_API, TRAEFIK_METRICS, User},
    kubectl::Kubectl,
    network,
    process::{self, Ensured, ProcessRecord},
    publish::push_images,
    readiness::Cluster,
    steps::Steps,
};

/// What `up` works with.
#[derive(Debug, Clone)]
pub(crate) struct UpOptions {
    pub(crate) layout: Layout,
    /// The Kubernetes programs, Traefik, and the folder `definitions`.
    pub(crate) programs: PathBuf,
    /// The program `sandbox`.
    pub(crate) sandbox: PathBuf,
    /// The static programs `api`, `web` and `pause`.
    pub(crate) apps: PathBuf,
    pub(crate) scope: Scope,
}

impl UpOptions {
    fn places(&self) -> Programs<'_> {
        Programs {
            folder: &self.programs,
            sandbox: &self.sandbox,
        }
    }
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
        Component::Identity,
    ] {
        started.push(ensure(options, component)?);
    }
    // The API server looks for its issuers once, and then only every ten seconds.
    cluster
        .wait(Component::Identity, Cluster::identity_is_ready)
        .await?;
    started.push(ensure(options, Component::ApiServer)?);
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
        &component.launch(&options.layout, options.places())?,
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
        sandbox: options.sandbox.clone(),
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
    let programs = Programs {
        folder: &description.programs,
        sandbox: &description.sandbox,
    };
    let launch = Component::ApiServer.launch(layout, programs)?;
    process::start(layout, &launch)?;
    Cluster::new(layout)?
        .wait(Component::ApiServer, Cluster::api_is_ready)
        .await
}
