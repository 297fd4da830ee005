//! Where the running program lies, and its neighbours: they were installed and checked together.

use std::path::{Path, PathBuf};

/// The running program's own file, symbolic links followed.
///
/// # Errors
/// When the operating system does not tell.
pub fn own_path() -> std::io::Result<PathBuf> {
    std::env::current_exe()?.canonicalize()
}

/// The program `name` in the folder of the running one, symbolic links followed; `None` where there is
/// none.
#[must_use]
pub fn neighbour(name: &str) -> Option<PathBuf> {
    beside(&own_path().ok()?, name)
}

fn beside(program: &Path, name: &str) -> Option<PathBuf> {
    let path = program.parent()?.join(name).canonicalize().ok()?;
    path.is_file().then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_neighbour_is_a_file_of_the_same_folder() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        std::fs::write(root.join("one"), "").unwrap();
        std::fs::write(root.join("two"), "").unwrap();
        std::fs::create_dir(root.join("three")).unwrap();
        assert_eq!(beside(&root.join("one"), "two"), Some(root.join("two")));
        assert_eq!(beside(&root.join("one"), "three"), None);
        assert_eq!(beside(&root.join("one"), "four"), None);
    }
}
