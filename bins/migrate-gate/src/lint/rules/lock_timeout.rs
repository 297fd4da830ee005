//! Locks that are waited for without a limit.

use switchyard_sql::Statement;

use super::Rule;
use crate::lint::finding::{Found, Severity};
use crate::lint::moment::{LockTimeout, Moment, is_zero};

pub(crate) const RULE: Rule = Rule {
    id: "lock-timeout",
    severity: Severity::Warning,
    summary: "Locks that are waited for without a limit",
    reason: "A statement that waits for a lock keeps everybody waiting who comes after it. `lock_timeout` ends the wait; the gate then tries again. `SET lock_timeout = 0` takes the limit away that the connection has. Where the connection has one (`migrate-gate run` sets it), say so with the input `lock-timeout`.",
    before: "CREATE TABLE account (id serial PRIMARY KEY, email varchar(50) NOT NULL, name text, visits integer, team_id integer);
CREATE TABLE team (id serial PRIMARY KEY);",
    bad: "SET lock_timeout = 0;
ALTER TABLE account ADD COLUMN age integer;",
    good: "SET lock_timeout = '2s';
ALTER TABLE account ADD COLUMN age integer;",
    check,
};
fn check(moment: &Moment<'_>) -> Vec<Found> {
    if let Statement::Set(set) = moment.statement
        && set.name == "lock_timeout"
        && set.value.as_deref().is_some_and(is_zero)
    {
        return vec![Found {
            severity: Some(Severity::Error),
            ..Found::new(
                "lock_timeout = 0 makes the statements behind it wait for ever, and everybody else behind them",
                "set a short one, such as `SET lock_timeout = '2s'`",
            )
        }];
    }
    let locks = moment.effects.locks.iter();
    let blocking = locks
        .filter(|lock| lock.mode.blocks_writes() && moment.is_used(&lock.table))
        .max_by_key(|lock| lock.mode);
    match blocking {
        Some(lock) if moment.session.lock_timeout == LockTimeout::Unset => vec![Found::new(
            format!(
                "the wait for {} on `{}` has no limit, and everybody else waits behind it",
                lock.mode, lock.table
            ),
            "`SET lock_timeout = '2s'` first, or give the input `lock-timeout` where the connection has one",
        )],
        Some(_) | None => Vec::new(),
    }
}
