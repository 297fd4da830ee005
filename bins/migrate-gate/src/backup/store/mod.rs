//! Where backups are kept. It knows keys and bytes; it refuses to know what a backup is.

mod azure;
mod folder;
mod objects;
mod s3;

use std::path::Path;

use switchyard_runner::Environment;

use super::reference::Location;
use folder::Folder;
use objects::Objects;

/// Why a store did not do what was asked.
#[derive(Debug, thiserror::Error)]
#[error("{what} `{key}` in {store}")]
pub(crate) struct StoreError {
    what: &'static str,
    key: String,
    store: String,
    trouble: Trouble,
    source: Box<dyn std::error::Error + Send + Sync>,
}

/// Of which kind a store's trouble is, where something can be done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// No room is left.
    Full,
    /// The credentials may not do it.
    Denied,
    /// There is no such bucket or container.
    NoPlace,
    /// Anything else.
    Other,
}

impl StoreError {
    fn new(
        what: &'static str,
        key: &str,
        store: &impl ToString,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self {
            what,
            key: key.to_owned(),
            store: store.to_string(),
            trouble: Trouble::Other,
            source: source.into(),
        }
    }

    fn with(self, trouble: Trouble) -> Self {
        Self { trouble, ..self }
    }

    /// Of which kind it is.
    pub(crate) fn trouble(&self) -> Trouble {
        self.trouble
    }
}

/// Of which kind an error of this machine is.
fn trouble_of_io(cause: &std::io::Error) -> Trouble {
    let full = [
        std::io::ErrorKind::StorageFull,
        std::io::ErrorKind::QuotaExceeded,
    ];
    if full.contains(&cause.kind()) {
        Trouble::Full
    } else {
        Trouble::Other
    }
}

/// Takes the bytes of a file, piece by piece.
pub(crate) type Sink<'a> = &'a mut (dyn FnMut(&[u8]) -> std::io::Result<()> + Send);

/// An open store: everything below one place.
#[derive(Debug)]
pub(crate) enum Store {
    Folder(Folder),
    Objects(Objects),
}

impl Store {
    /// Opens the store of a place. Credentials of S3 and Azure come from the variables that their own tools read.
    ///
    /// # Errors
    /// A text that says what is missing or wrong; nothing is sent.
    pub(crate) fn open(location: &Location, environment: &Environment) -> Result<Self, String> {
        match location {
            Location::Folder(path) => Ok(Self::Folder(Folder::new(path))),
            Location::S3 { bucket, prefix } => {
                let store = s3::open(bucket, environment)?;
                Ok(Self::Objects(Objects::new(store, location, prefix)))
            }
            Location::Azure { container, prefix } => {
                let store = azure::open(container, environment)?;
                Ok(Self::Objects(Objects::new(store, location, prefix)))
            }
        }
    }

    /// Keeps a file under a key. Nobody sees half of it.
    ///
    /// # Errors
    /// When it cannot be read or kept.
    pub(crate) async fn put(&self, key: &str, file: &Path) -> Result<(), StoreError> {
        match self {
            Self::Folder(folder) => folder.put(key, file).await,
            Self::Objects(objects) => objects.put(key, file).await,
        }
    }

    /// Keeps a text under a key.
    ///
    /// # Errors
    /// When it cannot be kept.
    pub(crate) async fn put_text(&self, key: &str, text: &str) -> Result<(), StoreError> {
        match self {
            Self::Folder(folder) => folder.put_text(key, text).await,
            Self::Objects(objects) => objects.put_text(key, text).await,
        }
    }

    /// Reads what is kept under a key into `sink`; `None` where there is nothing.
    ///
    /// # Errors
    /// When it cannot be read to its end, or the sink fails.
    pub(crate) async fn read(&self, key: &str, sink: Sink<'_>) -> Result<Option<u64>, StoreError> {
        match self {
            Self::Folder(folder) => folder.read(key, sink).await,
            Self::Objects(objects) => objects.read(key, sink).await,
        }
    }

    /// The names directly below a key, sorted: of files and of what holds files.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub(crate) async fn names(&self, key: &str) -> Result<Vec<String>, StoreError> {
        match self {
            Self::Folder(folder) => folder.names(key).await,
            Self::Objects(objects) => objects.names(key).await,
        }
    }

    /// Takes away everything below a key. The file `last` goes first: what is left of the rest is no backup then.
    ///
    /// # Errors
    /// When something cannot be taken away.
    pub(crate) async fn delete(&self, key: &str, last: &str) -> Result<(), StoreError> {
        match self {
            Self::Folder(folder) => folder.delete(key, last).await,
            Self::Objects(objects) => objects.delete(key, last).await,
        }
    }

    /// A text of at most 64 MiB; `None` where there is none.
    ///
    /// # Errors
    /// As [`Store::read`], and when it is longer or not UTF-8.
    pub(crate) async fn text(&self, key: &str) -> Result<Option<String>, StoreError> {
        const LONGEST: usize = 64 * 1024 * 1024;
        let mut bytes = Vec::new();
        let mut sink = |piece: &[u8]| {
            if bytes.len() + piece.len() > LONGEST {
                return Err(std::io::Error::other("it is larger than 64 MiB"));
            }
            bytes.extend_from_slice(piece);
            Ok(())
        };
        if self.read(key, &mut sink).await?.is_none() {
            return Ok(None);
        }
        let text = String::from_utf8(bytes);
        text.map(Some)
            .map_err(|cause| StoreError::new("read", key, &"the store", cause))
    }
}

/// Bytes read or sent at once.
const PIECE: usize = 1024 * 1024;
