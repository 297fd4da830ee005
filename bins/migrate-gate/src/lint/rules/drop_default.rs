//! Dropping the default of a column that must have a value.

use switchyard_sql::statement::AlterTableAction;

use super::Rule;
use crate::lint::finding::{Found, Severity};
use crate::lint::moment::Moment;

pub(crate) const RULE: Rule = Rule {
    id: "drop-default",
    severity: Severity::Warning,
    summary: "Dropping the default of a column that must have a value",
    reason: "The version that still runs may leave the column out of its `INSERT`, which fails without the default.",
    before: "CREATE TABLE account (id serial PRIMARY KEY, visits integer NOT NULL DEFAULT 0);",
    bad: "ALTER TABLE account ALTER COLUMN visits DROP DEFAULT;",
    good: "ALTER TABLE account ALTER COLUMN visits SET DEFAULT 1;",
    check,
};
fn check(moment: &Moment<'_>) -> Vec<Found> {
    let mut found = Vec::new();
    for (alter, action) in moment.actions() {
        let AlterTableAction::DropDefault { column } = action else {
            continue;
        };
        let known = moment.catalog.column(&alter.table, column);
        if known.is_some_and(|column| column.is_not_null && column.has_value) {
            found.push(Found::new(
                format!("an INSERT of the running version that leaves out `{column}` of `{}` fails without the default", alter.table),
                "drop it once every version that runs gives the value",
            ));
        }
    }
    found
}
