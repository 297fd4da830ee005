//! A label put between others of an enum.

use switchyard_sql::Statement;
use switchyard_sql::statement::AlterTypeAction;

use super::Rule;
use crate::lint::finding::{Found, Severity};
use crate::lint::moment::Moment;

pub(crate) const RULE: Rule = Rule {
    id: "enum-order",
    severity: Severity::Warning,
    summary: "A label put between others of an enum",
    reason: "`BEFORE` and `AFTER` change how values sort and compare for the version that still runs: `ORDER BY`, `<`, ranges and indexes on it. A label at the end changes nothing.",
    before: "CREATE TYPE size AS ENUM ('small', 'large');",
    bad: "ALTER TYPE size ADD VALUE 'medium' BEFORE 'large';",
    good: "ALTER TYPE size ADD VALUE 'huge';",
    check,
};
fn check(moment: &Moment<'_>) -> Vec<Found> {
    let Statement::AlterType(alter) = moment.statement else {
        return Vec::new();
    };
    match &alter.action {
        AlterTypeAction::AddValue {
            value,
            has_position: true,
        } => vec![Found::new(
            format!(
                "`{value}` changes the order of `{}` for the running version",
                alter.name
            ),
            "add it at the end, unless the order matters and every query is ready for it",
        )],
        AlterTypeAction::AddValue { .. }
        | AlterTypeAction::RenameValue
        | AlterTypeAction::Rename(_)
        | AlterTypeAction::Attributes
        | AlterTypeAction::Other => Vec::new(),
    }
}
