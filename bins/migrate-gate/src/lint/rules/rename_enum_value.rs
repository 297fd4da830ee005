//! Renaming a label of an enum, or a type.

use switchyard_sql::Statement;
use switchyard_sql::statement::AlterTypeAction;

use super::Rule;
use crate::lint::finding::{Found, Severity};
use crate::lint::moment::Moment;

pub(crate) const RULE: Rule = Rule {
    id: "rename-enum-value",
    severity: Severity::Error,
    summary: "Renaming a label of an enum, or a type",
    reason: "The version that still runs knows the old name, the next one the new: one of the two fails, whenever it happens.",
    before: "CREATE TYPE status AS ENUM ('new', 'gone');",
    bad: "ALTER TYPE status RENAME VALUE 'gone' TO 'left';",
    good: "ALTER TYPE status ADD VALUE 'left';",
    check,
};
fn check(moment: &Moment<'_>) -> Vec<Found> {
    let Statement::AlterType(alter) = moment.statement else {
        return Vec::new();
    };
    let what = match &alter.action {
        AlterTypeAction::RenameValue => format!("a label of `{}`", alter.name),
        AlterTypeAction::Rename(_) => format!("type `{}`", alter.name),
        AlterTypeAction::AddValue { .. } | AlterTypeAction::Attributes | AlterTypeAction::Other => {
            return Vec::new();
        }
    };
    vec![Found::new(
        format!(
            "the running version knows {what} by its old name, the next one by the new: one of them fails"
        ),
        "add the new one, change the rows in batches, and leave the old one",
    )]
}
