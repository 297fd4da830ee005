//! SET NOT NULL that reads the whole table.

use switchyard_sql::WorkKind;
use switchyard_sql::statement::AlterTableAction;

use super::Rule;
use crate::lint::finding::{Found, Severity};
use crate::lint::moment::{Moment, has};

pub(crate) const RULE: Rule = Rule {
    id: "set-not-null",
    severity: Severity::Error,
    summary: "SET NOT NULL that reads the whole table",
    reason: "PostgreSQL looks for nulls in every row, while nobody can read or write the table. From 12 on it does not look where a validated `CHECK (column IS NOT NULL)` proves that there are none, and validating such a check keeps nobody out.",
    before: "CREATE TABLE account (id serial PRIMARY KEY, email varchar(50) NOT NULL, name text, visits integer, team_id integer);
CREATE TABLE team (id serial PRIMARY KEY);",
    bad: "ALTER TABLE account ALTER COLUMN name SET NOT NULL;",
    good: "ALTER TABLE account ADD CONSTRAINT name_there CHECK (name IS NOT NULL) NOT VALID;
-- next migration
ALTER TABLE account VALIDATE CONSTRAINT name_there;
-- next migration
ALTER TABLE account ALTER COLUMN name SET NOT NULL;
ALTER TABLE account DROP CONSTRAINT name_there;",
    check,
};
fn check(moment: &Moment<'_>) -> Vec<Found> {
    let mut found = Vec::new();
    for (alter, action) in moment.actions() {
        let AlterTableAction::SetNotNull { column } = action else {
            continue;
        };
        if has(moment.effects_of(alter, action), WorkKind::Scan) {
            found.push(Found::new(
                format!(
                    "SET NOT NULL reads every row of `{}` under ACCESS EXCLUSIVE to look for nulls in `{column}`",
                    alter.table
                ),
                if moment.version.major() >= 12 {
                    format!("add CHECK ({column} IS NOT NULL) NOT VALID, validate it in the next migration, then SET NOT NULL")
                } else {
                    format!("keep a validated CHECK ({column} IS NOT NULL) instead; before PostgreSQL 12 nothing spares the scan")
                },
            ));
        }
    }
    found
}
