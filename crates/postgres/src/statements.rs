//! The statements that clients sent, as `pg_stat_statements` counted them.

use serde::{Deserialize, Serialize};

use crate::error::PostgresError;
use crate::quoting::identifier;
use crate::session::Session;

/// One statement with how often it was sent. The counts grow until somebody resets them: what is still in use is
/// seen by two samples.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StatementStatistics {
    /// Id of the statement; the same over both samples.
    pub query_id: i64,
    /// Its text with parameters in place of constants.
    pub text: String,
    /// Who sent it.
    pub role: Option<String>,
    /// How often.
    pub calls: i64,
}

/// What the server can say about statements.
#[derive(Debug, Clone, PartialEq)]
pub enum StatisticsAnswer {
    /// The extension is not in this database.
    Absent,
    /// It is there, and the server does not load it.
    NotLoaded,
    /// It is there, and the role does not see the texts of others.
    Hidden,
    /// The statements of this database, most calls first.
    Counted(Vec<StatementStatistics>),
}

impl Session {
    /// Reads what `pg_stat_statements` counted in this database, top-level statements alone.
    ///
    /// # Errors
    /// As [`Session::rows`].
    pub async fn statement_statistics(&self) -> Result<StatisticsAnswer, PostgresError> {
        let what = "read pg_stat_statements";
        let extensions = self.extensions().await?;
        let found = extensions
            .iter()
            .find(|one| one.name == "pg_stat_statements");
        let Some(extension) = found else {
            return Ok(StatisticsAnswer::Absent);
        };
        let top_level = if self.version().major() >= 14 {
            "AND s.toplevel"
        } else {
            ""
        };
        let sql = format!(
            "SELECT coalesce(s.queryid, 0) AS query_id, s.query AS text, r.rolname::text AS role, s.calls
             FROM {}.pg_stat_statements s LEFT JOIN pg_catalog.pg_roles r ON r.oid = s.userid
             WHERE s.dbid = (SELECT oid FROM pg_catalog.pg_database
                             WHERE datname = pg_catalog.current_database()) {top_level}
             ORDER BY s.calls DESC, s.queryid",
            identifier(&extension.schema)
        );
        let rows = match self.rows(what, &sql, &[]).await {
            Ok(rows) => rows,
            // object_not_in_prerequisite_state: it has to be in shared_preload_libraries.
            Err(cause) if cause.sql_state() == Some("55000") => {
                return Ok(StatisticsAnswer::NotLoaded);
            }
            Err(cause) => return Err(cause),
        };
        let mut statements = Vec::with_capacity(rows.len());
        for row in &rows {
            let text: Option<String> = self.column(what, row, "text")?;
            let text = text.filter(|text| text != "<insufficient privilege>");
            let Some(text) = text else {
                return Ok(StatisticsAnswer::Hidden);
            };
            statements.push(StatementStatistics {
                query_id: self.column(what, row, "query_id")?,
                text,
                role: self.column(what, row, "role")?,
                calls: self.column(what, row, "calls")?,
            });
        }
        Ok(StatisticsAnswer::Counted(statements))
    }
}
