//! What the helper knows of a registry: a private file of the job for each. A file holds how a password is
//! got, and the password itself only where it dies with the job.

use std::path::Path;

use clap::{Args, Parser, Subcommand};
use serde::{Deserialize, Serialize};
use switchyard_runner::Secret;

use super::name::RegistryName;
use crate::credential::{Assume, Entra, Network, Recipe};
use crate::inputs::HttpsUrl;
use crate::private::{self, PrivateFolder, Problem};

const BEGIN: &str = "registry-";
const END: &str = ".json";

/// How a registry's password is got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Way {
    /// It is the job's own token.
    Ghcr(Secret),
    /// ACR gives it for a token of Entra.
    Acr(Box<Entra>),
    /// ECR gives it to the session of a role.
    Ecr(Box<Ecr>),
}

/// A password of ECR.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub(crate) struct Ecr {
    /// Base URL of ECR
    #[arg(long)]
    pub(crate) ecr_url: HttpsUrl,
    /// How the session is got
    #[command(flatten)]
    pub(crate) assume: Assume,
    /// How AWS is reached
    #[command(flatten)]
    pub(crate) network: Network,
}

/// A way as arguments: all that is not secret.
#[derive(Debug, Parser)]
struct Written {
    #[command(subcommand)]
    way: WrittenWay,
}

#[derive(Debug, Subcommand)]
enum WrittenWay {
    Ghcr,
    Acr(Box<Entra>),
    Ecr(Box<Ecr>),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    registry: String,
    way: Vec<String>,
    secret: Option<String>,
}

/// Why an entry is not used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unusable {
    #[error(transparent)]
    File(#[from] Problem),
    #[error("the file of registry `{0}` does not hold what we wrote")]
    Corrupt(RegistryName),
}

impl Way {
    /// Remembers the way to this registry for the job, over the one that may be there.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn remember(
        &self,
        runner_temp: &Path,
        registry: &RegistryName,
    ) -> Result<(), Problem> {
        let (way, secret) = match self {
            Self::Ghcr(token) => (vec!["ghcr".to_owned()], Some(token.expose().to_owned())),
            Self::Acr(entra) => {
                let arguments = Recipe::Azure(entra.as_ref().clone())
                    .arguments()
                    .into_iter();
                let way = std::iter::once("acr".to_owned()).chain(arguments.skip(2));
                (way.collect(), None)
            }
            Self::Ecr(ecr) => {
                let mut way = vec![
                    "ecr".to_owned(),
                    format!("--ecr-url={}", ecr.ecr_url.url().expose()),
                ];
                way.extend(ecr.assume.arguments());
                way.extend(ecr.network.arguments());
                (way, None)
            }
        };
        let entry = Entry {
            registry: registry.to_string(),
            way,
            secret,
        };
        let text = serde_json::to_string(&entry).unwrap_or_default();
        let folder = PrivateFolder::below(runner_temp)?;
        private::replace(&folder.file(&file_name(registry)), &text)
    }

    /// The way to a registry that this job was shown; `None` where it was shown none.
    ///
    /// # Errors
    /// When there is something else in its place.
    pub(crate) fn recall(
        runner_temp: &Path,
        registry: &RegistryName,
    ) -> Result<Option<Self>, Unusable> {
        let folder = PrivateFolder::below(runner_temp)?;
        let Some(text) = private::read(&folder.file(&file_name(registry)))? else {
            return Ok(None);
        };
        let corrupt = || Unusable::Corrupt(registry.clone());
        let entry: Entry = serde_json::from_str(&text).map_err(|_| corrupt())?;
        if entry.registry != registry.as_str() {
            return Err(corrupt());
        }
        let program = std::iter::once(super::PROGRAM.to_owned());
        let written = Written::try_parse_from(program.chain(entry.way)).map_err(|_| corrupt())?;
        match (written.way, entry.secret) {
            (WrittenWay::Ghcr, Some(token)) => Ok(Some(Self::Ghcr(Secret::new(token)))),
            (WrittenWay::Acr(entra), None) => Ok(Some(Self::Acr(entra))),
            (WrittenWay::Ecr(ecr), None) => Ok(Some(Self::Ecr(ecr))),
            (WrittenWay::Ghcr, None) | (WrittenWay::Acr(_) | WrittenWay::Ecr(_), Some(_)) => {
                Err(corrupt())
            }
        }
    }

    /// The user name that goes with the password.
    pub(crate) fn user(&self) -> &'static str {
        match self {
            // GHCR looks at the token alone.
            Self::Ghcr(_) => "x-access-token",
            Self::Acr(_) => "00000000-0000-0000-0000-000000000000",
            Self::Ecr(_) => "AWS",
        }
    }
}

/// Forgets the way to a registry.
///
/// # Errors
/// When its file cannot be taken away.
pub(crate) fn forget(runner_temp: &Path, registry: &RegistryName) -> Result<(), Problem> {
    let path = PrivateFolder::below(runner_temp)?.file(&file_name(registry));
    match std::fs::remove_file(&path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => Err(Problem::Io {
            what: "take away",
            path,
            source,
        }),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Every registry that this job was shown.
///
/// # Errors
/// When the folder cannot be read.
pub(crate) fn known(runner_temp: &Path) -> Result<Vec<RegistryName>, Problem> {
    let folder = PrivateFolder::below(runner_temp)?.file("");
    let entries = std::fs::read_dir(&folder).map_err(|source| Problem::Io {
        what: "read",
        path: folder,
        source,
    })?;
    let names = entries.flatten().filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        let name = name
            .strip_prefix(BEGIN)?
            .strip_suffix(END)?
            .replace('_', ":");
        name.parse().ok()
    });
    Ok(names.collect())
}

/// No name of a host has an underscore.
fn file_name(registry: &RegistryName) -> String {
    format!("{BEGIN}{}{END}", registry.as_str().replace(':', "_"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::azure::Cloud;
    use crate::credential::Application;

    fn ways() -> [Way; 3] {
        let network = Network {
            timeout: Duration::from_millis(1500),
            extra_ca: Some("/etc/a b.pem".into()),
        };
        let entra = Entra {
            application: Application {
                tenant: "t".parse().unwrap(),
                client_id: "01234567-89ab-cdef-0123-456789abcdef".parse().unwrap(),
                cloud: Cloud::Public,
                audience: Some("api://AzureADTokenExchange".to_owned()),
                authority_url: Some("https://login.microsoftonline.com".parse().unwrap()),
            },
            scope: "https://containerregistry.azure.net/.default".to_owned(),
            network: network.clone(),
        };
        let ecr = Ecr {
            ecr_url: "https://api.ecr.eu-central-1.amazonaws.com"
                .parse()
                .unwrap(),
            assume: Assume {
                region: "eu-central-1".parse().unwrap(),
                role: "arn:aws:iam::111122223333:role/deploy".parse().unwrap(),
                chained_role: None,
                role_session_name: Some("run-1".parse().unwrap()),
                session_duration: "15m".parse().unwrap(),
                audience: Some("sts.amazonaws.com".to_owned()),
                sts_url: Some("https://sts.eu-central-1.amazonaws.com".parse().unwrap()),
            },
            network,
        };
        [
            Way::Ghcr(Secret::new("hunter2")),
            Way::Acr(Box::new(entra)),
            Way::Ecr(Box::new(ecr)),
        ]
    }

    #[test]
    fn a_way_is_recalled_for_its_own_registry_until_it_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let registry: RegistryName = "127.0.0.1:5000".parse().unwrap();
        let other: RegistryName = "ghcr.io".parse().unwrap();
        for way in ways() {
            way.remember(folder.path(), &registry).unwrap();
            let recalled = Way::recall(folder.path(), &registry).unwrap();
            assert_eq!(recalled, Some(way));
        }
        assert_eq!(Way::recall(folder.path(), &other).unwrap(), None);
        assert_eq!(
            known(folder.path()).unwrap(),
            std::slice::from_ref(&registry)
        );
        forget(folder.path(), &registry).unwrap();
        assert_eq!(Way::recall(folder.path(), &registry).unwrap(), None);
        forget(folder.path(), &registry).unwrap();
    }
}
