//! How far a backfill has come: a file that is replaced as a whole after each batch.
//!
//! A process that is killed between a batch and the file repeats that batch, in which nothing is left to do then.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Version of the file's form.
const FORM: u32 = 1;

/// What is done where: a position of another one is not gone on from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Job {
    /// Host and port.
    pub(super) server: String,
    /// Name of the database.
    pub(super) database: String,
    /// The table, as the server names it.
    pub(super) table: String,
    /// The key's column.
    pub(super) key: String,
    /// What is set.
    pub(super) set: String,
    /// Which rows are left.
    pub(super) r#where: String,
}

/// How far it has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Position {
    form: u32,
    /// What is done.
    pub(super) job: Job,
    /// Last key that is done, as text; `None` at the beginning.
    pub(super) last_key: Option<String>,
    /// Rows that were changed so far.
    pub(super) rows_changed: u64,
    /// Rows that were looked at in this pass.
    pub(super) rows_seen: u64,
    /// Which pass over the table it is, from 1.
    pub(super) pass: u32,
}

/// Why there is no position to go on from.
#[derive(Debug, thiserror::Error)]
pub(super) enum PositionError {
    /// The file cannot be read or written.
    #[error("{what} the position `{}`", path.display())]
    File {
        /// `read` or `write`.
        what: &'static str,
        path: PathBuf,
        source: std::io::Error,
    },
    /// The file is none of ours.
    #[error("`{}` is no position of a backfill", path.display())]
    Malformed {
        path: PathBuf,
        source: serde_json::Error,
    },
    /// It is one of another form.
    #[error("`{}` was written by another version of switchyard", path.display())]
    OtherForm { path: PathBuf },
    /// It is one of another backfill.
    #[error("`{}` is the position of another backfill: {differs} was `{was}` and is `{is}`", path.display())]
    OtherJob {
        path: PathBuf,
        differs: &'static str,
        was: String,
        is: String,
    },
}

impl Position {
    /// The beginning.
    pub(super) fn start(job: Job) -> Self {
        Self {
            form: FORM,
            job,
            last_key: None,
            rows_changed: 0,
            rows_seen: 0,
            pass: 1,
        }
    }

    /// Goes on from a file, or begins where there is none.
    ///
    /// # Errors
    /// When the file cannot be read, or is that of another backfill.
    pub(super) fn read(path: &Path, job: Job) -> Result<Self, PositionError> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self::start(job));
            }
            Err(source) => {
                return Err(PositionError::File {
                    what: "read",
                    path: path.to_owned(),
                    source,
                });
            }
        };
        let malformed = |source| PositionError::Malformed {
            path: path.to_owned(),
            source,
        };
        let position: Self = serde_json::from_str(&text).map_err(malformed)?;
        if position.form != FORM {
            return Err(PositionError::OtherForm {
                path: path.to_owned(),
            });
        }
        let (was, is) = (&position.job, &job);
        for (differs, was, is) in [
            ("the server", &was.server, &is.server),
            ("the database", &was.database, &is.database),
            ("`table`", &was.table, &is.table),
            ("`key`", &was.key, &is.key),
            ("`set`", &was.set, &is.set),
            ("`where`", &was.r#where, &is.r#where),
        ] {
            if was != is {
                return Err(PositionError::OtherJob {
                    path: path.to_owned(),
                    differs,
                    was: was.clone(),
                    is: is.clone(),
                });
            }
        }
        Ok(position)
    }

    /// Replaces the file: whoever is killed meanwhile leaves the old one or the new one.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn write(&self, path: &Path) -> Result<(), PositionError> {
        let failed = |source| PositionError::File {
            what: "write",
            path: path.to_owned(),
            source,
        };
        let text = serde_json::to_string_pretty(self).map_err(|cause| failed(cause.into()))?;
        let new = path.with_extension("new");
        let mut file = File::create(&new).map_err(failed)?;
        file.write_all(text.as_bytes()).map_err(failed)?;
        file.sync_all().map_err(failed)?;
        std::fs::rename(&new, path).map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(set: &str) -> Job {
        Job {
            server: "db:5432".into(),
            database: "shop".into(),
            table: "public.item".into(),
            key: "id".into(),
            set: set.into(),
            r#where: "a IS NULL".into(),
        }
    }

    #[test]
    fn a_position_is_found_again_and_that_of_another_backfill_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("position.json");
        let mut position = Position::read(&path, job("a = 1")).unwrap();
        assert_eq!(position, Position::start(job("a = 1")));
        position.last_key = Some("42".into());
        position.write(&path).unwrap();
        assert_eq!(Position::read(&path, job("a = 1")).unwrap(), position);
        let error = Position::read(&path, job("a = 2")).unwrap_err().to_string();
        assert!(
            error.contains("`set` was `a = 1` and is `a = 2`"),
            "{error}"
        );
        std::fs::write(&path, "{}").unwrap();
        let error = Position::read(&path, job("a = 1")).unwrap_err();
        assert!(matches!(error, PositionError::Malformed { .. }), "{error}");
    }
}
