//! Time limits as settings of a role in a database, for tools that ignore those of the connection. They
//! hold for every new session of that role, so they are set only when asked, and taken back at the end.
//!
//! Ours are told from others by a blank at their end, which the server keeps and does not mind: whoever comes
//! after a killed run finds them in the database itself. A setting with a name of our own would say more, and
//! only a superuser may make one (from PostgreSQL 15 on). What was there before is kept by the run that set
//! them, and in its journal.

use std::collections::BTreeMap;
use std::time::Duration;

use switchyard_postgres::{PostgresError, Session, identifier, literal};

const LOCK: &str = "lock_timeout";
const STATEMENT: &str = "statement_timeout";

/// The limits that a role had of its own in a database, by name.
pub(crate) type Before = BTreeMap<String, String>;

/// The limits that a role has in the database of the session.
///
/// # Errors
/// As the server's.
pub(crate) async fn read(session: &Session) -> Result<Before, PostgresError> {
    let what = "read the role's time limits";
    let sql = "
        SELECT unnest(s.setconfig) AS setting FROM pg_catalog.pg_db_role_setting s
        JOIN pg_catalog.pg_database d ON d.oid = s.setdatabase
        JOIN pg_catalog.pg_roles r ON r.oid = s.setrole
        WHERE d.datname = pg_catalog.current_database() AND r.rolname = current_user";
    let mut limits = Before::new();
    for row in session.rows(what, sql, &[]).await? {
        let setting: String = session.column(what, &row, "setting")?;
        if let Some((name @ (LOCK | STATEMENT), value)) = setting.split_once('=') {
            limits.insert(name.to_owned(), value.to_owned());
        }
    }
    Ok(limits)
}

/// Whether a run set limits and did not take them back.
pub(crate) fn has_ours(limits: &Before) -> bool {
    limits.values().any(|value| value.ends_with(' '))
}

/// Sets the limits.
///
/// # Errors
/// As the server's.
pub(crate) async fn set(
    session: &Session,
    lock: Duration,
    statement: Duration,
) -> Result<(), PostgresError> {
    let ours = |limit: Duration| format!("{}ms ", limit.as_millis());
    let limits = [(LOCK, ours(lock)), (STATEMENT, ours(statement))];
    let sql = limits.map(|(name, value)| alter(session, name, Some(&value)));
    // One message: both, or none.
    session
        .script("set the role's time limits", &sql.concat())
        .await
}

/// Gives the role the limits back that it had.
///
/// # Errors
/// As the server's.
pub(crate) async fn give_back(session: &Session, before: &Before) -> Result<(), PostgresError> {
    let value = |name: &str| before.get(name).map(String::as_str);
    let sql = [LOCK, STATEMENT].map(|name| alter(session, name, value(name)));
    session
        .script("take the role's time limits back", &sql.concat())
        .await
}

fn alter(session: &Session, name: &str, value: Option<&str>) -> String {
    let database = identifier(&session.place().database);
    let change = match value {
        Some(value) => format!("SET {name} = {}", literal(value)),
        None => format!("RESET {name}"),
    };
    format!("ALTER ROLE CURRENT_USER IN DATABASE {database} {change};\n")
}
