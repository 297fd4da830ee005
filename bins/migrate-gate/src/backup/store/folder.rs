//! Backups in a folder of this machine: readable by us alone.

use std::fs::{DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use tokio::io::AsyncReadExt as _;

use super::{PIECE, Sink, StoreError, trouble_of_io};

/// A folder.
#[derive(Debug)]
pub(crate) struct Folder {
    root: PathBuf,
}

impl Folder {
    pub(super) fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
        }
    }

    /// The folder itself: what is to be moved into it is best made on the same file system.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) async fn put(&self, key: &str, file: &Path) -> Result<(), StoreError> {
        let target = self.root.join(key);
        let failed = |cause| self.error("write", key, cause);
        self.make_parent(&target).map_err(failed)?;
        let protected = std::fs::set_permissions(file, Permissions::from_mode(0o600));
        protected.map_err(failed)?;
        // On one file system there is nothing to copy.
        if std::fs::hard_link(file, &target).is_ok() {
            return Ok(());
        }
        let draft = draft_of(&target);
        let copied = async {
            tokio::fs::copy(file, &draft).await?;
            tokio::fs::File::open(&draft).await?.sync_all().await?;
            tokio::fs::rename(&draft, &target).await
        };
        let copied = copied.await;
        if copied.is_err() {
            // A full disk leaves half of it.
            let _ = std::fs::remove_file(&draft);
        }
        copied.map_err(failed)
    }

    pub(super) async fn put_text(&self, key: &str, text: &str) -> Result<(), StoreError> {
        let target = self.root.join(key);
        let failed = |cause| self.error("write", key, cause);
        self.make_parent(&target).map_err(failed)?;
        let draft = draft_of(&target);
        let written = std::fs::write(&draft, text)
            .and_then(|()| std::fs::set_permissions(&draft, Permissions::from_mode(0o600)))
            .and_then(|()| std::fs::File::open(&draft)?.sync_all())
            .and_then(|()| std::fs::rename(&draft, &target));
        if written.is_err() {
            let _ = std::fs::remove_file(&draft);
        }
        written.map_err(failed)
    }

    pub(super) async fn read(&self, key: &str, sink: Sink<'_>) -> Result<Option<u64>, StoreError> {
        let failed = |cause| self.error("read", key, cause);
        let mut file = match tokio::fs::File::open(self.root.join(key)).await {
            Ok(file) => file,
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(cause) => return Err(failed(cause)),
        };
        let mut piece = vec![0; PIECE];
        let mut total = 0;
        loop {
            let length = file.read(&mut piece).await.map_err(failed)?;
            if length == 0 {
                return Ok(Some(total));
            }
            sink(&piece[..length]).map_err(failed)?;
            total += length as u64;
        }
    }

    pub(super) async fn names(&self, key: &str) -> Result<Vec<String>, StoreError> {
        let failed = |cause| self.error("list", key, cause);
        let entries = match std::fs::read_dir(self.root.join(key)) {
            Ok(entries) => entries,
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(cause) => return Err(failed(cause)),
        };
        let names =
            entries.map(|entry| entry.map(|one| one.file_name().to_string_lossy().into_owned()));
        let mut names: Vec<String> = names.collect::<Result<_, _>>().map_err(failed)?;
        names.sort_unstable();
        Ok(names)
    }

    pub(super) async fn delete(&self, key: &str, last: &str) -> Result<(), StoreError> {
        let folder = self.root.join(key);
        let ignoring_absence = |result: io::Result<()>| match result {
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        };
        ignoring_absence(std::fs::remove_file(folder.join(last)))
            .and_then(|()| ignoring_absence(std::fs::remove_dir_all(&folder)))
            .map_err(|cause| self.error("delete", key, cause))
    }

    fn make_parent(&self, target: &Path) -> io::Result<()> {
        let parent = target.parent().unwrap_or(&self.root);
        DirBuilder::new().recursive(true).mode(0o700).create(parent)
    }

    fn error(&self, what: &'static str, key: &str, cause: io::Error) -> StoreError {
        let trouble = trouble_of_io(&cause);
        StoreError::new(what, key, &self.root.display(), cause).with(trouble)
    }
}

fn draft_of(target: &Path) -> PathBuf {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    target.with_file_name(format!(".{name}.partial"))
}
