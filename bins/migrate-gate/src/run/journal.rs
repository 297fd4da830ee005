//! What a run has done, line by line in a file: written and synced before and after everything that
//! changes a database, so that a killed run says where it was. It refuses to know servers.
//!
//! The file holds names, numbers and digests; no SQL, no output of tools, no URL.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use switchyard_record::{MigrationEntry, MigrationEvent as Event};

/// The journal of a run.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    file: Option<File>,
    entries: Vec<MigrationEntry>,
}

/// Why the journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JournalError {
    #[error("read the journal `{}`", path.display())]
    Unreadable {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("line {line} of the journal `{}` is not one of ours", path.display())]
    Foreign {
        path: PathBuf,
        line: usize,
        source: serde_json::Error,
    },
    #[error("write the journal `{}`", path.display())]
    Unwritable {
        path: PathBuf,
        source: std::io::Error,
    },
}

impl JournalError {
    /// What to do about it.
    pub(crate) fn hint(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } | Self::Unwritable { .. } => {
                "give `journal` a file in a folder that this step may write"
            }
            Self::Foreign { .. } => {
                "give `journal` a file of its own; what an earlier run did is also told by the databases' ledgers"
            }
        }
    }
}

impl Journal {
    /// Opens the journal; one that is not there is begun. A last line without its end was being written
    /// when its process was killed: what it would have told had not begun yet, so it is cut off.
    ///
    /// # Errors
    /// When the file cannot be read, or holds something else.
    pub(crate) fn open(path: &Path) -> Result<Self, JournalError> {
        let entries = match File::open(path) {
            Ok(file) => read(path, file)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(source) => return Err(unreadable(path, source)),
        };
        Ok(Self {
            path: path.to_owned(),
            file: None,
            entries,
        })
    }

    /// Writes down what is about to happen, or has happened, and waits until it is on the disk.
    ///
    /// # Errors
    /// When it cannot be written: then what would follow must not be done.
    pub(crate) fn write(&mut self, entry: MigrationEntry) -> Result<(), JournalError> {
        self.append(&entry)
            .map_err(|source| JournalError::Unwritable {
                path: self.path.clone(),
                source,
            })?;
        self.entries.push(entry);
        Ok(())
    }

    /// Every whole line, oldest first.
    pub(crate) fn entries(&self) -> &[MigrationEntry] {
        &self.entries
    }

    fn append(&mut self, entry: &MigrationEntry) -> std::io::Result<()> {
        if self.file.is_none() {
            self.file = Some(self.start()?);
        }
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        let mut line = serde_json::to_string(entry)?;
        line.push('\n');
        file.write_all(line.as_bytes())?;
        file.sync_data()
    }

    /// Opens the file for appending, after its last whole line.
    fn start(&self) -> std::io::Result<File> {
        if let Some(folder) = self.path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&self.path)?;
        let text = std::fs::read(&self.path)?;
        let whole = text
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1);
        if whole < text.len() {
            file.set_len(u64::try_from(whole).unwrap_or(u64::MAX))?;
        }
        Ok(file)
    }
}

/// Keeps what a tool wrote beside the journal, for its owner's eyes.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn keep(journal: &Path, name: &str, text: &str) -> std::io::Result<PathBuf> {
    let mut file = journal.file_name().unwrap_or_default().to_owned();
    file.push(format!(".{name}"));
    let path = journal.with_file_name(file);
    let mut file = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(&path)?;
    file.write_all(text.as_bytes())?;
    Ok(path)
}

/// The last attempt whose schema was not proved afterwards: its schema, the fingerprint before it, and what
/// was pending.
pub(crate) fn unfinished_attempt(open: &[&Event]) -> Option<(String, String, Vec<String>)> {
    let mut unfinished = None;
    for event in open {
        match event {
            Event::Attempt {
                schema,
                fingerprint,
                pending,
                number: _,
            } => unfinished = Some((schema.clone(), fingerprint.clone(), pending.clone())),
            Event::Verified { .. } => unfinished = None,
            Event::Begun { .. }
            | Event::LimitsSet { .. }
            | Event::LimitsTakenBack
            | Event::Ended { .. }
            | Event::Resolving { .. }
            | Event::Stopped { .. }
            | Event::Done => {}
        }
    }
    unfinished
}

/// The limits that a role had before a run set its own and was killed; none where nobody wrote them down.
pub(crate) fn limits_before(open: &[&Event], role: &str) -> BTreeMap<String, String> {
    let mut limits = BTreeMap::new();
    for event in open {
        match event {
            Event::LimitsSet { role: of, before } if of == role => limits = before.clone(),
            Event::LimitsSet { .. }
            | Event::LimitsTakenBack
            | Event::Begun { .. }
            | Event::Attempt { .. }
            | Event::Ended { .. }
            | Event::Resolving { .. }
            | Event::Verified { .. }
            | Event::Stopped { .. }
            | Event::Done => {}
        }
    }
    limits
}

fn read(path: &Path, file: File) -> Result<Vec<MigrationEntry>, JournalError> {
    let mut entries = Vec::new();
    let mut reader = BufReader::new(file);
    let mut text = String::new();
    for line in 1.. {
        text.clear();
        let length = reader
            .read_line(&mut text)
            .map_err(|source| unreadable(path, source))?;
        if length == 0 || !text.ends_with('\n') {
            break;
        }
        let entry = serde_json::from_str(&text).map_err(|source| JournalError::Foreign {
            path: path.to_owned(),
            line,
            source,
        })?;
        entries.push(entry);
    }
    Ok(entries)
}

fn unreadable(path: &Path, source: std::io::Error) -> JournalError {
    JournalError::Unreadable {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use switchyard_record::open_migrations;

    use super::*;

    const SHOP: &str = "shop on db:5432";

    fn attempt(number: u32) -> Event {
        Event::Attempt {
            schema: "schema".to_owned(),
            number,
            fingerprint: "f".to_owned(),
            pending: vec!["1_a".to_owned()],
        }
    }

    fn path(folder: &tempfile::TempDir) -> PathBuf {
        folder.path().join("runs/journal")
    }

    fn write(journal: &mut Journal, database: &str, event: Event) {
        let entry = MigrationEntry {
            at: Timestamp::UNIX_EPOCH,
            database: database.to_owned(),
            event,
        };
        journal.write(entry).unwrap();
    }

    fn open_events<'a>(journal: &'a Journal, database: &str) -> Vec<&'a Event> {
        open_migrations(journal.entries(), database)
    }

    #[test]
    fn what_a_killed_run_left_open_is_read_by_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let digest = "d".to_owned();
        let mut journal = Journal::open(&path(&folder)).unwrap();
        let files = "f".to_owned();
        write(&mut journal, SHOP, Event::Begun { digest, files });
        write(&mut journal, SHOP, attempt(1));
        write(&mut journal, "other on db:5432", Event::Done);
        drop(journal);
        let journal = Journal::open(&path(&folder)).unwrap();
        let open = open_events(&journal, SHOP);
        assert_eq!(open.len(), 2);
        let expected = ("schema".to_owned(), "f".to_owned(), vec!["1_a".to_owned()]);
        assert_eq!(unfinished_attempt(&open), Some(expected));
        assert!(open_events(&journal, "other on db:5432").is_empty());
    }

    #[test]
    fn nothing_is_open_after_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(&path(&folder)).unwrap();
        write(&mut journal, SHOP, attempt(1));
        let schema = "schema".to_owned();
        write(&mut journal, SHOP, Event::Verified { schema });
        assert_eq!(unfinished_attempt(&open_events(&journal, SHOP)), None);
        write(&mut journal, SHOP, Event::Done);
        assert!(open_events(&journal, SHOP).is_empty());
    }

    #[test]
    fn a_line_that_was_being_written_is_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(&path(&folder)).unwrap();
        write(&mut journal, SHOP, attempt(1));
        drop(journal);
        let mut file = OpenOptions::new().append(true).open(path(&folder)).unwrap();
        file.write_all(b"{\"at\":\"1970-01-01T0").unwrap();
        let mut journal = Journal::open(&path(&folder)).unwrap();
        assert_eq!(open_events(&journal, SHOP), [&attempt(1)]);
        write(&mut journal, SHOP, attempt(2));
        drop(journal);
        let journal = Journal::open(&path(&folder)).unwrap();
        assert_eq!(open_events(&journal, SHOP), [&attempt(1), &attempt(2)]);
    }

    #[test]
    fn a_file_of_somebody_else_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notes");
        std::fs::write(&path, "buy milk\n").unwrap();
        let error = Journal::open(&path).unwrap_err();
        assert!(
            matches!(error, JournalError::Foreign { line: 1, .. }),
            "{error}"
        );
    }
}
