//! A scratch database: made from `template0` for one restoration, never one that was there before, and taken away
//! afterwards. Its comment says that it is one and since when, so that what a killed process left is found.

use std::path::Path;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use switchyard_postgres::{
    ConnectionSettings, ConnectionUrl, PostgresError, SchemaDescription, ServerSettings,
    ServerVersion, Session, identifier, literal, pin_output,
};
use switchyard_runner::Failure;

use super::count::{Counted, count};
use super::dump::counting;
use super::programs::Programs;
use crate::database;

/// How long a database may take to be made or taken away: a server may write a checkpoint first.
const MAKING_LIMIT: Duration = Duration::from_secs(300);

/// What the comment of every scratch database begins with; the moment of its making follows.
const MARK: &str = "switchyard scratch database, made ";

/// When a scratch database without sessions is nobody's any more. Longer than any restoration that goes on.
const LEFT_BEHIND: SignedDuration = SignedDuration::from_hours(24);

/// A database for one restoration.
#[derive(Debug)]
pub(crate) struct Scratch {
    admin: ConnectionUrl,
    url: ConnectionUrl,
    version: ServerVersion,
}

/// Why there is no scratch database.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ScratchError {
    /// The role may not make any.
    #[error("role `{role}` may not create databases on {server}")]
    NoRight { role: String, server: String },
    /// There is one of that name, which is somebody's.
    #[error("database `{name}` exists already on {server}")]
    Exists { name: String, server: String },
    /// What was named as a kept copy does not say that it is one.
    #[error("database `{name}` on {server} is no copy that a backup has kept")]
    NotKept { name: String, server: String },
    /// The server failed.
    #[error(transparent)]
    Postgres(#[from] PostgresError),
}

impl ScratchError {
    /// What to do about it.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::NoRight { .. } => Some(
                "give `verify-url` the URL of a server where the role has CREATEDB".to_owned(),
            ),
            Self::Exists { .. } => Some(
                "nothing of yours is written over: give another `scratch-database`, or drop that one".to_owned(),
            ),
            Self::NotKept { .. } => Some(
                "nothing was changed; give the output `copies` of a `backup` with `keep-copy: true`: a copy is taken away after its rehearsal".to_owned(),
            ),
            Self::Postgres(cause) => cause.hint(),
        }
    }

    /// As the failure of a step.
    pub(crate) fn failure(self) -> Failure {
        let hint = self.hint();
        match self {
            Self::NoRight { .. } | Self::Exists { .. } | Self::NotKept { .. } => {
                Failure::input(self).maybe_hint(hint)
            }
            Self::Postgres(cause) => Failure::remote(cause).maybe_hint(hint),
        }
    }
}

impl Scratch {
    /// Makes a database as the original was made. `admin` leads to any database of the server.
    ///
    /// # Errors
    /// [`ScratchError`]; nothing is left then.
    pub(crate) async fn create(
        admin: &ConnectionUrl,
        name: &str,
        settings: &ServerSettings,
    ) -> Result<Self, ScratchError> {
        let session = open(admin).await?;
        if !session.rights().await?.can_create_databases {
            return Err(ScratchError::NoRight {
                role: admin.role().to_owned(),
                server: admin.server(),
            });
        }
        let sql = settings.create_database(name, session.version());
        match session.script("make the scratch database", &sql).await {
            Ok(()) => {
                let scratch = Self {
                    admin: admin.clone(),
                    url: admin.with_database(name),
                    version: session.version(),
                };
                scratch.marked(&session).await
            }
            // duplicate_database, or its unique index where two make it at once.
            Err(cause) if matches!(cause.sql_state(), Some("42P04" | "23505")) => {
                Err(ScratchError::Exists {
                    name: name.to_owned(),
                    server: admin.server(),
                })
            }
            Err(cause) => Err(cause.into()),
        }
    }

    /// Says in its comment what it is; one that cannot be marked is taken away again.
    async fn marked(self, session: &Session) -> Result<Self, ScratchError> {
        let sql = format!(
            "COMMENT ON DATABASE {} IS {}",
            identifier(self.url.database()),
            literal(&format!("{MARK}{}", Timestamp::now()))
        );
        match session.script("mark the scratch database", &sql).await {
            Ok(()) => Ok(self),
            Err(cause) => {
                self.drop().await?;
                Err(cause.into())
            }
        }
    }

    /// The copy that an earlier step kept. `admin` leads to any other database of its server.
    ///
    /// # Errors
    /// [`ScratchError::NotKept`] for a database whose comment does not say so: it may be anybody's.
    pub(crate) async fn kept(admin: &ConnectionUrl, name: &str) -> Result<Self, ScratchError> {
        let session = open(admin).await?;
        let what = "look whether the copy is one that was kept";
        let sql = "
            SELECT coalesce(pg_catalog.shobj_description(oid, 'pg_database'), '') AS comment
            FROM pg_catalog.pg_database WHERE datname = $1";
        let rows = session.rows(what, sql, &[&name]).await?;
        let comment = rows
            .first()
            .map(|row| session.column::<String>(what, row, "comment"));
        if !comment
            .transpose()?
            .is_some_and(|comment| comment.starts_with(MARK))
        {
            return Err(ScratchError::NotKept {
                name: name.to_owned(),
                server: admin.server(),
            });
        }
        Ok(Self {
            admin: admin.clone(),
            url: admin.with_database(name),
            version: session.version(),
        })
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        self.url.database()
    }

    /// Version of its server.
    pub(crate) fn version(&self) -> ServerVersion {
        self.version
    }

    /// Takes it away with whatever is connected to it.
    ///
    /// # Errors
    /// When the server does not; its name is in the text.
    pub(crate) async fn drop(self) -> Result<(), PostgresError> {
        let session = open(&self.admin).await?;
        let force = if session.version().major() >= 13 {
            " WITH (FORCE)"
        } else {
            ""
        };
        let name = identifier(self.url.database());
        let what = format!("drop the scratch database {name}");
        session
            .script(&what, &format!("DROP DATABASE IF EXISTS {name}{force}"))
            .await
    }

    /// Restores a dump into it: the first error ends it, owners and grants are left out.
    ///
    /// # Errors
    /// Kind remote with the last lines of `pg_restore`.
    pub(crate) async fn restore(
        &self,
        dump: &Path,
        jobs: u8,
        programs: &Programs,
    ) -> Result<(), Failure> {
        let arguments = [
            "--exit-on-error".to_owned(),
            "--no-owner".to_owned(),
            "--no-privileges".to_owned(),
            "--no-password".to_owned(),
            format!("--jobs={jobs}"),
            format!("--dbname={}", connection_text(self.url.database())),
            dump.display().to_string(),
        ];
        programs.run("pg_restore", &arguments, &self.url).await
    }

    /// Counts what is in it, and describes its schema.
    ///
    /// # Errors
    /// Kind remote when the server fails.
    pub(crate) async fn look(&self, jobs: u8) -> Result<(SchemaDescription, Counted), Failure> {
        look(&self.url, jobs).await
    }
}

/// Takes the scratch databases of this role away that killed processes left: those a day old that nobody is connected
/// to. Gives their names.
///
/// # Errors
/// When the server fails; the next backup tries again.
pub(crate) async fn sweep(admin: &ConnectionUrl) -> Result<Vec<String>, PostgresError> {
    let session = open(admin).await?;
    let what = "look for scratch databases that were left behind";
    let sql = "
        SELECT d.datname::text AS name, c.comment
        FROM pg_catalog.pg_database d,
             pg_catalog.shobj_description(d.oid, 'pg_database') AS c (comment)
        WHERE c.comment IS NOT NULL AND d.datname <> pg_catalog.current_database()
          AND d.datdba = (SELECT r.oid FROM pg_catalog.pg_roles r WHERE r.rolname = current_user)
          AND NOT EXISTS (SELECT FROM pg_catalog.pg_stat_activity a WHERE a.datid = d.oid)
        ORDER BY 1";
    let mut swept = Vec::new();
    for row in session.rows(what, sql, &[]).await? {
        let comment: String = session.column(what, &row, "comment")?;
        if !is_left_behind(&comment, Timestamp::now()) {
            continue;
        }
        let name: String = session.column(what, &row, "name")?;
        // Without force: whoever has connected since keeps it.
        let sql = format!("DROP DATABASE IF EXISTS {}", identifier(&name));
        session
            .script(&format!("drop the scratch database `{name}`"), &sql)
            .await?;
        swept.push(name);
    }
    Ok(swept)
}

/// Whether a comment is a scratch database's whose process must have ended.
fn is_left_behind(comment: &str, now: Timestamp) -> bool {
    let made = comment.strip_prefix(MARK);
    let made = made.and_then(|text| text.parse::<Timestamp>().ok());
    made.is_some_and(|made| now.duration_since(made) > LEFT_BEHIND)
}

/// Counts what is in a database, and describes its schema.
///
/// # Errors
/// Kind remote when the server fails.
pub(crate) async fn look(
    url: &ConnectionUrl,
    jobs: u8,
) -> Result<(SchemaDescription, Counted), Failure> {
    let looked = async {
        let mut sessions = Vec::new();
        for _ in 0..=jobs {
            let session = Session::open(url, &counting()).await?;
            session.script("begin to count", "BEGIN READ ONLY").await?;
            pin_output(&session).await?;
            sessions.push(session);
        }
        let large_objects = Session::open(url, &counting()).await?;
        let mut counted = count(&sessions, &large_objects).await?;
        counted.contents.sequences = large_objects.sequence_positions().await?;
        Ok((large_objects.describe_schema().await?, counted))
    };
    looked.await.map_err(database::failure)
}

async fn open(url: &ConnectionUrl) -> Result<Session, PostgresError> {
    let settings = ConnectionSettings {
        statement_timeout: MAKING_LIMIT,
        ..ConnectionSettings::reading("switchyard migrate-gate")
    };
    Session::open(url, &settings).await
}

/// `--dbname` is read as a connection text where it looks like one, so it always is one.
pub(crate) fn connection_text(database: &str) -> String {
    format!(
        "dbname='{}'",
        database.replace('\\', "\\\\").replace('\'', "\\'")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_says_that_it_is_a_days_old_scratch_database_is_left_behind() {
        let now: Timestamp = "2026-01-03T00:00:00Z".parse().unwrap();
        let made = |text: &str| is_left_behind(&format!("{MARK}{text}"), now);
        assert!(made("2026-01-01T23:59:59Z"));
        assert!(!made("2026-01-02T00:00:01Z"));
        assert!(!made("2026-01-04T00:00:00Z"), "another clock");
        assert!(!made("yesterday"));
        assert!(!is_left_behind("the shop's data", now));
    }

    #[test]
    fn a_name_stays_a_name() {
        assert_eq!(connection_text("host=x' y\\"), "dbname='host=x\\' y\\\\'");
    }
}
