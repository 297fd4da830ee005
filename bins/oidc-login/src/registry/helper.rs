//! `docker-credential-switchyard`: this program under the name that docker, podman, skopeo and others look
//! for. <https://github.com/docker/docker-credential-helpers>

use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::{Parser, ValueEnum};
use serde_json::json;
use switchyard_runner::{Failure, Kind, PluginContext, Secret};

use super::entry::{self, Way};
use super::grant::password;
use super::name::RegistryName;
use crate::explain::Expectations;
use crate::github::TokenSource;
use crate::session::{Session, unavailable, within};

/// How clients' configuration calls the helper.
pub(crate) const SHORT_NAME: &str = "switchyard";
/// How clients start it.
pub(crate) const PROGRAM: &str = "docker-credential-switchyard";

/// Longest text read from standard input, in bytes.
const LONGEST: u64 = 64 * 1024;

/// Gives clients of registries their passwords, by the protocol of docker's credential helpers
#[derive(Debug, Parser)]
pub(crate) struct Helper {
    /// What to do; more is said on standard input.
    #[arg(value_enum)]
    operation: Operation,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Operation {
    Get,
    Store,
    Erase,
    List,
}

impl Helper {
    /// Answers as the protocol wants it.
    ///
    /// # Errors
    /// When there is no password for the registry.
    pub(crate) async fn run(self, context: &PluginContext) -> Result<String, Failure> {
        let runner_temp = context.environment.get("RUNNER_TEMP").map(PathBuf::from);
        let runner_temp = runner_temp.ok_or_else(|| {
            Failure::message(Kind::Input, "RUNNER_TEMP is not set")
                .hint("the helper works inside of the job that logged in")
        })?;
        match self.operation {
            Operation::Get => get(context, &runner_temp, &asked()?).await,
            Operation::Store => Err(Failure::message(
                Kind::Input,
                "passwords are not kept: `oidc-login` gets them when they are needed",
            )
            .hint("leave `docker login` out for this registry")),
            Operation::Erase => {
                let problem = |problem| Failure::remote(anyhow::Error::new(problem));
                entry::forget(&runner_temp, &asked()?).map_err(problem)?;
                Ok(String::new())
            }
            Operation::List => list(&runner_temp),
        }
    }
}

fn asked() -> Result<RegistryName, Failure> {
    let mut text = String::new();
    let read = std::io::stdin()
        .lock()
        .take(LONGEST)
        .read_to_string(&mut text);
    let registry = read.ok().and_then(|_| RegistryName::of_client(&text));
    registry.ok_or_else(|| {
        Failure::message(Kind::Input, "standard input names no registry by its host")
    })
}

async fn get(
    context: &PluginContext,
    runner_temp: &Path,
    registry: &RegistryName,
) -> Result<String, Failure> {
    let way = Way::recall(runner_temp, registry).map_err(Failure::input)?;
    let way = way.ok_or_else(|| {
        let text = format!("this job has not logged in to registry `{registry}`");
        Failure::message(Kind::Input, text).hint("log in with `oidc-login` first, in the same job")
    })?;
    let network = match &way {
        Way::Ghcr(token) => return Ok(answer(registry, &way, token)),
        Way::Acr(entra) => &entra.network,
        Way::Ecr(ecr) => &ecr.network,
    };
    let source = TokenSource::read(&context.environment).map_err(unavailable)?;
    let session = Session::new(network, source, &context.environment, &context.console)?;
    let expectations = Expectations::default();
    let password = Box::pin(password(&session, registry, &way, &expectations));
    let password = within(network.timeout, "password", password).await?;
    Ok(answer(registry, &way, &password))
}

fn answer(registry: &RegistryName, way: &Way, password: &Secret) -> String {
    let answer = json!({
        "ServerURL": registry.as_str(), "Username": way.user(), "Secret": password.expose(),
    });
    answer.to_string()
}

fn list(runner_temp: &Path) -> Result<String, Failure> {
    let known = entry::known(runner_temp).map_err(Failure::input)?;
    let mut users = serde_json::Map::new();
    for registry in known {
        if let Some(way) = Way::recall(runner_temp, &registry).map_err(Failure::input)? {
            users.insert(registry.to_string(), way.user().into());
        }
    }
    Ok(serde_json::Value::Object(users).to_string())
}
