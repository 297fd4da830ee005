//! Whether a backup is one: restored into a scratch database and compared with what was in the snapshot.

use std::path::Path;

use serde::Serialize;
use switchyard_postgres::{ConnectionUrl, SchemaDescription};
use switchyard_runner::{Cancel, Console, Failure};

use super::manifest::Manifest;
use super::programs::Programs;
use super::scratch::{Scratch, ScratchError};

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
    pub(crate) console: &'a Console,
    pub(crate) cancel: &'a Cancel,
}

impl Proving<'_> {
    /// Restores a dump and compares. The scratch database is taken away whatever comes of it.
    ///
    /// # Errors
    /// When the server fails otherwise than by refusing the scratch database, or a signal ends it.
    pub(crate) async fn prove(
        &self,
        dump: &Path,
        manifest: &Manifest,
        schema: Option<&SchemaDescription>,
    ) -> Result<Proof, Failure> {
        self.console.info(format!(
            "restoring into `{}` on {}",
            self.name,
            self.admin.server()
        ));
        let scratch = match Scratch::create(self.admin, &self.name, &manifest.settings).await {
            Ok(scratch) => scratch,
            Err(cause @ ScratchError::NoRight { .. }) => {
                return Ok(Proof::Unverifiable {
                    reason: cause.to_string(),
                    hint: cause.hint(),
                });
            }
            Err(cause @ ScratchError::Exists { .. }) => {
                let hint = cause.hint();
                return Err(Failure::input(cause).maybe_hint(hint));
            }
            Err(cause @ ScratchError::Postgres(_)) => {
                let hint = cause.hint();
                return Err(Failure::remote(cause).maybe_hint(hint));
            }
        };
        let proof = tokio::select! {
            proof = self.compare(&scratch, dump, manifest, schema) => proof,
            signal = self.cancel.cancelled() => {
                let text = format!("{} while the backup was restored for its proof", signal.name());
                Err(Failure::cancelled(signal, anyhow::anyhow!(text)))
            }
        };
        if let Err(cause) = scratch.drop().await {
            self.console
                .warning("migrate-gate", format!("{cause}; drop it by hand"));
        }
        proof
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
        let mut differences = manifest.contents.differences(&counted.contents);
        if restored.fingerprint() != manifest.fingerprint {
            differences.push("the schema is another one".to_owned());
            differences.extend(
                schema
                    .iter()
                    .flat_map(|schema| schema.differences(&restored)),
            );
        }
        if !differences.is_empty() {
            return Ok(Proof::Damaged { differences });
        }
        let uncounted: Vec<String> = manifest
            .uncounted
            .iter()
            .chain(&counted.uncounted)
            .cloned()
            .collect();
        if !uncounted.is_empty() {
            return Ok(Proof::Unverifiable {
                reason: format!("not compared: {}", uncounted.join("; ")),
                hint: Some("let the role read them, or verify as the owner".to_owned()),
            });
        }
        Ok(Proof::Verified {
            tables: manifest.contents.tables.len(),
            rows: manifest.contents.tables.values().map(|one| one.rows).sum(),
        })
    }
}
