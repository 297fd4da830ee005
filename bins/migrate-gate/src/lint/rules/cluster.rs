//! CLUSTER and VACUUM FULL.

use switchyard_sql::Statement;
use switchyard_sql::statement::MaintainKind;

use super::Rule;
use crate::lint::finding::{Found, Severity};
use crate::lint::moment::Moment;

pub(crate) const RULE: Rule = Rule {
    id: "cluster",
    severity: Severity::Error,
    summary: "CLUSTER and VACUUM FULL",
    reason: "Both write the whole table again while nobody can read or write it. Tools that do it without keeping others out are extensions (`pg_repack`, `pg_squeeze`).",
    before: "CREATE TABLE account (id serial PRIMARY KEY, email varchar(50) NOT NULL, name text, visits integer, team_id integer);
CREATE TABLE team (id serial PRIMARY KEY);
CREATE INDEX account_email ON account (email);",
    bad: "CLUSTER account USING account_email;",
    good: "ANALYZE account;",
    check,
};
fn check(moment: &Moment<'_>) -> Vec<Found> {
    let Statement::Maintain(maintain) = moment.statement else {
        return Vec::new();
    };
    let command = match maintain.kind {
        MaintainKind::Cluster => "CLUSTER",
        MaintainKind::VacuumFull => "VACUUM FULL",
        MaintainKind::Vacuum | MaintainKind::Analyze => return Vec::new(),
    };
    let is_for_new_alone =
        !maintain.tables.is_empty() && !maintain.tables.iter().any(|table| moment.is_used(table));
    if is_for_new_alone {
        return Vec::new();
    }
    vec![Found::new(
        format!("{command} writes every row again under ACCESS EXCLUSIVE"),
        "leave it out of migrations; pg_repack and pg_squeeze do it while everybody goes on",
    )]
}
