//! UPDATE or DELETE of every row.

use switchyard_sql::statement::Reach;

use super::Rule;
use crate::lint::finding::{Found, Severity};
use crate::lint::moment::Moment;

pub(crate) const RULE: Rule = Rule {
    id: "change-without-where",
    severity: Severity::Error,
    summary: "UPDATE or DELETE of every row",
    reason: "Without `WHERE` every row is changed in one transaction, whether that was meant or not.",
    before: "CREATE TABLE account (id serial PRIMARY KEY, email varchar(50) NOT NULL, name text, visits integer, team_id integer);
CREATE TABLE team (id serial PRIMARY KEY);",
    bad: "UPDATE account SET visits = 0;",
    good: "UPDATE account SET visits = 0 WHERE id BETWEEN 1 AND 1000;",
    check,
};
fn check(moment: &Moment<'_>) -> Vec<Found> {
    let changes = moment.statement.changes();
    let everything =
        changes.filter(|change| change.reach == Reach::Everything && moment.is_used(&change.table));
    everything
        .map(|change| {
            Found::new(
                format!("this changes every row of `{}`", change.table),
                "say which rows are meant, a limited number at a time",
            )
        })
        .collect()
}
