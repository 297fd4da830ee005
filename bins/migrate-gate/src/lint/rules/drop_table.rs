//! Dropping a table that the running version may use.

use switchyard_sql::Statement;

use super::Rule;
use crate::lint::finding::{Found, Severity};
use crate::lint::moment::Moment;

pub(crate) const RULE: Rule = Rule {
    id: "drop-table",
    severity: Severity::Error,
    summary: "Dropping a table that the running version may use",
    reason: "Queries of the version that still runs fail at once, and the rows are gone. Drop it when no version that knows it runs any more, in a migration of its own.",
    before: "CREATE TABLE account (id serial PRIMARY KEY, email varchar(50) NOT NULL, name text, visits integer, team_id integer);
CREATE TABLE team (id serial PRIMARY KEY);",
    bad: "DROP TABLE team;",
    good: "CREATE TABLE scratch (id integer);
DROP TABLE scratch;",
    check,
};
fn check(moment: &Moment<'_>) -> Vec<Found> {
    let Statement::DropTable(drop) = moment.statement else {
        return Vec::new();
    };
    let used = drop.names.iter().filter(|name| moment.is_used(name));
    used.map(|name| {
        let others = moment.effects.locks.iter().filter(|lock| lock.table != moment.catalog.resolve(name));
        let others: Vec<String> = others.map(|lock| format!("`{}`", lock.table)).collect();
        let also = if others.is_empty() {
            String::new()
        } else {
            format!("; {} is locked in ACCESS EXCLUSIVE with it", others.join(", "))
        };
        Found::new(
            format!("queries of the running version fail without table `{name}`, and its rows are gone{also}"),
            "drop it once no version that knows it runs any more, and allow it then",
        )
    })
    .collect()
}
