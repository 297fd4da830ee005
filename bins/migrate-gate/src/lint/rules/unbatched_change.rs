//! UPDATE or DELETE without a limit.

use switchyard_sql::statement::{ChangeVerb, Reach};

use super::Rule;
use crate::lint::finding::{Found, Severity};
use crate::lint::moment::Moment;

pub(crate) const RULE: Rule = Rule {
    id: "unbatched-change",
    severity: Severity::Warning,
    summary: "UPDATE or DELETE without a limit",
    reason: "It keeps the lock of every row that it has changed until all are done, bloats the table, and makes replicas fall behind. Change a limited number of rows at a time, each in a transaction of its own.",
    before: "CREATE TABLE account (id serial PRIMARY KEY, email varchar(50) NOT NULL, name text, visits integer, team_id integer);
CREATE TABLE team (id serial PRIMARY KEY);",
    bad: "UPDATE account SET visits = 0 WHERE visits IS NULL;",
    good: "UPDATE account SET visits = 0 WHERE id IN (SELECT id FROM account WHERE visits IS NULL LIMIT 1000);",
    check,
};
fn check(moment: &Moment<'_>) -> Vec<Found> {
    let changes = moment.statement.changes();
    let unbatched = changes.filter(|change| {
        let is_change = match change.verb {
            ChangeVerb::Update | ChangeVerb::Delete | ChangeVerb::Merge => true,
            ChangeVerb::Insert | ChangeVerb::Copy => false,
        };
        let has_no_limit = match &change.reach {
            Reach::Unlimited => true,
            Reach::Few(columns) => !moment.catalog.is_key(&change.table, columns),
            // Another rule's.
            Reach::Everything | Reach::Limited => false,
        };
        is_change && has_no_limit && moment.is_used(&change.table)
    });
    unbatched
        .map(|change| {
            Found::new(
                format!("nothing limits how many rows of `{}` this changes in one transaction", change.table),
                "change a limited number at a time, such as `WHERE id IN (SELECT id … LIMIT 1000)`, until none is left",
            )
        })
        .collect()
}
