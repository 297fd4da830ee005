//! Statements prepared before and after the migrations, and the difference.

use std::time::Duration;

use switchyard_postgres::{
    ConnectionSettings, ConnectionUrl, PostgresError, Session, StatementShape, identifier,
};

use super::{BrokenStatement, QueryProof, SkippedStatement, Sort, Statement, TOLD};

/// What the server says of a statement.
type Answer = Result<StatementShape, String>;

/// Statements with what the server said of them before the migrations. Those without a plan are not asked about.
#[derive(Debug, Default)]
pub(crate) struct Baseline {
    prepared: Vec<(Statement, Sort, Answer)>,
    utility: u64,
}

/// What became of a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// It works as before.
    None,
    /// Its `*` gives more columns: what reads columns by name does not notice.
    Wider,
    /// It works no more, or gives something else.
    Broken(String),
}

/// A session whose search path leads to the schemas of the project.
///
/// # Errors
/// As [`Session::open`].
pub(super) async fn open(
    copy: &ConnectionUrl,
    namespaces: &[&str],
) -> Result<Session, PostgresError> {
    let settings = ConnectionSettings {
        lock_timeout: Duration::from_secs(30),
        ..ConnectionSettings::reading("switchyard query proof")
    };
    let session = Session::open(copy, &settings).await?;
    let mut path: Vec<String> = namespaces.iter().map(|name| identifier(name)).collect();
    path.push("public".to_owned());
    let sql = format!("SET search_path = {}", path.join(", "));
    session.script("set the search path", &sql).await?;
    Ok(session)
}

impl Baseline {
    /// Prepares each statement that has a plan.
    ///
    /// # Errors
    /// When the server does not answer.
    pub(super) async fn take(
        session: &Session,
        statements: Vec<Statement>,
    ) -> Result<Self, PostgresError> {
        let mut baseline = Self::default();
        for statement in statements {
            match statement.sort() {
                Sort::Utility => baseline.utility += 1,
                sort @ (Sort::Application | Sort::Catalog) => {
                    let answer = prepare(session, &statement).await?;
                    baseline.prepared.push((statement, sort, answer));
                }
            }
        }
        Ok(baseline)
    }

    /// The statements that insert rows.
    pub(super) fn inserts(&self) -> Vec<&Statement> {
        let all = self.prepared.iter().filter(|(_, _, answer)| answer.is_ok());
        let all = all.map(|(statement, _, _)| statement);
        all.filter(|one| one.text.to_lowercase().contains("insert"))
            .collect()
    }

    /// Counts what was and what could not be checked.
    pub(super) fn count(&self, proof: &mut QueryProof) {
        proof.utility_statements = self.utility;
        for (statement, sort, answer) in &self.prepared {
            match sort {
                Sort::Application => {
                    proof.statements += 1;
                    proof.calls = proof.calls.saturating_add(statement.calls);
                    if answer.is_ok() {
                        proof.checked_statements += 1;
                        proof.checked_calls = proof.checked_calls.saturating_add(statement.calls);
                    }
                }
                Sort::Catalog | Sort::Utility => proof.catalog_statements += 1,
            }
            if let Err(reason) = answer
                && *sort == Sort::Application
                && proof.skipped.len() < TOLD
            {
                proof.skipped.push(SkippedStatement {
                    text: statement.shown(),
                    calls: statement.calls,
                    reason: reason.clone(),
                });
            }
        }
    }

    /// Prepares again what could be prepared, and notes what changed.
    ///
    /// # Errors
    /// When the server does not answer.
    pub(super) async fn compare(
        &self,
        session: &Session,
        proof: &mut QueryProof,
    ) -> Result<(), PostgresError> {
        for (statement, _, before) in &self.prepared {
            let Ok(before) = before else {
                continue;
            };
            let after = prepare(session, statement).await?;
            match change(before, &after) {
                Change::None => {}
                Change::Wider if proof.wider.len() < TOLD => proof.wider.push(statement.shown()),
                Change::Wider => {}
                Change::Broken(change) => proof.broken.push(BrokenStatement {
                    text: statement.shown(),
                    calls: statement.calls,
                    change,
                }),
            }
        }
        Ok(())
    }
}

async fn prepare(session: &Session, statement: &Statement) -> Result<Answer, PostgresError> {
    match session.describe_statement(&statement.text).await {
        Ok(shape) => Ok(Ok(shape)),
        Err(PostgresError::Statement { message, code, .. }) if !code.starts_with("57P0") => {
            Ok(Err(format!("{message} (SQLSTATE {code})")))
        }
        Err(cause) => Err(cause),
    }
}

/// What became of a statement that could be prepared before.
pub(super) fn change(before: &StatementShape, after: &Answer) -> Change {
    let after = match after {
        Ok(after) => after,
        Err(reason) => return Change::Broken(reason.clone()),
    };
    if before.parameters != after.parameters {
        return Change::Broken(format!(
            "its parameters were ({}) and are ({})",
            before.parameters.join(", "),
            after.parameters.join(", ")
        ));
    }
    if before.columns == after.columns {
        return Change::None;
    }
    let mut rest = after.columns.iter();
    // Each of the old columns in its order: `*` with new ones between.
    if before
        .columns
        .iter()
        .all(|column| rest.any(|one| one == column))
    {
        return Change::Wider;
    }
    let shown = |columns: &[(String, String)], other: &[(String, String)]| {
        let only = columns.iter().filter(|column| !other.contains(column));
        let only: Vec<String> = only.map(|(name, kind)| format!("{name} {kind}")).collect();
        if only.is_empty() {
            "the same in another order".to_owned()
        } else {
            only.join(", ")
        }
    };
    Change::Broken(format!(
        "its columns had ({}) and have ({})",
        shown(&before.columns, &after.columns),
        shown(&after.columns, &before.columns)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(parameters: &[&str], columns: &[(&str, &str)]) -> StatementShape {
        StatementShape {
            parameters: parameters.iter().map(ToString::to_string).collect(),
            columns: columns
                .iter()
                .map(|(name, kind)| ((*name).to_owned(), (*kind).to_owned()))
                .collect(),
        }
    }

    #[test]
    fn more_columns_are_no_break_and_other_types_are() {
        let before = shape(&["int4"], &[("id", "int4"), ("name", "text")]);
        let same = |after: StatementShape| change(&before, &Ok(after));
        assert_eq!(same(before.clone()), Change::None);
        let wider = shape(
            &["int4"],
            &[("id", "int4"), ("new", "text"), ("name", "text")],
        );
        assert_eq!(same(wider), Change::Wider);
        for (after, told) in [
            (
                shape(&["int8"], &[("id", "int4"), ("name", "text")]),
                "parameters were (int4) and are (int8)",
            ),
            (
                shape(&["int4"], &[("id", "int8"), ("name", "text")]),
                "had (id int4) and have (id int8)",
            ),
            (shape(&["int4"], &[("id", "int4")]), "had (name text)"),
            (
                shape(&["int4"], &[("name", "text"), ("id", "int4")]),
                "another order",
            ),
        ] {
            let Change::Broken(text) = same(after) else {
                panic!("{told} is no break");
            };
            assert!(text.contains(told), "{text}");
        }
    }
}
