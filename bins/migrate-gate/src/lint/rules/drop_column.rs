//! Dropping a column that the running version may use.

use switchyard_sql::statement::AlterTableAction;

use super::Rule;
use crate::lint::finding::{Found, Severity};
use crate::lint::moment::Moment;

pub(crate) const RULE: Rule = Rule {
    id: "drop-column",
    severity: Severity::Error,
    summary: "Dropping a column that the running version may use",
    reason: "Queries of the version that still runs fail at once, also those that name no columns: an ORM asks for each by name. Take the column out of the code first, and drop it when no version that knows it runs any more.",
    before: "CREATE TABLE account (id serial PRIMARY KEY, email varchar(50) NOT NULL, name text, visits integer, team_id integer);
CREATE TABLE team (id serial PRIMARY KEY);",
    bad: "ALTER TABLE account DROP COLUMN name;",
    good: "ALTER TABLE account ALTER COLUMN email DROP NOT NULL;",
    check,
};
fn check(moment: &Moment<'_>) -> Vec<Found> {
    let mut found = Vec::new();
    for (alter, action) in moment.actions() {
        if let AlterTableAction::DropColumn { column, .. } = action {
            found.push(Found::new(
                format!("queries of the running version fail without column `{column}` of `{}`, and its values are gone", alter.table),
                "take it out of the code first; drop it once no version that knows it runs any more, and allow it then",
            ));
        }
    }
    found
}
