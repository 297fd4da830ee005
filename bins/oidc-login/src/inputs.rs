//! The inputs of every command: the only place where they are declared.
//!
//! Values are parsed into types that cannot hold nonsense; what they mean is decided by the commands.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{ArgAction, Args, Subcommand, ValueEnum};
use switchyard_http::DisplaySafeUrl;
use switchyard_runner::{List, Secret, values};

use crate::aws::{self, ClusterName, Region, RoleArn, SessionLength, SessionName};
use crate::azure::{Cloud, ClusterRef};
use crate::credential::Network;
use crate::registry::RegistryName;

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
    /// Tenant of the application: its id, or one of its domains
    #[arg(long)]
    pub(crate) tenant: TenantName,
    /// Client id of the application or of the user-assigned identity
    #[arg(long)]
    pub(crate) client_id: ApplicationId,
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
    /// Registries to enter in docker's configuration, each by its host
    ///
    /// docker, podman, skopeo and others then get a fresh password by themselves in the following steps.
    #[arg(long, default_value = "")]
    pub(crate) registry: List<RegistryName>,
    /// Reach private clusters by their public addresses
    #[arg(long, value_parser = values::boolean, default_value = "false", num_args = 0..=1, default_missing_value = "true", action = ArgAction::Set)]
    pub(crate) public_fqdn: bool,
    /// Take a client certificate where a cluster has no Entra authentication
    ///
    /// Such a certificate makes its holder the cluster's administrator until it expires, and nobody can
    /// take it back; without this input it is refused.
    #[arg(long, value_parser = values::boolean, default_value = "false", num_args = 0..=1, default_missing_value = "true", action = ArgAction::Set)]
    pub(crate) admin: bool,
    /// Azure's cloud
    #[arg(long, value_enum, default_value = "public")]
    pub(crate) cloud: Cloud,
    /// Audience of GitHub's token
    ///
    /// `azure`, `explain`: that of `cloud` when it is not given. `aws`: `sts.amazonaws.com` when it is not
    /// given. `direct`: the one that the API server takes.
    #[arg(long)]
    pub(crate) audience: Option<String>,
    /// Base URL of Entra; the cloud's when it is not given
    #[arg(long)]
    pub(crate) authority_url: Option<HttpsUrl>,
    /// Base URL of Azure Resource Manager; the cloud's when it is not given
    #[arg(long)]
    pub(crate) resource_manager_url: Option<HttpsUrl>,
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

impl AzureArgs {
    pub(crate) fn authority(&self) -> DisplaySafeUrl {
        url(self.authority_url.as_ref(), self.cloud.authority())
    }

    pub(crate) fn resource_manager(&self) -> DisplaySafeUrl {
        url(
            self.resource_manager_url.as_ref(),
            self.cloud.resource_manager(),
        )
    }

    pub(crate) fn audience(&self) -> String {
        let audience = self.audience.as_deref();
        audience.unwrap_or(self.cloud.audience()).to_owned()
    }
}

/// Inputs of `aws`.
#[derive(Debug, Args)]
pub(crate) struct AwsArgs {
    /// Region of STS and of the clusters, such as `eu-central-1`
    #[arg(long)]
    pub(crate) region: Region,
    /// ARN of the role whose trust policy takes GitHub's token
    #[arg(long)]
    pub(crate) role: RoleArn,
    /// ARN of a second role, which the first role's session assumes
    ///
    /// Clusters are logged in to as the second role. AWS ends its session after one hour.
    #[arg(long)]
    pub(crate) chained_role: Option<RoleArn>,
    /// Name of the session in CloudTrail; `switchyard-` and the id of the run when it is not given
    #[arg(long)]
    pub(crate) role_session_name: Option<SessionName>,
    /// Length of the role's session, `15m` to `12h`, and at most what the role allows
    ///
    /// A job that takes longer gets another session by itself.
    #[arg(long, default_value = "1h")]
    pub(crate) session_duration: SessionLength,
    /// Clusters to log in to
    #[arg(long, default_value = "")]
    pub(crate) cluster: List<ClusterName>,
    /// Registries to enter in docker's configuration
    #[arg(long, default_value = "")]
    pub(crate) registry: List<RegistryName>,
    /// Audience of GitHub's token
    #[arg(long)]
    pub(crate) audience: Option<String>,
    /// Base URL of STS; the region's when it is not given
    #[arg(long)]
    pub(crate) sts_url: Option<HttpsUrl>,
    /// Base URL of EKS; the region's when it is not given
    #[arg(long)]
    pub(crate) eks_url: Option<HttpsUrl>,
    /// Base URL of ECR; the region's when it is not given
    #[arg(long)]
    pub(crate) ecr_url: Option<HttpsUrl>,
    /// Subject that was configured, to explain a refusal by the difference
    #[arg(long)]
    pub(crate) expected_subject: Option<String>,
    /// File to write, below RUNNER_TEMP
    #[arg(long)]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// How services are reached.
    #[command(flatten)]
    pub(crate) network: Network,
}

impl AwsArgs {
    pub(crate) fn sts(&self) -> HttpsUrl {
        let own = || HttpsUrl(self.region.url(aws::Service::Sts));
        self.sts_url.clone().unwrap_or_else(own)
    }

    pub(crate) fn ecr(&self) -> HttpsUrl {
        let own = || HttpsUrl(self.region.url(aws::Service::Ecr));
        self.ecr_url.clone().unwrap_or_else(own)
    }

    pub(crate) fn eks(&self) -> DisplaySafeUrl {
        let own = || self.region.url(aws::Service::Eks);
        self.eks_url
            .as_ref()
            .map_or_else(own, |given| given.0.clone())
    }

    pub(crate) fn audience(&self) -> String {
        let audience = self.audience.as_deref();
        audience.unwrap_or(aws::AUDIENCE).to_owned()
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
    /// Subject that was configured, to explain a refusal by the difference
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

/// The id of an application: `8-4-4-4-12` hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ApplicationId(String);

impl FromStr for ApplicationId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let lengths: Vec<usize> = text.split('-').map(str::len).collect();
        let is_id =
            lengths == [8, 4, 4, 4, 12] && text.chars().all(|c| c == '-' || c.is_ascii_hexdigit());
        if is_id {
            Ok(Self(text.to_owned()))
        } else {
            Err("an id like `01234567-89ab-cdef-0123-456789abcdef` is needed".to_owned())
        }
    }
}

impl fmt::Display for ApplicationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A tenant, by its id or a domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TenantName(String);

impl FromStr for TenantName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_name = text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || ".-".contains(c))
            && text.chars().any(|c| c.is_ascii_alphanumeric());
        if is_name {
            Ok(Self(text.to_owned()))
        } else {
            Err("the tenant's id or one of its domains is needed".to_owned())
        }
    }
}

impl fmt::Display for TenantName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A certificate authority, which is no secret and may be given as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CertificateAuthority {
    File(PathBuf),
    /// PEM text.
    Text(String),
}

impl FromStr for CertificateAuthority {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
        const END: &str = "-----END CERTIFICATE-----";
        let text = text.trim();
        if !text.starts_with("-----BEGIN") {
            return Ok(Self::File(text.into()));
        }
        if text.starts_with(BEGIN) && text.ends_with(END) {
            Ok(Self::Text(format!("{text}\n")))
        } else {
            Err(format!(
                "PEM text of certificates alone is needed, from `{BEGIN}` to `{END}`"
            ))
        }
    }
}

/// The base URL of a service that is shown tokens: always with TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HttpsUrl(DisplaySafeUrl);

impl HttpsUrl {
    pub(crate) fn url(&self) -> &DisplaySafeUrl {
        &self.0
    }
}

impl FromStr for HttpsUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let url = DisplaySafeUrl::parse(text).map_err(|cause| cause.to_string())?;
        let exposed = url.expose();
        if exposed.scheme() != "https" {
            return Err("tokens are sent there: it must begin with `https://`".to_owned());
        }
        if exposed.query().is_some()
            || exposed.fragment().is_some()
            || !exposed.username().is_empty()
        {
            return Err("it must be a base URL, without user, query and fragment".to_owned());
        }
        Ok(Self(url))
    }
}

fn url(given: Option<&HttpsUrl>, default: &str) -> DisplaySafeUrl {
    match given {
        Some(HttpsUrl(url)) => url.clone(),
        None => DisplaySafeUrl::parse(default).expect("the clouds' URLs are URLs"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_application_is_named_by_its_id_alone() {
        assert!(
            "01234567-89ab-cdef-0123-456789abcdef"
                .parse::<ApplicationId>()
                .is_ok()
        );
        for text in [
            "",
            "my-app",
            "01234567-89ab-cdef-0123-456789abcdeg",
            "0123456789abcdef0123456789abcdef",
        ] {
            assert!(text.parse::<ApplicationId>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_tenant_cannot_lead_to_another_path() {
        assert!("example.onmicrosoft.com".parse::<TenantName>().is_ok());
        for text in ["", "..", "a/b", "a?b", "a b"] {
            assert!(text.parse::<TenantName>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_authority_is_a_file_or_the_text_of_certificates() {
        let read = |text: &str| text.parse::<CertificateAuthority>();
        let pem = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----";
        assert_eq!(
            read("ca.pem").unwrap(),
            CertificateAuthority::File("ca.pem".into())
        );
        let text = CertificateAuthority::Text(format!("{pem}\n"));
        assert_eq!(read(&format!("{pem}\n\n")).unwrap(), text);
        assert!(read("-----BEGIN PRIVATE KEY-----").is_err());
        assert!(read(&pem.replace('\n', " ")[..40]).is_err());
    }

    #[test]
    fn tokens_are_sent_nowhere_without_tls() {
        assert!("https://login.example.test".parse::<HttpsUrl>().is_ok());
        for text in [
            "http://login.example.test",
            "https://u@x.test",
            "https://x.test?y",
            "x.test",
        ] {
            assert!(text.parse::<HttpsUrl>().is_err(), "{text}");
        }
    }

    #[test]
    fn every_cloud_has_its_services() {
        for cloud in Cloud::value_variants() {
            let _ = url(None, cloud.authority());
            let _ = url(None, cloud.resource_manager());
        }
    }
}
