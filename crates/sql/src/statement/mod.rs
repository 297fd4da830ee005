//! Statements as plain data: what this crate's readers need to know of each, and nothing of how it was
//! written.

mod table;

use std::ops::Range;

use crate::{DataType, LockMode, Name};

pub use table::{
    AlterTable, AlterTableAction, Column, ColumnSource, Constraint, ConstraintKind, CreateTable,
    StorageParameter, Using,
};

/// One statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Statement {
    /// `CREATE TABLE`
    CreateTable(CreateTable),
    /// `CREATE TABLE … AS`, `SELECT … INTO`
    CreateTableAs(CreateTableAs),
    /// `ALTER TABLE`, and `ALTER` of views and foreign tables in its words
    AlterTable(AlterTable),
    /// `DROP TABLE`
    DropTable(DropRelations),
    /// `CREATE INDEX`
    CreateIndex(CreateIndex),
    /// `DROP INDEX`
    DropIndex(DropIndex),
    /// `ALTER INDEX`
    AlterIndex(AlterIndex),
    /// `REINDEX`
    Reindex(Reindex),
    /// `CREATE VIEW`, `CREATE MATERIALIZED VIEW`
    CreateView(CreateView),
    /// `DROP VIEW`, `DROP MATERIALIZED VIEW`
    DropView(DropRelations),
    /// `REFRESH MATERIALIZED VIEW`
    RefreshMaterializedView(RefreshMaterializedView),
    /// Triggers, rules, policies and statistics of a table
    OnTable(OnTable),
    /// `CREATE TYPE`
    CreateType(CreateType),
    /// `ALTER TYPE`
    AlterType(AlterType),
    /// `DROP TYPE`, `DROP DOMAIN`
    DropType(DropRelations),
    /// `CREATE DOMAIN`
    CreateDomain(CreateDomain),
    /// `ALTER DOMAIN`
    AlterDomain(AlterDomain),
    /// `TRUNCATE`
    Truncate(Truncate),
    /// `LOCK TABLE`
    Lock(Lock),
    /// `CLUSTER`, `VACUUM`, `ANALYZE`
    Maintain(Maintain),
    /// `INSERT`, `UPDATE`, `DELETE`, `MERGE`, `COPY … FROM`
    Change(Change),
    /// `SELECT`, `VALUES`, `CALL`, `EXPLAIN` and other reading
    Query(Query),
    /// `DO`
    Do(DoBlock),
    /// `SET`
    Set(SetParameter),
    /// `RESET`; `None` is all
    Reset(Option<String>),
    /// `DISCARD ALL`: the session as it began
    DiscardAll,
    /// `BEGIN`, `COMMIT` and the like
    Transaction(TransactionCommand),
    /// A statement about an object that is no table, or one that locks none
    Plain(Plain),
    /// Not understood, so nothing is known about it
    Unknown(Unknown),
}

/// `CREATE TABLE … AS`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateTableAs {
    /// The new table.
    pub table: Name,
    /// Whether it vanishes with the session.
    pub is_temporary: bool,
    /// What fills it: a [`Statement::Query`] or, where a `WITH` clause of it changes rows, a
    /// [`Statement::Change`].
    pub query: Box<Statement>,
}

/// `DROP` of tables, views or types.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DropRelations {
    /// What is dropped.
    pub names: Vec<Name>,
    /// `CASCADE`
    pub cascades: bool,
    /// What sort of object, in PostgreSQL's words: `TABLE`, `MATERIALIZED VIEW`.
    pub kind: &'static str,
}

/// `CREATE INDEX`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateIndex {
    /// Its name; PostgreSQL makes one up where none is given.
    pub name: Option<Name>,
    /// The table.
    pub table: Name,
    /// Plain columns of it.
    pub columns: Vec<String>,
    /// Columns that expressions and the `WHERE` name.
    pub expression_columns: Vec<String>,
    /// Whether it is made of plain columns alone, without a `WHERE`.
    pub is_plain: bool,
    /// `UNIQUE`
    pub is_unique: bool,
    /// `CONCURRENTLY`
    pub is_concurrent: bool,
    /// `ONLY`: not on the partitions
    pub is_only: bool,
    /// `IF NOT EXISTS`
    pub if_not_exists: bool,
}

/// `DROP INDEX`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DropIndex {
    /// The indexes.
    pub names: Vec<Name>,
    /// `CONCURRENTLY`
    pub is_concurrent: bool,
    /// `IF EXISTS`
    pub if_exists: bool,
}

/// `ALTER INDEX`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlterIndex {
    /// The index.
    pub name: Name,
    /// What is done.
    pub action: AlterIndexAction,
}

/// What `ALTER INDEX` does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AlterIndexAction {
    /// `RENAME TO`
    Rename(String),
    /// `ATTACH PARTITION`
    Attach(Name),
    /// `SET TABLESPACE`
    SetTablespace,
    /// Storage parameters, statistics, dependencies
    Other,
}

/// `REINDEX`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reindex {
    /// What is built again.
    pub target: ReindexTarget,
    /// `CONCURRENTLY`
    pub is_concurrent: bool,
}

/// What `REINDEX` builds again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReindexTarget {
    /// One index
    Index(Name),
    /// All indexes of a table
    Table(Name),
    /// A schema, the database, or the system's catalogs
    Everything,
}

/// `CREATE VIEW` and `CREATE MATERIALIZED VIEW`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateView {
    /// The view.
    pub name: Name,
    /// `OR REPLACE`
    pub replaces: bool,
    /// `MATERIALIZED`
    pub is_materialized: bool,
    /// What is run to fill it, as for a table; `None` for a view that keeps no rows.
    pub query: Option<Box<Statement>>,
}

/// `REFRESH MATERIALIZED VIEW`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefreshMaterializedView {
    /// The view.
    pub name: Name,
    /// `CONCURRENTLY`
    pub is_concurrent: bool,
}

/// A statement about something that belongs to a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnTable {
    /// The table.
    pub table: Name,
    /// What is done.
    pub kind: OnTableKind,
}

/// What is done to something that belongs to a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnTableKind {
    /// `CREATE TRIGGER`
    CreateTrigger {
        /// `FOR EACH ROW`
        for_each_row: bool,
    },
    /// `DROP TRIGGER`
    DropTrigger,
    /// `ALTER TRIGGER`
    AlterTrigger,
    /// `CREATE RULE`
    CreateRule,
    /// `DROP RULE`, `ALTER RULE`
    ChangeRule,
    /// `CREATE POLICY`, `ALTER POLICY`, `DROP POLICY`
    Policy,
    /// `CREATE STATISTICS`
    CreateStatistics,
    /// `COMMENT ON TABLE`, `VIEW`, `COLUMN`
    Comment,
    /// `COMMENT ON CONSTRAINT`, `TRIGGER`, `RULE`, `POLICY`
    CommentOnPart,
}

/// `CREATE TYPE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateType {
    /// The type.
    pub name: Name,
    /// Whether it is an enum.
    pub is_enum: bool,
}

/// `ALTER TYPE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlterType {
    /// The type.
    pub name: Name,
    /// What is done.
    pub action: AlterTypeAction,
}

/// What `ALTER TYPE` does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AlterTypeAction {
    /// `ADD VALUE`
    AddValue {
        /// The new label.
        value: String,
        /// `BEFORE` or `AFTER` an old one.
        has_position: bool,
    },
    /// `RENAME VALUE`
    RenameValue,
    /// `RENAME TO`
    Rename(String),
    /// `ADD ATTRIBUTE`, `DROP ATTRIBUTE`, `ALTER ATTRIBUTE`, `RENAME ATTRIBUTE`
    Attributes,
    /// Owner, schema, options
    Other,
}

/// `CREATE DOMAIN`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateDomain {
    /// The domain.
    pub name: Name,
    /// What it is made of.
    pub base: DataType,
    /// Whether values are checked.
    pub has_constraints: bool,
}

/// `ALTER DOMAIN`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlterDomain {
    /// The domain.
    pub name: Name,
    /// What is done.
    pub action: AlterDomainAction,
}

/// What `ALTER DOMAIN` does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlterDomainAction {
    /// A constraint that every row of every table with the domain is checked against
    Check,
    /// `ADD CONSTRAINT … NOT VALID`
    CheckLater,
    /// Takes a limit away, renames, and the like
    Other,
}

/// A table that a statement is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The table.
    pub table: Name,
    /// `ONLY`: not its partitions and children.
    pub is_only: bool,
}

/// `TRUNCATE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Truncate {
    /// The tables.
    pub tables: Vec<Target>,
    /// `CASCADE`
    pub cascades: bool,
}

/// `LOCK TABLE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lock {
    /// The tables.
    pub tables: Vec<Target>,
    /// The mode; ACCESS EXCLUSIVE where none is written.
    pub mode: LockMode,
}

/// `CLUSTER`, `VACUUM` and `ANALYZE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Maintain {
    /// Which of them.
    pub kind: MaintainKind,
    /// The tables; none means all.
    pub tables: Vec<Name>,
}

/// Which sort of maintenance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MaintainKind {
    /// `CLUSTER`
    Cluster,
    /// `VACUUM FULL`
    VacuumFull,
    /// `VACUUM`
    Vacuum,
    /// `ANALYZE`
    Analyze,
}

/// A statement that changes rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Which statement.
    pub verb: ChangeVerb,
    /// The table.
    pub table: Name,
    /// How many rows it can reach.
    pub reach: Reach,
    /// Functions that are not PostgreSQL's own: what they do is not known.
    pub calls: Vec<String>,
    /// What the `WITH` clauses of the statement change besides.
    pub also: Vec<Change>,
}

/// Statements that change rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeVerb {
    /// `INSERT`
    Insert,
    /// `UPDATE`
    Update,
    /// `DELETE`
    Delete,
    /// `MERGE`
    Merge,
    /// `COPY … FROM`
    Copy,
}

/// How many rows a change can reach, as far as its text says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// A number that its text limits: values written out, a query with a `LIMIT`.
    Limited,
    /// Rows in which each of these columns has one of a limited number of values, or one of a range: few
    /// where the columns are a key.
    Few(Vec<String>),
    /// No limit that its text shows.
    Unlimited,
    /// All rows: no `WHERE` at all.
    Everything,
}

/// A statement that reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// Functions that are not PostgreSQL's own: what they do is not known.
    pub calls: Vec<String>,
    /// `FOR UPDATE` and its kin.
    pub locks_rows: bool,
}

/// `DO`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DoBlock {
    /// The statements of SQL in it, in the order of the text; which of them run is not known.
    pub statements: Vec<BodyStatement>,
    /// Whether it has a `COMMIT` or `ROLLBACK` of its own, which a transaction around it forbids.
    pub commits: bool,
    /// Places where what runs is only known at run time, or where the body was not understood.
    pub unknown: Vec<Unknown>,
}

/// A statement inside of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BodyStatement {
    /// Its bytes, from the start of the script; for the statements of an `EXECUTE`, those of the `EXECUTE`.
    pub span: Range<usize>,
    /// What it is.
    pub statement: Statement,
}

/// `SET`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetParameter {
    /// Name of the parameter.
    pub name: String,
    /// Its value as text, quotes taken off; `None` for `DEFAULT`.
    pub value: Option<String>,
    /// `LOCAL`: until the transaction ends.
    pub is_local: bool,
}

/// Commands that begin and end transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransactionCommand {
    /// `BEGIN`, `START TRANSACTION`
    Begin,
    /// `COMMIT`, `END`
    Commit,
    /// `ROLLBACK`
    Rollback,
    /// `SAVEPOINT`, `RELEASE`
    Savepoint,
    /// `ROLLBACK TO SAVEPOINT`
    RollbackToSavepoint,
    /// `PREPARE TRANSACTION`
    Prepare,
    /// `SET TRANSACTION`, `SET CONSTRAINTS`
    Characteristics,
}

/// A statement that locks no table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plain {
    /// Its first words, such as `CREATE FUNCTION`.
    pub command: &'static str,
    /// What it does to a version that runs already.
    pub bearing: Bearing,
    /// Whether PostgreSQL refuses it inside of a transaction block.
    pub needs_no_block: bool,
}

/// What a statement does to a version that runs already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bearing {
    /// Adds something that it does not know yet.
    Adds,
    /// May take away what it uses.
    TakesAway,
    /// Neither.
    Neutral,
}

/// Why nothing is known about a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unknown {
    /// The reason, as a clause.
    pub reason: String,
    /// Where, in bytes from the start of the script.
    pub offset: usize,
}

impl Statement {
    /// Every change of rows in the statement, those in `WITH` clauses included.
    pub fn changes(&self) -> impl Iterator<Item = &Change> {
        let outer = if let Self::Change(change) = self.filler().unwrap_or(self) {
            Some(change)
        } else {
            None
        };
        outer
            .into_iter()
            .flat_map(|change| std::iter::once(change).chain(&change.also))
    }

    /// What is run to fill the table or the view that the statement makes.
    #[must_use]
    pub fn filler(&self) -> Option<&Self> {
        if let Self::CreateTableAs(create) = self {
            Some(&create.query)
        } else if let Self::CreateView(create) = self {
            create.query.as_deref()
        } else {
            None
        }
    }
}
