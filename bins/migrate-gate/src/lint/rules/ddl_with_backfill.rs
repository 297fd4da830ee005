//! Rows changed while the transaction keeps a table locked.

use switchyard_sql::statement::{Change, ChangeVerb, Reach};

use super::Rule;
use crate::lint::finding::{Found, Severity};
use crate::lint::moment::Moment;

pub(crate) const RULE: Rule = Rule {
    id: "ddl-with-backfill",
    severity: Severity::Error,
    summary: "Rows changed while the transaction keeps a table locked",
    reason: "A lock is kept until the transaction ends. What is quick by itself, such as adding a column, keeps everybody out for as long as the `UPDATE` behind it takes.",
    before: "CREATE TABLE account (id serial PRIMARY KEY, email varchar(50) NOT NULL, name text, visits integer, team_id integer);
CREATE TABLE team (id serial PRIMARY KEY);",
    bad: "ALTER TABLE account ADD COLUMN active boolean;
UPDATE account SET active = true WHERE visits > 0;",
    good: "ALTER TABLE account ADD COLUMN active boolean;
-- next migration, repeated until no row is left
UPDATE account SET active = true WHERE id IN (SELECT id FROM account WHERE active IS NULL LIMIT 1000);",
    check,
};
fn check(moment: &Moment<'_>) -> Vec<Found> {
    let Some(held) = moment.session.held.iter().max_by_key(|held| held.mode) else {
        return Vec::new();
    };
    let mut changes = moment.statement.changes();
    if !changes.any(|change| is_long(moment, change)) {
        return Vec::new();
    }
    vec![Found::new(
        format!(
            "`{}` stays locked in {} since line {}, {}, for as long as this takes",
            held.table,
            held.mode,
            held.line,
            held.mode.blocking()
        ),
        "change the rows in a migration of their own, in batches",
    )]
}

/// Whether its time grows with a table that others use.
fn is_long(moment: &Moment<'_>, change: &Change) -> bool {
    let is_into_new = change.verb != ChangeVerb::Insert && !moment.is_used(&change.table);
    match &change.reach {
        Reach::Limited => false,
        Reach::Few(columns) => !is_into_new && !moment.catalog.is_key(&change.table, columns),
        Reach::Unlimited | Reach::Everything => !is_into_new,
    }
}
