//! Adding a NOT NULL column without a default.

use switchyard_sql::BaseType;
use switchyard_sql::statement::{AlterTableAction, ColumnSource};

use super::Rule;
use crate::lint::finding::{Found, Severity};
use crate::lint::moment::Moment;

pub(crate) const RULE: Rule = Rule {
    id: "add-required-column",
    severity: Severity::Error,
    summary: "Adding a NOT NULL column without a default",
    reason: "It fails where the table has rows, and the running version, which does not know the column, can insert no row from then on.",
    before: "CREATE TABLE account (id serial PRIMARY KEY, email varchar(50) NOT NULL, name text, visits integer, team_id integer);
CREATE TABLE team (id serial PRIMARY KEY);",
    bad: "ALTER TABLE account ADD COLUMN age integer NOT NULL;",
    good: "ALTER TABLE account ADD COLUMN age integer NOT NULL DEFAULT 0;",
    check,
};
fn check(moment: &Moment<'_>) -> Vec<Found> {
    let actions = moment.actions();
    let required = actions.filter_map(|(alter, action)| {
        let AlterTableAction::AddColumn { column, .. } = action else {
            return None;
        };
        let has_value = column.source != ColumnSource::Nothing
            || matches!(column.data_type.base, BaseType::Serial(_));
        (column.is_not_null && !has_value).then(|| {
            Found::new(
                format!(
                    "column `{}` of `{}` is NOT NULL and has no default: rows that are there have no value, and INSERTs of the running version fail",
                    column.name, alter.table
                ),
                "give a constant default, which costs nothing, or add the column nullable and demand values later",
            )
        })
    });
    required.collect()
}
