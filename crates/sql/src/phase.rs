//! Which phase of an expand-and-contract change a statement belongs to.
//!
//! Expand: the version that runs goes on as before. Migrate: rows change, the schema does not.
//! Contract: something that the running version may rely on goes away, or something that it does may
//! fail from now on. What is not known is not guessed.

use std::fmt;

use crate::data_type::TypeChange;
use crate::effect::column_change;
use crate::statement::{
    AlterDomainAction, AlterIndexAction, AlterTableAction, AlterTypeAction, Bearing, Column,
    ColumnSource, ConstraintKind, OnTableKind, Using,
};
use crate::{BaseType, Catalog, Name, ServerVersion, Statement};

/// A phase of an expand-and-contract change. The later the phase, the more it asks of the version
/// that runs; `Unknown` asks for a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Belongs to every phase.
    Neutral,
    /// The version that runs does not notice.
    Expand,
    /// Rows change.
    Migrate,
    /// The version that runs may break.
    Contract,
    /// Not known.
    Unknown,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Neutral => "neutral",
            Self::Expand => "expand",
            Self::Migrate => "migrate",
            Self::Contract => "contract",
            Self::Unknown => "unknown",
        })
    }
}

/// The phase of a statement, where the catalog stands as given. A table that the same migration made
/// has no users, so nothing done to it is a contract.
#[must_use]
pub fn phase(statement: &Statement, catalog: &Catalog, version: ServerVersion) -> Phase {
    let unless_new = |table: &Name, phase: Phase| {
        if catalog.is_new(table) {
            Phase::Expand
        } else {
            phase
        }
    };
    match statement {
        Statement::CreateTableAs(create) => {
            phase(&create.query, catalog, version).max(Phase::Expand)
        }
        Statement::CreateTable(_) | Statement::CreateType(_) | Statement::CreateDomain(_) => {
            Phase::Expand
        }
        Statement::AlterTable(alter) => {
            let actions = alter.actions.iter();
            let latest = actions
                .map(|action| self::action(&alter.table, action, catalog, version))
                .max();
            unless_new(&alter.table, latest.unwrap_or(Phase::Neutral))
        }
        Statement::DropTable(drop) | Statement::DropView(drop) => {
            let phases = drop
                .names
                .iter()
                .map(|name| unless_new(name, Phase::Contract));
            phases.max().unwrap_or(Phase::Contract)
        }
        // A unique index refuses rows that the running version writes.
        Statement::CreateIndex(create) if create.is_unique => {
            unless_new(&create.table, Phase::Contract)
        }
        Statement::CreateIndex(_) => Phase::Expand,
        // The running version's queries need it, or it was never used.
        Statement::DropIndex(_) => Phase::Contract,
        Statement::AlterIndex(alter) => match alter.action {
            AlterIndexAction::Rename(_)
            | AlterIndexAction::SetTablespace
            | AlterIndexAction::Other => Phase::Neutral,
            AlterIndexAction::Attach(_) => Phase::Expand,
        },
        Statement::CreateView(create) if create.replaces => Phase::Unknown,
        Statement::CreateView(create) => {
            let query = create.query.as_ref();
            let filled = query.map(|query| phase(query, catalog, version));
            filled.unwrap_or(Phase::Expand).max(Phase::Expand)
        }
        Statement::OnTable(on) => match on.kind {
            OnTableKind::CreateStatistics | OnTableKind::Comment | OnTableKind::CommentOnPart => {
                Phase::Neutral
            }
            // What they do to the statements of the running version is in their bodies.
            OnTableKind::CreateTrigger { .. }
            | OnTableKind::DropTrigger
            | OnTableKind::AlterTrigger
            | OnTableKind::CreateRule
            | OnTableKind::ChangeRule
            | OnTableKind::Policy => unless_new(&on.table, Phase::Unknown),
        },
        Statement::AlterType(alter) => match alter.action {
            AlterTypeAction::AddValue { .. } => Phase::Expand,
            AlterTypeAction::RenameValue
            | AlterTypeAction::Rename(_)
            | AlterTypeAction::Attributes => Phase::Contract,
            AlterTypeAction::Other => Phase::Neutral,
        },
        Statement::DropType(_) => Phase::Contract,
        Statement::AlterDomain(alter) => match alter.action {
            AlterDomainAction::Check | AlterDomainAction::CheckLater => Phase::Contract,
            AlterDomainAction::Other => Phase::Neutral,
        },
        Statement::Truncate(truncate) => {
            let phases = truncate
                .tables
                .iter()
                .map(|target| unless_new(&target.table, Phase::Contract));
            phases.max().unwrap_or(Phase::Contract)
        }
        Statement::Change(change) => {
            if change.calls.is_empty() {
                Phase::Migrate
            } else {
                Phase::Unknown
            }
        }
        Statement::RefreshMaterializedView(_) => Phase::Migrate,
        Statement::Query(query) => {
            if query.calls.is_empty() {
                Phase::Neutral
            } else {
                Phase::Unknown
            }
        }
        Statement::Do(block) => {
            let inner = block
                .statements
                .iter()
                .map(|inner| phase(&inner.statement, catalog, version));
            let latest = inner.max().unwrap_or(Phase::Neutral);
            if block.unknown.is_empty() {
                latest
            } else {
                Phase::Unknown
            }
        }
        Statement::Plain(plain) => match plain.bearing {
            Bearing::Adds => Phase::Expand,
            Bearing::TakesAway => Phase::Contract,
            Bearing::Neutral => Phase::Neutral,
        },
        Statement::Unknown(_) => Phase::Unknown,
        Statement::Reindex(_)
        | Statement::Lock(_)
        | Statement::Maintain(_)
        | Statement::Set(_)
        | Statement::Reset(_)
        | Statement::DiscardAll
        | Statement::Transaction(_) => Phase::Neutral,
    }
}

fn action(
    table: &Name,
    action: &AlterTableAction,
    catalog: &Catalog,
    version: ServerVersion,
) -> Phase {
    match action {
        AlterTableAction::AddColumn { column, .. } => added(column),
        AlterTableAction::SetType {
            column,
            data_type,
            using,
            ..
        } => {
            let change = column_change(catalog, table, column, data_type, version);
            match (using, change) {
                (Using::Cast, TypeChange::Free | TypeChange::RebuildsIndexes) => Phase::Expand,
                (Using::Cast, TypeChange::Unknown) => Phase::Unknown,
                (Using::Cast, TypeChange::Rewrite | TypeChange::FreeUnderUtc)
                | (Using::Expression, _) => Phase::Contract,
            }
        }
        // Constraints refuse what the running version may still write.
        AlterTableAction::AddConstraint(constraint) => match &constraint.kind {
            ConstraintKind::Unique {
                using_index: Some(_),
                ..
            }
            | ConstraintKind::PrimaryKey {
                using_index: Some(_),
                ..
            } => Phase::Expand,
            ConstraintKind::Check { .. }
            | ConstraintKind::Unique { .. }
            | ConstraintKind::PrimaryKey { .. }
            | ConstraintKind::Exclude
            | ConstraintKind::ForeignKey { .. }
            | ConstraintKind::NotNull { .. } => Phase::Contract,
        },
        AlterTableAction::SetNotNull { column } => {
            let is_proved = catalog.is_proved_not_null(table, column);
            if is_proved {
                Phase::Neutral
            } else {
                Phase::Contract
            }
        }
        AlterTableAction::DropDefault { column } => {
            let is_needed = catalog
                .column(table, column)
                .is_none_or(|column| column.is_not_null);
            if is_needed {
                Phase::Contract
            } else {
                Phase::Expand
            }
        }
        AlterTableAction::ValidateConstraint { .. } => Phase::Migrate,
        AlterTableAction::DropNotNull { .. }
        | AlterTableAction::SetDefault { .. }
        | AlterTableAction::DropConstraint { .. }
        | AlterTableAction::AttachPartition { .. } => Phase::Expand,
        AlterTableAction::DropColumn { .. }
        | AlterTableAction::SetExpression { .. }
        | AlterTableAction::DropExpression { .. }
        | AlterTableAction::Identity { .. }
        | AlterTableAction::RenameColumn { .. }
        | AlterTableAction::Rename { .. }
        | AlterTableAction::SetSchema { .. }
        | AlterTableAction::DetachPartition { .. }
        | AlterTableAction::Inherit { .. }
        | AlterTableAction::OfType => Phase::Contract,
        AlterTableAction::Trigger { .. }
        | AlterTableAction::Rule
        | AlterTableAction::RowSecurity
        | AlterTableAction::Unknown(_) => Phase::Unknown,
        AlterTableAction::ColumnStatistics
        | AlterTableAction::ColumnStorage
        | AlterTableAction::AlterConstraint { .. }
        | AlterTableAction::RenameConstraint { .. }
        | AlterTableAction::Storage { .. }
        | AlterTableAction::ClusterOn
        | AlterTableAction::ReplicaIdentity
        | AlterTableAction::Owner
        | AlterTableAction::DependsOnExtension
        | AlterTableAction::SetLogged
        | AlterTableAction::SetTablespace
        | AlterTableAction::SetAccessMethod
        | AlterTableAction::WithoutOids => Phase::Neutral,
    }
}

/// The running version's `INSERT` leaves the new column out.
fn added(column: &Column) -> Phase {
    let is_serial = matches!(column.data_type.base, BaseType::Serial(_));
    let has_value = is_serial || column.source != ColumnSource::Nothing;
    if column.is_not_null && !has_value {
        Phase::Contract
    } else {
        Phase::Expand
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse;

    fn phases(script: &str) -> Vec<Phase> {
        let mut catalog = Catalog::default();
        let before = "CREATE TABLE t (id int PRIMARY KEY, a varchar(10), b int NOT NULL DEFAULT 1)";
        for located in parse(before) {
            catalog.apply(&located.statement);
        }
        catalog.begin_migration();
        let statements = parse(script).into_iter().map(|located| {
            let phase = phase(&located.statement, &catalog, ServerVersion::DEFAULT);
            catalog.apply(&located.statement);
            phase
        });
        statements.collect()
    }

    #[test]
    fn what_is_added_expands_and_what_is_taken_away_contracts() {
        let script = "ALTER TABLE t ADD c int; ALTER TABLE t ADD d int NOT NULL DEFAULT 1; UPDATE t SET c = 1; \
            ALTER TABLE t ADD e int NOT NULL; ALTER TABLE t DROP COLUMN a; DROP TABLE t";
        assert_eq!(
            phases(script),
            [
                Phase::Expand,
                Phase::Expand,
                Phase::Migrate,
                Phase::Contract,
                Phase::Contract,
                Phase::Contract
            ]
        );
    }

    #[test]
    fn a_table_of_the_same_migration_has_no_users() {
        assert_eq!(
            phases("CREATE TABLE n (a int); DROP TABLE n"),
            [Phase::Expand; 2]
        );
    }

    #[test]
    fn a_wider_type_expands_and_a_narrower_one_contracts() {
        assert_eq!(
            phases("ALTER TABLE t ALTER a TYPE varchar(20); ALTER TABLE t ALTER a TYPE varchar(5)"),
            [Phase::Expand, Phase::Contract]
        );
    }

    #[test]
    fn a_view_is_altered_as_a_table_is() {
        assert_eq!(
            phases(
                "ALTER VIEW v RENAME TO w; ALTER VIEW v RENAME COLUMN a TO b; ALTER VIEW v SET SCHEMA s; \
                ALTER MATERIALIZED VIEW m RENAME COLUMN a TO b; ALTER MATERIALIZED VIEW m SET SCHEMA s; \
                ALTER VIEW v ALTER a DROP DEFAULT"
            ),
            [Phase::Contract; 6]
        );
        assert_eq!(
            phases(
                "ALTER VIEW v OWNER TO r; ALTER MATERIALIZED VIEW m CLUSTER ON i, SET (fillfactor = 70); \
                ALTER MATERIALIZED VIEW m DEPENDS ON EXTENSION e"
            ),
            [Phase::Neutral; 3]
        );
    }

    #[test]
    fn what_is_not_known_is_not_guessed() {
        assert_eq!(
            phases(
                "SELECT mine(); ALTER TABLE x ALTER a TYPE text; FROB; DO $$ BEGIN EXECUTE q; END $$; \
                DROP FUNCTION f() CASCADE; DROP CAST (a AS b) CASCADE; DROP TEXT SEARCH DICTIONARY d CASCADE"
            ),
            [Phase::Unknown; 7]
        );
        assert_eq!(
            phases(
                "DROP FUNCTION f(); DROP OPERATOR + (a, b) RESTRICT; REVOKE SELECT ON t FROM r CASCADE"
            ),
            [Phase::Contract; 3]
        );
    }

    #[test]
    fn what_fills_a_new_table_counts_as_if_it_stood_alone() {
        assert_eq!(
            phases(
                "CREATE TABLE n AS SELECT * FROM t; CREATE MATERIALIZED VIEW m AS SELECT now(); \
                CREATE TABLE o AS SELECT mine() WITH NO DATA; CREATE VIEW v AS SELECT mine()"
            ),
            [Phase::Expand; 4]
        );
        assert_eq!(
            phases(
                "CREATE TABLE n AS SELECT mine(); SELECT mine() INTO o; CREATE TABLE p AS EXECUTE q; \
                CREATE MATERIALIZED VIEW m AS SELECT mine()"
            ),
            [Phase::Unknown; 4]
        );
        assert_eq!(
            phases("CREATE TABLE n AS WITH g AS (DELETE FROM t RETURNING id) SELECT id FROM g"),
            [Phase::Migrate]
        );
    }
}
