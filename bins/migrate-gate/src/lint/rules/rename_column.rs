//! Renaming a column that the running version uses.

use switchyard_sql::statement::AlterTableAction;

use super::Rule;
use crate::lint::finding::{Found, Severity};
use crate::lint::moment::Moment;

pub(crate) const RULE: Rule = Rule {
    id: "rename-column",
    severity: Severity::Error,
    summary: "Renaming a column that the running version uses",
    reason: "The version that still runs knows the old name, the next one the new: one of the two fails, whenever it happens.",
    before: "CREATE TABLE account (id serial PRIMARY KEY, email varchar(50) NOT NULL, name text, visits integer, team_id integer);
CREATE TABLE team (id serial PRIMARY KEY);",
    bad: "ALTER TABLE account RENAME COLUMN name TO full_name;",
    good: "ALTER TABLE account ADD COLUMN full_name text;",
    check,
};
fn check(moment: &Moment<'_>) -> Vec<Found> {
    let mut found = Vec::new();
    for (alter, action) in moment.actions() {
        if let AlterTableAction::RenameColumn { from, to } = action {
            found.push(Found::new(
                format!("the running version asks for `{from}` of `{}`, the next one for `{to}`: one of them fails", alter.table),
                "add the new column, keep both equal by a trigger, and drop the old one when nothing uses it",
            ));
        }
    }
    found
}
