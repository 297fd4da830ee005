//! Folders in which backups lie before they are kept or restored: this account's alone, gone when their process is done
//! with them, and swept by a later one where it was killed.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use switchyard_runner::{Console, Failure};
use tempfile::TempDir;

/// What the name of each begins with.
const PREFIX: &str = ".switchyard-";

/// When one is nobody's any more. Longer than any dump that goes on.
const LEFT_BEHIND: Duration = Duration::from_secs(24 * 60 * 60);

/// Makes one below a folder, which is made too, and takes those away that killed processes left there.
///
/// # Errors
/// Kind input, naming the folder.
pub(super) fn folder(root: &Path, console: &Console) -> Result<TempDir, Failure> {
    let made = std::fs::create_dir_all(root).and_then(|()| {
        let folder = tempfile::Builder::new().prefix(PREFIX).tempdir_in(root)?;
        std::fs::set_permissions(folder.path(), Permissions::from_mode(0o700))?;
        Ok(folder)
    });
    let folder = made.map_err(|cause| {
        let text = format!("make a folder below `{}`", root.display());
        Failure::input(anyhow::Error::new(cause).context(text))
    })?;
    // No backup fails because of what another one left.
    for path in left_behind(root, folder.path(), SystemTime::now()).unwrap_or_default() {
        match std::fs::remove_dir_all(&path) {
            Ok(()) => console.info(format!(
                "`{}`, which an earlier process left, is taken away",
                path.display()
            )),
            Err(cause) => console.warning(
                "migrate-gate",
                format!(
                    "`{}`, which an earlier process left: {cause}",
                    path.display()
                ),
            ),
        }
    }
    Ok(folder)
}

/// Folders of ours below `root` that nothing was written into for long. `own` tells whose we are.
fn left_behind(root: &Path, own: &Path, now: SystemTime) -> io::Result<Vec<PathBuf>> {
    let account = std::fs::metadata(own)?.uid();
    let mut found = Vec::new();
    for entry in std::fs::read_dir(root)? {
        let entry = entry?;
        let is_named = entry.file_name().to_string_lossy().starts_with(PREFIX);
        // Of a symbolic link itself, so it is never followed.
        let metadata = entry.metadata()?;
        let age = now.duration_since(metadata.modified()?).unwrap_or_default();
        if is_named && metadata.is_dir() && metadata.uid() == account && age > LEFT_BEHIND {
            found.push(entry.path());
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_days_old_folder_of_ours_is_taken_away_and_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str, hours: u64| {
            let path = root.path().join(name);
            std::fs::create_dir(&path).unwrap();
            std::fs::write(path.join("toc.dat"), "x").unwrap();
            let then = SystemTime::now() - Duration::from_secs(hours * 3600);
            let times = std::fs::FileTimes::new().set_modified(then);
            let folder = std::fs::File::open(&path).unwrap();
            folder.set_times(times).unwrap();
            path
        };
        let [old, young, kept] = [
            at(".switchyard-old", 30),
            at(".switchyard-young", 20),
            at("shop", 30),
        ];
        let link = root.path().join(".switchyard-link");
        std::os::unix::fs::symlink(&kept, &link).unwrap();
        let console = Console::plain(Box::new(io::sink()));
        let made = folder(root.path(), &console).unwrap();
        assert!(!old.exists());
        assert!(young.exists() && kept.join("toc.dat").exists() && link.is_symlink());
        assert!(made.path().exists());
    }
}
