//! Keeps a dump in a store, reads it back, and takes old ones away.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use switchyard_runner::{Console, Failure, Kind};

use super::files::Hasher;
use super::manifest::{MANIFEST, Manifest, Origin};
use super::store::{Store, StoreError, Trouble};

/// Uploads every file, the manifest last, and reads all of it back.
///
/// # Errors
/// Kind remote when the store fails, or gives back other bytes than it was given.
pub(crate) async fn keep(
    store: &Store,
    key: &str,
    folder: &Path,
    manifest: &Manifest,
) -> Result<(), Failure> {
    for path in manifest.files.keys() {
        let put = store
            .put(&format!("{key}/{path}"), &folder.join(path))
            .await;
        put.map_err(store_failure)?;
    }
    let text = manifest.text().map_err(Failure::bug)?;
    store
        .put_text(&format!("{key}/{MANIFEST}"), &text)
        .await
        .map_err(store_failure)?;
    let damages = damages(store, key, manifest, None).await?;
    if damages.is_empty() {
        return Ok(());
    }
    let text = format!(
        "the store gives back something else: {}",
        damages.join("; ")
    );
    Err(Failure::message(Kind::Remote, text))
}

/// What of a backup's files is not as its manifest says. They are read once: with a folder of this machine they are
/// written there as well.
///
/// # Errors
/// Kind remote when the store cannot be read; kind input when the folder cannot be written.
pub(crate) async fn damages(
    store: &Store,
    key: &str,
    manifest: &Manifest,
    folder: Option<&Path>,
) -> Result<Vec<String>, Failure> {
    let mut damages = Vec::new();
    for (path, expected) in &manifest.files {
        let mut file = folder.map(|folder| made(folder, path)).transpose()?;
        let mut hasher = Hasher::default();
        let mut sink = |piece: &[u8]| {
            hasher.update(piece);
            match &mut file {
                Some(file) => file.write_all(piece),
                None => Ok(()),
            }
        };
        let read = store.read(&joined(key, path), &mut sink).await;
        if read.map_err(store_failure)?.is_none() {
            damages.push(format!("`{path}` is missing"));
            continue;
        }
        let found = hasher.finish();
        if found.bytes != expected.bytes {
            damages.push(format!(
                "`{path}` has {} bytes instead of {}",
                found.bytes, expected.bytes
            ));
        } else if found.sha256 != expected.sha256 {
            damages.push(format!("`{path}` has other contents"));
        }
    }
    Ok(damages)
}

/// An empty file below a folder.
fn made(folder: &Path, path: &str) -> Result<File, Failure> {
    let target = folder.join(path);
    let parent = target.parent().unwrap_or(folder);
    let made = std::fs::create_dir_all(parent).and_then(|()| File::create(&target));
    made.map_err(|cause| {
        let text = format!("write `{}`", target.display());
        Failure::input(anyhow::Error::new(cause).context(text))
    })
}

/// Takes away the oldest backups of a database so that `keep` of them stay. Those without a manifest may be under way
/// elsewhere, so they are told and left; so are those of a database of another server, and of one whose name is kept
/// in the same folder.
///
/// # Errors
/// Kind remote when the store fails; the new backup is kept and verified already.
pub(crate) async fn retain(
    store: &Store,
    folder: &str,
    origin: &Origin,
    keep: usize,
    console: &Console,
) -> Result<(), Failure> {
    let mut complete = Vec::new();
    for name in store.names(folder).await.map_err(store_failure)? {
        let key = format!("{folder}/{name}");
        if !is_ours(&name) {
            continue;
        }
        let manifest = store.text(&joined(&key, MANIFEST)).await;
        match manifest.map_err(store_failure)? {
            Some(text) if Origin::read(&text).as_ref() == Some(origin) => complete.push(key),
            Some(_) => console.info(format!(
                "`{key}` is not known to be a backup of this database: it is left"
            )),
            None => console.info(format!(
                "`{key}` has no manifest: it is under way elsewhere, or was given up"
            )),
        }
    }
    for key in superseded(complete, keep) {
        console.info(format!("taking the old backup `{key}` away"));
        store.delete(&key, MANIFEST).await.map_err(store_failure)?;
    }
    Ok(())
}

/// Names begin with the time, so their order is that of the backups.
fn superseded(mut keys: Vec<String>, keep: usize) -> Vec<String> {
    keys.sort_unstable();
    let end = keys.len().saturating_sub(keep.max(1));
    keys.truncate(end);
    keys
}

/// `20260101T000000Z-1a2b3c4d`: whatever else lies there is not ours to take away.
fn is_ours(name: &str) -> bool {
    let Some((time, random)) = name.split_once('-') else {
        return false;
    };
    let is_time = time.len() == 16
        && time.char_indices().all(|(at, c)| match at {
            8 => c == 'T',
            15 => c == 'Z',
            _ => c.is_ascii_digit(),
        });
    is_time && random.len() == 8 && random.chars().all(|c| c.is_ascii_hexdigit())
}

/// A key below a backup whose own key may be empty.
pub(crate) fn joined(key: &str, path: &str) -> String {
    if key.is_empty() {
        path.to_owned()
    } else {
        format!("{key}/{path}")
    }
}

/// What a failure of a store means for the exit code.
pub(crate) fn store_failure(cause: StoreError) -> Failure {
    let hint = match cause.trouble() {
        Trouble::Full => {
            Some("the disk is full: what was written of this backup has no manifest, and is none")
        }
        Trouble::Denied => Some("the credentials may not write or read there"),
        Trouble::NoPlace => Some("make the bucket or container first"),
        Trouble::Other => None,
    };
    Failure::remote(cause).maybe_hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_stay_and_at_least_one() {
        let keys = || {
            ["s/20260103T0", "s/20260101T0", "s/20260102T0"]
                .map(str::to_owned)
                .to_vec()
        };
        assert_eq!(superseded(keys(), 2), ["s/20260101T0"]);
        assert_eq!(superseded(keys(), 0), ["s/20260101T0", "s/20260102T0"]);
        assert!(superseded(keys(), 3).is_empty());
    }

    #[test]
    fn only_what_a_backup_of_ours_is_called_is_taken_away() {
        assert!(is_ours("20260101T000000Z-1a2b3c4d"));
        for name in [
            "photos",
            "20260101T000000Z-../x",
            "2026-01-01",
            "20260101T000000Z-1a2b3c4",
            "x0260101T000000Z-1a2b3c4d",
        ] {
            assert!(!is_ours(name), "{name}");
        }
    }
}
