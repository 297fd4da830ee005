//! A foreign key that is checked against every row at once.

use switchyard_sql::WorkKind;
use switchyard_sql::statement::{AlterTableAction, ConstraintKind};

use super::Rule;
use crate::lint::finding::{Found, Severity};
use crate::lint::moment::{Moment, has};

pub(crate) const RULE: Rule = Rule {
    id: "foreign-key-without-not-valid",
    severity: Severity::Error,
    summary: "A foreign key that is checked against every row at once",
    reason: "`ADD FOREIGN KEY` looks every row up while writers of **both** tables wait. `NOT VALID` checks new rows only and takes no time; `VALIDATE CONSTRAINT` then looks the old ones up while everybody goes on.",
    before: "CREATE TABLE account (id serial PRIMARY KEY, email varchar(50) NOT NULL, name text, visits integer, team_id integer);
CREATE TABLE team (id serial PRIMARY KEY);",
    bad: "ALTER TABLE account ADD CONSTRAINT account_team FOREIGN KEY (team_id) REFERENCES team (id);",
    good: "ALTER TABLE account ADD CONSTRAINT account_team FOREIGN KEY (team_id) REFERENCES team (id) NOT VALID;
-- next migration
ALTER TABLE account VALIDATE CONSTRAINT account_team;",
    check,
};
fn check(moment: &Moment<'_>) -> Vec<Found> {
    let mut found = Vec::new();
    for (alter, action) in moment.actions() {
        let AlterTableAction::AddConstraint(constraint) = action else {
            continue;
        };
        let ConstraintKind::ForeignKey { references, .. } = &constraint.kind else {
            continue;
        };
        if has(moment.effects_of(alter, action), WorkKind::Scan) {
            found.push(Found::new(
                format!(
                    "the foreign key looks up every row of `{}` while writers of it and of `{references}` wait (SHARE ROW EXCLUSIVE on both)",
                    alter.table
                ),
                "add it NOT VALID, and VALIDATE CONSTRAINT in the next migration",
            ));
        }
    }
    found
}
