//! The one error of the sandbox: what failed, why, and what to do about it.

use std::{error::Error, fmt::Display, io, path::Path};

/// A failed step. The cause is in `source`, advice is in [`SandboxError::hint`].
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct SandboxError {
    what: String,
    #[source]
    source: Option<Box<dyn Error + Send + Sync>>,
    hint: Option<String>,
}

/// The result of every fallible function of this crate.
pub type Result<T, E = SandboxError> = std::result::Result<T, E>;

impl SandboxError {
    /// A failure without a deeper cause.
    pub fn new(what: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            source: None,
            hint: None,
        }
    }

    /// Adds advice, printed apart from the error.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// What to do about it, where that is known.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// The error and its causes in one line.
    #[must_use]
    pub fn chain(&self) -> String {
        let mut text = self.what.clone();
        let mut cause = self.source();
        while let Some(error) = cause {
            text.push_str(&format!(": {error}"));
            cause = error.source();
        }
        text
    }
}

/// Says what was being done when an error of another library appeared.
pub(crate) trait Context<T> {
    /// Wraps the error; `what` is only evaluated on failure.
    ///
    /// # Errors
    /// The wrapped error.
    fn context<D: Display>(self, what: impl FnOnce() -> D) -> Result<T>;
}

impl<T, E: Into<Box<dyn Error + Send + Sync>>> Context<T> for std::result::Result<T, E> {
    fn context<D: Display>(self, what: impl FnOnce() -> D) -> Result<T> {
        self.map_err(|error| SandboxError {
            what: what().to_string(),
            source: Some(error.into()),
            hint: None,
        })
    }
}

/// Reads a file as text, naming it on failure.
pub(crate) fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).context(|| format!("cannot read {}", path.display()))
}

/// Writes a file in one step (a reader sees the old or the new content, never half of it),
/// readable by its owner only.
pub(crate) fn write(path: &Path, content: impl AsRef<[u8]>) -> Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let partial = path.with_extension("partial");
    let written = || -> io::Result<()> {
        let mut options = std::fs::OpenOptions::new();
        let mut file = options
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&partial)?;
        io::Write::write_all(&mut file, content.as_ref())?;
        std::fs::rename(&partial, path)
    };
    written().context(|| format!("cannot write {}", path.display()))
}

/// Creates a folder and its parents, naming it on failure.
pub(crate) fn create_dir(path: &Path) -> Result<()> {
    std::fs::create_dir_all(path).context(|| format!("cannot create {}", path.display()))
}
