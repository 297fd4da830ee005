//! Triggers switched off.

use switchyard_sql::statement::AlterTableAction;

use super::Rule;
use crate::lint::finding::{Found, Severity};
use crate::lint::moment::Moment;

pub(crate) const RULE: Rule = Rule {
    id: "disable-trigger",
    severity: Severity::Warning,
    summary: "Triggers switched off",
    reason: "Foreign keys are triggers too: rows written meanwhile are never checked, and everybody's statements are meant, not the migration's alone.",
    before: "CREATE TABLE account (id serial PRIMARY KEY, email varchar(50) NOT NULL, name text, visits integer, team_id integer);
CREATE TABLE team (id serial PRIMARY KEY);",
    bad: "ALTER TABLE account DISABLE TRIGGER ALL;",
    good: "SET session_replication_role = origin;",
    check,
};
fn check(moment: &Moment<'_>) -> Vec<Found> {
    let mut found = Vec::new();
    for (alter, action) in moment.actions() {
        if let AlterTableAction::Trigger { is_off: true } = action {
            found.push(Found::new(
                format!("rows of `{}` that anybody writes meanwhile are not checked by it", alter.table),
                "leave triggers on; SET session_replication_role = replica is for the session alone",
            ));
        }
    }
    found
}
