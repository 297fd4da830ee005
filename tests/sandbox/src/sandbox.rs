//! What tests and the demo use: a running sandbox, its addresses, its users, fresh namespaces.
//! Starts and stops nothing but namespaces and, on request, the API server.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};

use crate::{
    authority::{self, Authority, Credentials, Purpose, pair, token_of},
    definitions::Identities,
    description::Description,
    error::{Context as _, Result, SandboxError, read, write},
    fault_proxy::FaultProxy,
    identity::{AccessEntry, AccessEntryGuard, TrustedIssuer},
    instance::{InstanceName, Layout, User, cache_root},
    kubectl::Kubectl,
    namespace::TestNamespace,
    network,
    publish::push_program,
    standins::KeyRing,
    tls::TlsAuthority,
    up::{Ending, restart_api_server},
};

/// The variable that names the sandbox to use.
pub const SANDBOX_VARIABLE: &str = "SWITCHYARD_SANDBOX";
/// Set to any value to keep the namespaces of failed tests.
pub const KEEP_VARIABLE: &str = "SWITCHYARD_KEEP_NAMESPACES";

/// A running sandbox.
#[derive(Debug, Clone)]
pub struct Sandbox {
    layout: Layout,
    description: Description,
}

/// Where the programs are that a sandbox was started with.
pub(crate) struct AllPrograms {
    /// The folder of the Kubernetes programs, etcd and Traefik.
    pub(crate) folder: PathBuf,
    /// The program `sandbox`.
    pub(crate) sandbox: PathBuf,
    /// The folder of the demo applications.
    pub(crate) apps: PathBuf,
}

/// A kubeconfig that the API server does not accept, each for another reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BrokenKubeconfig {
    /// A token that the server does not know (any more): 401.
    UnknownToken,
    /// A client certificate that ended in 2020: 401.
    ExpiredCertificate,
    /// The server's certificate does not come from the named authority: no connection.
    WrongAuthority,
    /// `current-context` names a context that is not there.
    UnknownContext,
    /// Nobody listens at the address.
    NobodyListens,
}

impl Sandbox {
    /// The sandbox that tests share: the one named by `SWITCHYARD_SANDBOX`, or the default one.
    ///
    /// # Panics
    /// When it is not running, or when this process is outside of its network namespace: a test
    /// on a real cluster fails without one, it is not skipped.
    #[must_use]
    pub fn shared() -> Self {
        let name = std::env::var(SANDBOX_VARIABLE)
            .ok()
            .filter(|name| !name.is_empty());
        let name = name.map_or_else(|| Ok(InstanceName::default()), |name| name.parse());
        match name.and_then(|name| Self::find(&name)) {
            Ok(sandbox) => sandbox,
            Err(error) => panic!(
                "{}\nhint: {}",
                error.chain(),
                error.hint().unwrap_or("none")
            ),
        }
    }

    /// A running sandbox by name.
    ///
    /// # Errors
    /// It is not running, or this process is outside of its network namespace.
    pub fn find(name: &InstanceName) -> Result<Self> {
        let root = cache_root(|variable| std::env::var(variable).ok())?;
        let layout = Layout::new(name.clone(), &root)?;
        let description = Description::load(&layout)?;
        if description.network_namespace.is_some() && !network::is_inside(&layout) {
            return Err(SandboxError::new(format!(
                "this process is outside of the network namespace of sandbox `{name}`"
            ))
            .with_hint(format!(
                "run it inside: scripts/cluster exec --name {name} -- COMMAND…"
            )));
        }
        Ok(Self {
            layout,
            description,
        })
    }

    /// The kubeconfig of a user.
    #[must_use]
    pub fn kubeconfig(&self, user: User) -> PathBuf {
        self.layout.kubeconfig(user)
    }

    /// Writes a kubeconfig of a user that goes through a proxy, and returns its path.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn kubeconfig_through(&self, proxy: &FaultProxy, user: User) -> Result<PathBuf> {
        let ca = read(self.ca_certificate())?;
        let token = read(&token_of(&self.layout, user.name()))?;
        let credentials = Credentials::Token(&token);
        let config = authority::kubeconfig(&proxy.url(), &ca, user.name(), &credentials);
        let name = format!("{}-through-{}.kubeconfig", user.name(), proxy.port());
        let path = self.layout.state.join(name);
        write(&path, config)?;
        Ok(path)
    }

    /// A client for a user that goes through a proxy, without retries.
    ///
    /// # Panics
    /// When the client cannot be made.
    pub async fn client_through(&self, proxy: &FaultProxy, user: User) -> Client {
        let client = async { client_of(&self.kubeconfig_through(proxy, user)?).await };
        client
            .await
            .unwrap_or_else(|error| panic!("{}", error.chain()))
    }

    /// Writes a kubeconfig that does not work and returns its path.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn broken_kubeconfig(&self, broken: BrokenKubeconfig) -> Result<PathBuf> {
        let ca = read(self.ca_certificate())?;
        let token = read(&token_of(&self.layout, User::Deployer.name()))?;
        let token = Credentials::Token(&token);
        let server = &self.description.api_server;
        let config = match broken {
            BrokenKubeconfig::UnknownToken => {
                let unknown = Credentials::Token("0123456789abcdef");
                authority::kubeconfig(server, &ca, "deployer", &unknown)
            }
            BrokenKubeconfig::ExpiredCertificate => {
                let (certificate, key) = pair(&self.layout, "expired");
                let authority = Authority::load_or_create(&self.layout)?;
                let identity = authority.issue("deployer", &Purpose::ExpiredClient)?;
                write(&certificate, identity.certificate)?;
                write(&key, identity.key)?;
                let expired = Credentials::Certificate(&certificate, &key);
                authority::kubeconfig(server, &ca, "deployer", &expired)
            }
            BrokenKubeconfig::WrongAuthority => {
                // Of the same name: only the key tells the two apart.
                let name = format!("switchyard sandbox {}", self.layout.name);
                let foreign = Authority::throw_away(&name)?;
                authority::kubeconfig(server, foreign.certificate(), "deployer", &token)
            }
            BrokenKubeconfig::UnknownContext => {
                authority::kubeconfig(server, &ca, "deployer", &token).replace(
                    "\"current-context\": \"deployer\"",
                    "\"current-context\": \"gone\"",
                )
            }
            BrokenKubeconfig::NobodyListens => {
                authority::kubeconfig("https://127.0.0.1:1", &ca, "deployer", &token)
            }
        };
        let path = self
            .layout
            .state
            .join(format!("broken-{broken:?}.kubeconfig"));
        write(&path, config)?;
        Ok(path)
    }

    /// A client for a user, without retries.
    ///
    /// # Panics
    /// When the kubeconfig of a running sandbox cannot be used.
    pub async fn client(&self, user: User) -> Client {
        let client = client_of(&self.kubeconfig(user)).await;
        client.unwrap_or_else(|error| panic!("{}", error.chain()))
    }

    /// Traefik's HTTP entry point; the Host header chooses the route.
    #[must_use]
    pub fn front_door(&self) -> &str {
        &self.description.front_door
    }

    /// The base address of Traefik's API.
    #[must_use]
    pub fn traefik_api(&self) -> &str {
        &self.description.traefik_api
    }

    /// The address of Traefik's Prometheus metrics.
    #[must_use]
    pub fn traefik_metrics(&self) -> &str {
        &self.description.traefik_metrics
    }

    /// The certificate of the sandbox's authority.
    #[must_use]
    pub fn ca_certificate(&self) -> &Path {
        &self.description.ca
    }

    /// The address of the API server.
    #[must_use]
    pub fn api_server(&self) -> &str {
        &self.description.api_server
    }

    /// The sandbox's authority, which signs the certificates of stand-ins.
    ///
    /// # Errors
    /// Its files cannot be read.
    pub fn tls_authority(&self) -> Result<TlsAuthority> {
        self.require_own_cluster("serving with the sandbox's authority")?;
        TlsAuthority::of(&self.layout)
    }

    /// Keys that the API server takes for GitHub's, until they are dropped.
    ///
    /// # Errors
    /// No key can be made or published.
    pub fn github_keys(&self) -> Result<Arc<KeyRing>> {
        self.published_keys(TrustedIssuer::GitHub)
    }

    /// Keys that the API server takes for those of Entra's public cloud, until they are dropped.
    ///
    /// # Errors
    /// No key can be made or published.
    pub fn entra_keys(&self) -> Result<Arc<KeyRing>> {
        self.published_keys(TrustedIssuer::Entra)
    }

    fn published_keys(&self, issuer: TrustedIssuer) -> Result<Arc<KeyRing>> {
        self.require_own_cluster("publishing keys")?;
        let folder = self.layout.published_keys(issuer);
        KeyRing::published_in(folder)
            .context(|| format!("cannot publish a key as {}", issuer.url()))
    }

    /// Lets a role of AWS (`arn:aws:iam::ACCOUNT:role/NAME`) into the cluster, in these groups, until
    /// the guard is dropped.
    ///
    /// # Errors
    /// The entry cannot be written.
    pub fn admit_role(&self, arn: &str, groups: &[&str]) -> Result<AccessEntryGuard> {
        self.require_own_cluster("an access entry")?;
        AccessEntry::new(arn, groups).admit(&self.layout)
    }

    /// The kubectl that belongs to the cluster.
    #[must_use]
    pub fn kubectl(&self) -> PathBuf {
        self.description.programs.join("kubectl")
    }

    /// The reference of an image of the demo applications, e.g. `api` and `v1.0.0`.
    ///
    /// # Panics
    /// In a cluster that is not ours, when `up` was not told where the images are.
    #[must_use]
    pub fn image(&self, repository: &str, tag: &str) -> String {
        let registry = self.description.registry.as_deref();
        let registry = registry.expect("`--registry` names where the cluster finds images");
        format!("{registry}/{repository}:{tag}")
    }

    /// Makes an image with one program of this machine as its entry point, static or with the
    /// libraries that it loads, and returns its reference.
    ///
    /// # Errors
    /// The cluster is not ours, the program cannot be read, or the registry refuses it.
    pub async fn publish(&self, repository: &'static str, program: &Path) -> Result<String> {
        self.require_own_cluster("an image of a program")?;
        push_program(&self.layout, repository, program).await
    }

    /// The program of the front door, to run it in a pod.
    #[must_use]
    pub fn traefik_program(&self) -> PathBuf {
        self.description.programs.join("traefik")
    }

    /// Ends the API server and starts it again; returns when it is ready. Everybody else in this
    /// sandbox notices: use a sandbox of your own.
    ///
    /// # Errors
    /// It does not end, or does not come back.
    pub async fn restart_api_server(&self, ending: Ending) -> Result<()> {
        self.require_own_cluster("restarting the API server")?;
        restart_api_server(&self.layout, ending).await
    }

    /// Whether the cluster is the sandbox's own, not one that somebody gave us.
    #[must_use]
    pub fn is_own(&self) -> bool {
        self.description.network_namespace.is_some()
    }

    /// Refuses what only a cluster of our own can do.
    pub(crate) fn require_own_cluster(&self, what: &str) -> Result<()> {
        if self.is_own() {
            return Ok(());
        }
        Err(
            SandboxError::new(format!("{what} needs a cluster of the sandbox's own"))
                .with_hint("start one: scripts/cluster up"),
        )
    }

    pub(crate) fn identities(&self) -> Identities {
        self.description.identities()
    }

    pub(crate) fn programs(&self) -> &Path {
        &self.description.programs
    }

    /// What a further sandbox is started with.
    pub(crate) fn all_programs(&self) -> Result<AllPrograms> {
        let apps = self.description.apps.clone().ok_or_else(|| {
            SandboxError::new("a further sandbox needs the demo applications of one of our own")
                .with_hint("start one: scripts/cluster up")
        })?;
        Ok(AllPrograms {
            folder: self.description.programs.clone(),
            sandbox: self.description.sandbox.clone(),
            apps,
        })
    }

    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }

    pub(crate) fn admin_kubectl(&self) -> Kubectl {
        Kubectl {
            program: self.kubectl(),
            kubeconfig: self.kubeconfig(User::Admin),
        }
    }

    /// Creates a fresh namespace named after the prefix, in which the deployer has the role of
    /// `docs/rbac/deployer.yaml` and the reader may view.
    ///
    /// # Panics
    /// When the cluster refuses.
    pub async fn namespace(&self, prefix: &str) -> TestNamespace {
        let created = TestNamespace::create(self, prefix).await;
        created.unwrap_or_else(|error| panic!("{}", error.chain()))
    }
}

/// A client made of a kubeconfig file.
pub(crate) async fn client_of(path: &Path) -> Result<Client> {
    let shown = path.display();
    let kubeconfig = Kubeconfig::read_from(path).context(|| format!("cannot use {shown}"))?;
    let options = KubeConfigOptions::default();
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &options)
        .await
        .context(|| format!("cannot use {shown}"))?;
    config.default_retry = false;
    Client::try_from(config).context(|| format!("cannot make a client of {shown}"))
}
