//! Applies one migration to the copy as its tool would, by the way in which the tool hands over its statements.

use std::time::Duration;

use switchyard_postgres::{ConnectionSettings, ConnectionUrl, PostgresError, Session, identifier};

use crate::project::{Migration, Tool, Wrapping};

/// Limits that a migration runs under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    /// Longest wait for a lock.
    pub(super) lock: Duration,
    /// Longest statement.
    pub(super) statement: Duration,
}

/// A session that runs migrations of one schema as its tool's would.
///
/// # Errors
/// As [`Session::open`].
pub(super) async fn open(
    copy: &ConnectionUrl,
    tool: Tool,
    namespace: &str,
    limits: Limits,
) -> Result<Session, PostgresError> {
    let settings = ConnectionSettings {
        application_name: "switchyard rehearsal".to_owned(),
        lock_timeout: limits.lock,
        // Set below instead: our side would take it for the limit of all statements of a script together.
        statement_timeout: Duration::ZERO,
    };
    let session = Session::open(copy, &settings).await?;
    let sql = format!("SET statement_timeout = {}", limits.statement.as_millis());
    session.script("set the limit of a statement", &sql).await?;
    match tool {
        // Prisma's engine sets the search path to the schema of its URL.
        Tool::Prisma => {
            let sql = format!("SET search_path = {}", identifier(namespace));
            session.script("set the search path", &sql).await?;
        }
        Tool::Command => {}
    }
    Ok(session)
}

/// Runs a migration. After an error nothing of a transaction is left; what ran outside of one stays.
///
/// # Errors
/// The error of the statement that failed.
pub(super) async fn apply(session: &Session, migration: &Migration) -> Result<(), PostgresError> {
    let what = format!("rehearse `{}`", migration.name);
    let script = migration.script();
    match migration.wrapping {
        Wrapping::OneString => session.script(&what, script).await,
        Wrapping::Transaction => {
            session.script(&what, "BEGIN").await?;
            session.script(&what, script).await?;
            session.script(&what, "COMMIT").await
        }
        Wrapping::None => {
            for piece in switchyard_sql::cut(script) {
                if let Some(statement) = piece.statement {
                    session.script(&what, &script[statement]).await?;
                }
            }
            Ok(())
        }
    }
}
