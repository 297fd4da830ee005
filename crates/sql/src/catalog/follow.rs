//! What goes along when something gets another name, or goes away: indexes, constraints and foreign keys,
//! partitions and children.

use std::sync::Arc;

use super::{Catalog, Index, Table};
use crate::statement::ConstraintKind;
use crate::{BaseType, Name};

impl Catalog {
    pub(super) fn on_table(&mut self, name: &Name, change: impl FnOnce(&mut Table)) {
        if let Some(table) = self.tables.get_mut(name) {
            change(Arc::make_mut(table));
        }
    }

    /// Changes the tables that are meant; the others stay shared with copies.
    fn on_tables(&mut self, is_meant: impl Fn(&Table) -> bool, change: impl Fn(&mut Table)) {
        for table in self.tables.values_mut() {
            if is_meant(table) {
                change(Arc::make_mut(table));
            }
        }
    }

    /// Changes the indexes that are meant; the others stay shared with copies.
    pub(super) fn on_indexes(
        &mut self,
        is_meant: impl Fn(&Index) -> bool,
        change: impl Fn(&mut Index),
    ) {
        for index in self.indexes.values_mut() {
            if is_meant(index) {
                change(Arc::make_mut(index));
            }
        }
    }

    /// Renames a table, or moves it into another schema: its indexes move along.
    pub(super) fn move_table(&mut self, from: &Name, to: &Name) {
        if let Some(table) = self.tables.remove(from) {
            self.tables.insert(to.clone(), table);
        }
        let of_table = self
            .indexes
            .iter()
            .filter(|(_, index)| index.table == *from);
        let indexes: Vec<Name> = of_table.map(|(name, _)| name.clone()).collect();
        for name in indexes {
            let moved = Name {
                schema: to.schema.clone(),
                name: name.name.clone(),
            };
            self.move_index_alone(&name, &moved);
            if let Some(index) = self.indexes.get_mut(&moved) {
                Arc::make_mut(index).table = to.clone();
            }
        }
        let rename = |name: &mut Name| {
            if name == from {
                name.clone_from(to);
            }
        };
        let names = |other: &Table| {
            other.partition_of.as_ref() == Some(from)
                || other.inherits.contains(from)
                || has_key_to(other, from)
        };
        self.on_tables(names, |other| {
            other.partition_of.iter_mut().for_each(rename);
            other.inherits.iter_mut().for_each(rename);
            for constraint in other.constraints.values_mut() {
                if let ConstraintKind::ForeignKey { references, .. } = &mut constraint.kind {
                    rename(references);
                }
            }
        });
    }

    /// Renames an index; the constraint that it belongs to has the same name.
    pub(super) fn rename_index(&mut self, name: &Name, to: &str) {
        let Some(index) = self.indexes.get(name) else {
            return;
        };
        let table = index.table.clone();
        self.move_index_alone(name, &name.beside(to));
        self.on_table(&table, |table| {
            let is_index = table
                .constraints
                .get(&name.name)
                .is_some_and(|constraint| has_index(&constraint.kind));
            if is_index && let Some(constraint) = table.constraints.remove(&name.name) {
                table.constraints.insert(to.to_owned(), constraint);
            }
        });
    }

    fn move_index_alone(&mut self, from: &Name, to: &Name) {
        let Some(index) = self.indexes.remove(from) else {
            return;
        };
        self.indexes.insert(to.clone(), index);
        self.on_indexes(
            |other| other.part_of.as_ref() == Some(from),
            |other| other.part_of = Some(to.clone()),
        );
    }

    /// Drops an index, those of partitions that are parts of it, and the constraints that they belong to.
    pub(super) fn drop_index(&mut self, name: &Name) {
        let mut open = vec![name.clone()];
        while let Some(name) = open.pop() {
            let Some(index) = self.indexes.remove(&name) else {
                continue;
            };
            self.on_table(&index.table, |table| {
                table
                    .constraints
                    .retain(|own, constraint| *own != name.name || !has_index(&constraint.kind));
            });
            let parts = self.indexes.iter();
            let parts = parts.filter(|(_, index)| index.part_of.as_ref() == Some(&name));
            open.extend(parts.map(|(name, _)| name.clone()));
        }
    }

    /// Drops a table, its partitions and children, and the foreign keys that reference any of them.
    pub(super) fn drop_table(&mut self, name: &Name) {
        let mut dropped = self.descendants(name);
        dropped.push(name.clone());
        for name in &dropped {
            self.tables.remove(name);
        }
        self.indexes
            .retain(|_, index| !dropped.contains(&index.table));
        let names = |other: &Table| {
            let mut dropped = dropped.iter();
            dropped.any(|dropped| other.inherits.contains(dropped) || has_key_to(other, dropped))
        };
        self.on_tables(names, |other| {
            other.inherits.retain(|parent| !dropped.contains(parent));
            other.constraints.retain(|_, constraint| {
                !matches!(&constraint.kind, ConstraintKind::ForeignKey { references, .. } if dropped.contains(references))
            });
        });
    }

    /// Drops a column with the indexes and constraints that it is in, and the foreign keys that reference it.
    pub(super) fn drop_column(&mut self, name: &Name, column: &str) {
        let names = |columns: &[String]| columns.iter().any(|other| other == column);
        for referencing in self.referencing_column(name, column) {
            let key = self.primary_key(name).to_vec();
            self.on_table(&referencing, |table| {
                table.constraints.retain(|_, constraint| {
                    !matches!(&constraint.kind, ConstraintKind::ForeignKey { references, referenced, .. }
                        if references == name
                            && names(if referenced.is_empty() { &key } else { referenced }))
                });
            });
        }
        let indexes = self.indexes.iter().filter(|(_, index)| {
            index.table == *name && (names(&index.columns) || names(&index.expression_columns))
        });
        let indexes: Vec<Name> = indexes.map(|(name, _)| name.clone()).collect();
        for index in indexes {
            self.drop_index(&index);
        }
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

    pub(super) fn rename_column(&mut self, name: &Name, from: &str, to: &str) {
        let rename = |columns: &mut Vec<String>| {
            for column in columns.iter_mut().filter(|column| *column == from) {
                to.clone_into(column);
            }
        };
        self.on_indexes(
            |index| index.table == *name,
            |index| {
                rename(&mut index.columns);
                rename(&mut index.expression_columns);
            },
        );
        self.on_tables(
            |other| has_key_to(other, name),
            |other| {
                for constraint in other.constraints.values_mut() {
                    if let ConstraintKind::ForeignKey {
                        references,
                        referenced,
                        ..
                    } = &mut constraint.kind
                        && references == name
                    {
                        rename(referenced);
                    }
                }
            },
        );
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
                    ConstraintKind::NotNull { column } if column == from => to.clone_into(column),
                    ConstraintKind::NotNull { .. } | ConstraintKind::Exclude => {}
                }
            }
        });
    }

    pub(super) fn rename_constraint(&mut self, name: &Name, from: &str, to: &str) {
        let has_own_index = self.has_own_index(name, from);
        if has_own_index {
            self.rename_index(&name.beside(from), to);
        }
        self.on_table(name, |table| {
            if let Some(constraint) = table.constraints.remove(from) {
                table.constraints.insert(to.to_owned(), constraint);
            }
        });
    }

    /// Drops a constraint; a key may take the foreign keys that reference it along.
    pub(super) fn drop_constraint(&mut self, name: &Name, dropped: &str, cascades: bool) {
        let table = self.tables.get(name);
        let kind = table.and_then(|table| table.constraints.get(dropped));
        let key = match kind.map(|constraint| &constraint.kind) {
            Some(
                ConstraintKind::Unique { columns, .. } | ConstraintKind::PrimaryKey { columns, .. },
            ) => Some(columns.clone()),
            Some(
                ConstraintKind::Check { .. }
                | ConstraintKind::Exclude
                | ConstraintKind::ForeignKey { .. }
                | ConstraintKind::NotNull { .. },
            )
            | None => None,
        };
        if let Some(key) = key.filter(|_| cascades) {
            let primary = self.primary_key(name).to_vec();
            self.on_tables(|other| has_key_to(other, name), |other| {
                other.constraints.retain(|_, constraint| {
                    !matches!(&constraint.kind, ConstraintKind::ForeignKey { references, referenced, .. }
                        if references == name
                            && key == *(if referenced.is_empty() { &primary } else { referenced }))
                });
            });
        }
        if self.has_own_index(name, dropped) {
            self.drop_index(&name.beside(dropped));
        }
        self.on_table(name, |table| {
            table.constraints.remove(dropped);
        });
    }

    /// Whether a constraint has an index of its name.
    fn has_own_index(&self, table: &Name, constraint: &str) -> bool {
        let table = self.tables.get(table);
        let constraint = table.and_then(|table| table.constraints.get(constraint));
        constraint.is_some_and(|constraint| has_index(&constraint.kind))
    }

    /// Renames a type, or moves it into another schema.
    pub(super) fn move_type(&mut self, from: &Name, to: &Name) {
        if let Some(user_type) = self.types.remove(from) {
            self.types.insert(to.clone(), user_type);
        }
        let schema = self.default_schema.as_deref().unwrap_or("public");
        let schema = schema.to_owned();
        let rename = |base: &mut BaseType| {
            if let BaseType::Named(other) = base
                && other.or_in(&schema) == *from
            {
                other.clone_from(to);
            }
        };
        let is_named = |base: &BaseType| matches!(base, BaseType::Named(other) if other.or_in(&schema) == *from);
        let has_column = |table: &Table| {
            let mut columns = table.columns.values();
            columns.any(|column| is_named(&column.data_type.base))
        };
        self.on_tables(has_column, |table| {
            for column in table.columns.values_mut() {
                rename(&mut column.data_type.base);
            }
        });
        for user_type in self.types.values_mut() {
            if let super::UserType::Domain { base, .. } = user_type {
                rename(&mut base.base);
            }
        }
    }

    /// Drops a type, and with `CASCADE` the columns of it.
    pub(super) fn drop_type(&mut self, name: &Name, cascades: bool) {
        if cascades {
            let mut columns = Vec::new();
            for (table, known) in &self.tables {
                for (column, known) in &known.columns {
                    if matches!(&known.data_type.base, BaseType::Named(base) if self.resolve(base) == *name)
                    {
                        columns.push((table.clone(), column.clone()));
                    }
                }
            }
            for (table, column) in columns {
                self.drop_column(&table, &column);
            }
        }
        self.types.remove(name);
    }
}

/// Whether a table has a foreign key that references another.
fn has_key_to(table: &Table, other: &Name) -> bool {
    let mut constraints = table.constraints.values();
    constraints.any(|constraint| {
        matches!(&constraint.kind, ConstraintKind::ForeignKey { references, .. } if references == other)
    })
}

/// Whether a constraint of this kind is kept by an index of its name.
fn has_index(kind: &ConstraintKind) -> bool {
    match kind {
        ConstraintKind::Unique { .. }
        | ConstraintKind::PrimaryKey { .. }
        | ConstraintKind::Exclude => true,
        ConstraintKind::Check { .. }
        | ConstraintKind::ForeignKey { .. }
        | ConstraintKind::NotNull { .. } => false,
    }
}
