//! CREATE INDEX that keeps writers out.

use switchyard_sql::{Statement, WorkKind};

use super::Rule;
use crate::lint::finding::{Found, Severity};
use crate::lint::moment::Moment;

pub(crate) const RULE: Rule = Rule {
    id: "index-without-concurrently",
    severity: Severity::Error,
    summary: "CREATE INDEX that keeps writers out",
    reason: "Writers wait for as long as the index takes to build. `CONCURRENTLY` keeps nobody out; it has to be the only statement of its migration, because PostgreSQL refuses it inside of a transaction.",
    before: "CREATE TABLE account (id serial PRIMARY KEY, email varchar(50) NOT NULL, name text, visits integer, team_id integer);
CREATE TABLE team (id serial PRIMARY KEY);",
    bad: "CREATE INDEX account_name ON account (name);",
    good: "CREATE INDEX CONCURRENTLY account_name ON account (name);",
    check,
};
fn check(moment: &Moment<'_>) -> Vec<Found> {
    let Statement::CreateIndex(create) = moment.statement else {
        return Vec::new();
    };
    let Some(table) = moment
        .table_with(WorkKind::IndexBuild)
        .filter(|_| !create.is_concurrent)
    else {
        return Vec::new();
    };
    let is_partitioned = moment
        .catalog
        .table(&create.table)
        .is_some_and(|table| table.is_partitioned);
    vec![Found::new(
        format!("building the index keeps writers of `{table}` waiting (SHARE)"),
        if is_partitioned {
            "make the index ON ONLY the partitioned table, then one CONCURRENTLY on each partition, and attach them"
        } else {
            "CREATE INDEX CONCURRENTLY, as the only statement of its migration"
        },
    )]
}
