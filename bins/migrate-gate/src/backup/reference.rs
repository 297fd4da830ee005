//! Where backups go, and how one is named afterwards: `s3://bucket/prefix/shop/20260101T000000Z-1a2b3c4d#sha256=…`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// A place for backups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Location {
    /// A folder of this machine.
    Folder(PathBuf),
    /// A bucket of S3 or of what speaks its language.
    S3 {
        /// The bucket.
        bucket: String,
        /// Beginning of the keys; without slashes at its ends.
        prefix: String,
    },
    /// A container of Azure's blob storage.
    Azure {
        /// The container.
        container: String,
        /// Beginning of the names; without slashes at its ends.
        prefix: String,
    },
}

impl Location {
    /// The place below this one.
    pub(crate) fn join(&self, name: &str) -> Self {
        let below = |prefix: &str| {
            if prefix.is_empty() {
                name.to_owned()
            } else {
                format!("{prefix}/{name}")
            }
        };
        match self {
            Self::Folder(path) => Self::Folder(path.join(name)),
            Self::S3 { bucket, prefix } => Self::S3 {
                bucket: bucket.clone(),
                prefix: below(prefix),
            },
            Self::Azure { container, prefix } => Self::Azure {
                container: container.clone(),
                prefix: below(prefix),
            },
        }
    }
}

impl FromStr for Location {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let Some((scheme, rest)) = text.split_once("://") else {
            return if text.is_empty() {
                Err("it is empty".to_owned())
            } else {
                Ok(Self::Folder(PathBuf::from(text)))
            };
        };
        let (root, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        if root.is_empty() || !root.chars().all(is_name) {
            return Err("a bucket or container has letters, digits, `-`, `.` and `_`".to_owned());
        }
        let (root, prefix) = (root.to_owned(), prefix.trim_matches('/').to_owned());
        match scheme {
            "s3" => Ok(Self::S3 {
                bucket: root,
                prefix,
            }),
            "azure" => Ok(Self::Azure {
                container: root,
                prefix,
            }),
            _ => Err(
                "a place is a folder, `s3://BUCKET/PREFIX` or `azure://CONTAINER/PREFIX`"
                    .to_owned(),
            ),
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) => write!(f, "{}", path.display()),
            Self::S3 { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
            Self::Azure { container, prefix } => write!(f, "azure://{container}/{prefix}"),
        }
    }
}

/// One backup: where it lies, and the SHA-256 of its manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BackupReference {
    /// Where it lies.
    pub(crate) location: Location,
    /// SHA-256 of its manifest; without it, an exchanged manifest is not noticed.
    pub(crate) digest: Option<String>,
}

impl FromStr for BackupReference {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (location, digest) = match text.split_once("#sha256=") {
            Some((location, digest)) => (location, Some(digest.trim())),
            None => (text, None),
        };
        let is_digest = |text: &str| {
            text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        };
        if digest.is_some_and(|digest| !is_digest(digest)) {
            return Err("behind `#sha256=` stand 64 hexadecimal digits".to_owned());
        }
        Ok(Self {
            location: location.parse()?,
            digest: digest.map(str::to_owned),
        })
    }
}

impl fmt::Display for BackupReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.location)?;
        match &self.digest {
            Some(digest) => write!(f, "#sha256={digest}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_and_references_are_read_and_written_alike() {
        let digest = "0".repeat(64);
        for text in ["/backups/shop", "s3://bucket/a/b", "azure://container/a"] {
            let full = format!("{text}#sha256={digest}");
            let reference: BackupReference = full.parse().unwrap();
            assert_eq!(reference.to_string(), full);
            assert_eq!(reference.location.to_string(), text);
        }
        let root: Location = "s3://bucket".parse().unwrap();
        assert_eq!(
            root.join("shop").join("1").to_string(),
            "s3://bucket/shop/1"
        );
    }

    #[test]
    fn what_is_no_place_is_refused() {
        for text in [
            "",
            "ftp://host/x",
            "s3://",
            "s3://a b/c",
            "https://a.blob.core.windows.net/x",
        ] {
            assert!(text.parse::<Location>().is_err(), "{text}");
        }
        assert!("s3://b/x#sha256=12".parse::<BackupReference>().is_err());
    }
}
