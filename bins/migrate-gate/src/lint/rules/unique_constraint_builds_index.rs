//! A UNIQUE or PRIMARY KEY constraint that builds its index.

use switchyard_sql::WorkKind;
use switchyard_sql::statement::{AlterTableAction, ConstraintKind};

use super::Rule;
use crate::lint::finding::{Found, Severity};
use crate::lint::moment::{Moment, has};

pub(crate) const RULE: Rule = Rule {
    id: "unique-constraint-builds-index",
    severity: Severity::Error,
    summary: "A UNIQUE or PRIMARY KEY constraint that builds its index",
    reason: "Building the index takes as long as the table is large, and nobody can read or write it meanwhile. An index built CONCURRENTLY beforehand is taken over in no time.",
    before: "CREATE TABLE account (id serial PRIMARY KEY, email varchar(50) NOT NULL, name text, visits integer, team_id integer);
CREATE TABLE team (id serial PRIMARY KEY);",
    bad: "ALTER TABLE account ADD CONSTRAINT account_email UNIQUE (email);",
    good: "CREATE UNIQUE INDEX CONCURRENTLY account_email ON account (email);
-- next migration
ALTER TABLE account ADD CONSTRAINT account_email UNIQUE USING INDEX account_email;",
    check,
};
fn check(moment: &Moment<'_>) -> Vec<Found> {
    let mut found = Vec::new();
    for (alter, action) in moment.actions() {
        let AlterTableAction::AddConstraint(constraint) = action else {
            continue;
        };
        let (is_key, is_taken_over) = match &constraint.kind {
            ConstraintKind::Unique { using_index, .. }
            | ConstraintKind::PrimaryKey { using_index, .. } => (true, using_index.is_some()),
            ConstraintKind::Exclude => (true, false),
            ConstraintKind::Check { .. }
            | ConstraintKind::ForeignKey { .. }
            | ConstraintKind::NotNull { .. } => (false, false),
        };
        let effects = moment.effects_of(alter, action);
        if is_key && !is_taken_over && has(effects, WorkKind::IndexBuild) {
            found.push(Found::new(
                format!("the constraint builds an index on `{}` under ACCESS EXCLUSIVE", alter.table),
                if constraint.kind == ConstraintKind::Exclude {
                    "an exclusion constraint can be had in no other way: run it while the table is quiet, and allow it here"
                } else {
                    "CREATE UNIQUE INDEX CONCURRENTLY first, then ADD CONSTRAINT … USING INDEX"
                },
            ));
        } else if is_taken_over && has(effects, WorkKind::Scan) {
            found.push(Found::new(
                format!(
                    "the primary key reads every row of `{}` under ACCESS EXCLUSIVE, because a column of it may be null",
                    alter.table
                ),
                "make its columns NOT NULL first, by way of a validated CHECK",
            ));
        }
    }
    found
}
