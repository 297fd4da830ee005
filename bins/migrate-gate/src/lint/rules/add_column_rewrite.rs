//! Adding a column that writes every row again.

use switchyard_sql::WorkKind;
use switchyard_sql::statement::{AlterTableAction, Column, ColumnSource};
use switchyard_sql::{BaseType, Volatility};

use super::Rule;
use crate::lint::finding::{Found, Severity};
use crate::lint::moment::{Moment, has};

pub(crate) const RULE: Rule = Rule {
    id: "add-column-rewrite",
    severity: Severity::Error,
    summary: "Adding a column that writes every row again",
    reason: "A default whose value differs from row to row (`random()`, `gen_random_uuid()`), a serial, an identity, a stored generated column or a domain with constraints makes PostgreSQL write every row and build every index again, while nobody can read or write the table. A constant, and `now()`, cost nothing since PostgreSQL 11.",
    before: "CREATE TABLE account (id serial PRIMARY KEY, email varchar(50) NOT NULL, name text, visits integer, team_id integer);
CREATE TABLE team (id serial PRIMARY KEY);",
    bad: "ALTER TABLE account ADD COLUMN token uuid DEFAULT gen_random_uuid();",
    good: "ALTER TABLE account ADD COLUMN token uuid;
-- next migration
ALTER TABLE account ALTER COLUMN token SET DEFAULT gen_random_uuid();
-- next migration, repeated until no row is left
UPDATE account SET token = gen_random_uuid() WHERE id IN (SELECT id FROM account WHERE token IS NULL LIMIT 1000);",
    check,
};
fn check(moment: &Moment<'_>) -> Vec<Found> {
    let mut found = Vec::new();
    for (alter, action) in moment.actions() {
        let AlterTableAction::AddColumn { column, .. } = action else {
            continue;
        };
        if has(moment.effects_of(alter, action), WorkKind::Rewrite) {
            found.push(Found::new(
                format!(
                    "adding column `{}` writes every row of `{}` again under ACCESS EXCLUSIVE, because {}",
                    column.name,
                    alter.table,
                    cause(column)
                ),
                "add the column without it, set the default by a statement of its own, and fill the rows in batches",
            ));
        }
    }
    found
}

fn cause(column: &Column) -> String {
    match (&column.source, &column.data_type.base) {
        (_, BaseType::Serial(_)) => "a serial numbers the rows".to_owned(),
        (ColumnSource::Identity, _) => "an identity numbers the rows".to_owned(),
        (ColumnSource::Stored, _) => "its values are computed and stored".to_owned(),
        (ColumnSource::Default(default), _) => match &default.volatility {
            Volatility::Volatile { function } => {
                format!("`{function}` gives each row another value")
            }
            Volatility::Constant | Volatility::Unknown { .. } => {
                "its type is a domain that checks values".to_owned()
            }
        },
        (ColumnSource::Nothing | ColumnSource::Virtual, _) => {
            "its type is a domain that checks values".to_owned()
        }
    }
}
