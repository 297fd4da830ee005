//! Files that hold credentials: readable by us alone, never through a symbolic link, whole or not there.
//! It refuses to know what is in them.

use std::fs::{DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::unistd::Uid;

/// Name of our folder below the runner's folder for temporary files, which is emptied with the job.
const FOLDER: &str = "switchyard-oidc-login";

/// Longest file read, in bytes: ours are a few KiB.
const LONGEST: u64 = 1024 * 1024;

/// Why a file or folder is not used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Problem {
    #[error("`{}` is {found}, and must be {wanted}", path.display())]
    Kind {
        path: PathBuf,
        found: &'static str,
        wanted: &'static str,
    },
    #[error("`{}` belongs to user {owner}, not to the one that runs this", path.display())]
    Owner { path: PathBuf, owner: u32 },
    #[error("`{}` can be read by others (mode {mode:03o})", path.display())]
    Mode { path: PathBuf, mode: u32 },
    #[error("`{}` exists already", path.display())]
    Exists { path: PathBuf },
    #[error("`{}` is not below `{}`", path.display(), root.display())]
    Outside { path: PathBuf, root: PathBuf },
    #[error("RUNNER_TEMP is not set")]
    NoRoot,
    #[error("`{}` is larger than {LONGEST} bytes", path.display())]
    TooLarge { path: PathBuf },
    #[error("cannot {what} `{}`", path.display())]
    Io {
        what: &'static str,
        path: PathBuf,
        source: io::Error,
    },
}

/// A folder that only we can look into.
#[derive(Debug, Clone)]
pub(crate) struct PrivateFolder {
    path: PathBuf,
}

impl PrivateFolder {
    /// Our folder below `root`, made when it is not there.
    ///
    /// # Errors
    /// When it is a link, belongs to somebody else or lets others in.
    pub(crate) fn below(root: &Path) -> Result<Self, Problem> {
        let root = root
            .canonicalize()
            .map_err(io_error("open the folder", root))?;
        Self::at(root.join(FOLDER))
    }

    /// A folder in this one, made when it is not there.
    ///
    /// # Errors
    /// As of [`PrivateFolder::below`].
    pub(crate) fn folder(&self, name: &str) -> Result<Self, Problem> {
        Self::at(self.path.join(name))
    }

    fn at(path: PathBuf) -> Result<Self, Problem> {
        let found = match path.symlink_metadata() {
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
                make(&path)?;
                path.symlink_metadata()
            }
            found => found,
        };
        let found = found.map_err(io_error("look at", &path))?;
        require_own(&path, &found)?;
        if !found.is_dir() {
            return Err(wrong_kind(&path, &found, "a folder"));
        }
        Ok(Self { path })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

/// Makes a folder that we alone can look into, where no other call has made it meanwhile.
fn make(path: &Path) -> Result<(), Problem> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(cause) if cause.kind() != io::ErrorKind::AlreadyExists => {
            Err(io_error("make the folder", path)(cause))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Writes a file that must not be there yet, in one step: others see all of it or nothing.
///
/// # Errors
/// When something is at `path` already, or it cannot be written.
pub(crate) fn write_new(path: &Path, text: &str) -> Result<(), Problem> {
    require_absent(path)?;
    let draft = Draft::write(path, text)?;
    // A link, not a rename: it fails when somebody else made the file in the meantime.
    std::fs::hard_link(&draft.path, path).map_err(|cause| match path.symlink_metadata() {
        Ok(found) => existing(path, &found),
        Err(_) => io_error("write", path)(cause),
    })
}

/// Refuses a path at which there is anything, a dangling link included.
///
/// # Errors
/// Naming what is there.
pub(crate) fn require_absent(path: &Path) -> Result<(), Problem> {
    match path.symlink_metadata() {
        Ok(found) => Err(existing(path, &found)),
        Err(_) => Ok(()),
    }
}

/// Writes a file in one step, over the one that may be there.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn replace(path: &Path, text: &str) -> Result<(), Problem> {
    let draft = Draft::write(path, text)?;
    std::fs::rename(&draft.path, path).map_err(io_error("write", path))
}

/// Reads a file that we alone may read; `None` where there is none.
///
/// # Errors
/// When it is anything but a private file of our own.
pub(crate) fn read(path: &Path) -> Result<Option<String>, Problem> {
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits())
        .open(path);
    let mut file = match opened {
        Ok(file) => file,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(cause) => {
            return Err(match path.symlink_metadata() {
                Ok(found) if !found.is_file() => wrong_kind(path, &found, "a file"),
                _ => io_error("open", path)(cause),
            });
        }
    };
    let found = file.metadata().map_err(io_error("look at", path))?;
    if !found.is_file() {
        return Err(wrong_kind(path, &found, "a file"));
    }
    require_own(path, &found)?;
    if found.len() > LONGEST {
        return Err(Problem::TooLarge {
            path: path.to_owned(),
        });
    }
    let mut text = String::new();
    file.read_to_string(&mut text)
        .map_err(io_error("read", path))?;
    Ok(Some(text))
}

/// Opens a file to lock it, made when it is not there.
///
/// # Errors
/// When it is a link or cannot be made.
pub(crate) fn open_lock(path: &Path) -> Result<File, Problem> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits())
        .open(path)
        .map_err(io_error("open", path))
}

/// Refuses a path that does not lie below `root` when every link is followed.
///
/// # Errors
/// When its folder is not there or lies elsewhere.
pub(crate) fn require_below(path: &Path, root: &Path) -> Result<PathBuf, Problem> {
    let outside = || Problem::Outside {
        path: path.to_owned(),
        root: root.to_owned(),
    };
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(outside());
    };
    let root = root
        .canonicalize()
        .map_err(io_error("open the folder", root))?;
    let folder = root.join(folder);
    let folder = folder
        .canonicalize()
        .map_err(io_error("open the folder", &folder))?;
    if folder.starts_with(&root) {
        Ok(folder.join(name))
    } else {
        Err(outside())
    }
}

/// A file under another name until it is whole; taken away again when it goes out of scope.
struct Draft {
    path: PathBuf,
}

impl Draft {
    fn write(target: &Path, text: &str) -> Result<Self, Problem> {
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        let path = target.with_file_name(format!(".{name}.{:016x}", rand::random::<u64>()));
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(io_error("write into the folder of", target))?;
        let draft = Self { path };
        let written = { &file }
            .write_all(text.as_bytes())
            .and_then(|()| file.sync_all());
        written.map_err(io_error("write", target))?;
        Ok(draft)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // After a rename it is gone already.
        let _ = std::fs::remove_file(&self.path);
    }
}

fn require_own(path: &Path, found: &Metadata) -> Result<(), Problem> {
    if found.file_type().is_symlink() {
        return Err(wrong_kind(path, found, "no link"));
    }
    if found.uid() != Uid::effective().as_raw() {
        return Err(Problem::Owner {
            path: path.to_owned(),
            owner: found.uid(),
        });
    }
    let mode = found.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(Problem::Mode {
            path: path.to_owned(),
            mode,
        });
    }
    Ok(())
}

fn existing(path: &Path, found: &Metadata) -> Problem {
    if !found.is_file() {
        return wrong_kind(path, found, "a file that is not there yet");
    }
    Problem::Exists {
        path: path.to_owned(),
    }
}

fn wrong_kind(path: &Path, found: &Metadata, wanted: &'static str) -> Problem {
    let kind = found.file_type();
    let found = if kind.is_symlink() {
        "a symbolic link"
    } else if kind.is_dir() {
        "a folder"
    } else if kind.is_file() {
        "a file"
    } else {
        "a device, pipe or socket"
    };
    Problem::Kind {
        path: path.to_owned(),
        found,
        wanted,
    }
}

fn io_error(what: &'static str, path: &Path) -> impl Fn(io::Error) -> Problem {
    let path = path.to_owned();
    move |source| Problem::Io {
        what,
        path: path.clone(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn mode(path: &Path) -> u32 {
        path.metadata().unwrap().mode() & 0o777
    }

    #[test]
    fn what_is_written_is_private_and_whole() {
        let root = tempfile::tempdir().unwrap();
        let folder = PrivateFolder::below(root.path()).unwrap();
        let path = folder.file("one");
        write_new(&path, "first").unwrap();
        assert_eq!((mode(&folder.path), mode(&path)), (0o700, 0o600));
        replace(&path, "second").unwrap();
        assert_eq!(read(&path).unwrap().as_deref(), Some("second"));
        assert_eq!(mode(&path), 0o600);
        let names: Vec<_> = std::fs::read_dir(&folder.path).unwrap().collect();
        assert_eq!(names.len(), 1, "a draft was left: {names:?}");
    }

    #[test]
    fn nothing_that_is_there_is_written_over() {
        let root = tempfile::tempdir().unwrap();
        let elsewhere = root.path().join("elsewhere");
        std::fs::write(&elsewhere, "precious").unwrap();
        let link = root.path().join("link");
        symlink(&elsewhere, &link).unwrap();
        let dangling = root.path().join("dangling");
        symlink(root.path().join("nowhere"), &dangling).unwrap();
        for path in [&elsewhere, &link, &dangling, &root.path().to_owned()] {
            let error = write_new(path, "text").unwrap_err();
            assert!(
                error.to_string().contains(&path.display().to_string()),
                "{error}"
            );
        }
        assert_eq!(std::fs::read_to_string(&elsewhere).unwrap(), "precious");
        assert!(!root.path().join("nowhere").exists());
    }

    #[test]
    fn a_file_that_others_could_have_written_is_not_read() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("one");
        write_new(&path, "text").unwrap();
        let link = root.path().join("link");
        symlink(&path, &link).unwrap();
        assert!(matches!(read(&link), Err(Problem::Kind { .. })));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(
            read(&path),
            Err(Problem::Mode { mode: 0o640, .. })
        ));
        assert_eq!(read(&root.path().join("none")).unwrap(), None);
    }

    #[test]
    fn a_folder_that_lets_others_in_is_not_used() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join(FOLDER);
        std::fs::create_dir(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert!(matches!(
            PrivateFolder::below(root.path()),
            Err(Problem::Mode { .. })
        ));
        std::fs::remove_dir(&path).unwrap();
        symlink(root.path(), &path).unwrap();
        assert!(matches!(
            PrivateFolder::below(root.path()),
            Err(Problem::Kind { .. })
        ));
    }

    #[test]
    fn a_path_that_leads_out_of_its_root_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let other = tempfile::tempdir().unwrap();
        symlink(other.path(), root.path().join("out")).unwrap();
        let inside = require_below(Path::new("config"), root.path()).unwrap();
        assert_eq!(inside, root.path().canonicalize().unwrap().join("config"));
        for outside in ["../config", "out/config", "/etc/config", ".."] {
            assert!(
                require_below(Path::new(outside), root.path()).is_err(),
                "{outside}"
            );
        }
    }
}
