//! What a backup says about itself: written last, so that a backup without it is none.

use std::collections::BTreeMap;
use std::ops::Deref;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use switchyard_postgres::{DatabaseContents, SchemaFingerprint, ServerSettings, ServerVersion};

use crate::sha256::sha256;

/// Name of the manifest's file.
pub(crate) const MANIFEST: &str = "manifest.json";

/// Folder of the dump's files, beside the manifest.
pub(crate) const DUMP: &str = "dump";

/// Version of the form that is written, and the only one that is read.
const FORM: u32 = 1;

/// Why a manifest cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ManifestError {
    #[error("the manifest is not of the form {FORM}: {0}")]
    Form(String),
    #[error("the manifest is another one: its SHA-256 is {found}, not {expected}")]
    Digest { expected: String, found: String },
    #[error("the manifest names the file `{0}`, which does not lie in the dump")]
    Path(String),
}

/// A backup of one database.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Manifest {
    form: u32,
    #[serde(flatten)]
    facts: Facts,
}

/// What a manifest says.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Facts {
    /// Name of the database.
    pub(crate) database: String,
    /// Host and port.
    pub(crate) server: String,
    /// Version of the server.
    pub(crate) server_version: ServerVersion,
    /// Version of the `pg_dump` that wrote it.
    pub(crate) dump_version: ServerVersion,
    /// When the snapshot was taken.
    pub(crate) taken_at: Timestamp,
    /// Page of the run that made it.
    pub(crate) run: Option<String>,
    /// How the database was made.
    pub(crate) settings: ServerSettings,
    /// Fingerprint of the schema in the snapshot.
    pub(crate) fingerprint: SchemaFingerprint,
    /// Counts and checksums in the snapshot.
    pub(crate) contents: DatabaseContents,
    /// What could not be counted, and why.
    pub(crate) uncounted: Vec<String>,
    /// Every file of the dump, by its path below the backup.
    pub(crate) files: BTreeMap<String, FileEntry>,
}

/// Which database a backup is one of. Read on its own where nothing else of a manifest matters.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Origin {
    server: String,
    database: String,
}

impl Origin {
    /// That of a manifest's text; `None` where it is none.
    pub(crate) fn read(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }
}

impl Deref for Manifest {
    type Target = Facts;

    fn deref(&self) -> &Facts {
        &self.facts
    }
}

/// A file of a dump.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FileEntry {
    /// Bytes.
    pub(crate) bytes: u64,
    /// Lowercase hexadecimal SHA-256.
    pub(crate) sha256: String,
}

impl Manifest {
    /// One of the current form.
    pub(crate) fn new(facts: Facts) -> Self {
        Self { form: FORM, facts }
    }

    /// As text; its SHA-256 is what a reference names.
    pub(crate) fn text(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string_pretty(self).map(|text| text + "\n")
    }

    /// Reads one, and compares it with the digest that a reference names.
    ///
    /// # Errors
    /// When it is another one, of another form, or names files that lie elsewhere.
    pub(crate) fn parse(text: &str, digest: Option<&str>) -> Result<Self, ManifestError> {
        let found = sha256(text.as_bytes());
        if let Some(expected) = digest.filter(|expected| *expected != found) {
            return Err(ManifestError::Digest {
                expected: expected.to_owned(),
                found,
            });
        }
        let manifest: Self =
            serde_json::from_str(text).map_err(|cause| ManifestError::Form(cause.to_string()))?;
        if manifest.form != FORM {
            return Err(ManifestError::Form(format!(
                "it is of form {}",
                manifest.form
            )));
        }
        let stray = manifest.files.keys().find(|path| !is_in_dump(path));
        match stray {
            Some(path) => Err(ManifestError::Path(path.clone())),
            None => Ok(manifest),
        }
    }

    /// Which database it is one of.
    pub(crate) fn origin(&self) -> Origin {
        Origin {
            server: self.server.clone(),
            database: self.database.clone(),
        }
    }

    /// Bytes of all files.
    pub(crate) fn bytes(&self) -> u64 {
        self.files.values().map(|file| file.bytes).sum()
    }
}

/// A manifest is only as trustworthy as where it lies: no path of it leads out of the backup.
fn is_in_dump(path: &str) -> bool {
    let name = path
        .strip_prefix(DUMP)
        .and_then(|rest| rest.strip_prefix('/'));
    name.is_some_and(|name| {
        !name.is_empty()
            && !name.starts_with('.')
            && name
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_path_of_a_manifest_leads_out_of_its_backup() {
        for path in ["dump/toc.dat", "dump/3021.dat.gz", "dump/blob_16400.dat"] {
            assert!(is_in_dump(path), "{path}");
        }
        for path in [
            "toc.dat",
            "dump/../x",
            "dump/",
            "dump/a/b",
            "/etc/passwd",
            "dump/.x",
            "dumpx/y",
        ] {
            assert!(!is_in_dump(path), "{path}");
        }
    }

    #[test]
    fn another_manifest_than_the_one_named_is_refused() {
        let error = Manifest::parse("{}", Some("00")).unwrap_err();
        assert!(matches!(error, ManifestError::Digest { .. }), "{error}");
        let error = Manifest::parse("{}", Some(&sha256(b"{}"))).unwrap_err();
        assert!(matches!(error, ManifestError::Form(_)), "{error}");
    }
}
