//! A login's part for registries: each gives a password first, then the job remembers the way to it, and
//! docker's configuration names our helper.

use std::path::{Path, PathBuf};

use switchyard_http::{HeaderValue, Request, StatusCode, header};
use switchyard_runner::{Context, Failure, Kind, Secret, file_command, program};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::docker_config::{DockerConfig, Untouched};
use super::entry::Way;
use super::grant::password;
use super::helper::PROGRAM;
use super::name::RegistryName;
use crate::explain::Expectations;
use crate::private::{PrivateFolder, Problem};
use crate::session::Session;

/// Logs in to these registries, and enters the helper for them.
///
/// # Errors
/// Before anything was entered, when docker's configuration must not be touched, or a registry gives no
/// password or does not take it.
pub(crate) async fn enter(
    context: &Context,
    session: &Session,
    registries: &[(RegistryName, Way)],
    expectations: &Expectations,
) -> Result<(), Failure> {
    let Some((first, _)) = registries.first() else {
        return Ok(());
    };
    let runner_temp = runner_temp(context)?;
    let mut config = DockerConfig::read(&context.environment).map_err(Untouched::into_failure)?;
    for (registry, _) in registries {
        config.enter(registry).map_err(Untouched::into_failure)?;
    }
    for (registry, way) in registries {
        let password = password(session, registry, way, expectations).await?;
        knock(session, registry, way, &password).await?;
        session.progress(format!("registry `{registry}`: it takes our password"));
    }
    for (registry, way) in registries {
        way.remember(&runner_temp, registry)
            .map_err(Failure::input)?;
    }
    let folder = link(&runner_temp).map_err(Failure::input)?;
    find_on_path(context, &folder)?;
    config.write().map_err(Untouched::into_failure)?;
    context.outputs.set("registry", first)
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
    let folder = PrivateFolder::below(runner_temp)?.file("bin");
    std::fs::create_dir_all(&folder).map_err(failed(&folder))?;
    let path = folder.join(PROGRAM);
    let own = program::own_path().map_err(failed(&path))?;
    if std::fs::read_link(&path).is_ok_and(|known| known == own) {
        return Ok(folder);
    }
    // Another version of this program may have made it, earlier in the job.
    let _ = std::fs::remove_file(&path);
    std::os::unix::fs::symlink(own, &path).map_err(failed(&path))?;
    Ok(folder)
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
