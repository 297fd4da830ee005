//! The inputs of every command: the only place where they are declared.
//!
//! Values are parsed into types that cannot hold nonsense; what they mean is decided by the commands.

mod value;

use std::path::PathBuf;

use clap::{ArgAction, Args, Subcommand, ValueEnum};
use switchyard_http::DisplaySafeUrl;
use switchyard_runner::{List, Secret, values};

use crate::aws::{self, ClusterName, ProfileName};
use crate::azure::{Cloud, ClusterRef};
use crate::credential::{Application, Assume, Network};
use crate::explain::Expectations;
use crate::registry::{Entering, RegistryName};

pub(crate) use value::{ApplicationId, CertificateAuthority, HttpsUrl, TenantName};

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Log in to clusters of Azure (AKS) and write a kubeconfig for them
    Azure(Box<AzureArgs>),
    /// Assume a role of AWS, and write a kubeconfig for clusters of EKS
    Aws(Box<AwsArgs>),
    /// Enter GitHub's registry for docker and its kin, with the job's own token
    Ghcr(GhcrArgs),
    /// Write a kubeconfig for a cluster that trusts GitHub's issuer itself
    Direct(DirectArgs),
    /// Show what this job's token says, how that differs from what is expected, and what would match
    Explain(ExplainArgs),
}

/// Inputs of `azure`.
#[derive(Debug, Args)]
pub(crate) struct AzureArgs {
    #[command(flatten)]
    pub(crate) application: Application,
    /// Subscription of the clusters
    #[arg(long)]
    pub(crate) subscription: Option<String>,
    /// Resource group of the clusters
    #[arg(long)]
    pub(crate) resource_group: Option<String>,
    /// Clusters to log in to, each by its name
    ///
    /// `azure` also takes `group/name` and whole resource ids. The kubeconfig has a context for each, named after it; the first is the current one.
    #[arg(long, default_value = "")]
    pub(crate) cluster: List<ClusterRef>,
    #[command(flatten)]
    pub(crate) registries: RegistryArgs,
    /// Reach private clusters by their public addresses
    #[arg(long, value_parser = values::boolean, default_value = "false", num_args = 0..=1, default_missing_value = "true", action = ArgAction::Set)]
    pub(crate) public_fqdn: bool,
    /// Take a client certificate where a cluster has no Entra authentication
    ///
    /// Such a certificate makes its holder the cluster's administrator until it expires, and nobody can
    /// take it back; without this input it is refused.
    #[arg(long, value_parser = values::boolean, default_value = "false", num_args = 0..=1, default_missing_value = "true", action = ArgAction::Set)]
    pub(crate) admin: bool,
    /// Base URL of Azure Resource Manager; the cloud's when it is not given
    #[arg(long)]
    pub(crate) resource_manager_url: Option<HttpsUrl>,
    #[command(flatten)]
    pub(crate) login: LoginArgs,
}

/// Inputs of every login to clusters.
#[derive(Debug, Args)]
pub(crate) struct LoginArgs {
    /// Subject that was configured, to explain a refusal by the difference
    ///
    /// `explain` fails when the token has another one.
    #[arg(long)]
    pub(crate) expected_subject: Option<String>,
    /// File to write, below RUNNER_TEMP; a new one of its own when it is not given
    ///
    /// Nothing that is there already is written over.
    #[arg(long)]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// How services are reached.
    #[command(flatten)]
    pub(crate) network: Network,
}

impl LoginArgs {
    pub(crate) fn expectations(&self) -> Expectations {
        Expectations {
            subject: self.expected_subject.clone(),
            audience: None,
        }
    }
}

/// Inputs of every login to registries.
#[derive(Debug, Args)]
pub(crate) struct RegistryArgs {
    /// Registries to enter in docker's configuration, each by its host
    ///
    /// docker, podman, skopeo and others then get a fresh password by themselves in the following steps.
    #[arg(long, default_value = "")]
    pub(crate) registry: List<RegistryName>,
    /// How the following steps get at the registries' passwords
    ///
    /// With `helper`, clients ask this program, and no password is stored. With `file` the passwords are
    /// written into a configuration of its own below RUNNER_TEMP, for clients that ask no helper: give
    /// output `docker-config` to a step as `DOCKER_CONFIG`. Passwords of ACR and ECR outlive the job.
    #[arg(long, value_enum, default_value = "helper")]
    pub(crate) registry_credentials: Entering,
}

impl AzureArgs {
    pub(crate) fn resource_manager(&self) -> DisplaySafeUrl {
        let given = self.resource_manager_url.as_ref();
        self.application
            .cloud
            .url_or(given, Cloud::resource_manager)
    }
}

/// Inputs of `aws`.
#[derive(Debug, Args)]
pub(crate) struct AwsArgs {
    #[command(flatten)]
    pub(crate) assume: Assume,
    /// Clusters to log in to
    #[arg(long, default_value = "")]
    pub(crate) cluster: List<ClusterName>,
    #[command(flatten)]
    pub(crate) registries: RegistryArgs,
    /// Base URL of EKS; the region's when it is not given
    #[arg(long)]
    pub(crate) eks_url: Option<HttpsUrl>,
    /// Base URL of ECR; the region's when it is not given
    #[arg(long)]
    pub(crate) ecr_url: Option<HttpsUrl>,
    /// Name of a profile for later steps, in an AWS configuration file of its own
    ///
    /// AWS's command line and SDKs then ask this program for the role's session, and get the next one by
    /// themselves. Give output `aws-config` to a step as `AWS_CONFIG_FILE`, and this name as `AWS_PROFILE`.
    #[arg(long)]
    pub(crate) profile: Option<ProfileName>,
    /// Put the keys of the session into the environment of every later step
    ///
    /// Each of them is the role from then on, until the session ends; no step gets another one. `profile`
    /// serves only the steps that ask for it, and for as long as they take.
    #[arg(long, value_parser = values::boolean, default_value = "false", num_args = 0..=1, default_missing_value = "true", action = ArgAction::Set)]
    pub(crate) export_credentials: bool,
    #[command(flatten)]
    pub(crate) login: LoginArgs,
}

impl AwsArgs {
    pub(crate) fn ecr(&self) -> HttpsUrl {
        let own = || self.assume.region.url(aws::Service::Ecr).into();
        self.ecr_url.clone().unwrap_or_else(own)
    }

    pub(crate) fn eks(&self) -> DisplaySafeUrl {
        let own = || self.assume.region.url(aws::Service::Eks);
        self.eks_url
            .as_ref()
            .map_or_else(own, |given| given.url().clone())
    }
}

/// Inputs of `ghcr`.
#[derive(Debug, Args)]
pub(crate) struct GhcrArgs {
    /// The job's token, `github.token`
    #[arg(long)]
    pub(crate) github_token: Secret,
    /// Registries to enter in docker's configuration
    #[arg(long, default_value = "ghcr.io")]
    pub(crate) registry: List<RegistryName>,
    /// How the following steps get at the registries' passwords
    #[arg(long, value_enum, default_value = "helper")]
    pub(crate) registry_credentials: Entering,
    /// How the registry is reached.
    #[command(flatten)]
    pub(crate) network: Network,
}

/// Inputs of `direct`.
#[derive(Debug, Args)]
pub(crate) struct DirectArgs {
    /// URL of the cluster's API server
    #[arg(long)]
    pub(crate) server: HttpsUrl,
    /// Certificate authority of the cluster: a PEM file, or the PEM text itself
    ///
    /// The system's own authorities when it is not given.
    #[arg(long)]
    pub(crate) certificate_authority: Option<CertificateAuthority>,
    /// Audience of GitHub's token
    #[arg(long)]
    pub(crate) audience: String,
    /// Name of the context in the kubeconfig, and of its cluster
    #[arg(long, default_value = "cluster")]
    pub(crate) context: String,
    #[command(flatten)]
    pub(crate) login: LoginArgs,
}

/// Inputs of `explain`.
#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// `-` reads the token from standard input instead of asking GitHub for one
    #[arg(value_enum)]
    pub(crate) source: Option<Source>,
    /// Azure's cloud
    #[arg(long, value_enum)]
    pub(crate) cloud: Option<Cloud>,
    /// Audience of GitHub's token
    #[arg(long)]
    pub(crate) audience: Option<String>,
    /// Subject that was configured, to explain a refusal by the difference
    #[arg(long)]
    pub(crate) expected_subject: Option<String>,
    /// How GitHub is reached.
    #[command(flatten)]
    pub(crate) network: Network,
}

impl ExplainArgs {
    /// The audience that was asked for, where one was.
    pub(crate) fn given_audience(&self) -> Option<String> {
        let of_cloud = || self.cloud.map(|cloud| cloud.audience().to_owned());
        self.audience.clone().or_else(of_cloud)
    }

    pub(crate) fn audience(&self) -> String {
        let default = || Cloud::Public.audience().to_owned();
        self.given_audience().unwrap_or_else(default)
    }
}

/// Where `explain` gets a token from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Source {
    /// Standard input.
    #[value(name = "-")]
    StandardInput,
}
