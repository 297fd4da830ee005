//! The exchange of a database for its restored copy. Which of the names are there says how far it is, so a
//! killed exchange is gone on with by looking.

use std::sync::Arc;
use std::time::Duration;

use switchyard_postgres::{Place, PostgresError, Session, identifier, literal};
use switchyard_runner::Console;
use tokio::time::Instant;

/// How long sessions may take to end after they were told to.
const ENDING: Duration = Duration::from_secs(30);

/// Time between two looks at them.
const PAUSE: Duration = Duration::from_millis(100);

/// Longest name of a database, in bytes (`NAMEDATALEN` − 1).
const LONGEST_NAME: usize = 63;

/// The names that an exchange needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Names {
    /// The database as everybody calls it.
    pub(super) live: String,
    /// The restored copy until it takes that name.
    pub(super) restored: String,
    /// What the replaced database is called afterwards.
    pub(super) replaced: String,
}

impl Names {
    /// The names for a backup: the same backup has the same names, also after a crash.
    pub(super) fn of(live: &str, backup: &str) -> Self {
        let mark: String = backup
            .chars()
            .filter(char::is_ascii_alphanumeric)
            .take(8)
            .collect();
        Self {
            live: live.to_owned(),
            restored: named(live, &format!("_restored_{mark}")),
            replaced: named(live, &format!("_replaced_{mark}")),
        }
    }
}

fn named(live: &str, suffix: &str) -> String {
    let mut end = live.len().min(LONGEST_NAME - suffix.len());
    while !live.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{suffix}", &live[..end])
}

/// Which of the names are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Present {
    pub(super) live: bool,
    pub(super) restored: bool,
    pub(super) replaced: bool,
}

/// What is to be done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Make the copy, anew where an earlier one was not finished.
    Restore,
    /// The old one has its new name, the copy has not: rename the copy.
    Finish,
    /// The backup is in place since an earlier exchange.
    InPlace,
    /// The database is not there and neither is a copy.
    Absent,
}

/// Decides by what is there.
pub(super) fn next(present: Present) -> Next {
    match present {
        Present {
            live: true,
            replaced: false,
            ..
        } => Next::Restore,
        Present {
            live: false,
            restored: true,
            replaced: true,
        } => Next::Finish,
        Present {
            live: true,
            replaced: true,
            ..
        } => Next::InPlace,
        Present { live: false, .. } => Next::Absent,
    }
}

/// Looks which of the names are there.
///
/// # Errors
/// As the server's.
pub(super) async fn look(session: &Session, names: &Names) -> Result<Present, PostgresError> {
    let what = "look for the databases of the exchange";
    let sql = "SELECT datname::text AS name FROM pg_catalog.pg_database WHERE datname = ANY ($1)";
    let all = vec![
        names.live.clone(),
        names.restored.clone(),
        names.replaced.clone(),
    ];
    let mut there = Vec::new();
    for row in session.rows(what, sql, &[&all]).await? {
        there.push(session.column::<String>(what, &row, "name")?);
    }
    Ok(Present {
        live: there.contains(&names.live),
        restored: there.contains(&names.restored),
        replaced: there.contains(&names.replaced),
    })
}

/// Has the transactions of new sessions only read.
const READ_ONLY: &str = "default_transaction_read_only";

/// Values of [`READ_ONLY`] that mean `on` and that nobody else writes so: they mark a database whose sessions may only
/// read because an exchange is going on, and say what was set before. Whoever comes after a killed run finds it in
/// the database itself. A setting with a name of ours would do too, were it not for superusers alone to give.
const INSTEAD_OF_NONE: &str = "tRUE";
const INSTEAD_OF_OFF: &str = "yES";

/// Lets new sessions of the database only read, and ends those that are there: what is counted then is what would
/// be lost. Reading goes on.
///
/// # Errors
/// As the server's; also when a session that could write has not ended.
pub(super) async fn stop_writes(
    session: &Session,
    names: &Names,
    console: &Console,
) -> Result<(), PostgresError> {
    if let Some(mark) = mark(read_only(session, &names.live).await?.as_deref()) {
        let sql = alter(&names.live, READ_ONLY, Some(mark));
        session.script("stop the writes", &sql).await?;
    }
    if end_sessions(session, &names.live, console).await? > 0 {
        return Err(PostgresError::NoAnswer {
            what: "end the sessions that can write".to_owned(),
            place: Arc::new(Place {
                database: names.live.clone(),
                ..session.place().clone()
            }),
            limit: ENDING,
        });
    }
    console.info(format!("`{}` only reads from here on", names.live));
    Ok(())
}

/// What stops the writes of a database with this setting; `None` where they are stopped already.
fn mark(before: Option<&str>) -> Option<&'static str> {
    let Some(before) = before else {
        return Some(INSTEAD_OF_NONE);
    };
    // The server takes every beginning of `true` and `yes`, in any case.
    let before = before.to_ascii_lowercase();
    let is_on = before == "on" || before.starts_with(['t', 'y', '1']);
    (!is_on).then_some(INSTEAD_OF_OFF)
}

/// Lets the database, where it has its name, take connections and be written again. Nothing else of it is changed.
///
/// # Errors
/// As the server's.
pub(super) async fn reopen(session: &Session, names: &Names) -> Result<(), PostgresError> {
    // One that lost its name to a cut exchange gets it back, or the copy gets it, by the next run.
    if !look(session, names).await?.live {
        return Ok(());
    }
    open(session, &names.live).await?;
    let before = match read_only(session, &names.live).await?.as_deref() {
        Some(INSTEAD_OF_NONE) => None,
        Some(INSTEAD_OF_OFF) => Some("off"),
        Some(_) | None => return Ok(()),
    };
    let sql = alter(&names.live, READ_ONLY, before);
    session.script("allow writes", &sql).await
}

fn alter(database: &str, name: &str, value: Option<&str>) -> String {
    let database = identifier(database);
    match value {
        Some(value) => format!("ALTER DATABASE {database} SET {name} = {}", literal(value)),
        None => format!("ALTER DATABASE {database} RESET {name}"),
    }
}

/// What [`READ_ONLY`] is set to for every role of a database, in the words of who set it.
async fn read_only(session: &Session, database: &str) -> Result<Option<String>, PostgresError> {
    let what = "read the settings of the database";
    let sql = "
        SELECT setting FROM pg_catalog.pg_db_role_setting s
        JOIN pg_catalog.pg_database d ON d.oid = s.setdatabase, unnest(s.setconfig) AS setting
        WHERE d.datname = $1 AND s.setrole = 0";
    for row in session.rows(what, sql, &[&database]).await? {
        let setting: String = session.column(what, &row, "setting")?;
        if let Some((READ_ONLY, value)) = setting.split_once('=') {
            return Ok(Some(value.to_owned()));
        }
    }
    Ok(None)
}

/// Cuts every session of the database and gives its name to the copy. Between the two renames nobody finds the
/// database, for as long as one statement takes.
///
/// # Errors
/// As the server's; what has to be done then is [`reopen`].
pub(super) async fn exchange(
    session: &Session,
    names: &Names,
    console: &Console,
) -> Result<(), PostgresError> {
    close_and_rename(session, names, console).await?;
    finish(session, names).await
}

/// Gives the copy the name, and opens the replaced one for who wants to look.
///
/// # Errors
/// As the server's.
pub(super) async fn finish(session: &Session, names: &Names) -> Result<(), PostgresError> {
    rename(session, &names.restored, &names.live).await?;
    open(session, &names.replaced).await
}

async fn open(session: &Session, database: &str) -> Result<(), PostgresError> {
    let database = identifier(database);
    let sql = format!("ALTER DATABASE {database} ALLOW_CONNECTIONS true");
    session.script("open the database", &sql).await
}

async fn close_and_rename(
    session: &Session,
    names: &Names,
    console: &Console,
) -> Result<(), PostgresError> {
    let live = identifier(&names.live);
    let sql = format!("ALTER DATABASE {live} ALLOW_CONNECTIONS false");
    session.script("close the database", &sql).await?;
    let begin = Instant::now();
    loop {
        // What is left then is told by the server, which refuses the name.
        end_sessions(session, &names.live, console).await?;
        match rename(session, &names.live, &names.replaced).await {
            // object_in_use: one that was let in just before it was closed, or the server's own.
            Err(error) if error.sql_state() == Some("55006") && begin.elapsed() < ENDING => {
                tokio::time::sleep(PAUSE).await;
            }
            renamed => return renamed,
        }
    }
}

/// Ends the sessions that clients have in the database, and waits until they are gone: one that was told to end may
/// still commit. Gives how many are left when it waited long enough. What the server itself does there (autovacuum)
/// is none of them.
async fn end_sessions(
    session: &Session,
    database: &str,
    console: &Console,
) -> Result<usize, PostgresError> {
    // The kind of a session is hidden from who may not see the activity of its role; then it has one.
    let sql = "SELECT pid, pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity
               WHERE datname = $1 AND pid <> pg_catalog.pg_backend_pid()
                 AND (backend_type = 'client backend' OR backend_type IS NULL AND usesysid IS NOT NULL)";
    let what = "end the sessions of the database";
    let mut ended: Vec<i32> = Vec::new();
    for row in session.rows(what, sql, &[&database]).await? {
        ended.push(session.column(what, &row, "pid")?);
    }
    if ended.is_empty() {
        return Ok(0);
    }
    console.info(format!(
        "{} sessions of `{database}` are told to end",
        ended.len()
    ));
    let begin = Instant::now();
    loop {
        let left = left(session, database, &ended).await?;
        if left == 0 || begin.elapsed() >= ENDING {
            return Ok(left);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn left(session: &Session, database: &str, ended: &[i32]) -> Result<usize, PostgresError> {
    let what = "look whether the sessions have ended";
    let sql = "SELECT pid FROM pg_catalog.pg_stat_activity WHERE datname = $1 AND pid = ANY ($2)";
    let rows = session.rows(what, sql, &[&database, &ended]).await?;
    Ok(rows.len())
}

async fn rename(session: &Session, from: &str, to: &str) -> Result<(), PostgresError> {
    let sql = format!(
        "ALTER DATABASE {} RENAME TO {}",
        identifier(from),
        identifier(to)
    );
    session.script("rename the database", &sql).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_has_its_names_and_they_are_short_enough() {
        let names = Names::of("shop", "0123abcd4567");
        assert_eq!(names.restored, "shop_restored_0123abcd");
        assert_eq!(names.replaced, "shop_replaced_0123abcd");
        let long = Names::of(&"ü".repeat(40), "0123abcd");
        assert!(long.restored.len() <= 63 && long.restored.ends_with("_restored_0123abcd"));
    }

    #[test]
    fn writes_that_are_stopped_already_are_left_as_they_are() {
        assert_eq!(mark(None), Some(INSTEAD_OF_NONE));
        for before in ["off", "OF", "false", "n", "0"] {
            assert_eq!(mark(Some(before)), Some(INSTEAD_OF_OFF), "{before}");
        }
        for before in ["on", "ON", "t", "yes", "1", INSTEAD_OF_NONE, INSTEAD_OF_OFF] {
            assert_eq!(mark(Some(before)), None, "{before}");
        }
    }

    #[test]
    fn what_is_there_says_how_far_an_exchange_is() {
        let present = |live, restored, replaced| Present {
            live,
            restored,
            replaced,
        };
        for (seen, expected) in [
            (present(true, false, false), Next::Restore),
            (present(true, true, false), Next::Restore),
            (present(false, true, true), Next::Finish),
            (present(true, false, true), Next::InPlace),
            (present(true, true, true), Next::InPlace),
            (present(false, false, false), Next::Absent),
            (present(false, true, false), Next::Absent),
            (present(false, false, true), Next::Absent),
        ] {
            assert_eq!(next(seen), expected, "{seen:?}");
        }
    }
}
