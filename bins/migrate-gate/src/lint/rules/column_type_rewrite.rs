//! A change of type that writes every row again.

use switchyard_sql::statement::{AlterTableAction, Using};
use switchyard_sql::{TypeChange, WorkKind, column_change};

use super::Rule;
use crate::lint::finding::{Found, Severity};
use crate::lint::moment::{Moment, has};

pub(crate) const RULE: Rule = Rule {
    id: "column-type-rewrite",
    severity: Severity::Error,
    summary: "A change of type that writes every row again",
    reason: "Most changes of type write every row and build every index again while nobody can read or write the table: `integer` to `bigint`, a shorter `varchar`, another scale of `numeric`, an enum to `text`, any `USING` with an expression. A longer `varchar`, `varchar` to `text`, more digits of `numeric` at the same scale cost nothing and are not reported. What the column is now is read from the migrations before; where they do not say, that is reported as unknown.",
    before: "CREATE TABLE account (id serial PRIMARY KEY, email varchar(50) NOT NULL, name text, visits integer, team_id integer);
CREATE TABLE team (id serial PRIMARY KEY);",
    bad: "ALTER TABLE account ALTER COLUMN visits TYPE bigint;",
    good: "ALTER TABLE account ALTER COLUMN email TYPE varchar(100);
ALTER TABLE account ALTER COLUMN email TYPE text;",
    check,
};
fn check(moment: &Moment<'_>) -> Vec<Found> {
    let mut found = Vec::new();
    for (alter, action) in moment.actions() {
        let AlterTableAction::SetType {
            column,
            data_type,
            using,
            ..
        } = action
        else {
            continue;
        };
        let table = &alter.table;
        let effects = moment.effects_of(alter, action);
        let is_unknown = *using == Using::Cast
            && column_change(moment.catalog, table, column, data_type, moment.version)
                == TypeChange::Unknown;
        let does = if is_unknown {
            found.push(Found::unknown(
                format!("what `{column}` of `{table}` is now is not known here: its rows are written again unless it only gets wider"),
                "lint the migrations from the first on, or rehearse it on a copy and allow it here",
            ));
            continue;
        } else if has(effects, WorkKind::Rewrite) {
            format!("writes every row of `{table}` again")
        } else if has(effects, WorkKind::IndexBuild) {
            format!("builds indexes on `{table}` again")
        } else if has(effects, WorkKind::Scan) {
            format!("reads every row of `{table}` for a check")
        } else {
            continue;
        };
        let from = moment
            .catalog
            .column(table, column)
            .map(|column| format!(" from {}", column.data_type));
        found.push(Found::new(
            format!(
                "changing `{column}`{} to {data_type} {does} under ACCESS EXCLUSIVE",
                from.unwrap_or_default()
            ),
            "add a column of the new type, keep both equal by a trigger, fill it in batches, and switch over to it",
        ));
    }
    found
}
