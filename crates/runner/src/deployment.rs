//! The inputs that every command about a deployment shares. Plain values: what they mean is decided by
//! the crates that own clusters and records.

use std::path::PathBuf;

use crate::{Environment, List, values};

/// Which application of which cluster, and which deployment of it.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct DeploymentArgs {
    /// Name of the application in its namespace; the owner of the deployment record
    #[arg(long)]
    pub application: Option<String>,
    /// Name of the environment, such as `production`; part of the deployment's identity
    #[arg(long)]
    pub environment: Option<String>,
    /// Kubernetes namespace
    ///
    /// Taken from the kubeconfig's context when it is not given.
    #[arg(long)]
    pub namespace: Option<String>,
    /// Name of the cluster in the deployment's identity
    ///
    /// The kubeconfig's context name when it is not given.
    #[arg(long)]
    pub cluster: Option<String>,
    /// Path of the kubeconfig file; `KUBECONFIG` when it is not given
    #[arg(long)]
    pub kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig; its current one when it is not given
    #[arg(long)]
    pub context: Option<String>,
    /// Identity of the deployment, as the step that started it put out
    ///
    /// Computed from repository, run id, environment, cluster, namespace and application when it is not
    /// given, so that every step and every re-run of one workflow run speaks of the same deployment.
    #[arg(long)]
    pub deployment_id: Option<String>,
    /// Start a new deployment although this run's own one has ended
    #[arg(long, value_parser = values::boolean, default_value = "false", num_args = 0..=1, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub new_deployment: bool,
    /// Programs that a kubeconfig may start to get credentials, by file name
    ///
    /// A kubeconfig can name any program; none is started unless it is listed here. The plugin of our own
    /// login needs no entry in a kubeconfig that the login wrote in this job.
    #[arg(long, default_value = "")]
    pub allow_exec: List<String>,
}

impl DeploymentArgs {
    /// The kubeconfig's path: the input, else the first existing part of `KUBECONFIG`, else
    /// `$HOME/.kube/config` where that exists. `None` means: try the in-cluster configuration.
    #[must_use]
    pub fn kubeconfig_path(&self, environment: &Environment) -> Option<PathBuf> {
        if let Some(path) = &self.kubeconfig {
            return Some(path.clone());
        }
        if let Some(paths) = environment.get("KUBECONFIG") {
            let paths: Vec<PathBuf> = std::env::split_paths(paths)
                .filter(|path| !path.as_os_str().is_empty())
                .collect();
            let existing = paths.iter().find(|path| path.exists());
            return existing.or(paths.first()).cloned();
        }
        let home = PathBuf::from(environment.get("HOME")?).join(".kube/config");
        home.exists().then_some(home)
    }
}
