//! How a token is got, as data: the arguments of our exec plugin in a kubeconfig, and back.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use switchyard_runner::values;

use crate::aws::{ClusterName, Region, RoleArn, SessionLength, SessionName};
use crate::inputs::HttpsUrl;

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
    /// Tenant of the application
    #[arg(long)]
    pub(crate) tenant: String,
    /// Client id of the application
    #[arg(long)]
    pub(crate) client_id: String,
    /// Base URL of Entra
    #[arg(long)]
    pub(crate) authority: String,
    /// Audience of GitHub's token
    #[arg(long)]
    pub(crate) audience: String,
    /// What the token of Entra is for
    #[arg(long)]
    pub(crate) scope: String,
    /// How Entra is reached
    #[command(flatten)]
    pub(crate) network: Network,
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
}

/// A session of a role at AWS.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub(crate) struct Assume {
    /// Region of the services
    #[arg(long)]
    pub(crate) region: Region,
    /// Role that takes GitHub's token
    #[arg(long)]
    pub(crate) role: RoleArn,
    /// Role that is assumed by the session of the first
    #[arg(long)]
    pub(crate) chained_role: Option<RoleArn>,
    /// Name of the session
    #[arg(long)]
    pub(crate) role_session_name: SessionName,
    /// Length of the session
    #[arg(long)]
    pub(crate) session_duration: SessionLength,
    /// Audience of GitHub's token
    #[arg(long)]
    pub(crate) audience: String,
    /// Base URL of STS
    #[arg(long)]
    pub(crate) sts_url: HttpsUrl,
    /// How AWS is reached
    #[command(flatten)]
    pub(crate) network: Network,
}

impl Assume {
    /// The arguments that read back as this.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let mut arguments = vec![
            format!("--region={}", self.region),
            format!("--role={}", self.role),
            format!("--role-session-name={}", self.role_session_name),
            format!("--session-duration={}", self.session_duration),
            format!("--audience={}", self.audience),
            format!("--sts-url={}", self.sts_url.url().expose()),
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
                let own = vec![
                    say("tenant", &entra.tenant),
                    say("client-id", &entra.client_id),
                    say("authority", &entra.authority),
                    say("audience", &entra.audience),
                    say("scope", &entra.scope),
                ];
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
            Self::Aws(eks) => &eks.assume.network,
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
            tenant: "example.onmicrosoft.com".to_owned(),
            client_id: "-starts-with-a-dash".to_owned(),
            authority: "https://login.microsoftonline.com".to_owned(),
            audience: "api://AzureADTokenExchange".to_owned(),
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
                role_session_name: "-run".parse().unwrap(),
                session_duration: "15m".parse().unwrap(),
                audience: "sts.amazonaws.com".to_owned(),
                sts_url: "https://sts.eu-central-1.amazonaws.com".parse().unwrap(),
                network: github.network.clone(),
            },
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
