//! What partitions and children have because their parent has it.

use std::sync::Arc;

use super::constraint_name::index_name;
use super::{Catalog, Index, Table};
use crate::Name;
use crate::statement::{AlterTableAction, Constraint, ConstraintKind};

impl Catalog {
    /// Gives a new partition or child the constraints and indexes of its parent that it has not yet.
    pub(super) fn take_after(&mut self, child: &Name, parent: &Name) {
        let Some(table) = self.tables.get(parent) else {
            return;
        };
        let of_parent = table.constraints.clone();
        for (name, constraint) in of_parent {
            let is_there = self.tables.get(child).is_some_and(|child| {
                let mut constraints = child.constraints.values();
                constraints.any(|own| own.kind == constraint.kind)
            });
            if !is_there && self.goes_on(child, &constraint.kind) {
                let given = Constraint {
                    name: Some(name),
                    kind: constraint.kind,
                    is_not_valid: !constraint.is_valid,
                };
                self.add_part(child, parent, &given);
            }
        }
        if self.is_partition(child) {
            let of_parent = self
                .indexes
                .iter()
                .filter(|(_, index)| index.table == *parent);
            let of_parent: Vec<_> = of_parent
                .map(|(name, index)| (name.clone(), index.clone()))
                .collect();
            for (name, index) in of_parent {
                self.add_part_of_index(child, &name, &index);
            }
        }
    }

    /// Adds the constraint of a partition or child that its parent has by the name in it.
    pub(super) fn add_part(&mut self, child: &Name, parent: &Name, given: &Constraint) {
        match &given.kind {
            ConstraintKind::Unique { .. }
            | ConstraintKind::PrimaryKey { .. }
            | ConstraintKind::Exclude => {
                // PostgreSQL makes a name up, because an index has it too.
                let own = self.add_constraint(
                    child,
                    &Constraint {
                        name: None,
                        ..given.clone()
                    },
                );
                let index = own.and_then(|own| self.indexes.get_mut(&child.beside(own)));
                if let Some((index, name)) = index.zip(given.name.as_ref()) {
                    Arc::make_mut(index).part_of = Some(parent.beside(name.clone()));
                }
            }
            ConstraintKind::Check { .. }
            | ConstraintKind::ForeignKey { .. }
            | ConstraintKind::NotNull { .. } => {
                self.add_constraint(child, given);
            }
        }
    }

    /// Adds the index of a partition that is a part of one of its parent, unless it has one already.
    pub(super) fn add_part_of_index(&mut self, child: &Name, name: &Name, index: &Index) {
        let fits = |own: &Index| {
            own.table == *child
                && own.columns == index.columns
                && own.expression_columns == index.expression_columns
                && own.is_plain == index.is_plain
                && own.is_unique >= index.is_unique
                && own.part_of.as_ref().is_none_or(|whole| whole == name)
        };
        if let Some(own) = self.indexes.values_mut().find(|own| fits(own)) {
            Arc::make_mut(own).part_of = Some(name.clone());
            return;
        }
        let own = child.beside(index_name(&child.name, &index.columns, |name| {
            self.indexes.contains_key(&child.beside(name))
        }));
        let part = Index {
            table: child.clone(),
            part_of: Some(name.clone()),
            ..index.clone()
        };
        self.indexes.insert(own, Arc::new(part));
    }

    /// Whether a partition or child has a constraint because its parent has it by that name.
    pub(super) fn shares(&self, child: &Name, parent: &Name, constraint: &str) -> bool {
        let kind = |table| {
            let table: Option<&Arc<Table>> = self.tables.get(table);
            let constraint = table.and_then(|table| table.constraints.get(constraint));
            constraint.map(|constraint| &constraint.kind)
        };
        kind(parent).is_some_and(|of_parent| {
            kind(child) == Some(of_parent) && self.goes_on(child, of_parent)
        })
    }

    pub(super) fn is_partition(&self, table: &Name) -> bool {
        let table = self.tables.get(table);
        table.is_some_and(|table| table.partition_of.is_some())
    }

    /// Whether a table has a constraint because its parent has it: children share checks alone.
    pub(super) fn goes_on(&self, child: &Name, kind: &ConstraintKind) -> bool {
        match kind {
            ConstraintKind::Check { .. } | ConstraintKind::NotNull { .. } => true,
            ConstraintKind::Unique { .. }
            | ConstraintKind::PrimaryKey { .. }
            | ConstraintKind::Exclude
            | ConstraintKind::ForeignKey { .. } => self.is_partition(child),
        }
    }
}

/// Whether what an action changes in the catalog is changed in partitions and children too. New columns and
/// constraints go their own way.
pub(super) fn is_shared(action: &AlterTableAction) -> bool {
    match action {
        AlterTableAction::DropColumn { .. }
        | AlterTableAction::SetType { .. }
        | AlterTableAction::SetNotNull { .. }
        | AlterTableAction::DropNotNull { .. }
        | AlterTableAction::SetDefault { .. }
        | AlterTableAction::DropDefault { .. }
        | AlterTableAction::DropExpression { .. }
        | AlterTableAction::RenameColumn { .. }
        | AlterTableAction::ValidateConstraint { .. }
        | AlterTableAction::DropConstraint { .. }
        | AlterTableAction::RenameConstraint { .. } => true,
        AlterTableAction::AddColumn { .. }
        | AlterTableAction::SetExpression { .. }
        | AlterTableAction::Identity { .. }
        | AlterTableAction::ColumnStatistics
        | AlterTableAction::ColumnStorage
        | AlterTableAction::AddConstraint(_)
        | AlterTableAction::AlterConstraint { .. }
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
        | AlterTableAction::Unknown(_) => false,
    }
}

/// The constraint of the table that an action is about.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "no other names a constraint that is there"
)]
pub(super) fn constraint_of(action: &AlterTableAction) -> Option<&str> {
    match action {
        AlterTableAction::ValidateConstraint { name }
        | AlterTableAction::DropConstraint { name, .. }
        | AlterTableAction::RenameConstraint { from: name, .. } => Some(name),
        _ => None,
    }
}
