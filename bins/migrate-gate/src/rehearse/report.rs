//! What a rehearsal found, as data: the file `rehearsal`, which `run` reads again.

use serde::{Deserialize, Serialize};
use switchyard_postgres::{SchemaDescription, SchemaFingerprint, ServerVersion};

use super::proof::QueryProof;

/// Version of the report's form; one of another form is not read.
pub(crate) const FORM: u32 = 1;

/// What a rehearsal found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Rehearsal {
    /// [`FORM`].
    pub(crate) form: u32,
    /// Whether everything was checked and nothing speaks against running the migrations.
    pub(crate) safe: bool,
    /// Longest time that a migration may keep others waiting.
    pub(crate) budget_milliseconds: u64,
    /// Longest wait for a lock that the migrations ran under. Whoever comes meanwhile waits behind them.
    pub(crate) lock_timeout_milliseconds: u64,
    /// Each database, in the order of the inputs.
    pub(crate) databases: Vec<DatabaseRehearsal>,
}

/// What was found in the copy of one database.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct DatabaseRehearsal {
    /// Production's, where it is given.
    pub(crate) production: Option<DatabasePlace>,
    /// The copy's.
    pub(crate) copy: DatabasePlace,
    /// Version of the copy's server.
    pub(crate) server_version: ServerVersion,
    /// Whether the copy has the schema of production.
    pub(crate) likeness: Evidence,
    /// Fingerprint before the first migration, without ledgers: what production has to have as well.
    pub(crate) fingerprint: SchemaFingerprint,
    /// Each migration that was run, in order: the chain of fingerprints.
    pub(crate) migrations: Vec<MigrationRehearsal>,
    /// Whether the statements of the running version still work.
    pub(crate) proof: QueryProof,
}

/// A database on a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DatabasePlace {
    /// Host and port.
    pub(crate) server: String,
    /// Name of the database.
    pub(crate) database: String,
}

/// Whether something was checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "evidence")]
pub(crate) enum Evidence {
    /// It was.
    Verified,
    /// It could not be.
    Unverifiable {
        /// Why not.
        reasons: Vec<String>,
    },
}

impl Evidence {
    /// Verified, unless something could not be checked.
    pub(crate) fn unless(reasons: Vec<String>) -> Self {
        if reasons.is_empty() {
            Self::Verified
        } else {
            Self::Unverifiable { reasons }
        }
    }

    /// What could not be checked.
    pub(crate) fn reasons(&self) -> &[String] {
        match self {
            Self::Verified => &[],
            Self::Unverifiable { reasons } => reasons,
        }
    }
}

/// One migration on the copy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct MigrationRehearsal {
    /// Name of its schema in the inputs.
    pub(crate) schema: String,
    /// Its name.
    pub(crate) name: String,
    /// SHA-256 of its file with LF.
    pub(crate) checksum: String,
    /// The file.
    pub(crate) file: String,
    /// Fingerprint of the database's schema before it, without ledgers.
    pub(crate) before: SchemaFingerprint,
    /// The same after it; `None` where it failed.
    pub(crate) after: Option<SchemaFingerprint>,
    /// How long it took.
    pub(crate) milliseconds: u64,
    /// Why it failed, where it did.
    pub(crate) error: Option<RehearsedError>,
    /// Longest waits, by table.
    pub(crate) tables: Vec<TableBlocking>,
    /// Whether every table that it locked was measured.
    pub(crate) measured: Evidence,
    /// Tables that were not probed, because more were found than may be.
    pub(crate) not_probed: Vec<String>,
    /// Indexes that it left invalid.
    pub(crate) invalid_indexes: Vec<String>,
}

/// Why a migration failed on the copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RehearsedError {
    /// The server's words.
    pub(crate) message: String,
    /// SQLSTATE, where there is one.
    pub(crate) code: Option<String>,
    /// What to do about it.
    pub(crate) hint: Option<String>,
}

impl RehearsedError {
    /// Whether the migration failed by itself. A lock that it did not get is somebody else's doing, the probes' too:
    /// nothing is known of the migration then, and that is told as what could not be checked.
    fn is_its_own(&self) -> bool {
        self.code.as_deref() != Some(LOCK_NOT_AVAILABLE)
    }
}

/// SQLSTATE of a lock that was not had in time, or not at once.
const LOCK_NOT_AVAILABLE: &str = "55P03";

/// How long others waited for a table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct TableBlocking {
    /// The table, with its schema.
    pub(crate) table: String,
    /// Longest wait of somebody who only reads.
    pub(crate) readers_milliseconds: u64,
    /// Longest wait of somebody who writes, for the table or for one of the rows looked at.
    pub(crate) writers_milliseconds: u64,
    /// Longest wait at rest, before the migration began: what of the above is noise.
    pub(crate) at_rest_milliseconds: u64,
    /// Strongest lock seen, as `AccessExclusiveLock`.
    pub(crate) lock: Option<String>,
    /// Rows of the copy, as estimated by its server.
    pub(crate) copy_rows: Option<u64>,
    /// Rows of production, as estimated by its server.
    pub(crate) production_rows: Option<u64>,
    /// The longer wait scaled by the rows: an estimate, where both counts are known.
    pub(crate) production_estimate_milliseconds: Option<u64>,
    /// Whether rows could be watched: there are some, and a primary key to find them by.
    pub(crate) rows_watched: bool,
}

impl TableBlocking {
    /// The longest wait that speaks against it: the measured one, or the estimate where that is longer.
    pub(crate) fn longest_milliseconds(&self) -> u64 {
        let measured = self.readers_milliseconds.max(self.writers_milliseconds);
        measured.max(self.production_estimate_milliseconds.unwrap_or(0))
    }
}

/// A wait up to this is one of the network and of the processor, in milliseconds: it does not grow with rows.
const NOISE_MILLISECONDS: u64 = 20;

/// Scales a wait by how many more rows production has. Never down: a part of the time does not depend on rows. What was
/// waited at rest as well is left as it is.
pub(crate) fn scaled(
    milliseconds: u64,
    at_rest: u64,
    copy: Option<u64>,
    production: Option<u64>,
) -> Option<u64> {
    match (copy, production) {
        (Some(_), Some(_)) if milliseconds <= at_rest.max(NOISE_MILLISECONDS) => Some(milliseconds),
        (Some(copy), Some(production)) if copy > 0 => {
            let scaled = u128::from(milliseconds) * u128::from(production.max(copy));
            u64::try_from(scaled / u128::from(copy)).ok()
        }
        (Some(_), Some(_)) | (None, _) | (_, None) => None,
    }
}

/// What of a schema production and its copy have alike: all but the ledgers in these schemas of it, which the rehearsal
/// does not write and a tool makes with its first migration, and `pg_stat_statements`, which only a superuser restores.
pub(crate) fn comparable<'a>(
    description: &SchemaDescription,
    namespaces: impl IntoIterator<Item = &'a str>,
) -> SchemaDescription {
    let mut left_out: Vec<String> = namespaces
        .into_iter()
        .map(|namespace| format!("{namespace}._prisma_migrations"))
        .collect();
    left_out.push("pg_stat_statements".to_owned());
    description.without_relations(&left_out)
}

/// Fingerprint of what [`comparable`] leaves.
pub(crate) fn fingerprint<'a>(
    description: &SchemaDescription,
    namespaces: impl IntoIterator<Item = &'a str>,
) -> SchemaFingerprint {
    comparable(description, namespaces).fingerprint()
}

impl MigrationRehearsal {
    /// The tables that were blocked for longer than the budget.
    pub(crate) fn over(&self, budget_milliseconds: u64) -> impl Iterator<Item = &TableBlocking> {
        let tables = self.tables.iter();
        tables.filter(move |table| table.longest_milliseconds() > budget_milliseconds)
    }
}

impl Rehearsal {
    /// What speaks against running the migrations, a sentence each.
    pub(crate) fn objections(&self) -> Vec<String> {
        let mut objections = Vec::new();
        for database in &self.databases {
            for migration in &database.migrations {
                objections.extend(of_migration(migration, self.budget_milliseconds));
            }
            objections.extend(database.proof.objections());
        }
        objections
    }

    /// What could not be checked, a sentence each.
    pub(crate) fn unverifiable(&self) -> Vec<String> {
        let mut told = Vec::new();
        for database in &self.databases {
            let name = &database.copy.database;
            let mut add = |what: &str, evidence: &Evidence| {
                let reasons = evidence.reasons().iter();
                told.extend(reasons.map(|reason| format!("{what}: {reason}")));
            };
            add(&format!("copy `{name}`"), &database.likeness);
            for migration in &database.migrations {
                add(
                    &format!("blocking by `{}`", migration.name),
                    &migration.measured,
                );
            }
            add(&format!("statements of `{name}`"), &database.proof.evidence);
        }
        told
    }

    /// Says once whether it is safe.
    pub(crate) fn judged(mut self) -> Self {
        self.safe = self.objections().is_empty() && self.unverifiable().is_empty();
        self
    }
}

fn of_migration(migration: &MigrationRehearsal, budget: u64) -> Vec<String> {
    let name = &migration.name;
    let mut objections = Vec::new();
    if let Some(error) = migration.error.iter().find(|error| error.is_its_own()) {
        objections.push(format!("`{name}` fails: {}", error.message));
    }
    for index in &migration.invalid_indexes {
        objections.push(format!("`{name}` leaves the index `{index}` invalid"));
    }
    for table in migration.over(budget) {
        let measured = table.readers_milliseconds.max(table.writers_milliseconds);
        let who = if table.readers_milliseconds > budget {
            "readers and writers"
        } else {
            "writers"
        };
        let text = if measured > budget {
            format!(
                "`{name}` blocks {who} of `{}` for {measured} ms, budget {budget} ms",
                table.table
            )
        } else {
            format!(
                "`{name}` blocks `{}` for {measured} ms on the copy, by its rows an estimated {} ms in production, budget {budget} ms",
                table.table,
                table.longest_milliseconds()
            )
        };
        objections.push(text);
    }
    objections
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_estimate_needs_both_counts_and_never_makes_a_wait_shorter() {
        assert_eq!(scaled(100, 5, Some(10), Some(1000)), Some(10_000));
        assert_eq!(scaled(100, 5, Some(1000), Some(10)), Some(100));
        assert_eq!(scaled(100, 5, Some(0), Some(10)), None);
        assert_eq!(scaled(100, 5, None, Some(10)), None);
        assert_eq!(scaled(u64::MAX, 5, Some(1), Some(u64::MAX)), None);
    }

    #[test]
    fn noise_does_not_grow_with_rows() {
        assert_eq!(scaled(14, 3, Some(10), Some(1000)), Some(14));
        assert_eq!(scaled(80, 90, Some(10), Some(1000)), Some(80));
    }
}
