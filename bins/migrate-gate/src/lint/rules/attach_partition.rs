//! ATTACH PARTITION that reads the whole table.

use switchyard_sql::WorkKind;
use switchyard_sql::statement::AlterTableAction;

use super::Rule;
use crate::lint::finding::{Found, Severity};
use crate::lint::moment::Moment;

pub(crate) const RULE: Rule = Rule {
    id: "attach-partition",
    severity: Severity::Error,
    summary: "ATTACH PARTITION that reads the whole table",
    reason: "PostgreSQL looks whether every row belongs into the partition, while nobody can read or write that table; a default partition is looked through as well. A validated `CHECK` that says as much as the bounds spares it.",
    before: "CREATE TABLE event (id bigint, at date) PARTITION BY RANGE (at);
CREATE TABLE event_2026 (id bigint, at date);",
    bad: "ALTER TABLE event ATTACH PARTITION event_2026 FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');",
    good: "ALTER TABLE event_2026 ADD CONSTRAINT bounds CHECK (at >= '2026-01-01' AND at < '2027-01-01' AND at IS NOT NULL) NOT VALID;
-- next migration
ALTER TABLE event_2026 VALIDATE CONSTRAINT bounds;
-- next migration
-- switchyard:allow unknown-statement the log of a rehearsal says that the check implies the bounds
ALTER TABLE event ATTACH PARTITION event_2026 FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');",
    check,
};
fn check(moment: &Moment<'_>) -> Vec<Found> {
    let mut found = Vec::new();
    for (alter, action) in moment.actions() {
        if !matches!(action, AlterTableAction::AttachPartition { .. }) {
            continue;
        }
        let effects = moment.effects_of(alter, action);
        for work in effects
            .works
            .iter()
            .filter(|work| moment.is_used(&work.table))
        {
            let does = match work.kind {
                WorkKind::Scan => "reads every row of",
                WorkKind::IndexBuild => "builds an index on",
                WorkKind::Rewrite | WorkKind::Empty => continue,
            };
            found.push(Found::new(
                format!("attaching the partition {does} `{}` under ACCESS EXCLUSIVE", work.table),
                "give the table a validated CHECK that says as much as the bounds, and indexes like the parent's, beforehand",
            ));
        }
    }
    found
}
