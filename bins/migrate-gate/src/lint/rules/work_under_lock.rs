//! Long work while the transaction keeps a table locked.

use switchyard_sql::WorkKind;

use super::Rule;
use crate::lint::finding::{Found, Severity};
use crate::lint::moment::Moment;

pub(crate) const RULE: Rule = Rule {
    id: "work-under-lock",
    severity: Severity::Error,
    summary: "Long work while the transaction keeps a table locked",
    reason: "A lock is kept until the transaction ends, so a scan or an index build in the same transaction keeps everybody waiting who waits for the locks taken before it. `VALIDATE CONSTRAINT` right behind `ADD CONSTRAINT … NOT VALID` gains nothing.",
    before: "CREATE TABLE account (id serial PRIMARY KEY, email varchar(50) NOT NULL, name text, visits integer, team_id integer);
CREATE TABLE team (id serial PRIMARY KEY);",
    bad: "ALTER TABLE account ADD CONSTRAINT visits_there CHECK (visits >= 0) NOT VALID;
ALTER TABLE account VALIDATE CONSTRAINT visits_there;",
    good: "ALTER TABLE account ADD CONSTRAINT visits_there CHECK (visits >= 0) NOT VALID;
-- next migration
ALTER TABLE account VALIDATE CONSTRAINT visits_there;",
    check,
};
fn check(moment: &Moment<'_>) -> Vec<Found> {
    let mut works = moment.works().filter(|work| work.kind != WorkKind::Empty);
    let found = works.find_map(|work| {
        let own = moment
            .effects
            .locks
            .iter()
            .find(|lock| lock.table == work.table);
        let held = moment.session.held.iter().find(|held| {
            // A lock that the statement itself needs is no news.
            held.table != work.table || own.is_none_or(|own| held.mode > own.mode)
        })?;
        Some((work, held))
    });
    let Some((work, held)) = found else {
        return Vec::new();
    };
    let does = match work.kind {
        WorkKind::Rewrite => "writes every row of",
        WorkKind::Scan => "reads every row of",
        WorkKind::IndexBuild => "builds an index on",
        WorkKind::Empty => "empties",
    };
    vec![Found::new(
        format!(
            "this {does} `{}` while `{}` stays locked in {} since line {}, {}",
            work.table,
            held.table,
            held.mode,
            held.line,
            held.mode.blocking()
        ),
        "put it into the next migration, which is another transaction",
    )]
}
