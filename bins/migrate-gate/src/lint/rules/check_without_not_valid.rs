//! A CHECK that is checked against every row at once.

use switchyard_sql::WorkKind;
use switchyard_sql::statement::{AlterTableAction, ConstraintKind};

use super::Rule;
use crate::lint::finding::{Found, Severity};
use crate::lint::moment::{Moment, has};

pub(crate) const RULE: Rule = Rule {
    id: "check-without-not-valid",
    severity: Severity::Error,
    summary: "A CHECK that is checked against every row at once",
    reason: "`ADD CONSTRAINT … CHECK` reads every row while nobody can read or write the table. `NOT VALID` checks new rows only and takes no time; `VALIDATE CONSTRAINT` then reads the rows that are there while everybody goes on.",
    before: "CREATE TABLE account (id serial PRIMARY KEY, email varchar(50) NOT NULL, name text, visits integer, team_id integer);
CREATE TABLE team (id serial PRIMARY KEY);",
    bad: "ALTER TABLE account ADD CONSTRAINT visits_there CHECK (visits >= 0);",
    good: "ALTER TABLE account ADD CONSTRAINT visits_there CHECK (visits >= 0) NOT VALID;
-- next migration
ALTER TABLE account VALIDATE CONSTRAINT visits_there;",
    check,
};
fn check(moment: &Moment<'_>) -> Vec<Found> {
    let mut found = Vec::new();
    for (alter, action) in moment.actions() {
        let AlterTableAction::AddConstraint(constraint) = action else {
            continue;
        };
        let is_check = matches!(
            constraint.kind,
            ConstraintKind::Check { .. } | ConstraintKind::NotNull { .. }
        );
        if is_check && has(moment.effects_of(alter, action), WorkKind::Scan) {
            found.push(Found::new(
                format!(
                    "the check reads every row of `{}` under ACCESS EXCLUSIVE",
                    alter.table
                ),
                "add it NOT VALID, and VALIDATE CONSTRAINT in the next migration",
            ));
        }
    }
    found
}
