//! The configuration file of docker, which podman, skopeo and others read too: our helper is entered for a
//! registry, and everything else stays as it is.

use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use switchyard_runner::Environment;
use tokio::time::Instant;

use super::entry::Way;
use super::helper::SHORT_NAME;
use super::name::RegistryName;
use crate::lock::Lock;
use crate::private::{self, Problem};

const FILE: &str = "config.json";
/// `credsStore` overrides `auths`; an entry here overrides both, for its registry alone.
const HELPERS: &str = "credHelpers";

/// Why the configuration is not touched. Never quotes it: it may hold passwords.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Untouched {
    #[error("neither DOCKER_CONFIG nor HOME says where docker's configuration is")]
    Nowhere,
    #[error("docker's configuration `{}` is {what}", path.display())]
    Unusable { path: PathBuf, what: &'static str },
    #[error("docker's configuration `{}` names another helper for `{registry}`", path.display())]
    Taken {
        path: PathBuf,
        registry: RegistryName,
    },
    #[error("docker's configuration cannot be read or written")]
    Io(#[from] io::Error),
    #[error("docker's configuration cannot be written")]
    Write(#[from] Problem),
}

/// A configuration that was read, and may be written.
#[derive(Debug)]
pub(crate) struct DockerConfig {
    path: PathBuf,
    document: Map<String, Value>,
}

impl DockerConfig {
    fn path(environment: &Environment) -> Result<PathBuf, Untouched> {
        let folder = environment.get("DOCKER_CONFIG").map(PathBuf::from);
        let home = || Some(Path::new(environment.get("HOME")?).join(".docker"));
        Ok(folder.or_else(home).ok_or(Untouched::Nowhere)?.join(FILE))
    }

    /// Reads the file; one that is not there is empty.
    ///
    /// # Errors
    /// When it is something that must not be written over.
    pub(crate) fn read(environment: &Environment) -> Result<Self, Untouched> {
        let path = Self::path(environment)?;
        let unusable = |what| Untouched::Unusable {
            path: path.clone(),
            what,
        };
        let document = match path.symlink_metadata() {
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => Map::new(),
            Err(cause) => return Err(cause.into()),
            Ok(found) if found.is_symlink() => return Err(unusable("a symbolic link")),
            Ok(found) if !found.is_file() => return Err(unusable("no file")),
            Ok(found) if found.permissions().readonly() => return Err(unusable("read-only")),
            Ok(_) => match serde_json::from_slice(&std::fs::read(&path)?) {
                Ok(Value::Object(document)) => document,
                Ok(_) | Err(_) => return Err(unusable("no JSON object")),
            },
        };
        if document.get(HELPERS).is_some_and(|one| !one.is_object()) {
            return Err(unusable("a document whose `credHelpers` is no object"));
        }
        Ok(Self { path, document })
    }

    /// Names our helper for a registry.
    ///
    /// # Errors
    /// When somebody else's is named.
    pub(crate) fn enter(&mut self, registry: &RegistryName) -> Result<(), Untouched> {
        let empty = || Value::Object(Map::new());
        let helpers = self.document.entry(HELPERS).or_insert_with(empty);
        let entry = &mut helpers[registry.as_str()];
        if !entry.is_null() && entry != SHORT_NAME {
            return Err(Untouched::Taken {
                path: self.path.clone(),
                registry: registry.clone(),
            });
        }
        *entry = SHORT_NAME.into();
        Ok(())
    }

    /// Reads the file anew and enters these registries, while no other login does the same.
    ///
    /// # Errors
    /// When it cannot be locked until `deadline`, must not be written over by now, or cannot be written.
    pub(crate) async fn update(
        environment: &Environment,
        registries: &[(RegistryName, Way)],
        deadline: Instant,
    ) -> Result<(), Untouched> {
        let path = Self::path(environment)?;
        let folder = path.parent().ok_or(Untouched::Nowhere)?;
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true).mode(0o700).create(folder)?;
        let _lock = Lock::of_folder(folder, deadline).await?;
        let mut config = Self::read(environment)?;
        for (registry, _) in registries {
            config.enter(registry)?;
        }
        config.write()
    }

    /// Writes the file in one step, for us alone.
    fn write(&self) -> Result<(), Untouched> {
        let text = serde_json::to_string_pretty(&self.document).unwrap_or_default();
        Ok(private::replace(&self.path, &format!("{text}\n"))?)
    }
}
