//! Other changes that write a table again.

use switchyard_sql::statement::AlterTableAction;

use super::Rule;
use crate::lint::finding::{Found, Severity};
use crate::lint::moment::Moment;

pub(crate) const RULE: Rule = Rule {
    id: "rewrite-table",
    severity: Severity::Error,
    summary: "Other changes that write a table again",
    reason: "`SET LOGGED`, `SET UNLOGGED`, `SET TABLESPACE`, `SET ACCESS METHOD` and `SET EXPRESSION` write every row again while nobody can read or write the table. An unlogged table is empty after a crash.",
    before: "CREATE TABLE account (id serial PRIMARY KEY, email varchar(50) NOT NULL, name text, visits integer, team_id integer);
CREATE TABLE team (id serial PRIMARY KEY);",
    bad: "ALTER TABLE account SET UNLOGGED;",
    good: "ALTER TABLE account SET (fillfactor = 80);",
    check,
};
fn check(moment: &Moment<'_>) -> Vec<Found> {
    let mut found = Vec::new();
    for (alter, action) in moment.actions() {
        let is_rewrite = matches!(
            action,
            AlterTableAction::SetLogged
                | AlterTableAction::SetTablespace
                | AlterTableAction::SetAccessMethod
                | AlterTableAction::SetExpression { .. }
        );
        if is_rewrite {
            found.push(Found::new(
                format!(
                    "this writes every row of `{}` again under ACCESS EXCLUSIVE",
                    alter.table
                ),
                "make a new table that way, copy the rows in batches, and switch over to it",
            ));
        }
    }
    found
}
