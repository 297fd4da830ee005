//! A constraint of a domain that is checked against every row.

use switchyard_sql::{Statement, WorkKind};

use super::Rule;
use crate::lint::finding::{Found, Severity};
use crate::lint::moment::Moment;

pub(crate) const RULE: Rule = Rule {
    id: "domain-constraint",
    severity: Severity::Error,
    summary: "A constraint of a domain that is checked against every row",
    reason: "Every table with a column of the domain is read, and its writers wait meanwhile. `NOT VALID` checks new values only; `VALIDATE CONSTRAINT` of a domain still keeps writers out.",
    before: "CREATE DOMAIN label AS text;
CREATE TABLE account (id serial PRIMARY KEY, label label);",
    bad: "ALTER DOMAIN label ADD CONSTRAINT short CHECK (length(VALUE) < 100);",
    good: "ALTER DOMAIN label ADD CONSTRAINT short CHECK (length(VALUE) < 100) NOT VALID;",
    check,
};
fn check(moment: &Moment<'_>) -> Vec<Found> {
    let Statement::AlterDomain(alter) = moment.statement else {
        return Vec::new();
    };
    let scanned = moment.works().filter(|work| work.kind == WorkKind::Scan);
    let tables: Vec<String> = scanned.map(|work| format!("`{}`", work.table)).collect();
    if tables.is_empty() {
        return Vec::new();
    }
    vec![Found::new(
        format!(
            "the constraint of `{}` reads every row of {} while writers wait (SHARE)",
            alter.name,
            tables.join(", ")
        ),
        "add it NOT VALID, or put a CHECK … NOT VALID on each table instead",
    )]
}
