//! A new label of an enum used in the transaction that adds it.

use switchyard_sql::Statement;

use super::Rule;
use crate::lint::finding::{Found, Severity};
use crate::lint::moment::Moment;

pub(crate) const RULE: Rule = Rule {
    id: "enum-value-used-at-once",
    severity: Severity::Error,
    summary: "A new label of an enum used in the transaction that adds it",
    reason: "PostgreSQL refuses to use a label before the transaction that added it has ended.",
    before: "CREATE TYPE status AS ENUM ('new');
CREATE TABLE account (id serial PRIMARY KEY, status status);",
    bad: "ALTER TYPE status ADD VALUE 'paused';
ALTER TABLE account ALTER COLUMN status SET DEFAULT 'paused';",
    good: "ALTER TYPE status ADD VALUE 'paused';
-- next migration
ALTER TABLE account ALTER COLUMN status SET DEFAULT 'paused';",
    check,
};
fn check(moment: &Moment<'_>) -> Vec<Found> {
    if matches!(moment.statement, Statement::AlterType(_)) {
        return Vec::new();
    }
    let values = moment.session.enum_values.iter();
    let used = values.filter(|value| {
        let literal = format!("'{}'", value.replace('\'', "''"));
        moment.text.contains(&literal)
    });
    used.map(|value| {
        Found::new(
            format!("label `{value}` cannot be used before the transaction that adds it has ended"),
            "use it in the next migration",
        )
    })
    .collect()
}
