//! TRUNCATE of a table that others use.

use switchyard_sql::{Statement, WorkKind};

use super::Rule;
use crate::lint::finding::{Found, Severity};
use crate::lint::moment::Moment;

pub(crate) const RULE: Rule = Rule {
    id: "truncate",
    severity: Severity::Error,
    summary: "TRUNCATE of a table that others use",
    reason: "Every row is gone, and nobody can read or write the table until the transaction ends; with `CASCADE` so are the rows of every table that references it.",
    before: "CREATE TABLE account (id serial PRIMARY KEY, email varchar(50) NOT NULL, name text, visits integer, team_id integer);
CREATE TABLE team (id serial PRIMARY KEY);",
    bad: "TRUNCATE account;",
    good: "DELETE FROM account WHERE id BETWEEN 1 AND 1000;",
    check,
};
fn check(moment: &Moment<'_>) -> Vec<Found> {
    let Statement::Truncate(_) = moment.statement else {
        return Vec::new();
    };
    let emptied = moment.works().filter(|work| work.kind == WorkKind::Empty);
    let tables: Vec<String> = emptied.map(|work| format!("`{}`", work.table)).collect();
    if tables.is_empty() {
        return Vec::new();
    }
    vec![Found::new(
        format!(
            "every row of {} is thrown away under ACCESS EXCLUSIVE",
            tables.join(", ")
        ),
        "delete the rows that are not needed in batches; or allow it where all of them are meant",
    )]
}
