//! What each pending statement locks, and for how long by the sizes of the tables as they are now.
//!
//! Pure: scripts, sizes and a version in; estimates out. They are estimates by rates of small servers, and say so: what
//! was measured on a copy is the rehearsal's.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use switchyard_postgres::Relation;
use switchyard_sql::{
    Catalog, Delivery, Effects, Lines, Located, LockMode, Name, ServerVersion, Statement, WorkKind,
    effects, parse, places,
};

use crate::ledger::Standing;
use crate::project::{Migration, Wrapping};
use crate::replay::begin_migration;
use crate::shorten::beginning;

/// Bytes a second of a rewrite with its indexes, of a scan, and of building an index: measured on two cores, halved.
const REWRITE_RATE: u64 = 25 * MEBIBYTE;
const SCAN_RATE: u64 = 150 * MEBIBYTE;
const INDEX_RATE: u64 = 20 * MEBIBYTE;
const MEBIBYTE: u64 = 1024 * 1024;

/// Longest piece of a statement that is shown.
const SHOWN: usize = 160;

/// A pending statement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct StatementCost {
    /// Its migration.
    pub(crate) migration: String,
    /// Its file.
    pub(crate) file: PathBuf,
    /// Its first line, from 1.
    pub(crate) line: usize,
    /// Its beginning, on one line.
    pub(crate) text: String,
    /// What it locks, where others could notice.
    pub(crate) locks: Vec<LockCost>,
    /// What could not be told of it.
    pub(crate) unknown: Vec<String>,
}

/// A lock of a statement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct LockCost {
    /// The table.
    pub(crate) table: String,
    /// Its mode, in the words of PostgreSQL's documentation.
    pub(crate) mode: String,
    /// Whom it keeps waiting.
    pub(crate) blocks: Blocks,
    /// `rewrite`, `scan`, `index build`: what is done to this table while the lock is held.
    pub(crate) work: Vec<&'static str>,
    /// The table as it is now; absent where it is not there yet.
    pub(crate) size: Option<Size>,
    /// How long it keeps them waiting, in milliseconds: until the end of its transaction. Absent where that cannot be
    /// told.
    pub(crate) estimated_milliseconds: Option<u64>,
}

/// Whom a lock keeps waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Blocks {
    /// Readers and writers.
    Everybody,
    /// Writers.
    Writers,
    /// Other changes of the schema.
    Changes,
}

/// A table's size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Size {
    /// Rows by the statistics; absent where it was never analysed.
    pub(crate) rows: Option<u64>,
    /// Bytes of the table.
    pub(crate) bytes: u64,
    /// Bytes of its indexes.
    pub(crate) index_bytes: u64,
}

/// What is looked at.
pub(crate) struct Costed<'a> {
    /// All migrations of the schema, in their order.
    pub(crate) migrations: &'a [Migration],
    /// Their states.
    pub(crate) standings: &'a [Standing],
    /// Schema of unqualified names.
    pub(crate) namespace: &'a str,
    /// Everything in the database.
    pub(crate) relations: &'a [Relation],
    /// Version of the server.
    pub(crate) version: ServerVersion,
}

impl Costed<'_> {
    /// The cost of every pending statement. What ran before is replayed, so that types and constraints are known.
    pub(crate) fn costs(&self) -> Vec<StatementCost> {
        let sizes = self.sizes();
        let mut catalog = Catalog::default();
        let mut costs = Vec::new();
        for migration in self.migrations {
            begin_migration(&mut catalog, self.namespace);
            let statements = parse(migration.script());
            let will_run = self
                .standings
                .iter()
                .any(|one| one.name == migration.name && one.state.will_run());
            if will_run {
                costs.extend(self.migration(migration, &statements, &mut catalog, &sizes));
            } else {
                for located in &statements {
                    catalog.apply(&located.statement);
                }
            }
        }
        costs
    }

    fn sizes(&self) -> BTreeMap<Name, Size> {
        let size = |relation: &Relation| {
            let name = Name {
                schema: Some(relation.schema.clone()),
                name: relation.name.clone(),
            };
            let size = Size {
                rows: relation.rows,
                bytes: relation.bytes,
                index_bytes: relation.index_bytes,
            };
            (name, size)
        };
        self.relations.iter().map(size).collect()
    }

    fn migration(
        &self,
        migration: &Migration,
        statements: &[Located],
        catalog: &mut Catalog,
        sizes: &BTreeMap<Name, Size>,
    ) -> Vec<StatementCost> {
        let delivery = match migration.wrapping {
            Wrapping::OneString => Delivery::OneString,
            Wrapping::Transaction => Delivery::InTransaction,
            Wrapping::None => Delivery::OneByOne,
        };
        let mut steps = Vec::new();
        for (located, place) in statements.iter().zip(places(statements, delivery)) {
            let effects = effects(&located.statement, catalog, self.version);
            steps.push(Step {
                located,
                transaction: place.transaction,
                takes: takes(&located.statement, &effects, sizes),
                effects,
            });
            catalog.apply(&located.statement);
        }
        let lines = Lines::of(migration.script());
        let costs = (0..steps.len()).map(|at| StatementCost {
            migration: migration.name.clone(),
            file: migration.file.clone(),
            line: lines.line(steps[at].located.span.start) + lines_before(migration),
            text: beginning(&migration.script()[steps[at].located.span.clone()], SHOWN),
            locks: locks(&steps, at, sizes),
            unknown: steps[at].effects.unknown.clone(),
        });
        costs.collect()
    }
}

/// Lines of the file before the part that runs forward.
fn lines_before(migration: &Migration) -> usize {
    migration.text[..migration.forward.start]
        .matches('\n')
        .count()
}

/// A statement on its way.
struct Step<'a> {
    located: &'a Located,
    transaction: usize,
    effects: Effects,
    /// How long it takes itself; `None` where that cannot be told.
    takes: Option<Duration>,
}

/// How long a statement works. Changes of rows take as long as they take.
fn takes(
    statement: &Statement,
    effects: &Effects,
    sizes: &BTreeMap<Name, Size>,
) -> Option<Duration> {
    if matches!(
        statement,
        Statement::Change(_) | Statement::Query(_) | Statement::Do(_)
    ) {
        return None;
    }
    if !effects.unknown.is_empty() {
        return None;
    }
    let work = effects.works.iter().map(|work| {
        // What is not there yet is empty.
        let size = sizes.get(&work.table);
        let bytes = size.map_or(0, |size| size.bytes);
        let indexes = size.map_or(0, |size| size.index_bytes);
        match work.kind {
            WorkKind::Rewrite => over(bytes + indexes, REWRITE_RATE),
            WorkKind::Scan => over(bytes, SCAN_RATE),
            WorkKind::IndexBuild => over(bytes, INDEX_RATE),
            WorkKind::Empty => Duration::ZERO,
        }
    });
    Some(work.sum())
}

fn over(bytes: u64, rate: u64) -> Duration {
    Duration::from_millis(bytes.saturating_mul(1000) / rate)
}

/// The locks of a statement, each with how long it is held: to the end of its transaction.
fn locks(steps: &[Step<'_>], at: usize, sizes: &BTreeMap<Name, Size>) -> Vec<LockCost> {
    let step = &steps[at];
    let until_the_end = steps[at..]
        .iter()
        .take_while(|later| later.transaction == step.transaction);
    let held: Option<Duration> = until_the_end.map(|later| later.takes).sum();
    let noticed = step
        .effects
        .locks
        .iter()
        .filter(|lock| lock.mode >= LockMode::ShareUpdateExclusive);
    let cost = |lock: &switchyard_sql::TableLock| LockCost {
        table: lock.table.to_string(),
        mode: lock.mode.to_string(),
        blocks: if lock.mode.blocks_reads() {
            Blocks::Everybody
        } else if lock.mode.blocks_writes() {
            Blocks::Writers
        } else {
            Blocks::Changes
        },
        work: step
            .effects
            .works
            .iter()
            .filter(|work| work.table == lock.table)
            .map(|work| name(work.kind))
            .collect(),
        size: sizes.get(&lock.table).copied(),
        estimated_milliseconds: held
            .map(|held| u64::try_from(held.as_millis()).unwrap_or(u64::MAX)),
    };
    // Who waits for a table that is not there yet?
    noticed
        .filter(|lock| sizes.contains_key(&lock.table))
        .map(cost)
        .collect()
}

fn name(kind: WorkKind) -> &'static str {
    match kind {
        WorkKind::Rewrite => "rewrite",
        WorkKind::Scan => "scan",
        WorkKind::IndexBuild => "index build",
        WorkKind::Empty => "emptied",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{Ledger, Tables, standings};
    use switchyard_postgres::RelationKind;

    fn migration(name: &str, text: &str) -> Migration {
        Migration {
            name: name.into(),
            file: format!("{name}/migration.sql").into(),
            text: text.into(),
            forward: 0..text.len(),
            wrapping: Wrapping::OneString,
        }
    }

    fn relation(schema: &str, name: &str, bytes: u64) -> Relation {
        Relation {
            schema: schema.into(),
            name: name.into(),
            kind: RelationKind::Table,
            table: None,
            rows: Some(1000),
            bytes,
            index_bytes: bytes,
            indexes: 1,
        }
    }

    fn costs(namespace: &str, script: &str) -> Vec<StatementCost> {
        let migrations = [migration("1", script)];
        let relations = [
            relation("public", "item", 50 * MEBIBYTE),
            relation("organization", "item", 500 * MEBIBYTE),
        ];
        let standings = standings(&Ledger::NoTable(Tables::None), &migrations);
        let costed = Costed {
            migrations: &migrations,
            standings: &standings,
            namespace,
            relations: &relations,
            version: ServerVersion::DEFAULT,
        };
        costed.costs()
    }

    #[test]
    fn a_rewrite_takes_as_long_as_its_table_is_large() {
        let script = "SELECT 1;\nALTER TABLE item ADD COLUMN id2 uuid DEFAULT gen_random_uuid();";
        let costs = costs("public", script);
        let lock = &costs[1].locks[0];
        assert_eq!(
            (lock.table.as_str(), lock.blocks),
            ("item", Blocks::Everybody)
        );
        assert_eq!(lock.work, ["rewrite"]);
        assert_eq!(
            lock.estimated_milliseconds,
            Some(4000),
            "100 MiB with its index"
        );
        assert_eq!(costs[1].line, 2);
    }

    #[test]
    fn unqualified_names_are_those_of_the_schema() {
        let costs = costs(
            "organization",
            "ALTER TABLE item ADD COLUMN id2 uuid DEFAULT gen_random_uuid();",
        );
        let lock = &costs[0].locks[0];
        assert_eq!(lock.table, "organization.item");
        assert_eq!(lock.estimated_milliseconds, Some(40_000));
    }

    #[test]
    fn a_lock_is_held_until_its_transaction_ends() {
        let quick = "ALTER TABLE item ADD COLUMN a int;";
        assert_eq!(
            costs("public", quick)[0].locks[0].estimated_milliseconds,
            Some(0)
        );
        let long = format!("{quick} ALTER TABLE item ADD COLUMN b uuid DEFAULT gen_random_uuid();");
        assert_eq!(
            costs("public", &long)[0].locks[0].estimated_milliseconds,
            Some(4000)
        );
        let backfill = format!("{quick} UPDATE item SET a = 1;");
        let costs = costs("public", &backfill);
        assert_eq!(
            costs[0].locks[0].estimated_milliseconds, None,
            "nobody knows how long the UPDATE takes"
        );
    }

    #[test]
    fn a_table_that_is_made_here_keeps_nobody_waiting() {
        let costs = costs(
            "public",
            "CREATE TABLE fresh (id int); CREATE INDEX ON fresh (id);",
        );
        assert!(costs.iter().all(|one| one.locks.is_empty()), "{costs:?}");
    }

    #[test]
    fn what_is_not_known_is_said() {
        let costs = costs("public", "FROBNICATE TABLE item;");
        assert!(!costs[0].unknown.is_empty());
    }
}
