//! LOCK TABLE that keeps others out.

use switchyard_sql::Statement;

use super::Rule;
use crate::lint::finding::{Found, Severity};
use crate::lint::moment::Moment;

pub(crate) const RULE: Rule = Rule {
    id: "lock-table",
    severity: Severity::Error,
    summary: "LOCK TABLE that keeps others out",
    reason: "It takes a lock that is kept until the transaction ends, for whatever comes next.",
    before: "CREATE TABLE account (id serial PRIMARY KEY, email varchar(50) NOT NULL, name text, visits integer, team_id integer);
CREATE TABLE team (id serial PRIMARY KEY);",
    bad: "LOCK TABLE account IN ACCESS EXCLUSIVE MODE;",
    good: "LOCK TABLE account IN ROW EXCLUSIVE MODE;",
    check,
};
fn check(moment: &Moment<'_>) -> Vec<Found> {
    let Statement::Lock(lock) = moment.statement else {
        return Vec::new();
    };
    let used = lock
        .tables
        .iter()
        .filter(|target| moment.is_used(&target.table));
    used.filter(|_| lock.mode.blocks_writes())
        .map(|target| {
            Found::new(
                format!(
                    "`{}` is locked in {}, {}, until the transaction ends",
                    target.table,
                    lock.mode,
                    lock.mode.blocking()
                ),
                "leave it out: each statement takes the lock that it needs",
            )
        })
        .collect()
}
