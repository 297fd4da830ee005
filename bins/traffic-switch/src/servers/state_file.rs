//! The file that outlives a run: the journal of an update, written and synced before what it tells is begun.
//! A lock beside it keeps a second update of the same servers on this machine away.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use sha2::{Digest as _, Sha256};
use switchyard_runner::{Environment, Failure, Kind};
use switchyard_servers::journal::{Journal, Stage};

use super::inputs::ServersInputs;

/// The journal of an update, and where it is kept.
#[derive(Debug)]
pub(super) struct StateFile {
    path: PathBuf,
    journal: Journal,
    _lock: Flock<File>,
}

/// Where the journal is kept: as given, else in the user's state folder, by backend and load balancer.
pub(super) fn path(inputs: &ServersInputs, environment: &Environment) -> Result<PathBuf, Failure> {
    if let Some(path) = &inputs.state_file {
        return Ok(path.clone());
    }
    let home = environment
        .get("HOME")
        .map(|home| Path::new(home).join(".local/state"));
    let folder = environment
        .get("XDG_STATE_HOME")
        .map(PathBuf::from)
        .or(home);
    let folder = folder.ok_or_else(|| {
        Failure::message(
            Kind::Input,
            "neither `state-file` nor a home folder says where to keep what was done",
        )
        .hint("give `state-file` a path that outlives the runner")
    })?;
    let places: Vec<String> = inputs.haproxy_api.iter().map(ToString::to_string).collect();
    let name = format!(
        "servers-{}-{}.json",
        inputs.backend,
        digest(&places.join("\n"))
    );
    Ok(folder.join("switchyard").join(name))
}

/// The first characters of a digest.
pub(super) fn digest(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    digest
        .iter()
        .take(6)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// The journal as an earlier run left it, without touching anything.
pub(super) fn read(path: &Path, backend: &str, update: &str) -> Result<Journal, Failure> {
    let bad = |error: anyhow::Error| {
        Failure::input(error.context(format!("read what an earlier run left in `{}`", path.display())))
            .hint("give another `state-file`; servers that a run left out of the traffic are then named in `adopt`")
    };
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(Journal::new(backend, update));
        }
        Err(error) => return Err(bad(error.into())),
    };
    let kept: Journal = serde_json::from_str(&text).map_err(|error| bad(error.into()))?;
    kept.resume(backend, update)
        .map_err(|error| bad(error.into()))
}

impl StateFile {
    /// Takes the lock and reads what an earlier run left.
    ///
    /// # Errors
    /// Another update holds the lock, or the file cannot be used.
    pub(super) fn open(path: PathBuf, backend: &str, update: &str) -> Result<Self, Failure> {
        let lock = lock(&path)?;
        let journal = read(&path, backend, update)?;
        Ok(Self {
            path,
            journal,
            _lock: lock,
        })
    }

    pub(super) fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Notes how many servers were up before the first one was taken out.
    pub(super) fn begin(&mut self, up_at_start: usize) -> Result<(), Failure> {
        self.journal.up_at_start = up_at_start;
        self.save()
    }

    /// Notes how far a server has come, on the disk.
    pub(super) fn set(&mut self, server: &str, stage: Stage) -> Result<(), Failure> {
        self.journal.set(server, stage);
        self.save()
    }

    /// Notes that a server is as it was.
    pub(super) fn forget(&mut self, server: &str) -> Result<(), Failure> {
        self.journal.forget(server);
        self.save()
    }

    /// The update is done: the next one begins anew.
    pub(super) fn finish(&mut self) -> Result<(), Failure> {
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(unwritable(&self.path, error))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn save(&self) -> Result<(), Failure> {
        let write = || -> std::io::Result<()> {
            let mut partial = self.path.clone().into_os_string();
            partial.push(".partial");
            let mut file = OpenOptions::new()
                .create(true)
                .write(true)
                .truncate(true)
                .mode(0o600)
                .open(&partial)?;
            file.write_all(serde_json::to_string_pretty(&self.journal)?.as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&partial, &self.path)
        };
        write().map_err(|error| unwritable(&self.path, error))
    }
}

fn lock(path: &Path) -> Result<Flock<File>, Failure> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|error| unwritable(path, error))?;
    }
    let mut beside = path.to_owned().into_os_string();
    beside.push(".lock");
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(&beside)
        .map_err(|error| unwritable(path, error))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| {
        if error != Errno::EWOULDBLOCK {
            return unwritable(path, error.into());
        }
        let path = path.display();
        let text = format!("another update with the state file `{path}` is running");
        Failure::message(Kind::Gate, text)
            .hint("wait for it, or give the workflow a `concurrency` group")
    })
}

fn unwritable(path: &Path, error: std::io::Error) -> Failure {
    let text = format!("keep what is done in `{}`", path.display());
    Failure::input(anyhow::Error::new(error).context(text))
        .hint("give `state-file` a path in a folder that this step may write and that outlives the runner")
}
