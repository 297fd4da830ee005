//! What each statement changes in the catalog.

use super::constraint_name::{constraint_name, index_name};
use super::{Catalog, Index, KnownColumn, KnownConstraint, Table, UserType};
use crate::statement::{
    AlterDomainAction, AlterIndexAction, AlterTable, AlterTableAction, AlterTypeAction, Column,
    ColumnSource, Constraint, ConstraintKind, CreateTable, OnTableKind, TransactionCommand,
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
                self.tables.insert(name, table);
            }
            Statement::AlterTable(alter) => self.alter_table(alter),
            Statement::DropTable(drop) | Statement::DropView(drop) => {
                for name in &drop.names {
                    self.drop_table(name);
                }
            }
            Statement::CreateIndex(create) => {
                let table = self.resolve(&create.table);
                let name = match &create.name {
                    Some(name) => name.clone(),
                    None => table.beside(index_name(&table.name, &create.columns, |name| {
                        self.indexes.contains_key(&table.beside(name))
                    })),
                };
                let index = Index {
                    table: table.clone(),
                    columns: create.columns.clone(),
                    expression_columns: create.expression_columns.clone(),
                    is_plain: create.is_plain,
                    is_unique: create.is_unique,
                };
                let name = self.resolve(&name);
                self.indexes.insert(name, index);
            }
            Statement::DropIndex(drop) => {
                for name in &drop.names {
                    let name = self.resolve(name);
                    self.indexes.remove(&name);
                }
            }
            Statement::AlterIndex(alter) => {
                if let AlterIndexAction::Rename(to) = &alter.action {
                    self.rename_index(&alter.name, to);
                }
            }
            Statement::CreateView(create) if create.is_materialized => {
                let table = Table {
                    is_materialized_view: true,
                    ..self.new_table()
                };
                let name = self.resolve(&create.name);
                self.tables.insert(name, table);
            }
            Statement::AlterView(alter) => {
                if let Some(to) = &alter.renames_to {
                    self.rename_table(&alter.name, to);
                }
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
                    self.rename_type(&alter.name, to);
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
                    let name = self.resolve(name);
                    self.types.remove(&name);
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
        self.tables.insert(name.clone(), table);
        for column in &create.columns {
            self.add_column(&name, column);
        }
        for constraint in &create.constraints {
            self.add_constraint(&name, constraint);
        }
    }

    fn add_column(&mut self, table: &Name, column: &Column) {
        let is_serial = matches!(column.data_type.base, BaseType::Serial(_));
        let known = KnownColumn {
            data_type: stored_type(&column.data_type),
            is_not_null: column.is_not_null || is_serial,
            has_value: is_serial || column.source != ColumnSource::Nothing,
        };
        if let Some(table) = self.tables.get_mut(table) {
            table.columns.insert(column.name.clone(), known);
        }
        for constraint in &column.constraints {
            self.add_constraint(table, constraint);
        }
    }

    fn add_constraint(&mut self, name: &Name, constraint: &Constraint) {
        let mut kind = constraint.kind.clone();
        if let ConstraintKind::ForeignKey { references, .. } = &mut kind {
            *references = self.resolve(references);
        }
        let Some(table) = self.tables.get(name) else {
            return;
        };
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
                let columns = old.map_or_else(|| columns.clone(), |index| index.columns);
                let is_primary = matches!(kind, ConstraintKind::PrimaryKey { .. });
                if is_primary && let Some(table) = self.tables.get_mut(name) {
                    for column in &columns {
                        if let Some(column) = table.columns.get_mut(column) {
                            column.is_not_null = true;
                        }
                    }
                }
                let index = Index {
                    table: name.clone(),
                    columns,
                    expression_columns: Vec::new(),
                    is_plain: true,
                    is_unique: true,
                };
                self.indexes.insert(name.beside(own.clone()), index);
            }
            ConstraintKind::Exclude => {
                let index = Index {
                    table: name.clone(),
                    columns: Vec::new(),
                    expression_columns: Vec::new(),
                    is_plain: false,
                    is_unique: false,
                };
                self.indexes.insert(name.beside(own.clone()), index);
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
        if let Some(table) = self.tables.get_mut(name) {
            table.constraints.insert(own, known);
        }
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "`change_column` names every action"
    )]
    fn alter_table(&mut self, alter: &AlterTable) {
        let mut name = self.resolve(&alter.table);
        for action in &alter.actions {
            match action {
                AlterTableAction::AddColumn {
                    column,
                    if_not_exists,
                } => {
                    let is_there = self.column(&name, &column.name).is_some();
                    if !(*if_not_exists && is_there) {
                        self.add_column(&name, column);
                    }
                }
                AlterTableAction::AddConstraint(constraint) => {
                    self.add_constraint(&name, constraint)
                }
                AlterTableAction::Rename { to } => {
                    self.rename_table(&name, to);
                    name = name.beside(to.clone());
                }
                AlterTableAction::SetSchema { schema } => {
                    if let Some(table) = self.tables.remove(&name) {
                        name.schema = Some(schema.clone());
                        self.tables.insert(name.clone(), table);
                    }
                }
                AlterTableAction::AttachPartition { child, is_default } => {
                    self.has_children = true;
                    let child = self.resolve(child);
                    if let Some(table) = self.tables.get_mut(&child) {
                        table.is_default_partition = *is_default;
                        table.partition_of = Some(name.clone());
                    }
                }
                AlterTableAction::DetachPartition { child, .. } => {
                    let child = self.resolve(child);
                    if let Some(table) = self.tables.get_mut(&child) {
                        table.partition_of = None;
                    }
                }
                AlterTableAction::Inherit { parent, ends } => {
                    self.has_children = true;
                    let parent = self.resolve(parent);
                    if let Some(table) = self.tables.get_mut(&name) {
                        table.inherits.retain(|other| *other != parent);
                        if !ends {
                            table.inherits.push(parent);
                        }
                    }
                }
                AlterTableAction::DropConstraint { name: dropped, .. } => {
                    self.indexes.remove(&name.beside(dropped.clone()));
                    self.on_table(&name, |table| {
                        table.constraints.remove(dropped);
                    });
                }
                AlterTableAction::RenameConstraint { from, to } => {
                    self.rename_index(&name.beside(from.clone()), to);
                    self.on_table(&name, |table| {
                        if let Some(constraint) = table.constraints.remove(from) {
                            table.constraints.insert(to.clone(), constraint);
                        }
                    });
                }
                AlterTableAction::RenameColumn { from, to } => self.rename_column(&name, from, to),
                AlterTableAction::DropColumn { column, .. } => self.drop_column(&name, column),
                _ => self.on_table(&name, |table| change_column(table, action)),
            }
        }
    }

    fn on_table(&mut self, name: &Name, change: impl FnOnce(&mut Table)) {
        if let Some(table) = self.tables.get_mut(name) {
            change(table);
        }
    }

    fn drop_table(&mut self, name: &Name) {
        let name = self.resolve(name);
        for child in self.descendants(&name) {
            self.tables.remove(&child);
        }
        self.tables.remove(&name);
        self.indexes.retain(|_, index| index.table != name);
        for other in self.tables.values_mut() {
            other.constraints.retain(|_, constraint| {
                !matches!(&constraint.kind, ConstraintKind::ForeignKey { references, .. } if *references == name)
            });
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

    fn drop_column(&mut self, name: &Name, column: &str) {
        let names = |columns: &[String]| columns.iter().any(|other| other == column);
        self.indexes
            .retain(|_, index| index.table != *name || !names(&index.columns));
        self.on_table(name, |table| {
            table.columns.remove(column);
            table
                .constraints
                .retain(|_, constraint| match &constraint.kind {
                    ConstraintKind::Check { columns, .. }
                    | ConstraintKind::Unique { columns, .. }
                    | ConstraintKind::PrimaryKey { columns, .. }
                    | ConstraintKind::ForeignKey { columns, .. } => !names(columns),
                    ConstraintKind::NotNull { column: other } => other != column,
                    ConstraintKind::Exclude => true,
                });
        });
    }

    fn rename_column(&mut self, name: &Name, from: &str, to: &str) {
        let rename = |columns: &mut Vec<String>| {
            for column in columns.iter_mut().filter(|column| *column == from) {
                to.clone_into(column);
            }
        };
        for index in self
            .indexes
            .values_mut()
            .filter(|index| index.table == *name)
        {
            rename(&mut index.columns);
        }
        self.on_table(name, |table| {
            if let Some(column) = table.columns.remove(from) {
                table.columns.insert(to.to_owned(), column);
            }
            for constraint in table.constraints.values_mut() {
                match &mut constraint.kind {
                    ConstraintKind::Check { columns, not_null } => {
                        rename(columns);
                        rename(not_null);
                    }
                    ConstraintKind::Unique { columns, .. }
                    | ConstraintKind::PrimaryKey { columns, .. }
                    | ConstraintKind::ForeignKey { columns, .. } => rename(columns),
                    ConstraintKind::NotNull { .. } | ConstraintKind::Exclude => {}
                }
            }
        });
    }

    fn rename_table(&mut self, name: &Name, to: &str) {
        let name = self.resolve(name);
        let renamed = name.beside(to);
        if let Some(table) = self.tables.remove(&name) {
            self.tables.insert(renamed.clone(), table);
        }
        for index in self
            .indexes
            .values_mut()
            .filter(|index| index.table == name)
        {
            index.table = renamed.clone();
        }
        for other in self.tables.values_mut() {
            if other.partition_of.as_ref() == Some(&name) {
                other.partition_of = Some(renamed.clone());
            }
            for constraint in other.constraints.values_mut() {
                if let ConstraintKind::ForeignKey { references, .. } = &mut constraint.kind
                    && *references == name
                {
                    *references = renamed.clone();
                }
            }
        }
    }

    fn rename_index(&mut self, name: &Name, to: &str) {
        let name = self.resolve(name);
        if let Some(index) = self.indexes.remove(&name) {
            self.indexes.insert(name.beside(to), index);
        }
    }

    fn rename_type(&mut self, name: &Name, to: &str) {
        let name = self.resolve(name);
        let renamed = name.beside(to);
        if let Some(user_type) = self.types.remove(&name) {
            self.types.insert(renamed.clone(), user_type);
        }
        let schema = self
            .default_schema
            .clone()
            .unwrap_or_else(|| "public".to_owned());
        for column in self
            .tables
            .values_mut()
            .flat_map(|table| table.columns.values_mut())
        {
            if let BaseType::Named(other) = &mut column.data_type.base
                && other.or_in(&schema) == name
            {
                *other = renamed.clone();
            }
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
        | AlterTableAction::Trigger
        | AlterTableAction::Rule
        | AlterTableAction::RowSecurity
        | AlterTableAction::ReplicaIdentity
        | AlterTableAction::Owner
        | AlterTableAction::OfType
        | AlterTableAction::SetLogged
        | AlterTableAction::SetTablespace
        | AlterTableAction::SetAccessMethod
        | AlterTableAction::WithoutOids
        | AlterTableAction::Unknown(_) => {}
    }
}
