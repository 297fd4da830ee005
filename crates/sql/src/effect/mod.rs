//! What a statement does to tables that others use: the locks it takes, and how long it holds them up.
//!
//! Held against real servers by the corpus in `tests/fixtures/migrations`. Locks that no ordinary
//! statement waits for (ACCESS SHARE, ROW SHARE) are left out.

mod action;
mod relation;

use std::borrow::Cow;

pub use action::{action_effects, column_change};

use crate::statement::{Change, ChangeVerb, MaintainKind, OnTableKind, ReindexTarget};
use crate::{Catalog, LockMode, Name, ServerVersion, Statement};

/// What a statement does to tables.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Effects {
    /// The strongest lock on each table, in the order in which they are taken.
    pub locks: Vec<TableLock>,
    /// What keeps them for longer than a moment.
    pub works: Vec<Work>,
    /// What could not be told, each as a clause.
    pub unknown: Vec<String>,
}

/// A lock on a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableLock {
    /// The table, with its schema.
    pub table: Name,
    /// Its mode.
    pub mode: LockMode,
}

/// Work whose time grows with a table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Work {
    /// The table, with its schema.
    pub table: Name,
    /// What is done.
    pub kind: WorkKind,
}

/// Which sort of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum WorkKind {
    /// Every row is written again, and every index built again.
    Rewrite,
    /// Every row is read.
    Scan,
    /// An index is built.
    IndexBuild,
    /// The rows are thrown away; takes no time, but the file is another one.
    Empty,
}

impl Effects {
    /// What statements or actions do together.
    #[must_use]
    pub fn of_all(all: &[Self]) -> Self {
        let mut together = Self::default();
        for effects in all {
            together.add(effects.clone());
        }
        together
    }

    /// Adds what comes after: tables have their schemas in both.
    fn add(&mut self, other: Self) {
        for lock in other.locks {
            match self.locks.iter_mut().find(|own| own.table == lock.table) {
                Some(own) => own.mode = own.mode.max(lock.mode),
                None => self.locks.push(lock),
            }
        }
        for work in other.works {
            if !self.works.contains(&work) {
                self.works.push(work);
            }
        }
        for unknown in other.unknown {
            if !self.unknown.contains(&unknown) {
                self.unknown.push(unknown);
            }
        }
    }
}

/// What a statement does to tables, on a server of a version, where the catalog stands as given.
#[must_use]
pub fn effects(statement: &Statement, catalog: &Catalog, version: ServerVersion) -> Effects {
    let mut found = Found {
        catalog,
        version,
        effects: Effects::default(),
    };
    found.statement(statement);
    found.effects
}

/// Collects effects.
struct Found<'a> {
    catalog: &'a Catalog,
    version: ServerVersion,
    effects: Effects,
}

impl Found<'_> {
    /// Adds a lock, or strengthens the one that is there. Returns the table's whole name.
    fn lock(&mut self, table: &Name, mode: LockMode) {
        let mut locks = self.effects.locks.iter_mut();
        match locks.find(|lock| self.catalog.is_same(&lock.table, table)) {
            Some(lock) => lock.mode = lock.mode.max(mode),
            None => {
                let table = self.catalog.resolve(table);
                self.effects.locks.push(TableLock { table, mode });
            }
        }
    }

    fn work(&mut self, table: &Name, kind: WorkKind) {
        let work = Work {
            table: self.catalog.resolve(table),
            kind,
        };
        if !self.effects.works.contains(&work) {
            self.effects.works.push(work);
        }
    }

    fn unknown(&mut self, what: impl Into<String>) {
        let what = what.into();
        if !self.effects.unknown.contains(&what) {
            self.effects.unknown.push(what);
        }
    }

    fn statement(&mut self, statement: &Statement) {
        match statement {
            Statement::CreateTable(create) => self.create_table(create),
            Statement::AlterTable(alter) => self.alter_table(alter),
            Statement::DropTable(drop) => self.drop_tables(drop),
            Statement::CreateIndex(create) => self.create_index(create),
            Statement::DropIndex(drop) => self.drop_indexes(drop),
            Statement::AlterIndex(alter) => self.alter_index(alter),
            Statement::Reindex(reindex) => self.reindex(reindex),
            Statement::CreateView(create) => {
                if create.replaces {
                    self.lock(&create.name, LockMode::AccessExclusive);
                }
                if let Some(query) = &create.query {
                    self.statement(query);
                }
            }
            Statement::CreateTableAs(create) => self.statement(&create.query),
            Statement::DropView(drop) => {
                for name in &drop.names {
                    self.lock(name, LockMode::AccessExclusive);
                }
                if drop.cascades {
                    self.unknown("what depends on the view is dropped with it");
                }
            }
            Statement::RefreshMaterializedView(refresh) => {
                if refresh.is_concurrent {
                    self.lock(&refresh.name, LockMode::Exclusive);
                } else {
                    self.lock(&refresh.name, LockMode::AccessExclusive);
                    self.work(&refresh.name, WorkKind::Rewrite);
                }
            }
            Statement::OnTable(on) => {
                // Partitions share the triggers for each row.
                let is_shared = on.kind == OnTableKind::CreateTrigger { for_each_row: true }
                    && self
                        .catalog
                        .table(&on.table)
                        .is_some_and(|table| table.is_partitioned);
                if let Some(mode) = on_table_mode(on.kind) {
                    for table in self.with_descendants(&on.table, !is_shared) {
                        self.lock(&table, mode);
                    }
                }
            }
            Statement::DropType(drop) => {
                if drop.cascades {
                    self.unknown("columns of the type are dropped with it");
                }
            }
            Statement::AlterDomain(alter) => self.alter_domain(alter),
            Statement::Truncate(truncate) => self.truncate(truncate),
            Statement::Lock(lock) => {
                for target in &lock.tables {
                    for table in self.with_descendants(&target.table, target.is_only) {
                        self.lock(&table, lock.mode);
                    }
                }
            }
            Statement::Maintain(maintain) => self.maintain(maintain.kind, &maintain.tables),
            Statement::Change(change) => self.change(change),
            Statement::Query(query) => self.calls(&query.calls),
            Statement::Do(block) => {
                let mut catalog = Cow::Borrowed(self.catalog);
                for (number, inner) in block.statements.iter().enumerate() {
                    self.merge(effects(&inner.statement, &catalog, self.version));
                    // The next statement sees what this one made.
                    if number + 1 < block.statements.len() {
                        catalog.to_mut().apply(&inner.statement);
                    }
                }
                for unknown in &block.unknown {
                    self.unknown(unknown.reason.clone());
                }
            }
            Statement::Unknown(unknown) => self.unknown(unknown.reason.clone()),
            Statement::CreateType(_)
            | Statement::AlterType(_)
            | Statement::CreateDomain(_)
            | Statement::Set(_)
            | Statement::Reset(_)
            | Statement::DiscardAll
            | Statement::Transaction(_)
            | Statement::Plain(_) => {}
        }
    }

    fn merge(&mut self, other: Effects) {
        self.effects.add(other);
    }

    fn change(&mut self, change: &Change) {
        // New rows go into the table itself; which partitions they reach is not known.
        let is_only = matches!(change.verb, ChangeVerb::Insert | ChangeVerb::Copy);
        for table in self.with_descendants(&change.table, is_only) {
            self.lock(&table, LockMode::RowExclusive);
        }
        self.calls(&change.calls);
        for also in &change.also {
            self.change(also);
        }
    }

    fn calls(&mut self, functions: &[String]) {
        for function in functions {
            self.unknown(format!("calls `{function}`, of which nothing is known"));
        }
    }

    fn maintain(&mut self, kind: MaintainKind, tables: &[Name]) {
        if tables.is_empty() {
            self.unknown("goes over all tables of the database");
        }
        for table in tables {
            match kind {
                MaintainKind::Cluster | MaintainKind::VacuumFull => {
                    self.lock(table, LockMode::AccessExclusive);
                    self.work(table, WorkKind::Rewrite);
                }
                // They read what has changed and a sample, and keep nobody but each other waiting.
                MaintainKind::Vacuum | MaintainKind::Analyze => {
                    self.lock(table, LockMode::ShareUpdateExclusive);
                }
            }
        }
    }

    /// A table and, unless it says `ONLY`, its partitions and children.
    fn with_descendants(&self, table: &Name, is_only: bool) -> Vec<Name> {
        let mut tables = vec![self.catalog.resolve(table)];
        if !is_only {
            tables.extend(self.catalog.descendants(table));
        }
        tables
    }

    /// The tables of `tables` that hold rows: a partitioned one has none of its own.
    fn with_rows(&self, tables: &[Name]) -> Vec<Name> {
        let has_rows = |table: &&Name| {
            !self
                .catalog
                .table(table)
                .is_some_and(|table| table.is_partitioned)
        };
        tables.iter().filter(has_rows).cloned().collect()
    }

    fn reindex(&mut self, reindex: &crate::statement::Reindex) {
        let mode = if reindex.is_concurrent {
            LockMode::ShareUpdateExclusive
        } else {
            LockMode::Share
        };
        match &reindex.target {
            ReindexTarget::Table(table) => {
                self.lock(table, mode);
                self.work(table, WorkKind::IndexBuild);
            }
            ReindexTarget::Index(index) => match self.catalog.index(index) {
                Some(known) => {
                    let table = known.table.clone();
                    self.lock(&table, mode);
                    self.work(&table, WorkKind::IndexBuild);
                }
                None => self.unknown(format!(
                    "index `{index}` belongs to a table that is not known here"
                )),
            },
            ReindexTarget::Everything => self.unknown("goes over all tables"),
        }
    }
}

/// The lock of a statement about something that belongs to a table.
fn on_table_mode(kind: OnTableKind) -> Option<LockMode> {
    match kind {
        OnTableKind::CreateTrigger { .. } => Some(LockMode::ShareRowExclusive),
        OnTableKind::DropTrigger
        | OnTableKind::AlterTrigger
        | OnTableKind::CreateRule
        | OnTableKind::ChangeRule
        | OnTableKind::Policy => Some(LockMode::AccessExclusive),
        OnTableKind::CreateStatistics | OnTableKind::Comment => {
            Some(LockMode::ShareUpdateExclusive)
        }
        OnTableKind::CommentOnPart => None,
    }
}
