//! Dropping something else that the running version may use.

use switchyard_sql::Statement;
use switchyard_sql::statement::Bearing;

use super::Rule;
use crate::lint::finding::{Found, Severity};
use crate::lint::moment::Moment;

pub(crate) const RULE: Rule = Rule {
    id: "drop-object",
    severity: Severity::Warning,
    summary: "Dropping something else that the running version may use",
    reason: "A view, a function, a type, a sequence, a right: the version that still runs may need it.",
    before: "CREATE TABLE account (id serial PRIMARY KEY, email varchar(50) NOT NULL, name text, visits integer, team_id integer);
CREATE TABLE team (id serial PRIMARY KEY);
CREATE VIEW active AS SELECT id FROM account;",
    bad: "DROP VIEW active;",
    good: "CREATE OR REPLACE VIEW active AS SELECT id, email FROM account;",
    check,
};
fn check(moment: &Moment<'_>) -> Vec<Found> {
    let what = match moment.statement {
        Statement::DropView(drop) | Statement::DropType(drop) => {
            let names: Vec<String> = drop.names.iter().map(|name| format!("`{name}`")).collect();
            format!("{} {}", drop.kind.to_lowercase(), names.join(", "))
        }
        Statement::Plain(plain) if plain.bearing == Bearing::TakesAway => {
            format!("what `{}` takes away", plain.command)
        }
        _ => return Vec::new(),
    };
    vec![Found::new(
        format!("the running version may need {what}"),
        "take it away once no version that uses it runs any more, and allow it then",
    )]
}
