//! The one file in which a token, or the session that makes tokens, waits for the next call of the plugin.
//! One file for each way of getting it and each job; whatever is wrong with a file, it is not used and not
//! trusted.

use std::fmt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use switchyard_runner::Secret;
use tokio::time::Instant;

use super::token::Token;
use crate::github::Fingerprint;
use crate::lock::Lock;
use crate::private::{self, PrivateFolder, Problem};

/// What is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    /// What a client of a cluster is given.
    Token,
    /// What makes such tokens, and goes to nobody.
    Session,
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Token => "token",
            Self::Session => "session",
        })
    }
}

/// Where a recipe's token is kept.
#[derive(Debug)]
pub(crate) struct Cache {
    path: PathBuf,
    key: String,
}

/// Why a kept token is not used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unusable {
    #[error(transparent)]
    File(#[from] Problem),
    #[error("`{}` does not hold what we wrote", .0.display())]
    Corrupt(PathBuf),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    key: String,
    token: String,
    since: Timestamp,
    until: Timestamp,
}

impl Cache {
    /// The place for what is got by these arguments in this job, below the runner's folder for temporary
    /// files.
    ///
    /// # Errors
    /// When our folder there is not ours alone.
    pub(crate) fn new(
        runner_temp: &Path,
        kept: Kept,
        arguments: &[String],
        job: Fingerprint,
    ) -> Result<Self, Problem> {
        let key = key(&kept.to_string(), arguments, job);
        let folder = PrivateFolder::below(runner_temp)?;
        let path = folder.file(&format!("{kept}-{}.json", &key[..32]));
        Ok(Self { path, key })
    }

    /// The kept token, whatever its age; `None` where there is none.
    ///
    /// # Errors
    /// When there is something else in its place.
    pub(crate) fn read(&self) -> Result<Option<Token>, Unusable> {
        let Some(text) = private::read(&self.path)? else {
            return Ok(None);
        };
        let corrupt = || Unusable::Corrupt(self.path.clone());
        let entry: Entry = serde_json::from_str(&text).map_err(|_| corrupt())?;
        let is_whole = entry.key == self.key
            && !entry.token.is_empty()
            && entry.token.bytes().all(|byte| byte.is_ascii_graphic())
            && entry.since <= entry.until;
        if !is_whole {
            return Err(corrupt());
        }
        Ok(Some(Token {
            secret: Secret::new(entry.token),
            since: entry.since,
            until: entry.until,
        }))
    }

    /// Keeps a token for the next call.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn write(&self, token: &Token) -> Result<(), Problem> {
        let entry = Entry {
            key: self.key.clone(),
            token: token.secret.expose().to_owned(),
            since: token.since,
            until: token.until,
        };
        let text = serde_json::to_string(&entry).unwrap_or_default();
        private::replace(&self.path, &text)
    }

    /// Waits until no other call is getting this token, at most until `deadline`.
    ///
    /// # Errors
    /// When the lock's file cannot be opened, or another call still holds it at `deadline`.
    pub(crate) async fn lock(&self, deadline: Instant) -> Result<Lock, Problem> {
        Lock::of_file(&self.path.with_extension("lock"), deadline).await
    }
}

/// Hash of everything that decides which token it is: how it is got, and for which job.
fn key(kind: &str, arguments: &[String], job: Fingerprint) -> String {
    let mut hash = Sha256::new();
    for argument in std::iter::once(kind).chain(arguments.iter().map(String::as_str)) {
        hash.update(argument);
        hash.update([0]);
    }
    hash.update(job.as_bytes());
    let digest: [u8; 32] = hash.finalize().into();
    let halves = digest.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    let digits = halves.filter_map(|half| char::from_digit(half.into(), 16));
    digits.collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::time::Duration;

    use super::*;

    fn token() -> Token {
        Token::new(
            Secret::new("hunter2"),
            Timestamp::from_second(1000).unwrap(),
            Duration::from_secs(3600),
        )
    }

    struct Case {
        folder: tempfile::TempDir,
    }

    impl Case {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            Self { folder }
        }

        fn cache(&self, audience: &str, job: u8) -> Cache {
            self.cache_of(Kept::Token, audience, job)
        }

        fn cache_of(&self, kept: Kept, audience: &str, job: u8) -> Cache {
            let arguments = [format!("--audience={audience}")];
            let job = Fingerprint::of("https://example.com", &job.to_string());
            Cache::new(self.folder.path(), kept, &arguments, job).unwrap()
        }
    }

    #[test]
    fn a_token_is_found_again_by_its_own_recipe_in_its_own_job_alone() {
        let case = Case::new();
        case.cache("a", 1).write(&token()).unwrap();
        assert_eq!(case.cache("a", 1).read().unwrap(), Some(token()));
        assert_eq!(case.cache("b", 1).read().unwrap(), None);
        assert_eq!(case.cache("a", 2).read().unwrap(), None);
        assert_eq!(case.cache_of(Kept::Session, "a", 1).read().unwrap(), None);
    }

    #[test]
    fn what_we_did_not_write_is_not_used() {
        let case = Case::new();
        let (cache, other) = (case.cache("a", 1), case.cache("b", 1));
        other.write(&token()).unwrap();
        let others = std::fs::read_to_string(&other.path).unwrap();
        for text in ["", "{", r#"{"token":"x"}"#, others.as_str()] {
            private::replace(&cache.path, text).unwrap();
            assert!(matches!(cache.read(), Err(Unusable::Corrupt(_))), "{text}");
        }
        cache.write(&token()).unwrap();
        std::fs::set_permissions(&cache.path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(
            cache.read(),
            Err(Unusable::File(Problem::Mode { .. }))
        ));
        cache.write(&token()).unwrap();
        assert_eq!(cache.read().unwrap(), Some(token()));
    }

    #[tokio::test]
    async fn each_recipe_has_a_lock_of_its_own() {
        let case = Case::new();
        let held = case.cache("a", 1).lock(Instant::now()).await.unwrap();
        case.cache("b", 1).lock(Instant::now()).await.unwrap();
        case.cache("a", 1).lock(Instant::now()).await.unwrap_err();
        drop(held);
    }
}
