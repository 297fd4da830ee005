//! `CREATE TABLE` and `ALTER TABLE`.

use crate::{DataType, Expression, Name};

/// `CREATE TABLE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateTable {
    /// The new table.
    pub table: Name,
    /// Its own columns, with the constraints written at them.
    pub columns: Vec<Column>,
    /// The constraints of the table.
    pub constraints: Vec<Constraint>,
    /// `PARTITION OF`
    pub partition_of: Option<Name>,
    /// `INHERITS`
    pub inherits: Vec<Name>,
    /// `LIKE`: its columns come from elsewhere too
    pub like: Vec<Name>,
    /// `PARTITION OF … DEFAULT`
    pub is_default_partition: bool,
    /// `PARTITION BY`
    pub is_partitioned: bool,
    /// Whether it vanishes with the session.
    pub is_temporary: bool,
    /// `IF NOT EXISTS`
    pub if_not_exists: bool,
}

/// A column as it is declared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type.
    pub data_type: DataType,
    /// `NOT NULL`, or part of a primary key written at it.
    pub is_not_null: bool,
    /// Where its values come from when a row gives none.
    pub source: ColumnSource,
    /// Other constraints written at it.
    pub constraints: Vec<Constraint>,
}

/// Where the values of a column come from when a row gives none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ColumnSource {
    /// Null
    Nothing,
    /// `DEFAULT`
    Default(Expression),
    /// `GENERATED … AS IDENTITY`
    Identity,
    /// `GENERATED ALWAYS AS (…) STORED`
    Stored,
    /// `GENERATED ALWAYS AS (…) VIRTUAL`
    Virtual,
}

/// A constraint of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Constraint {
    /// Its name; PostgreSQL makes one up where none is given.
    pub name: Option<String>,
    /// What it demands.
    pub kind: ConstraintKind,
    /// `NOT VALID`: not checked against the rows that are there.
    pub is_not_valid: bool,
}

/// What a constraint demands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConstraintKind {
    /// `CHECK`
    Check {
        /// Columns that the expression names.
        columns: Vec<String>,
        /// Columns that cannot be null where it holds.
        not_null: Vec<String>,
    },
    /// `UNIQUE`
    Unique {
        /// Its columns.
        columns: Vec<String>,
        /// `USING INDEX`
        using_index: Option<Name>,
    },
    /// `PRIMARY KEY`
    PrimaryKey {
        /// Its columns.
        columns: Vec<String>,
        /// `USING INDEX`
        using_index: Option<Name>,
    },
    /// `EXCLUDE`
    Exclude,
    /// `FOREIGN KEY`, `REFERENCES`
    ForeignKey {
        /// Its columns.
        columns: Vec<String>,
        /// The referenced table.
        references: Name,
        /// Its columns; none where it is the primary key.
        referenced: Vec<String>,
    },
    /// `NOT NULL` as a constraint of the table (18+)
    NotNull {
        /// The column.
        column: String,
    },
}

/// `ALTER TABLE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlterTable {
    /// The table.
    pub table: Name,
    /// `ONLY`: not its partitions and children.
    pub is_only: bool,
    /// Everything that is done, in order.
    pub actions: Vec<AlterTableAction>,
}

/// How values are converted when a column changes its type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Using {
    /// By the cast: no `USING`, or one that is the cast.
    Cast,
    /// By an expression of their own.
    Expression,
}

/// One storage parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorageParameter(pub String);

/// One thing that `ALTER TABLE` does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AlterTableAction {
    /// `ADD COLUMN`
    AddColumn {
        /// The column.
        column: Box<Column>,
        /// `IF NOT EXISTS`
        if_not_exists: bool,
    },
    /// `DROP COLUMN`
    DropColumn {
        /// The column.
        column: String,
        /// `CASCADE`
        cascades: bool,
    },
    /// `ALTER COLUMN … TYPE`
    SetType {
        /// The column.
        column: String,
        /// Its new type.
        data_type: DataType,
        /// How values are converted.
        using: Using,
        /// `COLLATE`
        has_collation: bool,
    },
    /// `ALTER COLUMN … SET NOT NULL`
    SetNotNull {
        /// The column.
        column: String,
    },
    /// `ALTER COLUMN … DROP NOT NULL`
    DropNotNull {
        /// The column.
        column: String,
    },
    /// `ALTER COLUMN … SET DEFAULT`
    SetDefault {
        /// The column.
        column: String,
    },
    /// `ALTER COLUMN … DROP DEFAULT`
    DropDefault {
        /// The column.
        column: String,
    },
    /// `ALTER COLUMN … SET EXPRESSION` (17+)
    SetExpression {
        /// The column.
        column: String,
    },
    /// `ALTER COLUMN … DROP EXPRESSION`
    DropExpression {
        /// The column.
        column: String,
    },
    /// `ALTER COLUMN … ADD GENERATED … AS IDENTITY`, its change and its end
    Identity {
        /// The column.
        column: String,
    },
    /// `ALTER COLUMN … SET STATISTICS`, `SET (…)`, `RESET (…)`
    ColumnStatistics,
    /// `ALTER COLUMN … SET STORAGE`, `SET COMPRESSION`
    ColumnStorage,
    /// `ADD CONSTRAINT`
    AddConstraint(Constraint),
    /// `VALIDATE CONSTRAINT`
    ValidateConstraint {
        /// The constraint.
        name: String,
    },
    /// `DROP CONSTRAINT`
    DropConstraint {
        /// The constraint.
        name: String,
        /// `CASCADE`
        cascades: bool,
    },
    /// `ALTER CONSTRAINT`
    AlterConstraint {
        /// The constraint.
        name: String,
    },
    /// `RENAME COLUMN`
    RenameColumn {
        /// The old name.
        from: String,
        /// The new name.
        to: String,
    },
    /// `RENAME CONSTRAINT`
    RenameConstraint {
        /// The old name.
        from: String,
        /// The new name.
        to: String,
    },
    /// `RENAME TO`
    Rename {
        /// The new name.
        to: String,
    },
    /// `SET SCHEMA`
    SetSchema {
        /// The new schema.
        schema: String,
    },
    /// `ATTACH PARTITION`
    AttachPartition {
        /// The table that becomes one.
        child: Name,
        /// `DEFAULT`
        is_default: bool,
    },
    /// `DETACH PARTITION`
    DetachPartition {
        /// The partition.
        child: Name,
        /// `CONCURRENTLY` (14+)
        is_concurrent: bool,
        /// `FINALIZE`
        is_finalize: bool,
    },
    /// `INHERIT`, `NO INHERIT`
    Inherit {
        /// The parent.
        parent: Name,
        /// `NO INHERIT`
        ends: bool,
    },
    /// `SET (…)`, `RESET (…)`
    Storage {
        /// Their names.
        parameters: Vec<StorageParameter>,
    },
    /// `CLUSTER ON`, `SET WITHOUT CLUSTER`
    ClusterOn,
    /// `ENABLE TRIGGER`, `DISABLE TRIGGER` and their kin
    Trigger {
        /// Whether statements of ordinary sessions start it no more.
        is_off: bool,
    },
    /// `ENABLE RULE`, `DISABLE RULE` and their kin
    Rule,
    /// `ENABLE ROW LEVEL SECURITY` and its kin
    RowSecurity,
    /// `REPLICA IDENTITY`
    ReplicaIdentity,
    /// `OWNER TO`
    Owner,
    /// `DEPENDS ON EXTENSION`
    DependsOnExtension,
    /// `OF`, `NOT OF`
    OfType,
    /// `SET LOGGED`, `SET UNLOGGED`
    SetLogged,
    /// `SET TABLESPACE`
    SetTablespace,
    /// `SET ACCESS METHOD` (15+)
    SetAccessMethod,
    /// `SET WITHOUT OIDS`, which does nothing since 12
    WithoutOids,
    /// What is not understood
    Unknown(String),
}
