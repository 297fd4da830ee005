//! REFRESH MATERIALIZED VIEW that keeps readers out.

use switchyard_sql::Statement;

use super::Rule;
use crate::lint::finding::{Found, Severity};
use crate::lint::moment::Moment;

pub(crate) const RULE: Rule = Rule {
    id: "refresh-without-concurrently",
    severity: Severity::Warning,
    summary: "REFRESH MATERIALIZED VIEW that keeps readers out",
    reason: "Nobody can read the view while its query runs. `CONCURRENTLY` lets readers in; it needs a unique index on the view.",
    before: "CREATE TABLE account (id serial PRIMARY KEY, email varchar(50) NOT NULL, name text, visits integer, team_id integer);
CREATE TABLE team (id serial PRIMARY KEY);
CREATE MATERIALIZED VIEW report AS SELECT id FROM account;
CREATE UNIQUE INDEX report_id ON report (id);",
    bad: "REFRESH MATERIALIZED VIEW report;",
    good: "REFRESH MATERIALIZED VIEW CONCURRENTLY report;",
    check,
};
fn check(moment: &Moment<'_>) -> Vec<Found> {
    match moment.statement {
        Statement::RefreshMaterializedView(refresh)
            if !refresh.is_concurrent && moment.is_used(&refresh.name) =>
        {
            vec![Found::new(
                format!(
                    "nobody can read `{}` while it is filled again",
                    refresh.name
                ),
                "REFRESH MATERIALIZED VIEW CONCURRENTLY, which needs a unique index on it",
            )]
        }
        _ => Vec::new(),
    }
}
