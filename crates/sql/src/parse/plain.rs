//! Statements that lock no table: told apart only by what they do to a version that runs already.

use squawk_syntax::ast::{self, AstNode, Stmt};

use crate::statement::{Bearing, Plain};

const fn adds(command: &'static str) -> Option<Plain> {
    plain(command, Bearing::Adds, false)
}

const fn takes_away(command: &'static str) -> Option<Plain> {
    plain(command, Bearing::TakesAway, false)
}

const fn neutral(command: &'static str) -> Option<Plain> {
    plain(command, Bearing::Neutral, false)
}

const fn alone(command: &'static str, bearing: Bearing) -> Option<Plain> {
    plain(command, bearing, true)
}

const fn plain(command: &'static str, bearing: Bearing, needs_no_block: bool) -> Option<Plain> {
    Some(Plain {
        command,
        bearing,
        needs_no_block,
    })
}

/// A statement of this kind; `None` for every other.
pub(super) fn of(statement: &Stmt) -> Option<Plain> {
    if drops_dependents(statement) {
        return None;
    }
    routines(statement)
        .or_else(|| objects(statement))
        .or_else(|| rights(statement))
        .or_else(|| search(statement))
        .or_else(|| session(statement))
}

/// Whether a statement drops what depends on its object too: a trigger, a policy, a default, a column of a
/// table, of which its text says nothing.
pub(super) fn drops_dependents(statement: &Stmt) -> bool {
    // Nothing of a table depends on these, and `REVOKE` takes other rights away alone.
    let has_none = matches!(
        statement,
        Stmt::Revoke(_)
            | Stmt::DropConversion(_)
            | Stmt::DropEventTrigger(_)
            | Stmt::DropStatistics(_)
            | Stmt::DropSubscription(_)
    );
    let behaviors = statement.syntax().children();
    let mut behaviors = behaviors.filter_map(ast::DropBehavior::cast);
    !has_none && behaviors.any(|behavior| matches!(behavior, ast::DropBehavior::Cascade(_)))
}

fn routines(statement: &Stmt) -> Option<Plain> {
    match statement {
        Stmt::CreateFunction(it) => routine(it.or_replace().is_some(), "CREATE FUNCTION"),
        Stmt::CreateProcedure(it) => routine(it.or_replace().is_some(), "CREATE PROCEDURE"),
        Stmt::CreateAggregate(it) => routine(it.or_replace().is_some(), "CREATE AGGREGATE"),
        Stmt::AlterFunction(_) => neutral("ALTER FUNCTION"),
        Stmt::AlterProcedure(_) => neutral("ALTER PROCEDURE"),
        Stmt::AlterRoutine(_) => neutral("ALTER ROUTINE"),
        Stmt::AlterAggregate(_) => neutral("ALTER AGGREGATE"),
        Stmt::DropFunction(_) => takes_away("DROP FUNCTION"),
        Stmt::DropProcedure(_) => takes_away("DROP PROCEDURE"),
        Stmt::DropRoutine(_) => takes_away("DROP ROUTINE"),
        Stmt::DropAggregate(_) => takes_away("DROP AGGREGATE"),
        Stmt::CreateOperator(_) => adds("CREATE OPERATOR"),
        Stmt::CreateOperatorClass(_) => adds("CREATE OPERATOR CLASS"),
        Stmt::CreateOperatorFamily(_) => adds("CREATE OPERATOR FAMILY"),
        Stmt::AlterOperator(_) => neutral("ALTER OPERATOR"),
        Stmt::AlterOperatorClass(_) => neutral("ALTER OPERATOR CLASS"),
        Stmt::AlterOperatorFamily(_) => neutral("ALTER OPERATOR FAMILY"),
        Stmt::DropOperator(_) => takes_away("DROP OPERATOR"),
        Stmt::DropOperatorClass(_) => takes_away("DROP OPERATOR CLASS"),
        Stmt::DropOperatorFamily(_) => takes_away("DROP OPERATOR FAMILY"),
        Stmt::CreateCast(_) => adds("CREATE CAST"),
        Stmt::DropCast(_) => takes_away("DROP CAST"),
        Stmt::CreateLanguage(_) => adds("CREATE LANGUAGE"),
        Stmt::AlterLanguage(_) => neutral("ALTER LANGUAGE"),
        Stmt::DropLanguage(_) => takes_away("DROP LANGUAGE"),
        Stmt::CreateTransform(_) => adds("CREATE TRANSFORM"),
        Stmt::DropTransform(_) => takes_away("DROP TRANSFORM"),
        Stmt::CreateEventTrigger(_) => adds("CREATE EVENT TRIGGER"),
        Stmt::AlterEventTrigger(_) => neutral("ALTER EVENT TRIGGER"),
        Stmt::DropEventTrigger(_) => neutral("DROP EVENT TRIGGER"),
        _ => None,
    }
}

/// A routine that replaces another changes what the running version calls.
fn routine(replaces: bool, command: &'static str) -> Option<Plain> {
    if replaces {
        neutral(command)
    } else {
        adds(command)
    }
}

fn objects(statement: &Stmt) -> Option<Plain> {
    match statement {
        Stmt::CreateSchema(it) if it.schema_elements().next().is_none() => adds("CREATE SCHEMA"),
        Stmt::AlterSchema(it) => match it.action() {
            Some(ast::AlterSchemaAction::SchemaRenameTo(_)) | None => takes_away("ALTER SCHEMA"),
            Some(ast::AlterSchemaAction::OwnerTo(_)) => neutral("ALTER SCHEMA"),
        },
        Stmt::CreateSequence(_) => adds("CREATE SEQUENCE"),
        Stmt::AlterSequence(it) => {
            let renames = it.actions().any(|action| {
                matches!(
                    action,
                    ast::AlterSequenceAction::SequenceRenameTo(_)
                        | ast::AlterSequenceAction::SetSchema(_)
                )
            });
            if renames {
                takes_away("ALTER SEQUENCE")
            } else {
                neutral("ALTER SEQUENCE")
            }
        }
        Stmt::DropSequence(_) => takes_away("DROP SEQUENCE"),
        // Its scripts may do anything, but they belong to the server's installation.
        Stmt::CreateExtension(_) => adds("CREATE EXTENSION"),
        Stmt::CreateCollation(_) => adds("CREATE COLLATION"),
        Stmt::AlterCollation(_) => neutral("ALTER COLLATION"),
        Stmt::DropCollation(_) => takes_away("DROP COLLATION"),
        Stmt::CreateConversion(_) => adds("CREATE CONVERSION"),
        Stmt::AlterConversion(_) => neutral("ALTER CONVERSION"),
        Stmt::DropConversion(_) => takes_away("DROP CONVERSION"),
        Stmt::CreateAccessMethod(_) => adds("CREATE ACCESS METHOD"),
        Stmt::DropStatistics(_) => neutral("DROP STATISTICS"),
        Stmt::AlterStatistics(_) => neutral("ALTER STATISTICS"),
        Stmt::CreateForeignDataWrapper(_) => adds("CREATE FOREIGN DATA WRAPPER"),
        Stmt::AlterForeignDataWrapper(_) => neutral("ALTER FOREIGN DATA WRAPPER"),
        Stmt::CreateServer(_) => adds("CREATE SERVER"),
        Stmt::AlterServer(_) => neutral("ALTER SERVER"),
        Stmt::CreateUserMapping(_) => adds("CREATE USER MAPPING"),
        Stmt::AlterUserMapping(_) => neutral("ALTER USER MAPPING"),
        Stmt::DropUserMapping(_) => takes_away("DROP USER MAPPING"),
        Stmt::CreateForeignTable(it) if it.partition_of().is_none() && it.inherits().is_none() => {
            adds("CREATE FOREIGN TABLE")
        }
        Stmt::ImportForeignSchema(_) => adds("IMPORT FOREIGN SCHEMA"),
        Stmt::CreateDatabase(_) => alone("CREATE DATABASE", Bearing::Adds),
        Stmt::AlterDatabase(_) => neutral("ALTER DATABASE"),
        Stmt::DropDatabase(_) => alone("DROP DATABASE", Bearing::TakesAway),
        Stmt::CreateTablespace(_) => alone("CREATE TABLESPACE", Bearing::Adds),
        Stmt::AlterTablespace(_) => neutral("ALTER TABLESPACE"),
        Stmt::DropTablespace(_) => alone("DROP TABLESPACE", Bearing::TakesAway),
        Stmt::AlterSystem(_) => alone("ALTER SYSTEM", Bearing::Neutral),
        Stmt::CreateSubscription(_) => alone("CREATE SUBSCRIPTION", Bearing::Adds),
        Stmt::AlterSubscription(_) => neutral("ALTER SUBSCRIPTION"),
        Stmt::DropSubscription(_) => alone("DROP SUBSCRIPTION", Bearing::Neutral),
        Stmt::AlterLargeObject(_) => neutral("ALTER LARGE OBJECT"),
        _ => None,
    }
}

fn rights(statement: &Stmt) -> Option<Plain> {
    match statement {
        Stmt::Grant(_) => neutral("GRANT"),
        Stmt::Revoke(_) => takes_away("REVOKE"),
        Stmt::AlterDefaultPrivileges(_) => neutral("ALTER DEFAULT PRIVILEGES"),
        Stmt::CreateRole(_) => adds("CREATE ROLE"),
        Stmt::CreateUser(_) => adds("CREATE USER"),
        Stmt::CreateGroup(_) => adds("CREATE GROUP"),
        Stmt::AlterRole(_) => neutral("ALTER ROLE"),
        Stmt::AlterUser(_) => neutral("ALTER USER"),
        Stmt::AlterGroup(_) => neutral("ALTER GROUP"),
        Stmt::DropRole(_) => takes_away("DROP ROLE"),
        Stmt::DropUser(_) => takes_away("DROP USER"),
        Stmt::DropGroup(_) => takes_away("DROP GROUP"),
        _ => None,
    }
}

fn search(statement: &Stmt) -> Option<Plain> {
    match statement {
        Stmt::CreateTextSearchConfiguration(_) => adds("CREATE TEXT SEARCH CONFIGURATION"),
        Stmt::CreateTextSearchDictionary(_) => adds("CREATE TEXT SEARCH DICTIONARY"),
        Stmt::CreateTextSearchParser(_) => adds("CREATE TEXT SEARCH PARSER"),
        Stmt::CreateTextSearchTemplate(_) => adds("CREATE TEXT SEARCH TEMPLATE"),
        Stmt::AlterTextSearchConfiguration(_) => neutral("ALTER TEXT SEARCH CONFIGURATION"),
        Stmt::AlterTextSearchDictionary(_) => neutral("ALTER TEXT SEARCH DICTIONARY"),
        Stmt::AlterTextSearchParser(_) => neutral("ALTER TEXT SEARCH PARSER"),
        Stmt::AlterTextSearchTemplate(_) => neutral("ALTER TEXT SEARCH TEMPLATE"),
        Stmt::DropTextSearchConfig(_) => takes_away("DROP TEXT SEARCH CONFIGURATION"),
        Stmt::DropTextSearchDict(_) => takes_away("DROP TEXT SEARCH DICTIONARY"),
        Stmt::DropTextSearchParser(_) => takes_away("DROP TEXT SEARCH PARSER"),
        Stmt::DropTextSearchTemplate(_) => takes_away("DROP TEXT SEARCH TEMPLATE"),
        _ => None,
    }
}

fn session(statement: &Stmt) -> Option<Plain> {
    match statement {
        Stmt::Checkpoint(_) => neutral("CHECKPOINT"),
        Stmt::Close(_) => neutral("CLOSE"),
        Stmt::Deallocate(_) => neutral("DEALLOCATE"),
        Stmt::Discard(it)
            if !matches!(it.discard_target(), Some(ast::DiscardTarget::DiscardAll(_))) =>
        {
            neutral("DISCARD")
        }
        Stmt::EmptyStmt(_) => neutral(""),
        Stmt::Fetch(_) => neutral("FETCH"),
        Stmt::Listen(_) => neutral("LISTEN"),
        Stmt::Load(_) => neutral("LOAD"),
        Stmt::Move(_) => neutral("MOVE"),
        Stmt::Notify(_) => neutral("NOTIFY"),
        Stmt::Prepare(_) => neutral("PREPARE"),
        Stmt::ResetRole(_) => neutral("RESET ROLE"),
        Stmt::ResetSessionAuth(_) => neutral("RESET SESSION AUTHORIZATION"),
        Stmt::SetRole(_) => neutral("SET ROLE"),
        Stmt::SetSessionAuth(_) => neutral("SET SESSION AUTHORIZATION"),
        Stmt::Show(_) => neutral("SHOW"),
        Stmt::Unlisten(_) => neutral("UNLISTEN"),
        _ => None,
    }
}
