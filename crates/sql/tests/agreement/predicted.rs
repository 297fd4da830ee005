//! What the effects say.

use std::collections::BTreeMap;

use switchyard_sql::statement::{AlterTableAction, ColumnSource};
use switchyard_sql::{
    Catalog, Effects, LockMode, Name, ServerVersion, Statement, Volatility, WorkKind, effects,
    parse,
};

use crate::Happenings;
use crate::case::{self, Case};

/// What the effects of a case say.
pub(crate) struct Predicted {
    pub(crate) happenings: Happenings,
    pub(crate) unknown: Vec<String>,
}

/// What the effects of a case say about tables that were there before.
pub(crate) fn of(case: &Case, version: ServerVersion) -> Predicted {
    let mut catalog = Catalog::default();
    catalog.begin_migration();
    for script in [case::before(), case.before.clone()] {
        for located in parse(&script) {
            catalog.apply(&located.statement);
        }
    }
    catalog.begin_migration();
    let mut locks: BTreeMap<Name, LockMode> = BTreeMap::new();
    let mut works = BTreeMap::new();
    let mut unknown = Vec::new();
    for located in parse(&case.migration) {
        let found: Effects = effects(&located.statement, &catalog, version);
        for lock in found.locks {
            if !catalog.is_new(&lock.table) && lock.mode >= LockMode::RowExclusive {
                let mode = locks.entry(lock.table).or_insert(lock.mode);
                *mode = lock.mode.max(*mode);
            }
        }
        for work in found.works {
            if !catalog.is_new(&work.table) {
                let is_rewrite = matches!(work.kind, WorkKind::Rewrite);
                let kinds: &mut Vec<WorkKind> = works.entry(work.table).or_default();
                // A rewrite reads every row and builds every index anyway.
                if is_rewrite {
                    kinds.clear();
                }
                if !kinds.contains(&WorkKind::Rewrite) && !kinds.contains(&work.kind) {
                    kinds.push(work.kind);
                }
            }
        }
        unknown.extend(found.unknown);
        catalog.apply(&located.statement);
    }
    let locks = locks
        .iter()
        .map(|(table, mode)| format!("lock {table} {mode}"));
    let works = works.iter().flat_map(|(table, kinds)| {
        kinds
            .iter()
            .map(move |kind| format!("{} {table}", word(*kind)))
    });
    Predicted {
        happenings: locks.chain(works).collect(),
        unknown,
    }
}

/// How a work is called in a happening.
fn word(kind: WorkKind) -> &'static str {
    match kind {
        WorkKind::Rewrite => "rewrite",
        WorkKind::Scan => "scan",
        WorkKind::IndexBuild => "index",
        WorkKind::Empty => "empty",
    }
}

/// Whether the default of the column that a statement adds is the same for all rows.
pub(crate) fn default_of(statement: &str) -> Option<Volatility> {
    let parsed = parse(statement);
    let Statement::AlterTable(alter) = &parsed.first()?.statement else {
        return None;
    };
    let AlterTableAction::AddColumn { column, .. } = alter.actions.first()? else {
        return None;
    };
    match &column.source {
        ColumnSource::Default(default) => Some(default.volatility.clone()),
        ColumnSource::Nothing
        | ColumnSource::Identity
        | ColumnSource::Stored
        | ColumnSource::Virtual => None,
    }
}
