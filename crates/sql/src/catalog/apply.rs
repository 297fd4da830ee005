//! What each statement changes in the catalog.

use std::sync::Arc;

use super::children::{constraint_of, is_shared};
use super::constraint_name::{constraint_name, index_name};
use super::{Catalog, Index, KnownColumn, KnownConstraint, Table, UserType};
use crate::statement::{
    AlterDomainAction, AlterIndexAction, AlterTable, AlterTableAction, AlterTypeAction, Column,
    ColumnSource, Constraint, ConstraintKind, CreateIndex, CreateTable, OnTableKind,
    TransactionCommand,
};
use crate::{BaseType, Name, Statement};

impl Catalog {
    /// Takes in what a statement makes, changes and drops.
    pub fn apply(&mut self, statement: &Statement) {
        match statement {
            Statement::CreateTable(create) => self.create_table(create),
            Statement::CreateTableAs(create) => {
                let table = Table {
                    is_temporary: create.is_temporary,
                    ..self.new_table()
                };
                let name = self.resolve(&create.table);
                self.tables.insert(name, Arc::new(table));
            }
            Statement::AlterTable(alter) => self.alter_table(alter),
            Statement::DropTable(drop) | Statement::DropView(drop) => {
                for name in &drop.names {
                    self.drop_table(&self.resolve(name));
                }
            }
            Statement::CreateIndex(create) => self.create_index(create),
            Statement::DropIndex(drop) => {
                for name in &drop.names {
                    self.drop_index(&self.resolve(name));
                }
            }
            Statement::AlterIndex(alter) => match &alter.action {
                AlterIndexAction::Rename(to) => self.rename_index(&self.resolve(&alter.name), to),
                AlterIndexAction::Attach(part) => {
                    let (whole, part) = (self.resolve(&alter.name), self.resolve(part));
                    if let Some(part) = self.indexes.get_mut(&part) {
                        Arc::make_mut(part).part_of = Some(whole);
                    }
                }
                AlterIndexAction::SetTablespace | AlterIndexAction::Other => {}
            },
            Statement::CreateView(create) if create.is_materialized => {
                let table = Table {
                    is_materialized_view: true,
                    ..self.new_table()
                };
                let name = self.resolve(&create.name);
                self.tables.insert(name, Arc::new(table));
            }
            Statement::CreateType(create) => {
                let user_type = if create.is_enum {
                    UserType::Enum
                } else {
                    UserType::Other
                };
                self.add_type(&create.name, user_type);
            }
            Statement::CreateDomain(create) => {
                let user_type = UserType::Domain {
                    base: create.base.clone(),
                    has_constraints: create.has_constraints,
                };
                self.add_type(&create.name, user_type);
            }
            Statement::AlterType(alter) => {
                if let AlterTypeAction::Rename(to) = &alter.action {
                    let name = self.resolve(&alter.name);
                    self.move_type(&name, &name.beside(to));
                }
            }
            Statement::AlterDomain(alter) => match alter.action {
                AlterDomainAction::Check | AlterDomainAction::CheckLater => {
                    let name = self.resolve(&alter.name);
                    if let Some(UserType::Domain {
                        has_constraints, ..
                    }) = self.types.get_mut(&name)
                    {
                        *has_constraints = true;
                    }
                }
                AlterDomainAction::Other => {}
            },
            Statement::DropType(drop) => {
                for name in &drop.names {
                    self.drop_type(&self.resolve(name), drop.cascades);
                }
            }
            Statement::Do(block) => {
                // Which of them run is not known. What may have been made counts as made, because a
                // table that is there is told from a new one by it.
                for inner in &block.statements {
                    self.apply(&inner.statement);
                }
            }
            Statement::Set(set) if set.name == "search_path" => {
                let first = set
                    .value
                    .as_deref()
                    .and_then(|value| value.split(',').next());
                let first = first.map(|schema| schema.trim().trim_matches('"').to_owned());
                if set.is_local {
                    self.default_schema = first;
                } else {
                    self.set_session_schema(first);
                }
            }
            Statement::Reset(Some(name)) if name == "search_path" => self.set_session_schema(None),
            Statement::Reset(None) => self.set_session_schema(None),
            Statement::DiscardAll => {
                self.set_session_schema(None);
                self.drop_temporary();
            }
            Statement::Transaction(command) => match command {
                TransactionCommand::Commit
                | TransactionCommand::Rollback
                | TransactionCommand::Prepare => {
                    self.default_schema.clone_from(&self.session_schema);
                }
                TransactionCommand::Begin
                | TransactionCommand::Savepoint
                | TransactionCommand::RollbackToSavepoint
                | TransactionCommand::Characteristics => {}
            },
            Statement::OnTable(on) => match on.kind {
                OnTableKind::CreateTrigger { for_each_row } => {
                    let name = self.resolve(&on.table);
                    self.on_table(&name, |table| table.has_row_triggers |= for_each_row);
                }
                OnTableKind::DropTrigger
                | OnTableKind::AlterTrigger
                | OnTableKind::CreateRule
                | OnTableKind::ChangeRule
                | OnTableKind::Policy
                | OnTableKind::CreateStatistics
                | OnTableKind::Comment
                | OnTableKind::CommentOnPart => {}
            },
            Statement::Reindex(_)
            | Statement::CreateView(_)
            | Statement::RefreshMaterializedView(_)
            | Statement::Truncate(_)
            | Statement::Lock(_)
            | Statement::Maintain(_)
            | Statement::Change(_)
            | Statement::Query(_)
            | Statement::Set(_)
            | Statement::Reset(Some(_))
            | Statement::Plain(_)
            | Statement::Unknown(_) => {}
        }
    }

    fn new_table(&self) -> Table {
        Table {
            generation: self.generation,
            ..Table::default()
        }
    }

    fn create_table(&mut self, create: &CreateTable) {
        let name = self.resolve(&create.table);
        if create.if_not_exists && self.tables.contains_key(&name) {
            return;
        }
        let mut table = Table {
            partition_of: create
                .partition_of
                .as_ref()
                .map(|parent| self.resolve(parent)),
            inherits: create
                .inherits
                .iter()
                .map(|parent| self.resolve(parent))
                .collect(),
            is_default_partition: create.is_default_partition,
            is_partitioned: create.is_partitioned,
            is_temporary: create.is_temporary,
            ..self.new_table()
        };
        self.has_children |= table.partition_of.is_some() || !table.inherits.is_empty();
        let parents = create
            .partition_of
            .iter()
            .chain(&create.inherits)
            .chain(&create.like);
        for parent in parents {
            if let Some(parent) = self.table(parent) {
                table.columns.extend(parent.columns.clone());
            }
        }
        self.tables.insert(name.clone(), Arc::new(table));
        for column in &create.columns {
            self.add_column(&name, column, &[]);
        }
        for constraint in &create.constraints {
            self.add_constraint(&name, constraint);
        }
        for parent in create.partition_of.iter().chain(&create.inherits) {
            self.take_after(&name, &self.resolve(parent));
        }
    }

    fn create_index(&mut self, create: &CreateIndex) {
        let table = self.resolve(&create.table);
        let name = match &create.name {
            Some(name) => self.resolve(name),
            None => table.beside(index_name(&table.name, &create.columns, |name| {
                self.indexes.contains_key(&table.beside(name))
            })),
        };
        if create.if_not_exists && self.indexes.contains_key(&name) {
            return;
        }
        let index = Index {
            table: table.clone(),
            columns: create.columns.clone(),
            part_of: None,
            expression_columns: create.expression_columns.clone(),
            is_plain: create.is_plain,
            is_unique: create.is_unique,
        };
        if !create.is_only {
            for child in self.descendants(&table) {
                if self.is_partition(&child) {
                    self.add_part_of_index(&child, &name, &index);
                }
            }
        }
        self.indexes.insert(name, Arc::new(index));
    }

    fn add_column(&mut self, table: &Name, column: &Column, children: &[Name]) {
        let is_serial = matches!(column.data_type.base, BaseType::Serial(_));
        let known = KnownColumn {
            data_type: stored_type(&column.data_type),
            is_not_null: column.is_not_null || is_serial,
            has_value: is_serial || column.source != ColumnSource::Nothing,
        };
        for table in std::iter::once(table).chain(children) {
            self.on_table(table, |table| {
                table.columns.insert(column.name.clone(), known.clone());
            });
        }
        for constraint in &column.constraints {
            self.add_constraint_below(table, constraint, children);
        }
    }

    /// Adds a constraint to a table and to those that have it because this one has.
    fn add_constraint_below(&mut self, name: &Name, constraint: &Constraint, children: &[Name]) {
        let Some(own) = self.add_constraint(name, constraint) else {
            return;
        };
        let given = Constraint {
            name: Some(own),
            ..constraint.clone()
        };
        for child in children {
            if self.goes_on(child, &given.kind) {
                self.add_part(child, name, &given);
            }
        }
    }

    /// Adds a constraint to a table, and gives its name.
    pub(super) fn add_constraint(
        &mut self,
        name: &Name,
        constraint: &Constraint,
    ) -> Option<String> {
        let mut kind = constraint.kind.clone();
        if let ConstraintKind::ForeignKey { references, .. } = &mut kind {
            *references = self.resolve(references);
        }
        let table = self.tables.get(name)?;
        let is_taken = |taken: &str| {
            table.constraints.contains_key(taken) || self.indexes.contains_key(&name.beside(taken))
        };
        let own = constraint_name(&name.name, constraint, is_taken);
        match &kind {
            ConstraintKind::Unique {
                columns,
                using_index,
            }
            | ConstraintKind::PrimaryKey {
                columns,
                using_index,
            } => {
                let old = using_index.as_ref().and_then(|index| {
                    let index = name.beside(index.name.clone());
                    self.indexes.remove(&index)
                });
                let columns = old.map_or_else(|| columns.clone(), |index| index.columns.clone());
                let is_primary = matches!(kind, ConstraintKind::PrimaryKey { .. });
                if is_primary {
                    self.on_table(name, |table| {
                        for column in &columns {
                            if let Some(column) = table.columns.get_mut(column) {
                                column.is_not_null = true;
                            }
                        }
                    });
                }
                let index = Index {
                    table: name.clone(),
                    columns,
                    part_of: None,
                    expression_columns: Vec::new(),
                    is_plain: true,
                    is_unique: true,
                };
                self.indexes
                    .insert(name.beside(own.clone()), Arc::new(index));
            }
            ConstraintKind::Exclude => {
                let index = Index {
                    table: name.clone(),
                    columns: Vec::new(),
                    part_of: None,
                    expression_columns: Vec::new(),
                    is_plain: false,
                    is_unique: false,
                };
                self.indexes
                    .insert(name.beside(own.clone()), Arc::new(index));
            }
            ConstraintKind::Check { .. }
            | ConstraintKind::ForeignKey { .. }
            | ConstraintKind::NotNull { .. } => {}
        }
        if let ConstraintKind::Unique { columns, .. } | ConstraintKind::PrimaryKey { columns, .. } =
            &mut kind
            && let Some(index) = self.indexes.get(&name.beside(own.clone()))
        {
            columns.clone_from(&index.columns);
        }
        let known = KnownConstraint {
            kind,
            is_valid: !constraint.is_not_valid,
        };
        let table = Arc::make_mut(self.tables.get_mut(name)?);
        table.constraints.insert(own.clone(), known);
        Some(own)
    }

    fn alter_table(&mut self, alter: &AlterTable) {
        let mut name = self.resolve(&alter.table);
        for action in &alter.actions {
            let children = if alter.is_only {
                Vec::new()
            } else {
                self.descendants(&name)
            };
            let sharing = children.iter().filter(|child| {
                is_shared(action)
                    && constraint_of(action)
                        .is_none_or(|constraint| self.shares(child, &name, constraint))
            });
            let sharing: Vec<Name> = sharing.cloned().collect();
            self.alter(&mut name, action, &children);
            for mut child in sharing {
                self.alter(&mut child, action, &[]);
            }
        }
    }

    /// Takes in what an action does to one table, and constraints for its partitions and children too.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "`change_column` names every action"
    )]
    fn alter(&mut self, name: &mut Name, action: &AlterTableAction, children: &[Name]) {
        match action {
            AlterTableAction::AddColumn {
                column,
                if_not_exists,
            } => {
                let is_there = self.column(name, &column.name).is_some();
                if !(*if_not_exists && is_there) {
                    self.add_column(name, column, children);
                }
            }
            AlterTableAction::AddConstraint(constraint) => {
                self.add_constraint_below(name, constraint, children);
            }
            AlterTableAction::Rename { to } => {
                let renamed = name.beside(to.clone());
                // The words are the same for an index.
                self.rename_index(name, to);
                self.move_table(name, &renamed);
                *name = renamed;
            }
            AlterTableAction::SetSchema { schema } => {
                let moved = Name {
                    schema: Some(schema.clone()),
                    name: name.name.clone(),
                };
                self.move_table(name, &moved);
                *name = moved;
            }
            AlterTableAction::AttachPartition { child, is_default } => {
                self.has_children = true;
                let child = self.resolve(child);
                self.on_table(&child, |table| {
                    table.is_default_partition = *is_default;
                    table.partition_of = Some(name.clone());
                });
                self.take_after(&child, name);
            }
            AlterTableAction::DetachPartition { child, .. } => {
                let child = self.resolve(child);
                self.on_table(&child, |table| table.partition_of = None);
                self.on_indexes(|index| index.table == child, |index| index.part_of = None);
            }
            AlterTableAction::Inherit { parent, ends } => {
                self.has_children = true;
                let parent = self.resolve(parent);
                self.on_table(name, |table| {
                    table.inherits.retain(|other| *other != parent);
                    if !ends {
                        table.inherits.push(parent);
                    }
                });
            }
            AlterTableAction::DropConstraint {
                name: dropped,
                cascades,
            } => self.drop_constraint(name, dropped, *cascades),
            AlterTableAction::RenameConstraint { from, to } => {
                self.rename_constraint(name, from, to);
            }
            AlterTableAction::RenameColumn { from, to } => self.rename_column(name, from, to),
            AlterTableAction::DropColumn { column, .. } => self.drop_column(name, column),
            _ => self.on_table(name, |table| change_column(table, action)),
        }
    }

    fn drop_temporary(&mut self) {
        let tables = self.tables.iter();
        let temporary: Vec<Name> = tables
            .filter(|(_, table)| table.is_temporary)
            .map(|(name, _)| name.clone())
            .collect();
        for name in temporary {
            self.drop_table(&name);
        }
    }
}

/// A serial is an integer once it is there.
fn stored_type(data_type: &crate::DataType) -> crate::DataType {
    let base = match &data_type.base {
        BaseType::Serial(integer) => BaseType::BuiltIn(integer.clone()),
        other @ (BaseType::BuiltIn(_) | BaseType::Named(_)) => other.clone(),
    };
    crate::DataType {
        base,
        ..data_type.clone()
    }
}

/// Actions that change one column, or nothing that the catalog keeps.
fn change_column(table: &mut Table, action: &AlterTableAction) {
    let mut on_column = |name: &str, change: &dyn Fn(&mut KnownColumn)| {
        if let Some(column) = table.columns.get_mut(name) {
            change(column);
        }
    };
    match action {
        AlterTableAction::SetType {
            column, data_type, ..
        } => {
            on_column(column, &|column| column.data_type = data_type.clone());
        }
        AlterTableAction::SetNotNull { column } => {
            on_column(column, &|column| column.is_not_null = true)
        }
        AlterTableAction::DropNotNull { column } => {
            on_column(column, &|column| column.is_not_null = false)
        }
        AlterTableAction::SetDefault { column } | AlterTableAction::Identity { column } => {
            on_column(column, &|column| column.has_value = true);
        }
        AlterTableAction::DropDefault { column } | AlterTableAction::DropExpression { column } => {
            on_column(column, &|column| column.has_value = false);
        }
        AlterTableAction::ValidateConstraint { name } => {
            if let Some(constraint) = table.constraints.get_mut(name) {
                constraint.is_valid = true;
            }
        }
        AlterTableAction::AddColumn { .. }
        | AlterTableAction::DropColumn { .. }
        | AlterTableAction::SetExpression { .. }
        | AlterTableAction::ColumnStatistics
        | AlterTableAction::ColumnStorage
        | AlterTableAction::AddConstraint(_)
        | AlterTableAction::DropConstraint { .. }
        | AlterTableAction::AlterConstraint { .. }
        | AlterTableAction::RenameColumn { .. }
        | AlterTableAction::RenameConstraint { .. }
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
        | AlterTableAction::WithoutOids
        | AlterTableAction::Unknown(_) => {}
    }
}
