//! DROP INDEX that keeps everybody out.

use switchyard_sql::Statement;

use super::Rule;
use crate::lint::finding::{Found, Severity};
use crate::lint::moment::Moment;

pub(crate) const RULE: Rule = Rule {
    id: "drop-index-without-concurrently",
    severity: Severity::Warning,
    summary: "DROP INDEX that keeps everybody out",
    reason: "It needs the table for itself: it waits for every transaction that has touched it, and everybody else waits behind it. `CONCURRENTLY` keeps nobody out.",
    before: "CREATE TABLE account (id serial PRIMARY KEY, email varchar(50) NOT NULL, name text, visits integer, team_id integer);
CREATE TABLE team (id serial PRIMARY KEY);
CREATE INDEX account_email ON account (email);",
    bad: "DROP INDEX account_email;",
    good: "DROP INDEX CONCURRENTLY account_email;",
    check,
};
fn check(moment: &Moment<'_>) -> Vec<Found> {
    let Statement::DropIndex(drop) = moment.statement else {
        return Vec::new();
    };
    let is_of_new_table = |name| {
        let index = moment.catalog.index(name);
        index.is_some_and(|index| moment.catalog.is_new(&index.table))
    };
    if drop.is_concurrent || drop.names.iter().all(is_of_new_table) {
        return Vec::new();
    }
    vec![Found::new(
        "dropping an index takes ACCESS EXCLUSIVE on its table, which blocks reads and writes",
        "DROP INDEX CONCURRENTLY, as the only statement of its migration",
    )]
}
