//! What the statements so far have made: tables, their columns and constraints, indexes, types.
//!
//! Filled by replaying scripts, or by whoever asks a server. It knows no more than it was told, so
//! everything that it does not have is unknown, not absent.

mod apply;
mod children;
mod constraint_name;
mod follow;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::name::Parts;
use crate::statement::ConstraintKind;
use crate::{BaseType, DataType, Name};

/// Relations and types by their names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Catalog {
    // Shared between copies until one changes them: a body is looked at in a copy of its own.
    tables: BTreeMap<Name, Arc<Table>>,
    indexes: BTreeMap<Name, Arc<Index>>,
    types: BTreeMap<Name, UserType>,
    /// First schema of `search_path`; `public` where nothing was set.
    default_schema: Option<String>,
    /// What it is once the transaction has ended: `SET LOCAL` is over by then.
    session_schema: Option<String>,
    /// Whether any table was ever a partition or a child of another.
    has_children: bool,
    /// Counts migrations, so that what the current one made is told from what was there.
    generation: usize,
}

/// A table, a partition, or a materialized view.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table {
    /// Its columns.
    pub columns: BTreeMap<String, KnownColumn>,
    /// Its constraints by name.
    pub constraints: BTreeMap<String, KnownConstraint>,
    /// The table that it is a partition of.
    pub partition_of: Option<Name>,
    /// The tables that it inherits from.
    pub inherits: Vec<Name>,
    /// Whether it is the partition for rows that belong to no other.
    pub is_default_partition: bool,
    /// Whether it has triggers for each row, which its partitions share.
    pub has_row_triggers: bool,
    /// Whether it has partitions instead of rows.
    pub is_partitioned: bool,
    /// Whether it is a materialized view.
    pub is_materialized_view: bool,
    /// Whether it vanishes with the session.
    pub is_temporary: bool,
    generation: usize,
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownColumn {
    /// Its type.
    pub data_type: DataType,
    /// `NOT NULL`
    pub is_not_null: bool,
    /// Whether a row that gives no value gets one: a default, an identity, a generated value.
    pub has_value: bool,
}

/// A constraint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownConstraint {
    /// What it demands.
    pub kind: ConstraintKind,
    /// Whether every row was checked.
    pub is_valid: bool,
}

/// An index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    /// Its table.
    pub table: Name,
    /// Its plain columns.
    pub columns: Vec<String>,
    /// The index of the parent that it is a part of, where its table is a partition.
    pub part_of: Option<Name>,
    /// Columns that its expressions and its condition name.
    pub expression_columns: Vec<String>,
    /// Whether it is made of plain columns alone, and has all rows in it.
    pub is_plain: bool,
    /// `UNIQUE`
    pub is_unique: bool,
}

/// A type of a user's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UserType {
    /// An enum
    Enum,
    /// A composite, a range, a base type
    Other,
    /// A domain
    Domain {
        /// What it is made of.
        base: DataType,
        /// Whether values are checked.
        has_constraints: bool,
    },
}

impl Catalog {
    /// Begins the next migration: what is there is old from now on.
    pub fn begin_migration(&mut self) {
        self.generation += 1;
        // A session's own settings end with it.
        self.set_session_schema(None);
    }

    fn set_session_schema(&mut self, schema: Option<String>) {
        self.session_schema.clone_from(&schema);
        self.default_schema = schema;
    }

    /// Adds or replaces a table that was there before the current migration.
    pub fn add_table(&mut self, name: &Name, table: Table) {
        self.has_children |= table.partition_of.is_some() || !table.inherits.is_empty();
        let table = Table {
            generation: 0,
            ..table
        };
        self.tables.insert(self.resolve(name), Arc::new(table));
    }

    /// Adds or replaces an index.
    pub fn add_index(&mut self, name: &Name, index: Index) {
        self.indexes.insert(self.resolve(name), Arc::new(index));
    }

    /// Adds or replaces a type.
    pub fn add_type(&mut self, name: &Name, user_type: UserType) {
        let name = self.resolve(name);
        self.types.insert(name, user_type);
    }

    /// The name with its schema.
    #[must_use]
    pub fn resolve(&self, name: &Name) -> Name {
        name.or_in(self.default_schema.as_deref().unwrap_or("public"))
    }

    /// The parts of a name with its schema.
    fn whole<'a>(&'a self, name: &'a Name) -> (&'a str, &'a str) {
        let schema = name.schema.as_deref().or(self.default_schema.as_deref());
        (schema.unwrap_or("public"), &name.name)
    }

    /// Whether two names mean the same, where they have no schema in the first of `search_path`.
    pub(crate) fn is_same(&self, one: &Name, other: &Name) -> bool {
        self.whole(one) == self.whole(other)
    }

    /// A table, where it is known.
    #[must_use]
    pub fn table(&self, name: &Name) -> Option<&Table> {
        let name: &dyn Parts = &self.whole(name);
        self.tables.get(name).map(Arc::as_ref)
    }

    /// A column, where it is known.
    #[must_use]
    pub fn column(&self, table: &Name, column: &str) -> Option<&KnownColumn> {
        self.table(table)?.columns.get(column)
    }

    /// An index, where it is known.
    #[must_use]
    pub fn index(&self, name: &Name) -> Option<&Index> {
        let name: &dyn Parts = &self.whole(name);
        self.indexes.get(name).map(Arc::as_ref)
    }

    /// Indexes of a table, those of its constraints included.
    pub fn indexes_of<'a>(&'a self, table: &'a Name) -> impl Iterator<Item = &'a Index> {
        let indexes = self.indexes.values().map(Arc::as_ref);
        indexes.filter(move |index| self.is_same(&index.table, table))
    }

    /// Whether the current migration made a table, or it is a temporary one: nobody waits for it.
    #[must_use]
    pub fn is_new(&self, table: &Name) -> bool {
        self.table(table)
            .is_some_and(|table| table.generation == self.generation || table.is_temporary)
    }

    /// The partitions and children of a table, and theirs.
    #[must_use]
    pub fn descendants(&self, table: &Name) -> Vec<Name> {
        let mut found = Vec::new();
        // Most schemas have no partitions at all, and this is asked of every statement.
        if !self.has_children {
            return found;
        }
        let mut open = vec![self.resolve(table)];
        while let Some(parent) = open.pop() {
            for (name, child) in &self.tables {
                let is_child = child.partition_of.as_ref() == Some(&parent)
                    || child.inherits.contains(&parent);
                if is_child && !found.contains(name) {
                    found.push(name.clone());
                    open.push(name.clone());
                }
            }
        }
        found
    }

    /// The tables whose foreign keys reference a column of a table.
    #[must_use]
    pub fn referencing_column(&self, table: &Name, column: &str) -> BTreeSet<Name> {
        let own = self.resolve(table);
        let primary_key = self.primary_key(table);
        let is_meant = |referenced: &[String]| {
            let referenced = if referenced.is_empty() {
                primary_key
            } else {
                referenced
            };
            referenced.iter().any(|other| other == column)
        };
        let references = |other: &Table| {
            other.constraints.values().any(|constraint| {
                matches!(&constraint.kind, ConstraintKind::ForeignKey { references, referenced, .. }
                    if *references == own && is_meant(referenced))
            })
        };
        let tables = self.tables.iter();
        tables
            .filter(|(name, other)| **name != own && references(other))
            .map(|(name, _)| name.clone())
            .collect()
    }

    fn primary_key(&self, table: &Name) -> &[String] {
        let constraints = self.table(table).into_iter();
        let mut constraints = constraints.flat_map(|table| table.constraints.values());
        constraints
            .find_map(|constraint| match &constraint.kind {
                ConstraintKind::PrimaryKey { columns, .. } => Some(columns.as_slice()),
                ConstraintKind::Check { .. }
                | ConstraintKind::Unique { .. }
                | ConstraintKind::Exclude
                | ConstraintKind::ForeignKey { .. }
                | ConstraintKind::NotNull { .. } => None,
            })
            .unwrap_or_default()
    }

    /// The partition of a table for rows that belong to no other.
    #[must_use]
    pub fn default_partition(&self, table: &Name) -> Option<Name> {
        let table = self.resolve(table);
        let mut tables = self.tables.iter();
        tables
            .find(|(_, other)| {
                other.is_default_partition && other.partition_of.as_ref() == Some(&table)
            })
            .map(|(name, _)| name.clone())
    }

    /// The tables whose foreign keys reference a table.
    #[must_use]
    pub fn referencing(&self, table: &Name) -> BTreeSet<Name> {
        let table = self.resolve(table);
        let references = |other: &Table| {
            other.constraints.values().any(|constraint| {
                matches!(&constraint.kind, ConstraintKind::ForeignKey { references, .. } if *references == table)
            })
        };
        let tables = self.tables.iter();
        tables
            .filter(|(name, other)| **name != table && references(other))
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// The tables that the foreign keys of a table reference.
    #[must_use]
    pub fn referenced_by(&self, table: &Name) -> BTreeSet<Name> {
        let own = self.resolve(table);
        let constraints = self.table(table).into_iter();
        let constraints = constraints.flat_map(|table| table.constraints.values());
        constraints
            .filter_map(|constraint| match &constraint.kind {
                ConstraintKind::ForeignKey { references, .. } => Some(references.clone()),
                ConstraintKind::Check { .. }
                | ConstraintKind::Unique { .. }
                | ConstraintKind::PrimaryKey { .. }
                | ConstraintKind::Exclude
                | ConstraintKind::NotNull { .. } => None,
            })
            .filter(|references| *references != own)
            .collect()
    }

    /// The tables that the foreign keys of a table reference, those that it has by its parent left out.
    pub(crate) fn referenced_by_itself(&self, table: &Name) -> BTreeSet<Name> {
        let own = self.resolve(table);
        let mut referenced = BTreeSet::new();
        if let Some(table) = self.tables.get(&own) {
            for (name, constraint) in &table.constraints {
                let parent = table.partition_of.as_ref();
                if let ConstraintKind::ForeignKey { references, .. } = &constraint.kind
                    && *references != own
                    && !parent.is_some_and(|parent| self.shares(&own, parent, name))
                {
                    referenced.insert(references.clone());
                }
            }
        }
        referenced
    }

    /// Tables that have a column of a type.
    pub fn tables_with(&self, user_type: &Name) -> impl Iterator<Item = &Name> {
        let user_type = self.resolve(user_type);
        let tables = self.tables.iter();
        tables
            .filter(move |(_, table)| {
                table.columns.values().any(|column| {
                    matches!(&column.data_type.base, BaseType::Named(name) if self.resolve(name) == user_type)
                })
            })
            .map(|(name, _)| name)
    }

    /// A type of a user's own, where it is known.
    #[must_use]
    pub fn user_type(&self, name: &Name) -> Option<&UserType> {
        let name: &dyn Parts = &self.whole(name);
        self.types.get(name)
    }

    /// Whether a constraint that every row was checked against keeps a column from being null.
    #[must_use]
    pub fn is_proved_not_null(&self, table: &Name, column: &str) -> bool {
        self.table(table).is_some_and(|table| {
            table.constraints.values().any(|constraint| {
                constraint.is_valid
                    && matches!(&constraint.kind, ConstraintKind::Check { not_null, .. } if not_null.iter().any(|name| name == column))
            })
        })
    }

    /// Whether columns are a key, or hold one: one value of each is one row.
    #[must_use]
    pub fn is_key(&self, table: &Name, columns: &[String]) -> bool {
        // Where a row lies is a column of every table.
        let is_place = columns.iter().any(|column| column == "ctid");
        is_place
            || self.indexes_of(table).any(|index| {
                index.is_unique
                    && index.is_plain
                    && index.columns.iter().all(|column| columns.contains(column))
                    && !index.columns.is_empty()
            })
    }
}
