//! CREATE INDEX CONCURRENTLY IF NOT EXISTS.

use switchyard_sql::Statement;

use super::Rule;
use crate::lint::finding::{Found, Severity};
use crate::lint::moment::Moment;

pub(crate) const RULE: Rule = Rule {
    id: "concurrent-index-if-not-exists",
    severity: Severity::Warning,
    summary: "CREATE INDEX CONCURRENTLY IF NOT EXISTS",
    reason: "A build that fails half-way leaves an INVALID index behind. `IF NOT EXISTS` finds it, says nothing, and the index is never used.",
    before: "CREATE TABLE account (id serial PRIMARY KEY, email varchar(50) NOT NULL, name text, visits integer, team_id integer);
CREATE TABLE team (id serial PRIMARY KEY);",
    bad: "CREATE INDEX CONCURRENTLY IF NOT EXISTS account_name ON account (name);",
    good: "CREATE INDEX CONCURRENTLY account_name ON account (name);",
    check,
};
fn check(moment: &Moment<'_>) -> Vec<Found> {
    match moment.statement {
        Statement::CreateIndex(create) if create.is_concurrent && create.if_not_exists => {
            vec![Found::new(
                "an INVALID index left by a build that failed counts as existing, and is kept",
                "leave IF NOT EXISTS out, or DROP INDEX CONCURRENTLY IF EXISTS in the migration before",
            )]
        }
        _ => Vec::new(),
    }
}
