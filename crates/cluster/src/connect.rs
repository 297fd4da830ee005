//! From a kubeconfig or a pod's service account to a client that cannot hang.
//! It refuses to read the process environment: paths and variables come in as data.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client, Config, Resource,
    client::ClientBuilder,
    config::{
        AuthInfo, ExecInteractiveMode, KubeConfigOptions, Kubeconfig, KubeconfigError,
        NamedAuthInfo,
    },
    core::NamespaceResourceScope,
};

use crate::{
    discovery::DiscoveryCache,
    error::{Error, Result},
    objects::Objects,
    operation::{Operation, Verb},
    proxy::{self, ProxyEnvironment},
    read::Deadline,
    transport::TransportLayer,
};

/// Time for a TCP connection and its TLS handshake.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// Time for one whole answer that is not a stream; also the longest a dead connection can hold
/// a request up.
const RESPONSE_LIMIT: Duration = Duration::from_secs(30);
/// Time for a credential plugin to print a token.
const CREDENTIAL_LIMIT: Duration = Duration::from_secs(60);

const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Where the cluster is and who we are to it.
#[derive(Clone, Debug, Default)]
pub struct ConnectOptions {
    /// Kubeconfig file, or several joined as in `KUBECONFIG`. Absent: the service account of the
    /// pod we run in.
    pub kubeconfig: Option<PathBuf>,
    /// Context to use instead of the kubeconfig's current one.
    pub context: Option<String>,
    /// Namespace to use instead of the context's.
    pub namespace: Option<String>,
    /// Credential plugins that the kubeconfig may start: by file name, or by path when the entry
    /// has a `/`.
    pub allow_exec: Vec<String>,
    /// What the pod's environment says of the API server; only looked at without a kubeconfig.
    pub in_cluster: Option<InClusterEnvironment>,
    /// Proxy variables of the environment.
    pub proxy: ProxyEnvironment,
}

/// The two variables that Kubernetes sets in every pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InClusterEnvironment {
    /// `KUBERNETES_SERVICE_HOST`.
    pub host: String,
    /// `KUBERNETES_SERVICE_PORT`.
    pub port: u16,
}

/// A cluster and the namespace we work in; cheap to clone.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    namespace: Arc<str>,
    server: Arc<str>,
    context: Option<Arc<str>>,
    pub(crate) discovery: Arc<DiscoveryCache>,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Cluster")
            .field("server", &self.server)
            .field("namespace", &self.namespace)
            .finish_non_exhaustive()
    }
}

impl Cluster {
    /// Reads the configuration and builds the client; sends nothing to the API server.
    ///
    /// Must run inside a Tokio runtime.
    ///
    /// # Errors
    /// The kubeconfig variants of [`Error`], and [`Error::Credential`].
    pub async fn connect(options: &ConnectOptions) -> Result<Self> {
        install_crypto_provider();
        let (mut config, context) = match (&options.kubeconfig, &options.in_cluster) {
            (Some(path), _) => {
                let (config, context) = from_kubeconfig(path, options).await?;
                (config, Some(Arc::from(context)))
            }
            (None, Some(environment)) => (from_service_account(environment)?, None),
            (None, None) => return Err(Error::KubeconfigMissing { path: None }),
        };
        if let Some(namespace) = &options.namespace {
            config.default_namespace.clone_from(namespace);
        }
        // A mutation that is sent twice is a mutation whose outcome nobody knows.
        config.default_retry = false;
        config.connect_timeout = Some(CONNECT_LIMIT);
        config.write_timeout = Some(RESPONSE_LIMIT);
        let namespace = Arc::from(config.default_namespace.as_str());
        let server = Arc::from(config.cluster_url.to_string());
        Ok(Self {
            client: build_client(config).await?,
            namespace,
            server,
            context,
            discovery: Arc::default(),
        })
    }

    /// The client, for requests this crate has no method for. It never retries.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// The namespace we work in.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The API server's URL, as configured.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// The kubeconfig context in use; `None` in a pod.
    pub fn context(&self) -> Option<&str> {
        self.context.as_deref()
    }

    /// The same cluster, seen from another namespace.
    #[must_use]
    pub fn in_namespace(&self, namespace: &str) -> Self {
        Self {
            namespace: Arc::from(namespace),
            ..self.clone()
        }
    }

    /// Raw API of a namespaced kind in our namespace; requests through it are not retried.
    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client(), &self.namespace)
    }

    /// Objects of a namespaced kind in our namespace, with retried reads and typed errors.
    pub fn objects<K>(&self) -> Objects<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        let target = Operation::on::<K>(Verb::Get, &self.namespace);
        Objects::new(self.clone(), self.api(), target)
    }

    /// Objects of a cluster-scoped kind.
    pub fn cluster_objects<K>(&self) -> Objects<K>
    where
        K: Resource<Scope = kube::core::ClusterResourceScope, DynamicType = ()>,
    {
        let target = Operation::on_cluster::<K>(Verb::Get);
        Objects::new(self.clone(), Api::all(self.client()), target)
    }

    /// Runs one read with the retries of this crate.
    ///
    /// # Errors
    /// The last error seen before `deadline`.
    pub async fn read<T, F, Fut>(
        &self,
        operation: &Operation,
        deadline: Deadline,
        request: F,
    ) -> Result<T>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = kube::Result<T>>,
    {
        crate::read::with_retries(operation, deadline, request).await
    }

    /// Whether our namespace exists; `None` when we may not ask.
    ///
    /// # Errors
    /// Whatever else keeps the API server from answering.
    pub async fn namespace_exists(&self, deadline: Deadline) -> Result<Option<bool>> {
        let namespaces = Api::<Namespace>::all(self.client());
        let operation = Operation::on_cluster::<Namespace>(Verb::Get).named(&self.namespace);
        let answer = self
            .read(&operation, deadline, || {
                namespaces.get_metadata(&self.namespace)
            })
            .await;
        match answer {
            Ok(_) => Ok(Some(true)),
            Err(Error::NotFound { .. }) => Ok(Some(false)),
            Err(Error::Forbidden { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Refuses a namespace that does not exist; passes when we may not ask.
    ///
    /// # Errors
    /// [`Error::NamespaceMissing`], or whatever keeps the API server from answering.
    pub async fn require_namespace(&self, deadline: Deadline) -> Result<()> {
        match self.namespace_exists(deadline).await? {
            Some(false) => Err(Error::NamespaceMissing {
                namespace: self.namespace().to_owned(),
            }),
            Some(true) | None => Ok(()),
        }
    }
}

/// Makes ring the process's crypto provider, unless one is installed already.
///
/// rustls refuses to choose when two are compiled in, so the choice is stated.
pub(crate) fn install_crypto_provider() {
    // An error means that somebody installed one before us, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

async fn build_client(config: Config) -> Result<Client> {
    let what = format!("prepare the connection to {}", config.cluster_url);
    let runtime = tokio::runtime::Handle::current();
    // Building the client may run a credential plugin, which blocks.
    let building = tokio::task::spawn_blocking(move || {
        let _inside = runtime.enter();
        let layer = TransportLayer {
            response_limit: RESPONSE_LIMIT,
        };
        ClientBuilder::try_from(config).map(|builder| builder.with_layer(&layer).build())
    });
    match tokio::time::timeout(CREDENTIAL_LIMIT, building).await {
        Err(_) => Err(Error::TimedOut {
            what: "the kubeconfig's credential plugin".to_owned(),
            after: CREDENTIAL_LIMIT,
        }),
        Ok(Err(panicked)) => Err(Error::Connection {
            what,
            source: Box::new(panicked),
        }),
        Ok(Ok(Err(error))) => Err(client_error(error, &what)),
        Ok(Ok(Ok(client))) => Ok(client),
    }
}

fn client_error(error: kube::Error, what: &str) -> Error {
    if let kube::Error::RustlsTls(problem) = &error {
        return Error::KubeconfigInvalid {
            path: "TLS data".to_owned(),
            problem: problem.to_string(),
        };
    }
    if let kube::Error::InferKubeconfig(problem) = &error {
        return Error::KubeconfigInvalid {
            path: "credential".to_owned(),
            problem: problem.to_string(),
        };
    }
    Error::from_transport(Box::new(error), what)
}

async fn from_kubeconfig(path: &Path, options: &ConnectOptions) -> Result<(Config, String)> {
    let shown = format!("`{}`", path.display());
    let invalid = |problem: String| Error::KubeconfigInvalid {
        path: shown.clone(),
        problem,
    };
    let mut kubeconfig = read_kubeconfig(path)?;
    let context = choose_context(&kubeconfig, options.context.as_deref(), &shown)?;
    guard_credential(&mut kubeconfig, &context, options, &shown)?;
    let cluster_proxy = kubeconfig
        .clusters
        .iter()
        .find(|cluster| cluster.name == context.cluster)
        .and_then(|cluster| cluster.cluster.as_ref()?.proxy_url.clone());
    let selection = KubeConfigOptions {
        context: Some(context.name.clone()),
        ..KubeConfigOptions::default()
    };
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &selection)
        .await
        .map_err(|error| invalid(kubeconfig_problem(&error)))?;
    config.proxy_url = proxy::choose(
        &config.cluster_url,
        cluster_proxy.as_deref(),
        &options.proxy,
    )
    .map_err(invalid)?;
    Ok((config, context.name))
}

/// Reads one file, or merges those of a `KUBECONFIG` list as kubectl does: files that are not
/// there are skipped as long as one is.
fn read_kubeconfig(path: &Path) -> Result<Kubeconfig> {
    let files: Vec<PathBuf> = std::env::split_paths(path)
        .filter(|file| !file.as_os_str().is_empty())
        .collect();
    let mut merged: Option<Kubeconfig> = None;
    for file in &files {
        if !file.exists() {
            continue;
        }
        let invalid = |error: KubeconfigError| Error::KubeconfigInvalid {
            path: format!("`{}`", file.display()),
            problem: kubeconfig_problem(&error),
        };
        let next = Kubeconfig::read_from(file).map_err(invalid)?;
        merged = Some(match merged {
            None => next,
            Some(before) => before.merge(next).map_err(invalid)?,
        });
    }
    merged.ok_or_else(|| Error::KubeconfigMissing {
        path: Some(path.to_owned()),
    })
}

/// Words for a kubeconfig error. The parser's own text may quote the file, tokens included, so
/// it is not passed on.
fn kubeconfig_problem(error: &KubeconfigError) -> String {
    if let KubeconfigError::Parse(_) = error {
        return "it is not a kubeconfig in YAML".to_owned();
    }
    if let KubeconfigError::LoadClusterOfContext(cluster) = error {
        return format!("its context names cluster `{cluster}`, which it does not have");
    }
    error.to_string()
}

struct ChosenContext {
    name: String,
    cluster: String,
    user: Option<String>,
}

fn choose_context(
    kubeconfig: &Kubeconfig,
    asked: Option<&str>,
    shown: &str,
) -> Result<ChosenContext> {
    let current = kubeconfig
        .current_context
        .as_deref()
        .filter(|name| !name.is_empty());
    let Some(name) = asked.or(current) else {
        return Err(Error::KubeconfigInvalid {
            path: shown.to_owned(),
            problem: "it has no current context and none was asked for".to_owned(),
        });
    };
    let found = kubeconfig
        .contexts
        .iter()
        .find(|context| context.name == name)
        .and_then(|context| context.context.as_ref());
    match found {
        Some(context) => Ok(ChosenContext {
            name: name.to_owned(),
            cluster: context.cluster.clone(),
            user: context.user.clone().filter(|user| !user.is_empty()),
        }),
        None => Err(Error::UnknownContext {
            context: name.to_owned(),
            known: kubeconfig
                .contexts
                .iter()
                .map(|context| context.name.clone())
                .collect(),
        }),
    }
}

/// Refuses credential plugins that nobody allowed, and a context whose user is not there (the
/// client library would go on as `system:anonymous`).
fn guard_credential(
    kubeconfig: &mut Kubeconfig,
    context: &ChosenContext,
    options: &ConnectOptions,
    shown: &str,
) -> Result<()> {
    let Some(user) = &context.user else {
        return Ok(());
    };
    let Some(entry) = kubeconfig
        .auth_infos
        .iter_mut()
        .find(|entry| entry.name == *user)
    else {
        return Err(Error::KubeconfigInvalid {
            path: shown.to_owned(),
            problem: format!(
                "context `{}` names user `{user}`, which it does not have",
                context.name
            ),
        });
    };
    if let Some(command) = plugin_command(entry)
        && !is_allowed(&command, &options.allow_exec)
    {
        return Err(Error::ExecNotAllowed {
            user: user.clone(),
            command,
        });
    }
    if let Some(exec) = entry.auth_info.as_mut().and_then(|info| info.exec.as_mut()) {
        // No person sits at a runner's terminal.
        exec.interactive_mode = Some(ExecInteractiveMode::Never);
    }
    Ok(())
}

fn is_allowed(command: &str, allowed: &[String]) -> bool {
    let file_name = command.rsplit('/').next().unwrap_or(command);
    allowed
        .iter()
        .any(|entry| !entry.is_empty() && (entry == command || entry == file_name))
}

/// The program a kubeconfig user would start, in either of the two ways to say so.
fn plugin_command(entry: &NamedAuthInfo) -> Option<String> {
    let info = entry.auth_info.as_ref()?;
    let exec = info.exec.as_ref().map(|exec| {
        let command = exec.command.clone();
        command.unwrap_or_default()
    });
    exec.or_else(|| {
        let provider = info.auth_provider.as_ref()?;
        provider.config.get("cmd-path").cloned()
    })
}

fn from_service_account(environment: &InClusterEnvironment) -> Result<Config> {
    let invalid = |problem: String| Error::KubeconfigInvalid {
        path: format!("of the pod's service account (`{SERVICE_ACCOUNT}`)"),
        problem,
    };
    let host = match environment.host.parse::<std::net::IpAddr>() {
        Ok(std::net::IpAddr::V6(address)) => format!("[{address}]"),
        Ok(std::net::IpAddr::V4(_)) | Err(_) => environment.host.clone(),
    };
    let url = format!("https://{host}:{}", environment.port);
    let mut config = Config::new(
        url.parse()
            .map_err(|error| invalid(format!("{url}: {error}")))?,
    );
    let namespace = Path::new(SERVICE_ACCOUNT).join("namespace");
    config.default_namespace = std::fs::read_to_string(&namespace)
        .map_err(|error| invalid(format!("{}: {error}", namespace.display())))?
        .trim()
        .to_owned();
    config.root_cert_file = Some(Path::new(SERVICE_ACCOUNT).join("ca.crt"));
    config.auth_info = AuthInfo {
        token_file: Some(format!("{SERVICE_ACCOUNT}/token")),
        ..AuthInfo::default()
    };
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KUBECONFIG: &str = r"
apiVersion: v1
kind: Config
current-context: staging
clusters:
- {name: one, cluster: {server: 'https://127.0.0.1:6443'}}
contexts:
- {name: staging, context: {cluster: one, user: token, namespace: shop}}
- {name: plugin, context: {cluster: one, user: plugin}}
- {name: legacy-plugin, context: {cluster: one, user: legacy-plugin}}
- {name: nobody, context: {cluster: one, user: nobody}}
- {name: nowhere, context: {cluster: two, user: token}}
users:
- {name: token, user: {token: secret-token}}
- {name: plugin, user: {exec: {apiVersion: client.authentication.k8s.io/v1, command: /bin/false, interactiveMode: Always}}}
- {name: legacy-plugin, user: {auth-provider: {name: gcp, config: {cmd-path: /bin/false}}}}
";

    struct Case {
        folder: tempfile::TempDir,
    }

    impl Case {
        fn new(content: &str) -> Self {
            let folder = tempfile::tempdir().unwrap();
            std::fs::write(folder.path().join("config"), content).unwrap();
            Self { folder }
        }

        fn options(&self) -> ConnectOptions {
            ConnectOptions {
                kubeconfig: Some(self.folder.path().join("config")),
                ..ConnectOptions::default()
            }
        }

        async fn context(&self, context: &str) -> Result<Cluster> {
            let context = Some(context.to_owned());
            Cluster::connect(&ConnectOptions {
                context,
                ..self.options()
            })
            .await
        }
    }

    #[tokio::test]
    async fn the_current_context_decides_unless_another_is_asked_for() {
        let case = Case::new(KUBECONFIG);
        let cluster = Cluster::connect(&case.options()).await.unwrap();
        assert_eq!(cluster.namespace(), "shop");
        assert_eq!(cluster.server(), "https://127.0.0.1:6443/");
        assert_eq!(cluster.context(), Some("staging"));
        let cluster = Cluster::connect(&ConnectOptions {
            namespace: Some("other".to_owned()),
            ..case.options()
        })
        .await
        .unwrap();
        assert_eq!(cluster.namespace(), "other");
    }

    #[tokio::test]
    async fn an_unknown_context_is_refused_and_the_known_ones_are_named() {
        let error = Case::new(KUBECONFIG).context("prod").await.unwrap_err();
        assert_eq!(error.to_string(), "kubeconfig has no context `prod`");
        assert_eq!(
            error.hint().unwrap(),
            "it has: staging, plugin, legacy-plugin, nobody, nowhere"
        );
        assert!(error.is_bad_input());
    }

    #[tokio::test]
    async fn a_credential_plugin_runs_only_when_it_is_named() {
        let case = Case::new(KUBECONFIG);
        for context in ["plugin", "legacy-plugin"] {
            let error = case.context(context).await.unwrap_err();
            assert!(matches!(error, Error::ExecNotAllowed { .. }), "{error}");
            assert!(error.to_string().contains("/bin/false"), "{error}");
        }
        let allowed = ConnectOptions {
            context: Some("plugin".to_owned()),
            allow_exec: vec!["/bin/false".to_owned()],
            ..case.options()
        };
        let error = Cluster::connect(&allowed).await.unwrap_err();
        assert!(matches!(error, Error::Credential { .. }), "{error:?}");
        let named = |entry: &str| vec![entry.to_owned()];
        assert!(is_allowed("/usr/bin/aws", &named("aws")));
        assert!(!is_allowed("/tmp/aws", &named("/usr/bin/aws")));
        assert!(!is_allowed("aws-evil", &named("aws")));
        assert!(!is_allowed("", &named("")));
    }

    #[tokio::test]
    async fn a_context_without_its_user_or_cluster_is_refused() {
        let case = Case::new(KUBECONFIG);
        let error = case.context("nobody").await.unwrap_err();
        assert!(error.to_string().contains("user `nobody`"), "{error}");
        let error = case.context("nowhere").await.unwrap_err();
        assert!(error.to_string().contains("cluster `two`"), "{error}");
    }

    #[tokio::test]
    async fn a_file_that_is_not_a_kubeconfig_is_refused_without_quoting_it() {
        let case = Case::new("token: [secret-token\n  - {");
        let error = Cluster::connect(&case.options()).await.unwrap_err();
        assert!(
            matches!(error, Error::KubeconfigInvalid { .. }),
            "{error:?}"
        );
        assert!(!format!("{error} {error:?}").contains("secret-token"));
    }

    #[tokio::test]
    async fn a_missing_kubeconfig_is_named() {
        let missing = ConnectOptions {
            kubeconfig: Some(PathBuf::from("/nowhere/config")),
            ..ConnectOptions::default()
        };
        let error = Cluster::connect(&missing).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "no kubeconfig: `/nowhere/config` does not exist"
        );
        let error = Cluster::connect(&ConnectOptions::default())
            .await
            .unwrap_err();
        assert!(error.to_string().contains("not a pod"), "{error}");
    }

    #[tokio::test]
    async fn a_kubeconfig_list_skips_files_that_are_not_there() {
        let case = Case::new(KUBECONFIG);
        let list = std::env::join_paths([
            PathBuf::from("/nowhere/config"),
            case.folder.path().join("config"),
        ])
        .unwrap();
        let options = ConnectOptions {
            kubeconfig: Some(PathBuf::from(list)),
            ..ConnectOptions::default()
        };
        assert_eq!(
            Cluster::connect(&options).await.unwrap().namespace(),
            "shop"
        );
    }
}
