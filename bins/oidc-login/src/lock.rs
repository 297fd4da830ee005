//! Locks between processes: whoever holds one is the only one of us at work on a file.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;

use crate::private::{self, Problem};

/// Between two looks at a lock that another process holds.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Held until it goes out of scope, or the process ends.
#[derive(Debug)]
pub(crate) struct Lock {
    /// Closing the file gives the lock back.
    _file: File,
}

impl Lock {
    /// Waits for the lock of a private file, made when it is not there, at most until `deadline`.
    ///
    /// # Errors
    /// When the file cannot be opened, or another process still holds it at `deadline`.
    pub(crate) async fn of_file(path: &Path, deadline: Instant) -> Result<Self, Problem> {
        Self::wait(private::open_lock(path)?, path, deadline).await
    }

    /// Waits for the lock of a folder, which leaves no file behind, at most until `deadline`.
    ///
    /// # Errors
    /// When the folder cannot be opened, or another process still holds it at `deadline`.
    pub(crate) async fn of_folder(path: &Path, deadline: Instant) -> Result<Self, Problem> {
        let opened = File::open(path).map_err(|source| Problem::Io {
            what: "open",
            path: path.to_owned(),
            source,
        })?;
        Self::wait(opened, path, deadline).await
    }

    async fn wait(file: File, path: &Path, deadline: Instant) -> Result<Self, Problem> {
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self { _file: file }),
                Err(std::fs::TryLockError::WouldBlock) if Instant::now() < deadline => {
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
                Err(cause) => {
                    return Err(Problem::Io {
                        what: "lock",
                        path: path.to_owned(),
                        source: cause.into(),
                    });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_lock_is_held_by_one_and_waited_for_with_a_limit() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("one.lock");
        let held = Lock::of_file(&file, Instant::now()).await.unwrap();
        let folders = Lock::of_folder(folder.path(), Instant::now()).await;
        let folders = folders.unwrap();
        Lock::of_file(&file, Instant::now()).await.unwrap_err();
        let second = Lock::of_folder(folder.path(), Instant::now()).await;
        second.unwrap_err();
        drop((held, folders));
        Lock::of_file(&file, Instant::now()).await.unwrap();
        let again = Lock::of_folder(folder.path(), Instant::now()).await;
        again.unwrap();
    }
}
