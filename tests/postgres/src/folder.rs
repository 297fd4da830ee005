//! The folder of a server. A shared server outlives every value of its test program, so its folder is taken
//! away by whoever starts a server next.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use tempfile::TempDir;

/// Start of the names; the id of the process follows.
const PREFIX: &str = "switchyard-postgres-server-";

/// Makes a folder below `root` and takes away those of processes that are gone.
pub(crate) fn make(root: &Path) -> TempDir {
    sweep(root);
    let prefix = format!("{PREFIX}{}-", std::process::id());
    let folder = tempfile::Builder::new().prefix(&prefix).tempdir_in(root);
    let folder = folder.expect("a folder for the server");
    // The server's account has to pass through.
    std::fs::set_permissions(folder.path(), Permissions::from_mode(0o711))
        .expect("let the server's account in");
    folder
}

fn sweep(root: &Path) {
    for entry in std::fs::read_dir(root).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let owner = name
            .to_str()
            .and_then(|name| name.strip_prefix(PREFIX)?.split('-').next());
        if owner.is_some_and(|id| !Path::new("/proc").join(id).exists()) {
            // Another process may sweep at the same time.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}
