//! A comment that allows nothing, or says no reason.

use super::Rule;
use crate::lint::finding::{Found, Severity};
use crate::lint::moment::Moment;

pub(crate) const RULE: Rule = Rule {
    id: "allow-comment",
    severity: Severity::Error,
    summary: "A comment that allows nothing, or says no reason",
    reason: "`-- switchyard:allow RULE reason` above a statement, or behind it on its last line, takes a finding of that rule back; `-- switchyard:allow-file RULE reason` does so in the whole file. Without a reason, or with the name of no rule, it is an error; where the rule finds nothing, it is a warning.",
    before: "CREATE TABLE account (id serial PRIMARY KEY, email varchar(50) NOT NULL, name text, visits integer, team_id integer);
CREATE TABLE team (id serial PRIMARY KEY);",
    bad: "-- switchyard:allow drop-table
DROP TABLE team;",
    good: "-- switchyard:allow drop-table the last version with teams was retired in March
DROP TABLE team;",
    check,
};
/// Comments are looked at once for the whole file; see `lint::allow`.
fn check(_: &Moment<'_>) -> Vec<Found> {
    Vec::new()
}
