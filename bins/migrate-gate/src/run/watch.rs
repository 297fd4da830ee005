//! What a tool waits for while it runs: told as it changes, and kept for the report. It shows who is in
//! the way and never the statement, which may hold values.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::convert::Infallible;
use std::time::Duration;

use switchyard_postgres::{Activity, Blocked, PostgresError, Session};
use switchyard_runner::Console;

use super::tool::APPLICATION_NAME;

/// Time between two looks. A lock that is held for less is not worth a line.
const EVERY: Duration = Duration::from_secs(1);

/// How long the rollback of a session that was ended may take before a person is told. A cancelled step has
/// seconds.
const ENDING: Duration = Duration::from_secs(3);

/// Sessions that were in the way of a tool, each in one line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct InTheWay {
    /// By their processes, as they were first seen.
    lines: BTreeMap<i32, String>,
    unseen: Option<String>,
}

impl InTheWay {
    /// The sessions, in one text; empty when none was seen.
    pub(crate) fn text(&self) -> String {
        let lines: Vec<&str> = self.lines.values().map(String::as_str).collect();
        match (&self.unseen, lines.is_empty()) {
            (None, _) | (_, false) => lines.join("; "),
            (Some(why), true) => format!("it could not be seen who: {why}"),
        }
    }

    fn add(&mut self, blocked: &[Blocked], console: &Console, place: &str) {
        for one in blocked.iter().filter(|one| is_of_tool(&one.waiting)) {
            for blocker in &one.by {
                let Entry::Vacant(new) = self.lines.entry(blocker.process) else {
                    continue;
                };
                let line = new.insert(without_statement(blocker));
                console.progress(format!("{place}: the migration waits for {line}"));
            }
        }
    }
}

fn is_of_tool(activity: &Activity) -> bool {
    activity.application.as_deref() == Some(APPLICATION_NAME)
}

pub(crate) fn without_statement(activity: &Activity) -> String {
    let activity = Activity {
        statement: None,
        ..activity.clone()
    };
    activity.to_string()
}

/// Looks until it is dropped. Not being able to look ends nothing: the tool has its own limits.
pub(crate) async fn watch(session: &Session, console: &Console, seen: &mut InTheWay) -> Infallible {
    let place = session.place().to_string();
    loop {
        match session.blocked().await {
            Ok(blocked) => seen.add(&blocked, console, &place),
            Err(error) if error.is_lost() => {
                seen.unseen = Some(error.to_string());
                return std::future::pending().await;
            }
            Err(error) => seen.unseen = Some(error.to_string()),
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// Waits until no session of an earlier tool is left: one whose gate was killed goes on by itself.
///
/// # Errors
/// When the server does not answer, or one is left after the limit: the answer says which.
pub(crate) async fn wait_for_earlier(
    session: &Session,
    console: &Console,
    limit: Duration,
) -> Result<Option<String>, PostgresError> {
    let begin = tokio::time::Instant::now();
    let mut is_told = false;
    loop {
        let left = sessions_of_tools(session).await?;
        if left.is_empty() {
            return Ok(None);
        }
        let text = format!(
            "processes {} of an earlier run still work on {}",
            left.iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(", "),
            session.place()
        );
        if begin.elapsed() >= limit {
            return Ok(Some(text));
        }
        if !is_told {
            console.progress(&text);
            is_told = true;
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// Ends the sessions of a tool that was ended, and waits until they are gone.
///
/// # Errors
/// When the server does not answer.
pub(crate) async fn end_sessions(
    session: &Session,
    console: &Console,
) -> Result<(), PostgresError> {
    let what = "end the sessions of the tool";
    let sql = "SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity
               WHERE datname = pg_catalog.current_database() AND application_name = $1";
    let ended = session.rows(what, sql, &[&APPLICATION_NAME]).await?.len();
    if ended > 0 {
        console.info(format!(
            "{}: {ended} sessions of the tool are ended; what they had not committed is rolled back",
            session.place()
        ));
    }
    let left = wait_for_earlier(session, console, ENDING).await?;
    if let Some(left) = left {
        console.warning("migrate-gate", left);
    }
    Ok(())
}

async fn sessions_of_tools(session: &Session) -> Result<Vec<i32>, PostgresError> {
    let what = "look for sessions of an earlier run";
    let sql = "SELECT pid FROM pg_catalog.pg_stat_activity
               WHERE datname = pg_catalog.current_database() AND application_name = $1 ORDER BY pid";
    let rows = session.rows(what, sql, &[&APPLICATION_NAME]).await?;
    rows.iter()
        .map(|row| session.column(what, row, "pid"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn activity(process: i32, application: &str, open: u64) -> Activity {
        Activity {
            process,
            role: Some("web".to_owned()),
            application: Some(application.to_owned()),
            address: None,
            state: Some("idle in transaction".to_owned()),
            transaction_open: Some(Duration::from_secs(open)),
            statement: Some("UPDATE users SET email = 'dana@example.com'".to_owned()),
        }
    }

    #[test]
    fn who_is_in_the_way_is_told_once_and_without_the_statement() {
        let console = Console::plain(Box::new(std::io::sink()));
        let mut seen = InTheWay::default();
        for open in [3, 4] {
            let blocked = Blocked {
                waiting: activity(1, APPLICATION_NAME, 1),
                by: vec![activity(2, "shop", open)],
            };
            let of_others = Blocked {
                waiting: activity(3, "shop", 1),
                by: vec![activity(4, "shop", open)],
            };
            seen.add(&[blocked, of_others], &console, "shop");
        }
        assert_eq!(
            seen.text(),
            "process 2 (shop, role web, idle in transaction, transaction open for 3 s)"
        );
    }
}
