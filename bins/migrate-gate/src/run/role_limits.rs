//! Time limits as settings of a role in a database, for tools that ignore those of the connection. They
//! hold for every new session of that role, so they are set only when asked, and taken back at the end.
//!
//! What was there before is kept beside them, in a setting of our own: whoever comes after a killed run
//! finds it in the database itself.

use std::collections::BTreeMap;
use std::time::Duration;

use switchyard_postgres::{PostgresError, Session};

/// Holds the settings from before, as JSON. A name with a dot is a placeholder that every role may set.
const BEFORE: &str = "switchyard.limits_before";

const LOCK: &str = "lock_timeout";
const STATEMENT: &str = "statement_timeout";

/// Settings of the session's role in its database, by name.
type RoleSettings = BTreeMap<String, String>;

/// Sets the limits; those that are left from a killed run are kept as what was before.
///
/// # Errors
/// As the server's.
pub(crate) async fn set(
    session: &Session,
    lock: Duration,
    statement: Duration,
) -> Result<(), PostgresError> {
    let settings = read(session).await?;
    let before = match settings.get(BEFORE) {
        Some(before) => before.clone(),
        None => before(&settings),
    };
    let sql = [
        (BEFORE, before),
        (LOCK, format!("{}ms", lock.as_millis())),
        (STATEMENT, format!("{}ms", statement.as_millis())),
    ]
    .map(|(name, value)| alter(session, name, Some(&value)))
    .concat();
    // One message: all of it, or nothing.
    session.script("set the role's time limits", &sql).await
}

/// Takes them back. Gives whether there were any.
///
/// # Errors
/// As the server's.
pub(crate) async fn take_back(session: &Session) -> Result<bool, PostgresError> {
    let settings = read(session).await?;
    let Some(before) = settings.get(BEFORE) else {
        return Ok(false);
    };
    // What is not ours is taken for nothing: then the limits are removed.
    let before: BTreeMap<String, String> = serde_json::from_str(before).unwrap_or_default();
    let sql = [LOCK, STATEMENT, BEFORE]
        .map(|name| alter(session, name, before.get(name).map(String::as_str)))
        .concat();
    session
        .script("take the role's time limits back", &sql)
        .await?;
    Ok(true)
}

fn before(settings: &RoleSettings) -> String {
    let kept = settings
        .iter()
        .filter(|(name, _)| [LOCK, STATEMENT].contains(&name.as_str()));
    let kept: BTreeMap<&String, &String> = kept.collect();
    // A map of texts is always JSON.
    serde_json::to_string(&kept).unwrap_or_default()
}

fn alter(session: &Session, name: &str, value: Option<&str>) -> String {
    let database = session.place().database.replace('"', "\"\"");
    let change = match value {
        Some(value) => format!("SET {name} = '{}'", value.replace('\'', "''")),
        None => format!("RESET {name}"),
    };
    format!("ALTER ROLE CURRENT_USER IN DATABASE \"{database}\" {change};\n")
}

async fn read(session: &Session) -> Result<RoleSettings, PostgresError> {
    let what = "read the role's settings";
    let sql = "
        SELECT unnest(s.setconfig) AS setting FROM pg_catalog.pg_db_role_setting s
        JOIN pg_catalog.pg_database d ON d.oid = s.setdatabase
        JOIN pg_catalog.pg_roles r ON r.oid = s.setrole
        WHERE d.datname = pg_catalog.current_database() AND r.rolname = current_user";
    let mut settings = RoleSettings::new();
    for row in session.rows(what, sql, &[]).await? {
        let setting: String = session.column(what, &row, "setting")?;
        if let Some((name, value)) = setting.split_once('=') {
            settings.insert(name.to_owned(), value.to_owned());
        }
    }
    Ok(settings)
}
