//! A partition made or detached while nobody can use the parent.

use switchyard_sql::Statement;
use switchyard_sql::statement::AlterTableAction;

use super::Rule;
use crate::lint::finding::{Found, Severity};
use crate::lint::moment::Moment;

pub(crate) const RULE: Rule = Rule {
    id: "partition-locks-parent",
    severity: Severity::Warning,
    summary: "A partition made or detached while nobody can use the parent",
    reason: "`CREATE TABLE … PARTITION OF` and `DETACH PARTITION` lock the whole partitioned table in ACCESS EXCLUSIVE. `ATTACH PARTITION` of a table made beforehand, and `DETACH PARTITION … CONCURRENTLY` (14 and later), do not.",
    before: "CREATE TABLE event (id bigint, at date) PARTITION BY RANGE (at);",
    bad: "CREATE TABLE event_2026 PARTITION OF event FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');",
    good: "CREATE TABLE event_2026 (LIKE event INCLUDING ALL);
ALTER TABLE event ATTACH PARTITION event_2026 FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');",
    check,
};
fn check(moment: &Moment<'_>) -> Vec<Found> {
    if let Statement::CreateTable(create) = moment.statement
        && let Some(parent) = create
            .partition_of
            .as_ref()
            .filter(|parent| moment.is_used(parent))
    {
        return vec![Found::new(
            format!("making a partition locks `{parent}` in ACCESS EXCLUSIVE"),
            "CREATE TABLE … (LIKE parent INCLUDING ALL), then ATTACH PARTITION",
        )];
    }
    let mut found = Vec::new();
    for (alter, action) in moment.actions() {
        if let AlterTableAction::DetachPartition {
            is_concurrent: false,
            is_finalize: false,
            ..
        } = action
        {
            found.push(Found::new(
                format!("detaching a partition locks `{}` in ACCESS EXCLUSIVE", alter.table),
                "DETACH PARTITION … CONCURRENTLY (14 and later), as the only statement of its migration",
            ));
        }
    }
    found
}
