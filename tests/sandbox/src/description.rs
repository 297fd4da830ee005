//! What a running sandbox tells about itself: written last by `up`, read by everybody else. And
//! the lock that keeps two commands from working on one sandbox.

use std::{
    fs::{File, TryLockError},
    path::PathBuf,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use crate::{
    definitions::Identities,
    error::{Context as _, Result, SandboxError, create_dir, read, write},
    instance::{InstanceName, Layout},
    network,
    steps::Steps,
};

/// How long a command waits for another one to finish.
const LOCK_LIMIT: Duration = Duration::from_secs(180);

/// Where everything is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Description {
    pub(crate) name: InstanceName,
    pub(crate) programs: PathBuf,
    /// The program `sandbox` that brought it up.
    pub(crate) sandbox: PathBuf,
    /// The demo applications; none in a cluster that is not ours.
    pub(crate) apps: Option<PathBuf>,
    /// None when the cluster is not ours.
    pub(crate) network_namespace: Option<PathBuf>,
    pub(crate) api_server: String,
    pub(crate) kubeconfig: PathBuf,
    pub(crate) ca: PathBuf,
    pub(crate) front_door: String,
    pub(crate) traefik_api: String,
    pub(crate) traefik_metrics: String,
    /// The first part of the demo applications' image references.
    pub(crate) registry: Option<String>,
}

impl Description {
    /// The description of a sandbox that is up.
    pub(crate) fn load(layout: &Layout) -> Result<Self> {
        let description = Self::stored(layout).filter(|description| {
            description.network_namespace.is_none() || network::exists(layout)
        });
        description.ok_or_else(|| {
            SandboxError::new(format!("no sandbox `{}` is running", layout.name)).with_hint(
                format!("start it: scripts/cluster up --name {}", layout.name),
            )
        })
    }

    /// The description that was written last, whether or not it still holds. One that cannot be
    /// read (of another version, say) counts as none: `up` writes it anew, `down` needs none.
    pub(crate) fn stored(layout: &Layout) -> Option<Self> {
        serde_json::from_str(&read(&layout.description_file()).ok()?).ok()
    }

    pub(crate) fn save(&self, layout: &Layout) -> Result<()> {
        let json = serde_json::to_string_pretty(self).context(|| "cannot encode")?;
        write(&layout.description_file(), json)
    }

    /// What the users of this sandbox are to its cluster.
    pub(crate) fn identities(&self) -> Identities {
        match self.network_namespace {
            Some(_) => Identities::Users,
            None => Identities::ServiceAccounts,
        }
    }
}

/// Takes the lock of a sandbox; it is released on drop.
pub(crate) fn lock(layout: &Layout, steps: Steps) -> Result<File> {
    let path = layout.lock_file();
    if let Some(folder) = path.parent() {
        create_dir(folder)?;
    }
    let file = File::create(&path).context(|| format!("cannot create {}", path.display()))?;
    let deadline = Instant::now() + LOCK_LIMIT;
    let mut is_told = false;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                if !is_told {
                    steps.done("waiting: another command works on this sandbox");
                    is_told = true;
                }
                std::thread::sleep(Duration::from_millis(100));
            }
            Err(TryLockError::WouldBlock) => {
                return Err(SandboxError::new(format!(
                    "another command works on sandbox `{}` for more than {} s",
                    layout.name,
                    LOCK_LIMIT.as_secs()
                ))
                .with_hint(format!("see who holds {}", path.display())));
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).context(|| format!("cannot lock {}", path.display()));
            }
        }
    }
}
