//! Effects of `ALTER TABLE`, action by action (`AlterTableGetLockLevel` and phase 3 of PostgreSQL).

use std::borrow::Cow;

use super::relation::WithScan;
use super::{Effects, Found, WorkKind};
use crate::data_type::{TypeChange, type_change};
use crate::statement::{
    AlterTable, AlterTableAction, Column, ColumnSource, Constraint, ConstraintKind,
    StorageParameter, Using,
};
use crate::{BaseType, Catalog, DataType, LockMode, Name, ServerVersion, UserType, Volatility};

/// What each action of a statement does by itself, the ones before it done.
#[must_use]
pub fn action_effects(
    alter: &AlterTable,
    catalog: &Catalog,
    version: ServerVersion,
) -> Vec<Effects> {
    let mut catalog = Cow::Borrowed(catalog);
    let mut all = Vec::new();
    for (number, action) in alter.actions.iter().enumerate() {
        let mut found = Found {
            catalog: &catalog,
            version,
            effects: Effects::default(),
        };
        found.single(alter, action);
        all.push(found.effects);
        // The next action sees what this one made; a copy is dear where there are many tables.
        if number + 1 < alter.actions.len() {
            let done = crate::Statement::AlterTable(AlterTable {
                table: alter.table.clone(),
                is_only: alter.is_only,
                actions: vec![action.clone()],
            });
            catalog.to_mut().apply(&done);
        }
    }
    all
}

impl Found<'_> {
    pub(super) fn alter_table(&mut self, alter: &AlterTable) {
        for effects in action_effects(alter, self.catalog, self.version) {
            self.merge(effects);
        }
    }

    fn single(&mut self, alter: &AlterTable, action: &AlterTableAction) {
        let own = self.catalog.table(&alter.table);
        let is_partitioned = own.is_some_and(|table| table.is_partitioned);
        let shares_triggers =
            own.is_some_and(|table| table.is_partitioned && table.has_row_triggers);
        let goes_on = recurses(action)
            || (matches!(action, AlterTableAction::Trigger { .. }) && shares_triggers);
        let tables = self.with_descendants(&alter.table, alter.is_only || !goes_on);
        // The index of a partition is made as `CREATE INDEX` makes it.
        let builds_index = matches!(
            action,
            AlterTableAction::AddConstraint(Constraint {
                kind: ConstraintKind::Unique { .. } | ConstraintKind::PrimaryKey { .. },
                ..
            })
        );
        let mode = lock_mode(action, self.version);
        for (number, table) in tables.iter().enumerate() {
            // Since PostgreSQL 18 the partitions are locked as their parent is.
            if number > 0 && is_partitioned && builds_index && self.version.major() < 18 {
                self.lock(table, LockMode::Share);
            } else {
                self.lock(table, mode);
            }
        }
        self.action(&alter.table, &tables, action);
    }

    /// What an action does besides the lock on the table itself.
    fn action(&mut self, table: &Name, tables: &[Name], action: &AlterTableAction) {
        match action {
            AlterTableAction::AddColumn {
                column,
                if_not_exists,
            } => {
                let is_there = self.catalog.column(table, &column.name).is_some();
                if !(*if_not_exists && is_there) {
                    self.add_column(table, tables, column);
                }
            }
            AlterTableAction::DropColumn { column, cascades } => {
                self.drop_column(table, column, *cascades);
            }
            AlterTableAction::SetType {
                column,
                data_type,
                using,
                has_collation,
            } => {
                let change = column_change(self.catalog, table, column, data_type, self.version);
                let change = match using {
                    Using::Cast => change,
                    Using::Expression => TypeChange::Rewrite,
                };
                self.set_type(table, tables, column, change, *has_collation);
            }
            AlterTableAction::SetNotNull { column } => {
                if !self.is_free_of_null(table, column) {
                    self.works(tables, WorkKind::Scan);
                }
            }
            AlterTableAction::SetExpression { .. }
            | AlterTableAction::SetLogged
            | AlterTableAction::SetTablespace
            | AlterTableAction::SetAccessMethod => self.works(tables, WorkKind::Rewrite),
            AlterTableAction::AddConstraint(constraint) => {
                self.add_constraint(table, tables, constraint)
            }
            AlterTableAction::ValidateConstraint { name } => self.validate(table, tables, name),
            AlterTableAction::DropConstraint { name, cascades } => {
                self.drop_constraint(table, name, *cascades);
            }
            AlterTableAction::AttachPartition { child, .. } => self.attach(table, child),
            AlterTableAction::DetachPartition {
                child,
                is_concurrent,
                ..
            } => {
                // Before PostgreSQL 14 the parent's lock alone kept sessions away from the partition.
                let mode = if *is_concurrent || self.version.major() < 14 {
                    LockMode::ShareUpdateExclusive
                } else {
                    LockMode::AccessExclusive
                };
                self.lock(child, mode);
                self.default_partition(table, WithScan::No);
            }
            AlterTableAction::Inherit {
                parent,
                ends: false,
            } => {
                self.lock(parent, LockMode::ShareUpdateExclusive);
            }
            AlterTableAction::Unknown(text) => {
                self.unknown(format!("`{text}` is not understood"));
            }
            AlterTableAction::Inherit { ends: true, .. }
            | AlterTableAction::DropNotNull { .. }
            | AlterTableAction::SetDefault { .. }
            | AlterTableAction::DropDefault { .. }
            | AlterTableAction::DropExpression { .. }
            | AlterTableAction::Identity { .. }
            | AlterTableAction::ColumnStatistics
            | AlterTableAction::ColumnStorage
            | AlterTableAction::AlterConstraint { .. }
            | AlterTableAction::RenameColumn { .. }
            | AlterTableAction::RenameConstraint { .. }
            | AlterTableAction::Rename { .. }
            | AlterTableAction::SetSchema { .. }
            | AlterTableAction::Storage { .. }
            | AlterTableAction::ClusterOn
            | AlterTableAction::Trigger { .. }
            | AlterTableAction::Rule
            | AlterTableAction::RowSecurity
            | AlterTableAction::ReplicaIdentity
            | AlterTableAction::Owner
            | AlterTableAction::DependsOnExtension
            | AlterTableAction::OfType
            | AlterTableAction::WithoutOids => {}
        }
    }

    fn works(&mut self, tables: &[Name], kind: WorkKind) {
        for table in self.with_rows(tables) {
            self.work(&table, kind);
        }
    }

    fn add_column(&mut self, table: &Name, tables: &[Name], column: &Column) {
        match &column.source {
            ColumnSource::Identity | ColumnSource::Stored => self.works(tables, WorkKind::Rewrite),
            ColumnSource::Default(default) => match &default.volatility {
                Volatility::Constant => {}
                Volatility::Volatile { .. } => self.works(tables, WorkKind::Rewrite),
                Volatility::Unknown { function } => self.unknown(format!(
                    "the default of column `{}` calls `{function}`, and all rows are written again if its value differs from row to row",
                    column.name
                )),
            },
            ColumnSource::Nothing => {
                if column.is_not_null {
                    self.works(tables, WorkKind::Scan);
                }
            }
            ColumnSource::Virtual => {}
        }
        match &column.data_type.base {
            BaseType::Serial(_) => self.works(tables, WorkKind::Rewrite),
            BaseType::Named(name) => self.named_type(tables, column, name),
            BaseType::BuiltIn(_) => {}
        }
        for constraint in &column.constraints {
            let is_checked_later = matches!(constraint.kind, ConstraintKind::ForeignKey { .. })
                && column.source == ColumnSource::Nothing;
            let constraint = Constraint {
                is_not_valid: constraint.is_not_valid || is_checked_later,
                ..constraint.clone()
            };
            // Its not-null was looked at above: nothing is there that could be null.
            match constraint.kind {
                ConstraintKind::PrimaryKey { .. } => self.works(tables, WorkKind::IndexBuild),
                ConstraintKind::Check { .. }
                | ConstraintKind::Unique { .. }
                | ConstraintKind::Exclude
                | ConstraintKind::ForeignKey { .. }
                | ConstraintKind::NotNull { .. } => self.add_constraint(table, tables, &constraint),
            }
        }
    }

    /// A domain with constraints is checked in every row, by writing each again.
    fn named_type(&mut self, tables: &[Name], column: &Column, name: &Name) {
        match self.catalog.user_type(name) {
            Some(UserType::Domain {
                has_constraints: true,
                ..
            }) => self.works(tables, WorkKind::Rewrite),
            Some(UserType::Domain { .. } | UserType::Enum | UserType::Other) => {}
            None if column.data_type.is_surely_no_domain() => {}
            None => self.unknown(format!(
                "type `{name}` is not known here; a domain with constraints has all rows written again"
            )),
        }
    }

    fn drop_column(&mut self, table: &Name, column: &str, cascades: bool) {
        let constraints = self.catalog.table(table).into_iter();
        let constraints = constraints.flat_map(|table| table.constraints.values());
        let referenced: Vec<Name> = constraints
            .filter_map(|constraint| match &constraint.kind {
                ConstraintKind::ForeignKey {
                    columns,
                    references,
                    ..
                } if columns.iter().any(|own| own == column) => Some(references.clone()),
                ConstraintKind::ForeignKey { .. }
                | ConstraintKind::Check { .. }
                | ConstraintKind::Unique { .. }
                | ConstraintKind::PrimaryKey { .. }
                | ConstraintKind::Exclude
                | ConstraintKind::NotNull { .. } => None,
            })
            .collect();
        for table in referenced {
            self.lock(&table, LockMode::AccessExclusive);
        }
        if self.catalog.table(table).is_none() {
            self.unknown(format!(
                "table `{table}` is not known here; a table that column `{column}` references is locked too"
            ));
        }
        if cascades {
            self.unknown(format!(
                "what depends on column `{column}` is dropped with it"
            ));
        }
    }

    fn set_type(
        &mut self,
        table: &Name,
        tables: &[Name],
        column: &str,
        change: TypeChange,
        has_collation: bool,
    ) {
        match change {
            TypeChange::Rewrite => self.works(tables, WorkKind::Rewrite),
            TypeChange::Free | TypeChange::FreeUnderUtc | TypeChange::RebuildsIndexes => {
                let rebuilds = has_collation || change != TypeChange::Free;
                let names = |columns: &[String]| columns.iter().any(|other| other == column);
                // What an expression or a condition makes of another type is not compared.
                let is_rebuilt = self.catalog.indexes_of(table).any(|index| {
                    names(&index.expression_columns) || (rebuilds && names(&index.columns))
                });
                if is_rebuilt {
                    self.works(tables, WorkKind::IndexBuild);
                }
                if self.is_checked(table, column) {
                    self.works(tables, WorkKind::Scan);
                }
            }
            TypeChange::Unknown => self.unknown(format!(
                "the type that column `{column}` of `{table}` has now is not known here, and all rows are written again unless it only gets wider"
            )),
        }
        self.keys_of_column(table, column, change);
    }

    /// A foreign key is dropped and made again when a column of it changes its type.
    fn keys_of_column(&mut self, table: &Name, column: &str, change: TypeChange) {
        let constraints = self.catalog.table(table).into_iter();
        let constraints = constraints.flat_map(|table| table.constraints.values());
        let referenced: Vec<Name> = constraints
            .filter_map(|constraint| match &constraint.kind {
                ConstraintKind::ForeignKey {
                    columns,
                    references,
                    ..
                } if columns.iter().any(|own| own == column) => Some(references.clone()),
                ConstraintKind::ForeignKey { .. }
                | ConstraintKind::Check { .. }
                | ConstraintKind::Unique { .. }
                | ConstraintKind::PrimaryKey { .. }
                | ConstraintKind::Exclude
                | ConstraintKind::NotNull { .. } => None,
            })
            .collect();
        for table in referenced {
            self.lock(&table, LockMode::AccessExclusive);
        }
        for referencing in self.catalog.referencing_column(table, column) {
            self.lock(&referencing, LockMode::AccessExclusive);
            if change == TypeChange::Rewrite {
                self.work(&referencing, WorkKind::Scan);
            }
        }
    }

    fn is_checked(&self, table: &Name, column: &str) -> bool {
        self.catalog.table(table).is_some_and(|table| {
            table.constraints.values().any(|constraint| {
                constraint.is_valid
                    && matches!(&constraint.kind, ConstraintKind::Check { columns, .. } if columns.iter().any(|other| other == column))
            })
        })
    }

    /// Whether PostgreSQL knows without looking that a column holds no null.
    fn is_free_of_null(&self, table: &Name, column: &str) -> bool {
        let is_not_null = self
            .catalog
            .column(table, column)
            .is_some_and(|column| column.is_not_null);
        is_not_null
            || (self.version.major() >= 12 && self.catalog.is_proved_not_null(table, column))
    }

    fn add_constraint(&mut self, table: &Name, tables: &[Name], constraint: &Constraint) {
        self.references(table, constraint);
        match &constraint.kind {
            ConstraintKind::Check { .. }
            | ConstraintKind::ForeignKey { .. }
            | ConstraintKind::NotNull { .. } => {
                if !constraint.is_not_valid {
                    self.works(tables, WorkKind::Scan);
                }
            }
            ConstraintKind::Unique { using_index, .. } => {
                if using_index.is_none() {
                    self.works(tables, WorkKind::IndexBuild);
                }
            }
            ConstraintKind::PrimaryKey {
                columns,
                using_index,
            } => {
                let columns = match using_index {
                    None => {
                        self.works(tables, WorkKind::IndexBuild);
                        columns.clone()
                    }
                    Some(index) => {
                        let table = self.catalog.resolve(table);
                        let index = self.catalog.index(&table.beside(index.name.clone()));
                        index.map(|index| index.columns.clone()).unwrap_or_default()
                    }
                };
                let is_free = !columns.is_empty()
                    && columns
                        .iter()
                        .all(|column| self.is_free_of_null(table, column));
                if !is_free {
                    self.works(tables, WorkKind::Scan);
                }
            }
            ConstraintKind::Exclude => self.works(tables, WorkKind::IndexBuild),
        }
    }

    fn validate(&mut self, table: &Name, tables: &[Name], name: &str) {
        let is_valid = self
            .catalog
            .table(table)
            .and_then(|table| table.constraints.get(name))
            .is_some_and(|constraint| constraint.is_valid);
        if !is_valid {
            self.works(tables, WorkKind::Scan);
        }
    }

    fn drop_constraint(&mut self, table: &Name, name: &str, cascades: bool) {
        let constraint = self
            .catalog
            .table(table)
            .and_then(|table| table.constraints.get(name));
        match constraint.map(|constraint| &constraint.kind) {
            Some(ConstraintKind::ForeignKey { references, .. }) => {
                let references = references.clone();
                self.lock(&references, LockMode::AccessExclusive);
            }
            Some(ConstraintKind::Unique { .. } | ConstraintKind::PrimaryKey { .. }) => {
                if cascades {
                    for referencing in self.catalog.referencing(table) {
                        self.lock(&referencing, LockMode::AccessExclusive);
                    }
                }
            }
            Some(ConstraintKind::Check { .. } | ConstraintKind::Exclude | ConstraintKind::NotNull { .. }) => {}
            None => self.unknown(format!(
                "constraint `{name}` of `{table}` is not known here; if it is a foreign key, the table that it references is locked too"
            )),
        }
    }

    fn attach(&mut self, parent: &Name, child: &Name) {
        self.lock(child, LockMode::AccessExclusive);
        self.default_partition(parent, WithScan::Yes);
        for key in self.catalog.referenced_by(parent) {
            self.lock(&key, LockMode::ShareRowExclusive);
        }
        let has_checks = self.catalog.table(child).is_some_and(|child| {
            child.constraints.values().any(|constraint| {
                constraint.is_valid && matches!(constraint.kind, ConstraintKind::Check { .. })
            })
        });
        if has_checks {
            self.unknown(format!(
                "whether the constraints of `{child}` say as much as the bounds of the partition is not looked at; all its rows are read unless they do"
            ));
        } else {
            self.work(child, WorkKind::Scan);
        }
        self.missing_indexes(parent, child);
    }

    /// A partition gets the indexes of its parent that it has not yet.
    fn missing_indexes(&mut self, parent: &Name, child: &Name) {
        let (mut missing, mut unsure) = (false, false);
        for wanted in self.catalog.indexes_of(parent) {
            let mut there = self.catalog.indexes_of(child);
            if wanted.is_plain {
                missing |= !there.any(|index| {
                    index.is_plain
                        && index.columns == wanted.columns
                        && index.is_unique >= wanted.is_unique
                });
            } else if there.any(|index| !index.is_plain) {
                unsure = true;
            } else {
                missing = true;
            }
        }
        if missing {
            self.work(child, WorkKind::IndexBuild);
        } else if unsure {
            self.unknown(format!(
                "whether `{child}` has the indexes of `{parent}` on expressions, or with a condition, is not looked at; those that it has not are built"
            ));
        }
    }
}

/// What changing a column to a type costs, where the type that it has now is known.
#[must_use]
pub fn column_change(
    catalog: &Catalog,
    table: &Name,
    column: &str,
    to: &DataType,
    version: ServerVersion,
) -> TypeChange {
    let Some(from) = catalog.column(table, column) else {
        return TypeChange::Unknown;
    };
    let (from, to) = (&from.data_type, to);
    match (plain(catalog, from), plain(catalog, to)) {
        // A domain without constraints is its base under another name.
        (Plain::Type(old), Plain::Type(new)) => type_change(&old, &new, version),
        (_, Plain::Checked) if from == to => TypeChange::Free,
        (_, Plain::Checked) | (Plain::Checked, Plain::Opaque) => TypeChange::Rewrite,
        (Plain::Checked, Plain::Type(_)) => TypeChange::Unknown,
        (Plain::Opaque, Plain::Opaque) if from == to => TypeChange::Free,
        // An enum or a composite is made of nothing else.
        (Plain::Opaque, Plain::Opaque | Plain::Type(_)) | (Plain::Type(_), Plain::Opaque) => {
            TypeChange::Rewrite
        }
    }
}

/// What a type is made of.
enum Plain {
    Type(DataType),
    /// A domain with constraints.
    Checked,
    /// An enum, a composite.
    Opaque,
}

fn plain(catalog: &Catalog, data_type: &DataType) -> Plain {
    let BaseType::Named(name) = &data_type.base else {
        return Plain::Type(data_type.clone());
    };
    match catalog.user_type(name) {
        Some(UserType::Domain {
            has_constraints: false,
            base,
        }) => Plain::Type(base.clone()),
        Some(UserType::Domain { .. }) => Plain::Checked,
        Some(UserType::Enum | UserType::Other) => Plain::Opaque,
        None => Plain::Type(data_type.clone()),
    }
}

/// The lock on the table itself.
fn lock_mode(action: &AlterTableAction, version: ServerVersion) -> LockMode {
    match action {
        AlterTableAction::ValidateConstraint { .. }
        | AlterTableAction::ColumnStatistics
        | AlterTableAction::ClusterOn => LockMode::ShareUpdateExclusive,
        AlterTableAction::Storage { parameters } => storage_mode(parameters),
        AlterTableAction::AttachPartition { .. } => {
            if version.major() >= 12 {
                LockMode::ShareUpdateExclusive
            } else {
                LockMode::AccessExclusive
            }
        }
        AlterTableAction::DetachPartition {
            is_concurrent,
            is_finalize,
            ..
        } => {
            if *is_concurrent || *is_finalize {
                LockMode::ShareUpdateExclusive
            } else {
                LockMode::AccessExclusive
            }
        }
        AlterTableAction::AddConstraint(Constraint {
            kind: ConstraintKind::ForeignKey { .. },
            ..
        })
        | AlterTableAction::Trigger { .. } => LockMode::ShareRowExclusive,
        AlterTableAction::AddColumn { .. }
        | AlterTableAction::DropColumn { .. }
        | AlterTableAction::SetType { .. }
        | AlterTableAction::SetNotNull { .. }
        | AlterTableAction::DropNotNull { .. }
        | AlterTableAction::SetDefault { .. }
        | AlterTableAction::DropDefault { .. }
        | AlterTableAction::SetExpression { .. }
        | AlterTableAction::DropExpression { .. }
        | AlterTableAction::Identity { .. }
        | AlterTableAction::ColumnStorage
        | AlterTableAction::AddConstraint(_)
        | AlterTableAction::DropConstraint { .. }
        | AlterTableAction::AlterConstraint { .. }
        | AlterTableAction::RenameColumn { .. }
        | AlterTableAction::RenameConstraint { .. }
        | AlterTableAction::Rename { .. }
        | AlterTableAction::SetSchema { .. }
        | AlterTableAction::Inherit { .. }
        | AlterTableAction::Rule
        | AlterTableAction::RowSecurity
        | AlterTableAction::ReplicaIdentity
        | AlterTableAction::Owner
        | AlterTableAction::DependsOnExtension
        | AlterTableAction::OfType
        | AlterTableAction::SetLogged
        | AlterTableAction::SetTablespace
        | AlterTableAction::SetAccessMethod
        | AlterTableAction::WithoutOids
        | AlterTableAction::Unknown(_) => LockMode::AccessExclusive,
    }
}

/// Most parameters wait for no reader and no writer (`reloptions.c`).
fn storage_mode(parameters: &[StorageParameter]) -> LockMode {
    let is_light = |StorageParameter(name): &StorageParameter| {
        [
            "fillfactor",
            "toast_tuple_target",
            "parallel_workers",
            "vacuum_index_cleanup",
            "vacuum_truncate",
            "log_autovacuum_min_duration",
            "toast",
        ]
        .contains(&name.as_str())
            || name.starts_with("autovacuum_")
    };
    if parameters.iter().all(is_light) {
        LockMode::ShareUpdateExclusive
    } else {
        LockMode::AccessExclusive
    }
}

/// Whether an action goes on to partitions and children.
fn recurses(action: &AlterTableAction) -> bool {
    match action {
        AlterTableAction::AddColumn { .. }
        | AlterTableAction::DropColumn { .. }
        | AlterTableAction::SetType { .. }
        | AlterTableAction::SetNotNull { .. }
        | AlterTableAction::DropNotNull { .. }
        | AlterTableAction::SetDefault { .. }
        | AlterTableAction::DropDefault { .. }
        | AlterTableAction::SetExpression { .. }
        | AlterTableAction::DropExpression { .. }
        | AlterTableAction::ColumnStatistics
        | AlterTableAction::ColumnStorage
        | AlterTableAction::AddConstraint(_)
        | AlterTableAction::ValidateConstraint { .. }
        | AlterTableAction::DropConstraint { .. }
        | AlterTableAction::AlterConstraint { .. }
        | AlterTableAction::RenameColumn { .. }
        | AlterTableAction::RenameConstraint { .. }
        | AlterTableAction::Unknown(_) => true,
        AlterTableAction::Identity { .. }
        | AlterTableAction::Rename { .. }
        | AlterTableAction::SetSchema { .. }
        | AlterTableAction::AttachPartition { .. }
        | AlterTableAction::DetachPartition { .. }
        | AlterTableAction::Inherit { .. }
        | AlterTableAction::Storage { .. }
        | AlterTableAction::ClusterOn
        | AlterTableAction::Trigger { .. }
        | AlterTableAction::Rule
        | AlterTableAction::RowSecurity
        | AlterTableAction::ReplicaIdentity
        | AlterTableAction::Owner
        | AlterTableAction::DependsOnExtension
        | AlterTableAction::OfType
        | AlterTableAction::SetLogged
        | AlterTableAction::SetTablespace
        | AlterTableAction::SetAccessMethod
        | AlterTableAction::WithoutOids => false,
    }
}
