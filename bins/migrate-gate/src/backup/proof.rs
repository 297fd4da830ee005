//! Whether a backup is one: restored into a scratch database and compared with what was in the snapshot.

use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use switchyard_postgres::{ConnectionUrl, SchemaDescription};
use switchyard_runner::{Cancel, Console, Failure};

use super::compare::{Found, compare};
use super::manifest::Manifest;
use super::programs::Programs;
use super::scratch::{self, Scratch, ScratchError};

/// What is known of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "result")]
pub(crate) enum Proof {
    /// It was restored, and everything that can be compared was the same.
    Verified {
        /// Tables that were compared.
        tables: usize,
        /// Rows in them.
        rows: u64,
    },
    /// It could not be restored or compared, for a reason that is not the backup's.
    Unverifiable {
        /// Why.
        reason: String,
        /// What to do about it.
        hint: Option<String>,
    },
    /// It is not what was backed up.
    Damaged {
        /// What differs.
        differences: Vec<String>,
    },
}

impl Proof {
    /// For people.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::Verified { .. } => "verified",
            Self::Unverifiable { .. } => "unverifiable",
            Self::Damaged { .. } => "damaged",
        }
    }

    /// What is known, as a sentence.
    pub(crate) fn told(&self) -> String {
        match self {
            Self::Verified { tables, rows } => {
                format!("restored and compared: {tables} tables, {rows} rows")
            }
            Self::Unverifiable { reason, .. } => reason.clone(),
            Self::Damaged { differences } => differences.join("; "),
        }
    }

    /// Value of the output `verified`.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Verified { .. } => "true",
            Self::Unverifiable { .. } => "unverifiable",
            Self::Damaged { .. } => "false",
        }
    }
}

/// Where and how a backup is restored for its proof.
#[derive(Debug)]
pub(crate) struct Proving<'a> {
    /// Any database of the server that restores.
    pub(crate) admin: &'a ConnectionUrl,
    /// Name of the scratch database.
    pub(crate) name: String,
    /// Sessions and processes at once.
    pub(crate) jobs: u8,
    /// `pg_restore`.
    pub(crate) programs: &'a Programs,
    /// Whether the copy of a verified backup stays.
    pub(crate) keeps_copy: bool,
    pub(crate) console: &'a Console,
    pub(crate) cancel: &'a Cancel,
}

/// What came of a proof.
#[derive(Debug)]
pub(crate) struct Proved {
    pub(crate) proof: Proof,
    /// Name of the copy that was kept.
    pub(crate) copy: Option<String>,
}

impl From<Proof> for Proved {
    fn from(proof: Proof) -> Self {
        Self { proof, copy: None }
    }
}

impl Proving<'_> {
    /// Restores a dump and compares. The scratch database is taken away whatever comes of it, unless the backup is
    /// verified and its copy asked for.
    ///
    /// # Errors
    /// When the server fails otherwise than by refusing the scratch database, or a signal ends it.
    pub(crate) async fn prove(
        &self,
        dump: &Path,
        manifest: &Manifest,
        schema: Option<&SchemaDescription>,
    ) -> Result<Proved, Failure> {
        self.sweep().await;
        self.console.info(format!(
            "restoring into `{}` on {}",
            self.name,
            self.admin.server()
        ));
        let scratch = match Scratch::create(self.admin, &self.name, &manifest.settings).await {
            Ok(scratch) => scratch,
            Err(cause @ ScratchError::NoRight { .. }) => {
                let unverifiable = Proof::Unverifiable {
                    reason: cause.to_string(),
                    hint: cause.hint(),
                };
                return Ok(unverifiable.into());
            }
            Err(cause) => return Err(cause.failure()),
        };
        let proof = tokio::select! {
            proof = self.compare(&scratch, dump, manifest, schema) => proof,
            signal = self.cancel.cancelled() => {
                let text = format!("{} while the backup was restored for its proof", signal.name());
                Err(Failure::cancelled(signal, anyhow::anyhow!(text)))
            }
            () = self.told() => Err(Failure::bug(anyhow::anyhow!("the progress of a proof ended"))),
        };
        if self.keeps_copy && matches!(proof, Ok(Proof::Verified { .. })) {
            self.console
                .info(format!("the copy `{}` is kept", scratch.name()));
            let copy = Some(scratch.name().to_owned());
            return proof.map(|proof| Proved { proof, copy });
        }
        if let Err(cause) = scratch.drop().await {
            self.console
                .warning("migrate-gate", format!("{cause}; drop it by hand"));
        }
        proof.map(Proved::from)
    }

    /// Takes away what killed processes left on the server. No proof fails because of it.
    async fn sweep(&self) {
        match scratch::sweep(self.admin).await {
            Ok(swept) => {
                for name in swept {
                    self.console.info(format!(
                        "the scratch database `{name}`, which an earlier process left, is taken away"
                    ));
                }
            }
            Err(cause) => self.console.warning("migrate-gate", cause),
        }
    }

    /// Says every half minute that it goes on. Never ends by itself.
    async fn told(&self) {
        let begin = tokio::time::Instant::now();
        loop {
            tokio::time::sleep(Duration::from_secs(30)).await;
            let passed = begin.elapsed().as_secs();
            self.console
                .info(format!("restoring and comparing: {passed} s so far"));
        }
    }

    async fn compare(
        &self,
        scratch: &Scratch,
        dump: &Path,
        manifest: &Manifest,
        schema: Option<&SchemaDescription>,
    ) -> Result<Proof, Failure> {
        scratch.restore(dump, self.jobs, self.programs).await?;
        let (restored, counted) = scratch.look(self.jobs).await?;
        let found = Found {
            server: scratch.version(),
            schema: &restored,
            counted: &counted,
        };
        let compared = compare(manifest, found, schema);
        if !compared.differences.is_empty() {
            return Ok(Proof::Damaged {
                differences: compared.differences,
            });
        }
        if !compared.uncompared.is_empty() {
            return Ok(Proof::Unverifiable {
                reason: format!("not compared: {}", compared.uncompared.join("; ")),
                hint: Some(
                    "verify as a role that may read them, on a server of the same major version"
                        .to_owned(),
                ),
            });
        }
        Ok(Proof::Verified {
            tables: manifest.contents.tables.len(),
            rows: manifest.contents.tables.values().map(|one| one.rows).sum(),
        })
    }
}
