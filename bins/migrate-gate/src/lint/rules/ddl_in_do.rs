//! Changing the schema inside of a DO block.

use switchyard_sql::{LockMode, Statement};

use super::Rule;
use crate::lint::finding::{Found, Severity};
use crate::lint::moment::Moment;

pub(crate) const RULE: Rule = Rule {
    id: "ddl-in-do",
    severity: Severity::Warning,
    summary: "Changing the schema inside of a DO block",
    reason: "Which statements of the block run is decided on the server, so a check of files can only tell what may happen, and tools that split a file may cut the body apart. The statements in it are judged one by one as well.",
    before: "CREATE TABLE account (id serial PRIMARY KEY, email varchar(50) NOT NULL, name text, visits integer, team_id integer);
CREATE TABLE team (id serial PRIMARY KEY);",
    bad: "DO $$ BEGIN
  IF NOT EXISTS (SELECT FROM pg_attribute WHERE attname = 'age') THEN
    ALTER TABLE account ADD COLUMN age integer;
  END IF;
END $$;",
    good: "ALTER TABLE account ADD COLUMN IF NOT EXISTS age integer;",
    check,
};
fn check(moment: &Moment<'_>) -> Vec<Found> {
    // The block around a nested one says it of both.
    if moment.is_in_body || !matches!(moment.statement, Statement::Do(_)) {
        return Vec::new();
    }
    let locks = moment.effects.locks.iter();
    let strongest = locks
        .filter(|lock| lock.mode > LockMode::RowExclusive && moment.is_used(&lock.table))
        .max_by_key(|lock| lock.mode);
    let Some(lock) = strongest else {
        return Vec::new();
    };
    vec![Found::new(
        format!(
            "whether the block changes `{}` ({}) is decided on the server",
            lock.table, lock.mode
        ),
        "write the statement by itself; IF EXISTS and IF NOT EXISTS cover most conditions",
    )]
}
