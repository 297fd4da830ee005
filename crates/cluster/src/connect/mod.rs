//! From a kubeconfig or a pod's service account to a client that cannot hang.
//! It refuses to read the process environment: paths and variables come in as data.

mod client;
mod file;
mod kubeconfig;
mod own_plugin;
#[cfg(test)]
mod tests;

use std::{fmt, path::PathBuf, sync::Arc};

use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client, Resource, core::NamespaceResourceScope};

pub use self::own_plugin::OwnPlugin;
use self::{
    client::{build_client, install_crypto_provider},
    kubeconfig::{from_kubeconfig, from_service_account},
};
use crate::{
    discovery::DiscoveryCache,
    error::{Error, Result},
    objects::Objects,
    operation::{Operation, Verb},
    proxy::ProxyEnvironment,
    read::Deadline,
};

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
    /// Our own credential plugin, which needs no entry there in a kubeconfig that our login wrote.
    pub own_plugin: Option<OwnPlugin>,
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
