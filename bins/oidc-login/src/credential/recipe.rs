//! How a token is got, as data: the arguments of our exec plugin in a kubeconfig, and back.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use switchyard_http::DisplaySafeUrl;
use switchyard_runner::values;

use crate::aws::{self, ClusterName, Region, RoleArn, SessionLength, SessionName};
use crate::azure::Cloud;
use crate::inputs::{ApplicationId, HttpsUrl, TenantName};

/// How a token for a cluster is got.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub(crate) enum Recipe {
    /// A token of Entra, for which GitHub's is exchanged
    Azure(Entra),
    /// A token of EKS, signed by the session of a role for which GitHub's is exchanged
    Aws(Box<Eks>),
    /// GitHub's own token, for a cluster that trusts its issuer
    Github(GitHub),
}

/// An exchange at Entra.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub(crate) struct Entra {
    /// Who is asked, and for whom
    #[command(flatten)]
    pub(crate) application: Application,
    /// What the token of Entra is for
    #[arg(long)]
    pub(crate) scope: String,
    /// How Entra is reached
    #[command(flatten)]
    pub(crate) network: Network,
}

/// An application at Entra that GitHub's token is exchanged for.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub(crate) struct Application {
    /// Tenant of the application: its id, or one of its domains
    #[arg(long)]
    pub(crate) tenant: TenantName,
    /// Client id of the application or of the user-assigned identity
    #[arg(long)]
    pub(crate) client_id: ApplicationId,
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
}

impl Application {
    pub(crate) fn authority(&self) -> DisplaySafeUrl {
        self.cloud
            .url_or(self.authority_url.as_ref(), Cloud::authority)
    }

    pub(crate) fn audience(&self) -> &str {
        let own = || self.cloud.audience();
        self.audience.as_deref().unwrap_or_else(own)
    }

    /// The arguments that read back as this. What is not given stands there as what it means.
    fn arguments(&self) -> Vec<String> {
        vec![
            format!("--tenant={}", self.tenant),
            format!("--client-id={}", self.client_id),
            format!("--cloud={}", self.cloud.name()),
            format!("--audience={}", self.audience()),
            format!("--authority-url={}", self.authority().expose()),
        ]
    }
}

/// A session of a role at AWS, signing for a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub(crate) struct Eks {
    /// Name of the cluster
    #[arg(long)]
    pub(crate) cluster: ClusterName,
    /// How the session is got
    #[command(flatten)]
    pub(crate) assume: Assume,
    /// How AWS is reached
    #[command(flatten)]
    pub(crate) network: Network,
}

/// A session of a role at AWS.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub(crate) struct Assume {
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
    /// Audience of GitHub's token
    #[arg(long)]
    pub(crate) audience: Option<String>,
    /// Base URL of STS; the region's when it is not given
    #[arg(long)]
    pub(crate) sts_url: Option<HttpsUrl>,
}

impl Assume {
    pub(crate) fn audience(&self) -> &str {
        self.audience.as_deref().unwrap_or(aws::AUDIENCE)
    }

    pub(crate) fn sts(&self) -> DisplaySafeUrl {
        let own = || self.region.url(aws::Service::Sts);
        let given = self.sts_url.as_ref();
        given.map_or_else(own, |given| given.url().clone())
    }

    pub(crate) fn session_name(&self) -> String {
        let given = self.role_session_name.as_ref();
        given.map_or_else(|| "switchyard".to_owned(), ToString::to_string)
    }

    /// The arguments that read back as this. What is not given stands there as what it means.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let mut arguments = vec![
            format!("--region={}", self.region),
            format!("--role={}", self.role),
            format!("--role-session-name={}", self.session_name()),
            format!("--session-duration={}", self.session_duration),
            format!("--audience={}", self.audience()),
            format!("--sts-url={}", self.sts().expose()),
        ];
        let chained = self.chained_role.as_ref();
        arguments.extend(chained.map(|role| format!("--chained-role={role}")));
        arguments
    }
}

/// GitHub's token alone.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub(crate) struct GitHub {
    /// Audience of GitHub's token
    #[arg(long)]
    pub(crate) audience: String,
    /// How GitHub is reached
    #[command(flatten)]
    pub(crate) network: Network,
}

/// How services are reached; the same inputs in every command.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub(crate) struct Network {
    /// Longest time for the whole command, repeats and waits included
    #[arg(long, default_value = "60s", value_parser = values::duration)]
    pub(crate) timeout: Duration,
    /// PEM file of certificate authorities to trust besides the system's own
    ///
    /// For GitHub and the cloud; a cluster is known by its own authority.
    #[arg(long)]
    pub(crate) extra_ca: Option<PathBuf>,
}

impl Network {
    /// The arguments that read back as this.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let mut arguments = vec![format!("--timeout={}ms", self.timeout.as_millis())];
        let extra_ca = self.extra_ca.as_ref();
        arguments.extend(extra_ca.map(|path| format!("--extra-ca={}", path.display())));
        arguments
    }
}

impl Recipe {
    /// The arguments that read back as this recipe, the plugin's name first.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let say = |flag: &str, value: &dyn std::fmt::Display| format!("--{flag}={value}");
        let (kind, own) = match self {
            Self::Azure(entra) => {
                let mut own = entra.application.arguments();
                own.push(say("scope", &entra.scope));
                ("azure", own)
            }
            Self::Aws(eks) => {
                let mut own = vec![say("cluster", &eks.cluster)];
                own.extend(eks.assume.arguments());
                ("aws", own)
            }
            Self::Github(github) => ("github", vec![say("audience", &github.audience)]),
        };
        let mut arguments = vec![super::WORD.to_owned(), kind.to_owned()];
        arguments.extend(own);
        arguments.extend(self.network().arguments());
        arguments
    }

    pub(crate) fn network(&self) -> &Network {
        match self {
            Self::Azure(entra) => &entra.network,
            Self::Aws(eks) => &eks.network,
            Self::Github(github) => &github.network,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::credential::Credential;

    #[test]
    fn a_recipe_reads_back_from_its_arguments() {
        let network = Network {
            timeout: Duration::from_millis(1500),
            extra_ca: Some("/etc/a b.pem".into()),
        };
        let entra = Entra {
            application: Application {
                tenant: "example.onmicrosoft.com".parse().unwrap(),
                client_id: "01234567-89ab-cdef-0123-456789abcdef".parse().unwrap(),
                cloud: Cloud::UsGov,
                audience: Some("-starts-with-a-dash".to_owned()),
                authority_url: Some("https://login.microsoftonline.com".parse().unwrap()),
            },
            scope: "6dae42f8-4368-4678-94ff-3960e28e3630/.default".to_owned(),
            network: network.clone(),
        };
        let github = GitHub {
            audience: "https://cluster.example.test".to_owned(),
            network: Network {
                extra_ca: None,
                ..network
            },
        };
        let eks = Eks {
            cluster: "shop".parse().unwrap(),
            assume: Assume {
                region: "eu-central-1".parse().unwrap(),
                role: "arn:aws:iam::111122223333:role/deploy".parse().unwrap(),
                chained_role: Some("arn:aws:iam::444455556666:role/a/b".parse().unwrap()),
                role_session_name: Some("-run".parse().unwrap()),
                session_duration: "15m".parse().unwrap(),
                audience: Some("sts.amazonaws.com".to_owned()),
                sts_url: Some("https://sts.eu-central-1.amazonaws.com".parse().unwrap()),
            },
            network: github.network.clone(),
        };
        let recipes = [
            Recipe::Azure(entra),
            Recipe::Aws(Box::new(eks)),
            Recipe::Github(github),
        ];
        for recipe in recipes {
            let arguments = recipe.arguments();
            assert_eq!(arguments[0], crate::credential::WORD);
            assert_eq!(
                Credential::try_parse_from(arguments).unwrap().recipe,
                recipe
            );
        }
    }
}
