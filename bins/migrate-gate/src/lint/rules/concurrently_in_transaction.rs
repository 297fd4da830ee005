//! A statement that PostgreSQL refuses inside of a transaction.

use switchyard_sql::refused_in_block;

use super::Rule;
use crate::lint::finding::{Found, Severity};
use crate::lint::moment::Moment;

pub(crate) const RULE: Rule = Rule {
    id: "concurrently-in-transaction",
    severity: Severity::Error,
    summary: "A statement that PostgreSQL refuses inside of a transaction",
    reason: "`CREATE INDEX CONCURRENTLY`, `VACUUM`, `ALTER SYSTEM` and others fail inside of a transaction block. Prisma sends a file as one string, which is a transaction as soon as it holds a second statement, even behind a `COMMIT`; most other tools put a transaction around each file.",
    before: "CREATE TABLE account (id serial PRIMARY KEY, email varchar(50) NOT NULL, name text, visits integer, team_id integer);
CREATE TABLE team (id serial PRIMARY KEY);",
    bad: "CREATE INDEX CONCURRENTLY account_name ON account (name);
CREATE INDEX CONCURRENTLY account_visits ON account (visits);",
    good: "CREATE INDEX CONCURRENTLY account_name ON account (name);
-- next migration
CREATE INDEX CONCURRENTLY account_visits ON account (visits);",
    check,
};
fn check(moment: &Moment<'_>) -> Vec<Found> {
    let Some(command) = refused_in_block(moment.statement, moment.version) else {
        return Vec::new();
    };
    if !moment.place.is_in_block && !moment.is_in_body {
        return Vec::new();
    }
    vec![Found::new(
        format!("`{command}` fails here: it is part of a transaction"),
        "make it the only statement of its migration; for a tool that wraps files, say that this one needs no transaction",
    )]
}
