//! A login's part for registries: each gives a password first, and takes it; then the following steps get at
//! it, by our helper, which docker's configuration names, or by a file.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use switchyard_http::{HeaderValue, Request, StatusCode, header};
use switchyard_runner::{Context, Failure, Kind, Secret, file_command, program};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::docker_config::{DockerConfig, Untouched};
use super::entry::Way;
use super::file::{self, Password};
use super::grant::password;
use super::helper::PROGRAM;
use super::name::RegistryName;
use crate::explain::Expectations;
use crate::inputs::RegistryArgs;
use crate::private::{PrivateFolder, Problem};
use crate::session::Session;

/// How the following steps get at passwords.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Entering {
    Helper,
    File,
}

/// Registries, each with the way to its password.
pub(crate) struct Registration {
    pub(crate) registries: Vec<(RegistryName, Way)>,
    pub(crate) entering: Entering,
}

impl Registration {
    /// Registries whose passwords are all got in one way.
    pub(crate) fn of(args: &RegistryArgs, way: &Way) -> Self {
        let registries = args.registry.iter();
        Self {
            registries: registries
                .map(|registry| (registry.clone(), way.clone()))
                .collect(),
            entering: args.registry_credentials,
        }
    }
}

/// Logs in to these registries, and lets the following steps get at their passwords.
///
/// # Errors
/// Before anything was entered, when docker's configuration must not be touched, or a registry gives no
/// password or does not take it.
pub(crate) async fn enter(
    context: &Context,
    session: &Session,
    registration: &Registration,
    expectations: &Expectations,
) -> Result<(), Failure> {
    let registries = &registration.registries;
    let Some((first, _)) = registries.first() else {
        return Ok(());
    };
    let runner_temp = runner_temp(context)?;
    match registration.entering {
        Entering::Helper => {
            let config = DockerConfig::read(&context.environment);
            let mut config = config.map_err(Untouched::into_failure)?;
            for (registry, _) in registries {
                config.enter(registry).map_err(Untouched::into_failure)?;
            }
            passwords(session, registries, expectations).await?;
            by_helper(context, session, registries, &runner_temp).await?;
        }
        Entering::File => {
            let passwords = passwords(session, registries, expectations).await?;
            let written = file::write(session, &runner_temp, &passwords);
            let folder = written.map_err(Failure::input)?;
            context.outputs.set("docker-config", folder.display())?;
        }
    }
    context.outputs.set("registry", first)
}

/// A password of each registry, which takes it.
async fn passwords<'a>(
    session: &Session,
    registries: &'a [(RegistryName, Way)],
    expectations: &Expectations,
) -> Result<Vec<Password<'a>>, Failure> {
    let mut passwords = Vec::new();
    for (registry, way) in registries {
        let secret = password(session, registry, way, expectations).await?;
        knock(session, registry, way, &secret).await?;
        session.progress(format!("registry `{registry}`: it takes our password"));
        let user = way.user();
        passwords.push(Password {
            registry,
            user,
            secret,
        });
    }
    Ok(passwords)
}

async fn by_helper(
    context: &Context,
    session: &Session,
    registries: &[(RegistryName, Way)],
    runner_temp: &Path,
) -> Result<(), Failure> {
    for (registry, way) in registries {
        way.remember(runner_temp, registry)
            .map_err(Failure::input)?;
    }
    let folder = link(runner_temp).map_err(Failure::input)?;
    find_on_path(context, &folder)?;
    let updated = DockerConfig::update(&context.environment, registries, session.deadline);
    updated.await.map_err(Untouched::into_failure)
}

fn runner_temp(context: &Context) -> Result<PathBuf, Failure> {
    let folder = context.environment.get("RUNNER_TEMP").map(PathBuf::from);
    folder.ok_or_else(|| Failure::message(Kind::Input, "RUNNER_TEMP is not set"))
}

/// Whether the registry takes the password, where getting it did not say so already.
async fn knock(
    session: &Session,
    registry: &RegistryName,
    way: &Way,
    password: &Secret,
) -> Result<(), Failure> {
    let url = match way {
        Way::Ghcr(_) => {
            let url = registry.url().join_segments(["token"]);
            url.with_query([("service", "ghcr.io")])
        }
        // The registry itself gave it.
        Way::Acr(_) => return Ok(()),
        Way::Ecr(_) => registry.url().join_segments(["v2", ""]),
    };
    let pair = STANDARD.encode(format!("{}:{}", way.user(), password.expose()));
    let header = HeaderValue::from_str(&format!("Basic {pair}"));
    let mut header =
        header.map_err(|_| Failure::message(Kind::Input, "the password is no text"))?;
    header.set_sensitive(true);
    let request = Request::get(url)
        .header(header::AUTHORIZATION, header)
        .redact(password.expose())
        .within(session.left());
    let refused = |cause: switchyard_http::Error| {
        let is_refusal = matches!(
            cause.status(),
            Some(StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
        );
        let hint = match way {
            Way::Ghcr(_) => {
                "give the job `permissions: { packages: read }`, and pass `${{ github.token }}` as input `github-token`"
            }
            Way::Acr(_) | Way::Ecr(_) => "is it a registry of this account and region?",
        };
        let text = format!("registry `{registry}` does not take our password");
        Failure::remote(anyhow::Error::new(cause).context(text))
            .maybe_hint(is_refusal.then_some(hint))
    };
    let answer = session.client.send(&request).await.map_err(refused)?;
    answer.require_success().map_err(refused)?;
    Ok(())
}

/// The folder in which this program has the helper's name.
fn link(runner_temp: &Path) -> Result<PathBuf, Problem> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| Problem::Io {
            what: "make",
            path,
            source,
        }
    };
    let folder = PrivateFolder::below(runner_temp)?.folder("bin")?;
    let path = folder.file(PROGRAM);
    let own = program::own_path().map_err(failed(&path))?;
    if std::fs::read_link(&path).is_ok_and(|known| known == own) {
        return Ok(folder.path().to_owned());
    }
    // Another version of this program may have made it, earlier in the job. In one step: another login may
    // be at the same.
    let draft = folder.file(&format!(".{PROGRAM}.{:016x}", rand::random::<u64>()));
    std::os::unix::fs::symlink(own, &draft).map_err(failed(&path))?;
    std::fs::rename(&draft, &path).map_err(failed(&path))?;
    Ok(folder.path().to_owned())
}

/// Lets the following steps of the job find the helper.
fn find_on_path(context: &Context, folder: &Path) -> Result<(), Failure> {
    let Some(path) = context.environment.get("GITHUB_PATH") else {
        context.console.info(format!(
            "put `{}` on PATH, for docker to find `{PROGRAM}`",
            folder.display()
        ));
        return Ok(());
    };
    let line = format!("{}\n", folder.display());
    file_command::append(Path::new(path), &line)
        .map_err(|cause| Failure::bug(anyhow::Error::new(cause).context("write GITHUB_PATH")))
}

impl Untouched {
    /// The failure to end with.
    fn into_failure(self) -> Failure {
        Failure::input(self).hint(
            "set DOCKER_CONFIG to a folder of the job's own, below RUNNER_TEMP, in this step and in those that pull",
        )
    }
}
