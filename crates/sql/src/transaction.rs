//! Which statements of a script share a transaction, by how the script reaches the server.

use crate::statement::{
    AlterTableAction, AlterTypeAction, MaintainKind, ReindexTarget, TransactionCommand,
};
use crate::{Located, ServerVersion, Statement};

/// How a script reaches the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// As one string of the simple protocol: several statements are one implicit transaction.
    OneString,
    /// Between a `BEGIN` and a `COMMIT` that are not part of it.
    InTransaction,
    /// Statement by statement.
    OneByOne,
}

/// Where a statement stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Number of the transaction: statements with the same one keep each other's locks.
    pub transaction: usize,
    /// Whether the server takes it for part of a transaction block.
    pub is_in_block: bool,
}

/// Where each statement of a script stands.
#[must_use]
pub fn places(statements: &[Located], delivery: Delivery) -> Vec<Place> {
    let is_string_of_several = delivery == Delivery::OneString && statements.len() > 1;
    let mut transaction = 0;
    // A block goes on until the script or whoever runs it ends it.
    let mut is_open = delivery == Delivery::InTransaction;
    let mut places = Vec::new();
    for located in statements {
        let command = if let Statement::Transaction(command) = &located.statement {
            Some(*command)
        } else {
            None
        };
        if command == Some(TransactionCommand::Begin) {
            is_open = true;
        }
        places.push(Place {
            transaction,
            // Of a string with several statements none may be one that needs to stand alone.
            is_in_block: is_open || is_string_of_several,
        });
        let ends = matches!(
            command,
            Some(
                TransactionCommand::Commit
                    | TransactionCommand::Rollback
                    | TransactionCommand::Prepare
            )
        );
        if ends {
            is_open = false;
        }
        if ends || !(is_open || is_string_of_several) {
            transaction += 1;
        }
    }
    places
}

/// The command that PostgreSQL refuses inside of a transaction block, where a statement is one.
#[must_use]
pub fn refused_in_block(statement: &Statement, version: ServerVersion) -> Option<&'static str> {
    match statement {
        Statement::CreateIndex(create) if create.is_concurrent => Some("CREATE INDEX CONCURRENTLY"),
        Statement::DropIndex(drop) if drop.is_concurrent => Some("DROP INDEX CONCURRENTLY"),
        Statement::Reindex(reindex) if reindex.is_concurrent => Some("REINDEX CONCURRENTLY"),
        Statement::Reindex(reindex) if reindex.target == ReindexTarget::Everything => {
            Some("REINDEX")
        }
        Statement::Maintain(maintain) => match maintain.kind {
            MaintainKind::Vacuum | MaintainKind::VacuumFull => Some("VACUUM"),
            MaintainKind::Cluster if maintain.tables.is_empty() => Some("CLUSTER"),
            MaintainKind::Cluster | MaintainKind::Analyze => None,
        },
        Statement::AlterTable(alter) => {
            let detaches = alter.actions.iter().any(|action| {
                matches!(
                    action,
                    AlterTableAction::DetachPartition {
                        is_concurrent: true,
                        ..
                    }
                )
            });
            detaches.then_some("ALTER TABLE … DETACH PARTITION CONCURRENTLY")
        }
        Statement::AlterType(alter) if version.major() < 12 => match alter.action {
            AlterTypeAction::AddValue { .. } => Some("ALTER TYPE … ADD VALUE"),
            AlterTypeAction::RenameValue
            | AlterTypeAction::Rename(_)
            | AlterTypeAction::Attributes
            | AlterTypeAction::Other => None,
        },
        Statement::Plain(plain) if plain.needs_no_block => Some(plain.command),
        Statement::DiscardAll => Some("DISCARD ALL"),
        Statement::Do(block) if block.commits => Some("DO with COMMIT or ROLLBACK"),
        Statement::CreateTable(_)
        | Statement::CreateTableAs(_)
        | Statement::DropTable(_)
        | Statement::CreateIndex(_)
        | Statement::DropIndex(_)
        | Statement::AlterIndex(_)
        | Statement::Reindex(_)
        | Statement::CreateView(_)
        | Statement::DropView(_)
        | Statement::RefreshMaterializedView(_)
        | Statement::OnTable(_)
        | Statement::CreateType(_)
        | Statement::AlterType(_)
        | Statement::DropType(_)
        | Statement::CreateDomain(_)
        | Statement::AlterDomain(_)
        | Statement::Truncate(_)
        | Statement::Lock(_)
        | Statement::Change(_)
        | Statement::Query(_)
        | Statement::Do(_)
        | Statement::Set(_)
        | Statement::Reset(_)
        | Statement::Transaction(_)
        | Statement::Plain(_)
        | Statement::Unknown(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse;

    fn transactions(script: &str, delivery: Delivery) -> Vec<(usize, bool)> {
        let places = places(&parse(script), delivery);
        let places = places.into_iter();
        places
            .map(|place| (place.transaction, place.is_in_block))
            .collect()
    }

    #[test]
    fn several_statements_of_one_string_are_one_transaction_and_a_lone_one_is_none() {
        assert_eq!(transactions("SELECT 1", Delivery::OneString), [(0, false)]);
        assert_eq!(
            transactions("SELECT 1; SELECT 2", Delivery::OneString),
            [(0, true), (0, true)]
        );
    }

    #[test]
    fn a_commit_in_one_string_begins_another_transaction_but_no_statement_stands_alone() {
        assert_eq!(
            transactions("BEGIN; SELECT 1; COMMIT; SELECT 2", Delivery::OneString),
            [(0, true), (0, true), (0, true), (1, true)]
        );
    }

    #[test]
    fn statements_one_by_one_share_a_transaction_only_between_begin_and_commit() {
        assert_eq!(
            transactions(
                "SELECT 1; BEGIN; SELECT 2; END; SELECT 3",
                Delivery::OneByOne
            ),
            [(0, false), (1, true), (1, true), (1, true), (2, false)]
        );
    }

    #[test]
    fn a_tool_s_transaction_reaches_over_the_whole_script() {
        assert_eq!(
            transactions("SELECT 1; SELECT 2", Delivery::InTransaction),
            [(0, true), (0, true)]
        );
    }
}
