//! A statement of which not everything is known.

use switchyard_sql::Statement;

use super::Rule;
use crate::lint::finding::{Found, Severity};
use crate::lint::moment::Moment;

pub(crate) const RULE: Rule = Rule {
    id: "unknown-statement",
    severity: Severity::Error,
    summary: "A statement of which not everything is known",
    reason: "What the parser does not understand, what is put together at run time and what functions of your own do cannot be judged from files. It is reported, never taken for safe. Where you know better, allow it with the reason.",
    before: "CREATE TABLE account (id serial PRIMARY KEY, email varchar(50) NOT NULL, name text, visits integer, team_id integer);
CREATE TABLE team (id serial PRIMARY KEY);",
    bad: "DO $$ BEGIN EXECUTE format('ALTER TABLE %I ADD COLUMN age integer', 'account'); END $$;",
    good: "DO $$ BEGIN EXECUTE 'CREATE TABLE counted (id integer)'; END $$;",
    check,
};
fn check(moment: &Moment<'_>) -> Vec<Found> {
    // Other rules say it of a type, and the statements of a body speak for themselves.
    let hint = "rehearse it on a copy, and allow it here with what you found";
    let is_whole = match moment.statement {
        Statement::Unknown(_)
        | Statement::Query(_)
        | Statement::Change(_)
        | Statement::CreateTableAs(_)
        | Statement::CreateView(_) => true,
        Statement::Do(block) => {
            return block
                .unknown
                .iter()
                .map(|unknown| Found::unknown(unknown.reason.clone(), hint))
                .collect();
        }
        _ => false,
    };
    let is_type = |unknown: &&String| unknown.starts_with("the type that column");
    let unknown = moment
        .effects
        .unknown
        .iter()
        .filter(|unknown| !is_type(unknown));
    unknown
        .map(|unknown| Found {
            severity: (!is_whole).then_some(Severity::Warning),
            ..Found::unknown(unknown.clone(), hint)
        })
        .collect()
}
