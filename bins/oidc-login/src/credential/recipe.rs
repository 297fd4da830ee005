//! How a token is got, as data: the arguments of our exec plugin in a kubeconfig, and back.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use switchyard_runner::values;

/// How a token for a cluster is got.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub(crate) enum Recipe {
    /// A token of Entra, for which GitHub's is exchanged
    Azure(Entra),
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

impl Recipe {
    /// The arguments that read back as this recipe, the plugin's name first.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let mut arguments = vec![super::WORD.to_owned()];
        let mut say = |texts: &[(&str, &str)]| {
            for (flag, value) in texts {
                arguments.push(format!("--{flag}={value}"));
            }
        };
        let (kind, network) = match self {
            Self::Azure(entra) => {
                say(&[
                    ("tenant", &entra.tenant),
                    ("client-id", &entra.client_id),
                    ("authority", &entra.authority),
                    ("audience", &entra.audience),
                    ("scope", &entra.scope),
                ]);
                ("azure", &entra.network)
            }
            Self::Github(github) => {
                say(&[("audience", &github.audience)]);
                ("github", &github.network)
            }
        };
        say(&[("timeout", &format!("{}ms", network.timeout.as_millis()))]);
        if let Some(path) = &network.extra_ca {
            say(&[("extra-ca", &path.display().to_string())]);
        }
        arguments.insert(1, kind.to_owned());
        arguments
    }

    pub(crate) fn network(&self) -> &Network {
        match self {
            Self::Azure(entra) => &entra.network,
            Self::Github(github) => &github.network,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use clap::Parser as _;
    use switchyard_runner::Plugin as _;

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
        for recipe in [Recipe::Azure(entra), Recipe::Github(github)] {
            let program = [OsString::from("/opt/oidc-login")].into_iter();
            let call: Vec<OsString> = program
                .chain(recipe.arguments().into_iter().map(Into::into))
                .collect();
            let left = Credential::called(&call).unwrap();
            assert_eq!(Credential::try_parse_from(left).unwrap().recipe, recipe);
        }
    }
}
