//! Renaming a table or a view that the running version uses.

use switchyard_sql::statement::AlterTableAction;

use super::Rule;
use crate::lint::finding::{Found, Severity};
use crate::lint::moment::Moment;

pub(crate) const RULE: Rule = Rule {
    id: "rename-table",
    severity: Severity::Error,
    summary: "Renaming a table or a view that the running version uses",
    reason: "The version that still runs knows the old name, the next one the new: one of the two fails, whenever it happens. A view under the old name bridges the time between.",
    before: "CREATE TABLE account (id serial PRIMARY KEY, email varchar(50) NOT NULL, name text, visits integer, team_id integer);
CREATE TABLE team (id serial PRIMARY KEY);",
    bad: "ALTER TABLE account RENAME TO customer;",
    good: "CREATE VIEW customer AS SELECT * FROM account;",
    check,
};
fn check(moment: &Moment<'_>) -> Vec<Found> {
    let hint = "keep the old name as a view until no version that knows it runs any more";
    let say = |from: &switchyard_sql::Name, to: &str| {
        Found::new(
            format!(
                "the running version asks for `{from}`, the next one for `{to}`: one of them fails"
            ),
            hint,
        )
    };
    let mut found = Vec::new();
    for (alter, action) in moment.actions() {
        if let AlterTableAction::Rename { to } = action {
            found.push(say(&alter.table, to));
        } else if let AlterTableAction::SetSchema { schema } = action {
            found.push(say(&alter.table, &format!("{schema}.{}", alter.table.name)));
        }
    }
    found
}
