//! Adding a column together with a constraint that reads the table or builds an index.

use switchyard_sql::WorkKind;
use switchyard_sql::statement::AlterTableAction;

use super::Rule;
use crate::lint::finding::{Found, Severity};
use crate::lint::moment::{Moment, has};

pub(crate) const RULE: Rule = Rule {
    id: "add-column-constraint",
    severity: Severity::Error,
    summary: "Adding a column together with a constraint that reads the table or builds an index",
    reason: "`CHECK` written at a new column reads every row, and `UNIQUE` builds its index, while nobody can read or write the table. A foreign key is checked against every row where the column has a default.",
    before: "CREATE TABLE account (id serial PRIMARY KEY, email varchar(50) NOT NULL, name text, visits integer, team_id integer);
CREATE TABLE team (id serial PRIMARY KEY);",
    bad: "ALTER TABLE account ADD COLUMN age integer CHECK (age > 0);",
    good: "ALTER TABLE account ADD COLUMN age integer;
-- next migration
ALTER TABLE account ADD CONSTRAINT age_positive CHECK (age > 0) NOT VALID;
-- next migration
ALTER TABLE account VALIDATE CONSTRAINT age_positive;",
    check,
};
fn check(moment: &Moment<'_>) -> Vec<Found> {
    let mut found = Vec::new();
    for (alter, action) in moment.actions() {
        let AlterTableAction::AddColumn { column, .. } = action else {
            continue;
        };
        if column.constraints.is_empty() {
            continue;
        }
        let effects = moment.effects_of(alter, action);
        let does = if has(effects, WorkKind::IndexBuild) {
            "builds an index on"
        } else if has(effects, WorkKind::Scan) {
            "reads every row of"
        } else {
            continue;
        };
        found.push(Found::new(
            format!(
                "the constraint written at new column `{}` {does} `{}` under ACCESS EXCLUSIVE",
                column.name, alter.table
            ),
            "add the column alone; then a check or a foreign key NOT VALID and validate it, or a unique index CONCURRENTLY",
        ));
    }
    found
}
