//! Whether the statements of the running version still work: each is prepared on the copy before the migrations and
//! after them, and what changed is named. Nothing of them is run.

mod compare;
mod file;
mod inserts;
mod required;

use serde::{Deserialize, Serialize};
use switchyard_postgres::{ConnectionUrl, PostgresError, Session, StatisticsAnswer};

use super::inputs::Percent;
use super::report::Evidence;
pub(super) use crate::queries::{Sort, Statement};
pub(super) use compare::Baseline;
pub(super) use file::read as read_file;
pub(super) use required::{Column, Columns};

/// Most statements of each sort that are told.
const TOLD: usize = 50;

/// Where statements were taken from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "from")]
pub(crate) enum Source {
    /// `pg_stat_statements` of production.
    Statistics,
    /// A file.
    File,
    /// Nowhere.
    Nowhere {
        /// Why.
        reason: String,
    },
}

/// What became of the statements.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct QueryProof {
    /// Where they were taken from.
    #[serde(flatten)]
    pub(crate) source: Source,
    /// Whether enough of them could be checked.
    #[serde(flatten)]
    pub(crate) evidence: Evidence,
    /// Statements of the application.
    pub(crate) statements: u64,
    /// Their calls.
    pub(crate) calls: u64,
    /// Statements of the application that were checked.
    pub(crate) checked_statements: u64,
    /// Their calls.
    pub(crate) checked_calls: u64,
    /// Statements about the catalog alone, as tools send them; checked, and not counted above.
    pub(crate) catalog_statements: u64,
    /// Statements that cannot be prepared (`BEGIN`, `SET`, DDL): not checked.
    pub(crate) utility_statements: u64,
    /// Those that fail before the migrations too: not checked.
    pub(crate) skipped: Vec<SkippedStatement>,
    /// Those that work no more.
    pub(crate) broken: Vec<BrokenStatement>,
    /// Those with `*` that give more columns than before.
    pub(crate) wider: Vec<String>,
    /// New columns that need a value and have none of their own.
    pub(crate) required: Vec<RequiredColumn>,
}

/// A statement that could not be checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SkippedStatement {
    /// Its beginning.
    pub(crate) text: String,
    /// Its calls.
    pub(crate) calls: u64,
    /// What the server says of it.
    pub(crate) reason: String,
}

/// A statement that works no more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BrokenStatement {
    /// Its beginning.
    pub(crate) text: String,
    /// Its calls.
    pub(crate) calls: u64,
    /// In which way.
    pub(crate) change: String,
}

/// A column that demands a value which old `INSERT`s do not give.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RequiredColumn {
    /// Its table, with the schema.
    pub(crate) table: String,
    /// Its name.
    pub(crate) column: String,
    /// `INSERT`s of the running version that leave it out; empty where none were seen.
    pub(crate) omitted_by: Vec<String>,
}

impl QueryProof {
    /// One that was not made.
    pub(super) fn not_made(reason: String) -> Self {
        Self {
            evidence: Evidence::Unverifiable {
                reasons: vec![reason.clone()],
            },
            source: Source::Nowhere { reason },
            ..Self::of_nothing()
        }
    }

    /// Nothing was to be proved: no migration is pending.
    pub(super) fn of_nothing() -> Self {
        Self {
            source: Source::Nowhere {
                reason: "no migration is pending".to_owned(),
            },
            evidence: Evidence::Verified,
            statements: 0,
            calls: 0,
            checked_statements: 0,
            checked_calls: 0,
            catalog_statements: 0,
            utility_statements: 0,
            skipped: Vec::new(),
            broken: Vec::new(),
            wider: Vec::new(),
            required: Vec::new(),
        }
    }

    /// What speaks against running the migrations, a sentence each.
    pub(crate) fn objections(&self) -> Vec<String> {
        let broken = self.broken.iter().map(|one| {
            format!(
                "the running version's statement breaks ({}): {}",
                one.change, one.text
            )
        });
        let required = self
            .required
            .iter()
            .filter(|one| !one.omitted_by.is_empty());
        let required = required.map(|one| {
            format!(
                "column `{}` of `{}` needs a value, and the running version inserts without it: {}",
                one.column, one.table, one.omitted_by[0]
            )
        });
        broken.chain(required).collect()
    }
}

/// The statements to prove, as they were before the migrations.
#[derive(Debug)]
pub(super) struct Before {
    source: Source,
    baseline: Baseline,
    columns: Columns,
}

/// Takes the statements of the running version: those of the file where one is given, else what production counted.
///
/// # Errors
/// When production does not answer.
pub(super) async fn statements(
    file: Option<&[Statement]>,
    database: &str,
    production: Option<&Session>,
) -> Result<(Source, Vec<Statement>), PostgresError> {
    if let Some(statements) = file {
        let of_database = statements.iter().filter(|one| one.is_of(database));
        return Ok((Source::File, of_database.cloned().collect()));
    }
    let nowhere = |reason: &str| {
        let reason = reason.to_owned();
        Ok((Source::Nowhere { reason }, Vec::new()))
    };
    let Some(production) = production else {
        return nowhere("neither production nor `queries` is given");
    };
    match production.statement_statistics().await? {
        StatisticsAnswer::Absent => nowhere("production has no extension `pg_stat_statements`"),
        StatisticsAnswer::NotLoaded => {
            nowhere("production does not load `pg_stat_statements` (shared_preload_libraries)")
        }
        StatisticsAnswer::Hidden => nowhere(
            "the role of production may not see the statements of others (grant it pg_read_all_stats)",
        ),
        StatisticsAnswer::Counted(counted) => {
            let statements = counted.into_iter().map(Statement::counted);
            Ok((Source::Statistics, statements.collect()))
        }
    }
}

/// Prepares the statements on the copy before the migrations.
///
/// # Errors
/// When the copy does not answer; what it says of a statement is part of the answer.
pub(super) async fn before(
    copy: &ConnectionUrl,
    namespaces: &[&str],
    (source, statements): (Source, Vec<Statement>),
) -> Result<Before, PostgresError> {
    let session = compare::open(copy, namespaces).await?;
    let baseline = Baseline::take(&session, statements).await?;
    let columns = Columns::read(&session).await?;
    Ok(Before {
        source,
        baseline,
        columns,
    })
}

impl Before {
    /// Prepares them again, after the migrations, and says what changed.
    ///
    /// # Errors
    /// When the copy does not answer.
    pub(super) async fn after(
        self,
        copy: &ConnectionUrl,
        namespaces: &[&str],
        min_coverage: Percent,
    ) -> Result<QueryProof, PostgresError> {
        // Another session: this one knows nothing of types that are gone.
        let session = compare::open(copy, namespaces).await?;
        let columns = Columns::read(&session).await?;
        let inserts = self.baseline.inserts();
        let required = required::new_ones(&self.columns, &columns)
            .into_iter()
            .map(|column| RequiredColumn {
                omitted_by: omitting(&inserts, &column, namespaces),
                table: column.table.to_string(),
                column: column.name,
            });
        let mut proof = QueryProof {
            source: self.source,
            required: required.collect(),
            ..QueryProof::of_nothing()
        };
        self.baseline.count(&mut proof);
        self.baseline.compare(&session, &mut proof).await?;
        proof.evidence = Evidence::unless(unproved(&proof, min_coverage));
        Ok(proof)
    }
}

fn omitting(inserts: &[&Statement], column: &Column, namespaces: &[&str]) -> Vec<String> {
    let omits = |statement: &&&Statement| inserts::omits(&statement.text, column, namespaces);
    let omitting = inserts.iter().filter(omits);
    omitting.take(TOLD).map(|one| one.shown()).collect()
}

fn unproved(proof: &QueryProof, min_coverage: Percent) -> Vec<String> {
    if let Source::Nowhere { reason } = &proof.source {
        let mut reasons = vec![reason.clone()];
        reasons.extend(proof.required.iter().map(|one| {
            format!(
                "whether old INSERTs into `{}` leave out its new column `{}`",
                one.table, one.column
            )
        }));
        return reasons;
    }
    if proof.statements == 0 {
        return vec!["no statement of an application was found".to_owned()];
    }
    if !min_coverage.is_reached(proof.checked_calls, proof.calls) {
        return vec![format!(
            "{} of {} calls were checked, less than {min_coverage} %",
            proof.checked_calls, proof.calls
        )];
    }
    Vec::new()
}
