//! A configuration of docker's with the passwords themselves, for clients that ask no helper: a new private
//! one below RUNNER_TEMP, only where somebody asked for it. Nobody else's configuration is touched.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use switchyard_runner::Secret;

use super::name::RegistryName;
use crate::private::{self, PrivateFolder, Problem};
use crate::session::Session;

/// A password, and whose.
pub(super) struct Password<'a> {
    pub(super) registry: &'a RegistryName,
    pub(super) user: &'static str,
    pub(super) secret: Secret,
}

/// Writes a configuration of its own with these passwords, and gives its folder.
///
/// # Errors
/// When it cannot be written where we alone can read it.
pub(super) fn write(
    session: &Session,
    runner_temp: &Path,
    passwords: &[Password<'_>],
) -> Result<PathBuf, Problem> {
    let mut auths = Map::new();
    for Password {
        registry,
        user,
        secret,
    } in passwords
    {
        let pair = STANDARD.encode(format!("{user}:{}", secret.expose()));
        session.mask(&Secret::new(pair.clone()));
        auths.insert(registry.to_string(), json!({ "auth": pair }));
    }
    let name = format!("docker-{:016x}", rand::random::<u64>());
    let folder = PrivateFolder::below(runner_temp)?.folder(&name)?;
    let text = Value::Object(Map::from_iter([("auths".to_owned(), auths.into())]));
    private::write_new(&folder.file("config.json"), &format!("{text:#}\n"))?;
    Ok(folder.path().to_owned())
}
