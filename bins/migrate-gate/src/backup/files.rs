//! Files of a dump on this machine: their sizes and digests.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::manifest::FileEntry;
use crate::sha256::hexadecimal;

/// Why a dump's files cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("read `{}`", path.display())]
pub(crate) struct FilesError {
    path: PathBuf,
    source: io::Error,
}

/// Digests every file of `root/name`, by its path below `root`.
///
/// # Errors
/// When a file cannot be read.
pub(crate) async fn digests(
    root: &Path,
    name: &str,
) -> Result<BTreeMap<String, FileEntry>, FilesError> {
    let folder = root.join(name);
    let prefix = name.to_owned();
    let work = move || {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| FilesError { path, source }
        };
        let mut files = BTreeMap::new();
        for entry in std::fs::read_dir(&folder).map_err(failed(&folder))? {
            let path = entry.map_err(failed(&folder))?.path();
            let digest = digest(&path).map_err(failed(&path))?;
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            files.insert(format!("{prefix}/{name}"), digest);
        }
        Ok(files)
    };
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|cause| {
        Err(FilesError {
            path: root.to_owned(),
            source: io::Error::other(cause),
        })
    })
}

fn digest(path: &Path) -> io::Result<FileEntry> {
    let mut file = std::fs::File::open(path)?;
    let mut hasher = Hasher::default();
    let mut piece = vec![0; 1024 * 1024];
    loop {
        let length = io::Read::read(&mut file, &mut piece)?;
        if length == 0 {
            return Ok(hasher.finish());
        }
        hasher.update(&piece[..length]);
    }
}

/// Size and digest of what passes through.
#[derive(Default)]
pub(crate) struct Hasher {
    digest: Sha256,
    bytes: u64,
}

impl Hasher {
    /// Takes a piece.
    pub(crate) fn update(&mut self, piece: &[u8]) {
        self.digest.update(piece);
        self.bytes += piece.len() as u64;
    }

    /// What passed.
    pub(crate) fn finish(self) -> FileEntry {
        FileEntry {
            bytes: self.bytes,
            sha256: hexadecimal(&self.digest.finalize()),
        }
    }
}

/// Bytes of the files directly in a folder, for progress; files that vanish meanwhile count nothing.
pub(crate) fn bytes(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let sizes = entries.filter_map(|entry| entry.metadata().ok());
    sizes.map(|metadata| metadata.len()).sum()
}
