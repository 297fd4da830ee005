//! The ways in which other programs start this one: as an exec plugin of Kubernetes' clients, as a
//! `credential_process` of AWS's, and under another name as a credential helper of registries' clients.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand};
use switchyard_runner::{Environment, Failure, Plugin, PluginContext, program};

use crate::aws::{CredentialProcess, PROCESS};
use crate::credential::{self, Credential, WORD};
use crate::registry::{Helper, PROGRAM};

/// Gives clients of clusters, of AWS and of registries what they ask for
#[derive(Debug, Parser)]
#[command(name = "oidc-login")]
pub struct OidcPlugin {
    #[command(subcommand)]
    call: Call,
}

#[derive(Debug, Subcommand)]
enum Call {
    Credential(Credential),
    #[command(name = PROCESS)]
    CredentialProcess(CredentialProcess),
    #[command(name = PROGRAM)]
    DockerCredential(Helper),
}

/// The file that other programs start.
///
/// # Errors
/// Of kind bug when the operating system does not say where it is.
pub(crate) fn own_path() -> Result<PathBuf, Failure> {
    program::own_path().map_err(|cause| {
        Failure::bug(anyhow::Error::new(cause).context("find the path of this program"))
    })
}

impl Plugin for OidcPlugin {
    const NAME: &'static str = "oidc-login";

    fn called(arguments: &[OsString]) -> Option<Vec<OsString>> {
        let program = arguments.first()?;
        let is_helper = Path::new(program)
            .file_name()
            .is_some_and(|name| name == PROGRAM);
        let word = match arguments.get(1) {
            _ if is_helper => Some(OsString::from(PROGRAM)),
            Some(word) if word == WORD || word == PROCESS => None,
            Some(_) | None => return None,
        };
        let rest = arguments[1..].iter().cloned();
        Some(
            std::iter::once(program.clone())
                .chain(word)
                .chain(rest)
                .collect(),
        )
    }

    fn kept(arguments: &[OsString], environment: &Environment) -> Option<String> {
        match arguments {
            [_, call @ ..] if call.first().is_some_and(|word| word == WORD) => {
                credential::kept(call, environment)
            }
            _ => None,
        }
    }

    async fn run(self, context: &PluginContext) -> Result<String, Failure> {
        match self.call {
            Call::Credential(credential) => credential.run(context).await,
            Call::CredentialProcess(process) => process.run(context).await,
            Call::DockerCredential(helper) => helper.run(context).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn called(arguments: &[&str]) -> bool {
        let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
        OidcPlugin::called(&arguments).is_some_and(|left| OidcPlugin::try_parse_from(left).is_ok())
    }

    #[test]
    fn the_helper_is_known_by_the_name_of_the_program() {
        assert!(called(&["/tmp/x/docker-credential-switchyard", "get"]));
        assert!(called(&["docker-credential-switchyard", "list"]));
        assert!(!called(&["docker-credential-switchyard", "steal"]));
        assert!(!called(&["/opt/oidc-login", "get"]));
        assert!(!called(&["/opt/oidc-login"]));
    }
}
