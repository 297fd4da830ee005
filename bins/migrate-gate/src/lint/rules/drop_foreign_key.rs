//! Dropping a foreign key locks the other table too.

use switchyard_sql::statement::AlterTableAction;

use super::Rule;
use crate::lint::finding::{Found, Severity};
use crate::lint::moment::Moment;

pub(crate) const RULE: Rule = Rule {
    id: "drop-foreign-key",
    severity: Severity::Warning,
    summary: "Dropping a foreign key locks the other table too",
    reason: "Its triggers on the referenced table go with it, so that table is locked in ACCESS EXCLUSIVE as well, and two tables are waited for at once.",
    before: "CREATE TABLE team (id serial PRIMARY KEY);
CREATE TABLE account (id serial PRIMARY KEY, team_id integer CONSTRAINT account_team REFERENCES team (id), visits integer CONSTRAINT visits_positive CHECK (visits > 0));",
    bad: "ALTER TABLE account DROP CONSTRAINT account_team;",
    good: "ALTER TABLE account DROP CONSTRAINT visits_positive;",
    check,
};
fn check(moment: &Moment<'_>) -> Vec<Found> {
    let mut found = Vec::new();
    for (alter, action) in moment.actions() {
        if !matches!(action, AlterTableAction::DropConstraint { .. }) {
            continue;
        }
        let own = moment.catalog.resolve(&alter.table);
        let effects = moment.effects_of(alter, action);
        let other = effects
            .locks
            .iter()
            .find(|lock| lock.table != own && moment.is_used(&lock.table));
        if let Some(other) = other {
            found.push(Found::new(
                format!(
                    "`{}` is locked in {} together with `{}`",
                    other.table, other.mode, alter.table
                ),
                "keep lock_timeout short, and drop it in a migration of its own",
            ));
        }
    }
    found
}
