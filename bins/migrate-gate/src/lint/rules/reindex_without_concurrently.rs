//! REINDEX that keeps writers out.

use switchyard_sql::Statement;

use super::Rule;
use crate::lint::finding::{Found, Severity};
use crate::lint::moment::Moment;

pub(crate) const RULE: Rule = Rule {
    id: "reindex-without-concurrently",
    severity: Severity::Error,
    summary: "REINDEX that keeps writers out",
    reason: "Writers wait for as long as the index takes to build, and readers that would use it wait too. `CONCURRENTLY` (12 and later) keeps nobody out.",
    before: "CREATE TABLE account (id serial PRIMARY KEY, email varchar(50) NOT NULL, name text, visits integer, team_id integer);
CREATE TABLE team (id serial PRIMARY KEY);
CREATE INDEX account_email ON account (email);",
    bad: "REINDEX INDEX account_email;",
    good: "REINDEX INDEX CONCURRENTLY account_email;",
    check,
};
fn check(moment: &Moment<'_>) -> Vec<Found> {
    match moment.statement {
        Statement::Reindex(reindex) if !reindex.is_concurrent => vec![Found::new(
            "writers wait while the index is built again, and so do readers that would use it",
            "REINDEX … CONCURRENTLY, as the only statement of its migration",
        )],
        _ => Vec::new(),
    }
}
