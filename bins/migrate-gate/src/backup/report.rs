//! What a step says about backups: as outputs, as a file, as a summary, and as an exit code.

use serde::Serialize;
use switchyard_postgres::ConnectionUrl;
use switchyard_runner::summary::cell;
use switchyard_runner::{Context, Failure, Kind};

use super::manifest::Manifest;
use super::proof::{Proof, Proved};
use super::reference::BackupReference;
use crate::report_file;

/// One backup and what is known of it.
#[derive(Debug, Serialize)]
pub(crate) struct BackupReport {
    /// Name of the database.
    database: String,
    /// Where it came from.
    server: String,
    /// What names it.
    backup: String,
    /// Bytes that are kept; absent where others keep them.
    bytes: Option<u64>,
    /// What is known of it.
    proof: Proof,
    /// Name of the restored copy, where it was kept.
    copy: Option<String>,
    /// Whether it is the provider's: then nobody can verify it here.
    is_external: bool,
}

impl BackupReport {
    pub(super) fn of_dump(url: &ConnectionUrl, backup: String, bytes: u64, proved: Proved) -> Self {
        Self {
            database: url.database().to_owned(),
            server: url.server(),
            backup,
            bytes: Some(bytes),
            proof: proved.proof,
            copy: proved.copy,
            is_external: false,
        }
    }

    pub(super) fn of_external(url: &ConnectionUrl, backup: String, proof: Proof) -> Self {
        Self {
            bytes: None,
            is_external: true,
            ..Self::of_dump(url, backup, 0, proof.into())
        }
    }

    pub(super) fn of_verification(
        reference: &BackupReference,
        manifest: Option<&Manifest>,
        proved: Proved,
    ) -> Self {
        let unknown = || "unknown".to_owned();
        Self {
            database: manifest.map_or_else(unknown, |one| one.database.clone()),
            server: manifest.map_or_else(unknown, |one| one.server.clone()),
            backup: reference.to_string(),
            bytes: manifest.map(Manifest::bytes),
            proof: proved.proof,
            copy: proved.copy,
            is_external: false,
        }
    }
}

/// All backups of a step.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    /// In the order of the inputs.
    pub(crate) backups: Vec<BackupReport>,
    /// Name of the database whose backup failed; those after it were not begun.
    pub(crate) failed: Option<String>,
}

impl Report {
    /// Writes outputs, summary and the file, which is the last: a disk may be full.
    ///
    /// # Errors
    /// When outputs or file cannot be written.
    pub(super) fn write(&self, context: &Context) -> Result<(), Failure> {
        let path = report_file::folder(context).join("migrate-gate-backup.json");
        let names: Vec<&str> = self.backups.iter().map(|one| one.backup.as_str()).collect();
        context.outputs.set("backup", names.join("\n"))?;
        let copies = self.backups.iter().filter_map(|one| {
            let copy = one.copy.as_ref()?;
            Some(format!("{}={copy}", one.database))
        });
        let copies: Vec<String> = copies.collect();
        context.outputs.set("copies", copies.join("\n"))?;
        context.outputs.set("verified", self.verified())?;
        for one in &self.backups {
            context
                .console
                .info(format!("{}: {}", one.database, one.proof.told()));
        }
        context.summarize("migrate-gate", &self.markdown());
        report_file::write(&path, self)?;
        context.outputs.set("report", path.display())
    }

    /// The worst that is known: one damaged backup makes all of them so. Nothing at all is not verified, and neither
    /// is one that was not made.
    fn verified(&self) -> &'static str {
        let has = |name: &str| self.backups.iter().any(|one| one.proof.name() == name);
        if has("false") {
            "false"
        } else if has("unverifiable") || self.failed.is_some() || self.backups.is_empty() {
            "unverifiable"
        } else {
            "true"
        }
    }

    fn markdown(&self) -> String {
        let row = |one: &BackupReport| {
            let kept = one
                .bytes
                .map_or_else(|| "elsewhere".to_owned(), |bytes| format!("{bytes} bytes"));
            format!(
                "| {} | {} | {} | {}: {} |",
                cell(&one.database),
                cell(&one.backup),
                kept,
                one.proof.word(),
                cell(&one.proof.told())
            )
        };
        let failed = self.failed.iter().map(|database| {
            let database = cell(database);
            format!(
                "| {database} | none | nothing | failed, and what comes after it was not begun |"
            )
        });
        let rows: Vec<String> = self.backups.iter().map(row).chain(failed).collect();
        format!(
            "### Backups\n\n| database | backup | kept | proof |\n| --- | --- | --- | --- |\n{}\n",
            rows.join("\n")
        )
    }

    /// The answer of the gate. External backups are nobody's to verify here, so they pass, and say so.
    ///
    /// # Errors
    /// Kind gate for a damaged backup, and for one that had to be verified and was not.
    pub(super) fn judge(&self, requires_verified: bool) -> Result<(), Failure> {
        for one in &self.backups {
            let text = format!("backup of `{}`: {}", one.database, one.proof.told());
            match &one.proof {
                Proof::Verified { .. } => {}
                Proof::Damaged { .. } => {
                    return Err(Failure::message(Kind::Gate, format!("{text} (damaged)"))
                        .hint("make another one before anything runs"));
                }
                Proof::Unverifiable { hint, .. } if requires_verified && !one.is_external => {
                    return Err(
                        Failure::message(Kind::Gate, format!("{text} (not verified)"))
                            .maybe_hint(hint.clone()),
                    );
                }
                Proof::Unverifiable { .. } => {}
            }
        }
        Ok(())
    }
}
