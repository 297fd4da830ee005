//! The phase of each statement of the pending migrations, and what of the running version it concerns. Pure.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::Serialize;
use switchyard_sql::statement::{AlterTableAction, TransactionCommand};
use switchyard_sql::{Catalog, Lines, Name, Phase, ServerVersion, Statement, parse, phase};

use crate::project::Migration;
use crate::replay::begin_migration;
use crate::shorten::beginning;

/// Longest piece of a statement that is told, in characters.
const SHOWN: usize = 120;

/// A statement with its phase.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct ClassifiedStatement {
    /// Name of its migration.
    pub(super) migration: String,
    /// The file.
    pub(super) file: PathBuf,
    /// Line of the file, from 1.
    pub(super) line: usize,
    /// Its beginning.
    pub(super) text: String,
    /// Its phase.
    #[serde(serialize_with = "as_text")]
    pub(super) phase: Phase,
    /// What of the running version it concerns, where it may break it.
    pub(super) concerns: Concerns,
}

/// Which statements of the running version a contract concerns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "known")]
pub(super) enum Concerns {
    /// Those that use one of these.
    These {
        /// What they use; empty for a statement that breaks nothing.
        uses: Vec<Use>,
    },
    /// It cannot be told.
    Unknown,
}

/// A use of a table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(super) struct Use {
    /// The table's own name.
    pub(super) table: String,
    /// What of it.
    #[serde(flatten)]
    pub(super) part: Part,
}

/// What of a table is used.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case", tag = "part", content = "column")]
pub(super) enum Part {
    /// Anything.
    Table,
    /// A column.
    Column(String),
    /// Rows are written.
    Writes,
}

fn as_text<S: serde::Serializer>(phase: &Phase, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(phase)
}

impl ClassifiedStatement {
    /// Whether the running version may not survive it, as far as is known.
    pub(super) fn needs_old_version_gone(&self) -> bool {
        match self.phase {
            Phase::Neutral | Phase::Expand | Phase::Migrate => false,
            Phase::Contract | Phase::Unknown => true,
        }
    }
}

/// Classifies the statements of the pending ones of a schema's migrations. The others are replayed, so that it is known
/// what stands there.
pub(super) fn classify(
    migrations: &[Migration],
    pending: &BTreeSet<String>,
    namespace: &str,
    version: ServerVersion,
) -> Vec<ClassifiedStatement> {
    let mut catalog = Catalog::default();
    let mut classified = Vec::new();
    for migration in migrations {
        begin_migration(&mut catalog, namespace);
        let lines = Lines::of(&migration.text);
        for located in parse(migration.script()) {
            if pending.contains(&migration.name) {
                let phase = phase(&located.statement, &catalog, version);
                let start = migration.forward.start + located.span.start;
                classified.push(ClassifiedStatement {
                    migration: migration.name.clone(),
                    file: migration.file.clone(),
                    line: lines.line(start),
                    text: beginning(&migration.script()[located.span.clone()], SHOWN),
                    phase,
                    concerns: concerns(&located.statement, &catalog),
                });
            }
            catalog.apply(&located.statement);
        }
    }
    classified
}

/// What of the running version a statement concerns if it is a contract.
fn concerns(statement: &Statement, catalog: &Catalog) -> Concerns {
    let whole = |names: &mut dyn Iterator<Item = &Name>| Concerns::These {
        uses: names.map(|name| of(name, Part::Table)).collect(),
    };
    match statement {
        Statement::AlterTable(alter) => {
            let actions = alter.actions.iter();
            let uses: Vec<Use> = actions
                .filter_map(part)
                .map(|part| of(&alter.table, part))
                .collect();
            if uses.is_empty() {
                return whole(&mut std::iter::once(&alter.table));
            }
            Concerns::These { uses }
        }
        Statement::DropTable(drop) | Statement::DropView(drop) if !drop.cascades => {
            whole(&mut drop.names.iter())
        }
        Statement::CreateIndex(create) => Concerns::These {
            uses: vec![of(&create.table, Part::Writes)],
        },
        Statement::DropIndex(drop) => {
            let tables = drop.names.iter().map(|name| catalog.index(name));
            let tables: Option<Vec<Use>> = tables
                .map(|index| index.map(|index| of(&index.table, Part::Table)))
                .collect();
            tables.map_or(Concerns::Unknown, |uses| Concerns::These { uses })
        }
        Statement::AlterType(alter) => whole(&mut catalog.tables_with(&alter.name)),
        Statement::Truncate(truncate) if !truncate.cascades => {
            whole(&mut truncate.tables.iter().map(|target| &target.table))
        }
        Statement::Transaction(
            TransactionCommand::Begin
            | TransactionCommand::Commit
            | TransactionCommand::Rollback
            | TransactionCommand::Savepoint
            | TransactionCommand::RollbackToSavepoint
            | TransactionCommand::Prepare
            | TransactionCommand::Characteristics,
        ) => Concerns::These { uses: Vec::new() },
        Statement::DropTable(_)
        | Statement::DropView(_)
        | Statement::Truncate(_)
        | Statement::CreateTable(_)
        | Statement::CreateTableAs(_)
        | Statement::AlterIndex(_)
        | Statement::Reindex(_)
        | Statement::CreateView(_)
        | Statement::RefreshMaterializedView(_)
        | Statement::OnTable(_)
        | Statement::CreateType(_)
        | Statement::DropType(_)
        | Statement::CreateDomain(_)
        | Statement::AlterDomain(_)
        | Statement::Lock(_)
        | Statement::Maintain(_)
        | Statement::Change(_)
        | Statement::Query(_)
        | Statement::Do(_)
        | Statement::Set(_)
        | Statement::Reset(_)
        | Statement::DiscardAll
        | Statement::Plain(_)
        | Statement::Unknown(_) => Concerns::Unknown,
    }
}

fn of(table: &Name, part: Part) -> Use {
    Use {
        table: table.name.clone(),
        part,
    }
}

/// What an action of `ALTER TABLE` takes from those who use the table; `None` for one that takes nothing.
fn part(action: &AlterTableAction) -> Option<Part> {
    match action {
        AlterTableAction::DropColumn { column, .. }
        | AlterTableAction::SetType { column, .. }
        | AlterTableAction::SetExpression { column }
        | AlterTableAction::DropExpression { column }
        | AlterTableAction::Identity { column }
        | AlterTableAction::RenameColumn { from: column, .. } => Some(Part::Column(column.clone())),
        AlterTableAction::AddColumn { .. }
        | AlterTableAction::SetNotNull { .. }
        | AlterTableAction::DropDefault { .. }
        | AlterTableAction::AddConstraint(_) => Some(Part::Writes),
        AlterTableAction::Rename { .. }
        | AlterTableAction::SetSchema { .. }
        | AlterTableAction::AttachPartition { .. }
        | AlterTableAction::DetachPartition { .. }
        | AlterTableAction::Inherit { .. }
        | AlterTableAction::OfType
        | AlterTableAction::Trigger { .. }
        | AlterTableAction::Rule
        | AlterTableAction::RowSecurity
        | AlterTableAction::Unknown(_) => Some(Part::Table),
        AlterTableAction::DropNotNull { .. }
        | AlterTableAction::SetDefault { .. }
        | AlterTableAction::ColumnStatistics
        | AlterTableAction::ColumnStorage
        | AlterTableAction::ValidateConstraint { .. }
        | AlterTableAction::DropConstraint { .. }
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
        | AlterTableAction::WithoutOids => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::project::Wrapping;

    fn classified(pending: &str) -> Vec<ClassifiedStatement> {
        let migration = |name: &str, text: &str| Migration {
            name: name.into(),
            file: format!("{name}.sql").into(),
            text: text.into(),
            forward: 0..text.len(),
            wrapping: Wrapping::OneString,
        };
        let first = "CREATE TABLE item (id int PRIMARY KEY, name text, price int);\nCREATE INDEX item_name ON item (name);";
        let migrations = [migration("1", first), migration("2", pending)];
        let pending = BTreeSet::from(["2".to_owned()]);
        classify(&migrations, &pending, "public", ServerVersion::DEFAULT)
    }

    fn uses(statement: &ClassifiedStatement) -> Vec<(&str, &Part)> {
        match &statement.concerns {
            Concerns::These { uses } => uses
                .iter()
                .map(|one| (one.table.as_str(), &one.part))
                .collect(),
            Concerns::Unknown => panic!("{statement:?}"),
        }
    }

    #[test]
    fn each_statement_has_its_phase_its_line_and_what_it_concerns() {
        let found = classified(
            "ALTER TABLE item ADD slug text;\nUPDATE item SET slug = name;\n\nALTER TABLE item DROP COLUMN name,\n  ALTER price SET NOT NULL;\nDROP INDEX item_name;\nDROP TABLE item;",
        );
        let phases: Vec<(Phase, usize)> = found.iter().map(|one| (one.phase, one.line)).collect();
        assert_eq!(
            phases,
            [
                (Phase::Expand, 1),
                (Phase::Migrate, 2),
                (Phase::Contract, 4),
                (Phase::Contract, 6),
                (Phase::Contract, 7)
            ]
        );
        assert_eq!(
            uses(&found[2]),
            [
                ("item", &Part::Column("name".into())),
                ("item", &Part::Writes)
            ]
        );
        assert_eq!(uses(&found[4]), [("item", &Part::Table)]);
    }

    #[test]
    fn what_is_not_known_needs_the_old_version_gone_as_well() {
        let found = classified("DO $$ BEGIN EXECUTE 'DROP TABLE ' || current_user; END $$;");
        assert_eq!(found[0].phase, Phase::Unknown);
        assert_eq!(found[0].concerns, Concerns::Unknown);
        assert!(found[0].needs_old_version_gone());
    }

    #[test]
    fn what_a_migration_makes_itself_it_may_take_away() {
        let found = classified("CREATE TABLE n (a int); DROP TABLE n;");
        assert!(
            !found
                .iter()
                .any(ClassifiedStatement::needs_old_version_gone)
        );
    }
}
