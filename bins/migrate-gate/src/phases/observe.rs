//! Looks at the statements of a database twice, with a time between.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use switchyard_postgres::{PostgresError, Session, StatisticsAnswer};
use switchyard_runner::{Console, values};

use super::growth::{Growth, Sample};
use crate::queries::Statement;

/// Time between two reports.
const REPORT_EVERY: Duration = Duration::from_secs(10);

/// Views upon each table, also those upon views of it, by the tables' own names.
pub(super) type Views = BTreeMap<String, BTreeSet<String>>;

/// What was observed of a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Observed {
    /// These statements were sent, and by them is judged what still runs.
    Sent {
        /// The statements, most calls first.
        statements: Vec<Statement>,
        /// Views through which they may use a table.
        views: Views,
    },
    /// It could not be.
    Unknown(String),
}

/// Takes two samples.
///
/// # Errors
/// When the server does not answer.
pub(super) async fn observe(
    session: &Session,
    pause: Duration,
    console: &Console,
) -> Result<Observed, PostgresError> {
    let first = match sample(session).await? {
        Ok(first) => first,
        Err(reason) => return Ok(Observed::Unknown(reason)),
    };
    wait(session, pause, console).await;
    let second = match sample(session).await? {
        Ok(second) => second,
        Err(reason) => return Ok(Observed::Unknown(reason)),
    };
    if is_full(session, second.len()).await? {
        let reason = "`pg_stat_statements` is full and forgets statements (pg_stat_statements.max)";
        return Ok(Observed::Unknown(reason.to_owned()));
    }
    let observed = match first.until(&second) {
        Growth::Grew(statements) => Observed::Sent {
            statements,
            views: views(session).await?,
        },
        Growth::Silence => Observed::Unknown(format!(
            "no application sent anything within {}, so nothing says which version runs",
            values::show_duration(pause)
        )),
        Growth::Reset => Observed::Unknown("the counts were reset between the samples".to_owned()),
    };
    Ok(observed)
}

async fn sample(session: &Session) -> Result<Result<Sample, String>, PostgresError> {
    let reason = match session.statement_statistics().await? {
        StatisticsAnswer::Counted(counted) => return Ok(Ok(Sample::of(counted))),
        StatisticsAnswer::Absent => "the database has no extension `pg_stat_statements`",
        StatisticsAnswer::NotLoaded => "the server does not load `pg_stat_statements`",
        StatisticsAnswer::Hidden => {
            "the role may not see the statements of others (grant it pg_read_all_stats)"
        }
    };
    Ok(Err(reason.to_owned()))
}

async fn wait(session: &Session, pause: Duration, console: &Console) {
    let begin = Instant::now();
    loop {
        let passed = begin.elapsed();
        let Some(left) = pause.checked_sub(passed).filter(|left| !left.is_zero()) else {
            return;
        };
        console.progress(format!(
            "watching the statements of {}: {} of {}",
            session.place(),
            values::show_duration(passed),
            values::show_duration(pause)
        ));
        tokio::time::sleep(left.min(REPORT_EVERY)).await;
    }
}

/// Whether statements are forgotten: nineteen of twenty places are taken. The counts are the whole server's, so this
/// database's alone are a lower bound.
async fn is_full(session: &Session, held: usize) -> Result<bool, PostgresError> {
    let what = "read how many statements are counted";
    let sql = "SELECT pg_catalog.current_setting('pg_stat_statements.max', true) AS most";
    let row = session.row(what, sql, &[]).await?;
    let most: Option<String> = session.column(what, &row, "most")?;
    let most: Option<usize> = most.and_then(|most| most.parse().ok());
    Ok(most.is_some_and(|most| held >= most - most / 20))
}

async fn views(session: &Session) -> Result<Views, PostgresError> {
    let what = "read the views upon tables";
    let sql = "
        WITH RECURSIVE upon AS (
          SELECT DISTINCT d.refobjid AS base, r.ev_class AS view
          FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_rewrite r ON r.oid = d.objid
          WHERE d.classid = 'pg_catalog.pg_rewrite'::regclass AND d.refclassid = 'pg_catalog.pg_class'::regclass
            AND d.refobjid <> r.ev_class
        ), reached AS (
          SELECT base, view FROM upon
          UNION SELECT r.base, u.view FROM reached r JOIN upon u ON u.base = r.view
        )
        SELECT b.relname::text AS base, v.relname::text AS view
        FROM reached JOIN pg_catalog.pg_class b ON b.oid = base JOIN pg_catalog.pg_class v ON v.oid = view";
    let mut views = Views::new();
    for row in session.rows(what, sql, &[]).await? {
        let base = session.column(what, &row, "base")?;
        let view = session.column(what, &row, "view")?;
        views.entry(base).or_default().insert(view);
    }
    Ok(views)
}
