//! Effects of making and dropping tables and indexes, and of emptying tables.

use super::{Found, WorkKind};
use crate::statement::{
    AlterDomain, AlterDomainAction, AlterIndex, AlterIndexAction, Constraint, ConstraintKind,
    CreateIndex, CreateTable, DropIndex, DropRelations, Target, Truncate,
};
use crate::{LockMode, Name};

/// Whether the rows of a default partition are read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum WithScan {
    Yes,
    No,
}

impl Found<'_> {
    pub(super) fn create_table(&mut self, create: &CreateTable) {
        let is_there = self.catalog.table(&create.table).is_some();
        if create.if_not_exists && is_there {
            return;
        }
        if let Some(parent) = &create.partition_of {
            self.lock(parent, LockMode::AccessExclusive);
            self.default_partition(parent, WithScan::Yes);
            for key in self.catalog.referenced_by(parent) {
                self.lock(&key, LockMode::ShareRowExclusive);
            }
        }
        for parent in &create.inherits {
            self.lock(parent, LockMode::ShareUpdateExclusive);
        }
        let of_columns = create.columns.iter().flat_map(|column| &column.constraints);
        for constraint in of_columns.chain(&create.constraints) {
            self.references(&create.table, constraint);
        }
    }

    /// The default partition must hold no row of a new one, and gives up some of its bounds.
    pub(super) fn default_partition(&mut self, parent: &Name, with_scan: WithScan) {
        if let Some(default) = self.catalog.default_partition(parent) {
            self.lock(&default, LockMode::AccessExclusive);
            if with_scan == WithScan::Yes {
                self.work(&default, WorkKind::Scan);
            }
        }
    }

    /// A foreign key locks the table that it references as well.
    pub(super) fn references(&mut self, table: &Name, constraint: &Constraint) {
        if let ConstraintKind::ForeignKey { references, .. } = &constraint.kind
            && self.catalog.resolve(references) != self.catalog.resolve(table)
        {
            self.lock(references, LockMode::ShareRowExclusive);
        }
    }

    pub(super) fn drop_tables(&mut self, drop: &DropRelations) {
        for name in &drop.names {
            for table in self.with_descendants(name, false) {
                self.drop_table(&table, drop.cascades);
            }
            if self.catalog.table(name).is_none() {
                self.unknown(format!(
                    "table `{name}` is not known here; tables that it references or belongs to are locked too"
                ));
            }
        }
    }

    fn drop_table(&mut self, table: &Name, cascades: bool) {
        self.lock(table, LockMode::AccessExclusive);
        let parent = self
            .catalog
            .table(table)
            .and_then(|table| table.partition_of.clone());
        if let Some(parent) = parent {
            self.lock(&parent, LockMode::AccessExclusive);
        }
        // What a key does in the table that it references belongs to the key of the parent.
        for referenced in self.catalog.referenced_by_itself(table) {
            self.lock(&referenced, LockMode::AccessExclusive);
        }
        if cascades {
            for referencing in self.catalog.referencing(table) {
                self.lock(&referencing, LockMode::AccessExclusive);
            }
        }
    }

    pub(super) fn create_index(&mut self, create: &CreateIndex) {
        let is_there = create
            .name
            .as_ref()
            .is_some_and(|name| self.catalog.index(name).is_some());
        let mode = if create.is_concurrent {
            LockMode::ShareUpdateExclusive
        } else {
            LockMode::Share
        };
        let tables = self.with_descendants(&create.table, create.is_only);
        for table in &tables {
            self.lock(table, mode);
        }
        if create.if_not_exists && is_there {
            return;
        }
        for table in self.with_rows(&tables) {
            self.work(&table, WorkKind::IndexBuild);
        }
    }

    pub(super) fn drop_indexes(&mut self, drop: &DropIndex) {
        let mode = if drop.is_concurrent {
            LockMode::ShareUpdateExclusive
        } else {
            LockMode::AccessExclusive
        };
        for name in &drop.names {
            match self.catalog.index(name) {
                Some(index) => {
                    let table = index.table.clone();
                    for table in self.with_descendants(&table, false) {
                        self.lock(&table, mode);
                    }
                }
                None => self.unknown(format!(
                    "index `{name}` belongs to a table that is not known here, which is locked in {mode}"
                )),
            }
        }
    }

    pub(super) fn alter_index(&mut self, alter: &AlterIndex) {
        match alter.action {
            // They lock the index alone, which readers of the table wait for only while it is renamed.
            AlterIndexAction::Rename(_) | AlterIndexAction::Attach(_) | AlterIndexAction::Other => {
            }
            AlterIndexAction::SetTablespace => match self.catalog.index(&alter.name) {
                Some(index) => {
                    let table = index.table.clone();
                    self.work(&table, WorkKind::IndexBuild);
                }
                None => self.unknown(format!(
                    "index `{}` belongs to a table that is not known here",
                    alter.name
                )),
            },
        }
    }

    pub(super) fn alter_domain(&mut self, alter: &AlterDomain) {
        match alter.action {
            AlterDomainAction::Check => {
                let tables: Vec<Name> = self.catalog.tables_with(&alter.name).cloned().collect();
                for table in tables {
                    self.lock(&table, LockMode::Share);
                    self.work(&table, WorkKind::Scan);
                }
                if self.catalog.user_type(&alter.name).is_none() {
                    self.unknown(format!(
                        "domain `{}` is not known here; every table with a column of it is locked and read",
                        alter.name
                    ));
                }
            }
            AlterDomainAction::CheckLater | AlterDomainAction::Other => {}
        }
    }

    pub(super) fn truncate(&mut self, truncate: &Truncate) {
        let mut open: Vec<Target> = truncate.tables.clone();
        let mut done: Vec<Name> = Vec::new();
        while let Some(target) = open.pop() {
            for table in self.with_descendants(&target.table, target.is_only) {
                if done.contains(&table) {
                    continue;
                }
                done.push(table.clone());
                self.lock(&table, LockMode::AccessExclusive);
                for emptied in self.with_rows(std::slice::from_ref(&table)) {
                    self.work(&emptied, WorkKind::Empty);
                }
                if truncate.cascades {
                    let referencing = self.catalog.referencing(&table);
                    open.extend(referencing.into_iter().map(|table| Target {
                        table,
                        is_only: false,
                    }));
                }
            }
        }
        if truncate.cascades {
            let unknown = truncate
                .tables
                .iter()
                .find(|target| self.catalog.table(&target.table).is_none());
            if let Some(target) = unknown {
                self.unknown(format!(
                    "table `{}` is not known here; every table that references it is emptied too",
                    target.table
                ));
            }
        }
    }
}
