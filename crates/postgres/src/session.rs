//! A session: one connection, its time limits, and what is asked over it.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::future::poll_fn;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinHandle;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, Connection, Row};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::error::{Place, PostgresError};
use crate::settings::{CONNECT_TIMEOUT, ConnectionSettings};
use crate::tls::{self, Encryption};
use crate::url::ConnectionUrl;
use crate::version::ServerVersion;

/// What a prepared statement takes and gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatementShape {
    /// Types of its parameters, in order.
    pub parameters: Vec<String>,
    /// Names and types of its columns, in order.
    pub columns: Vec<(String, String)>,
}

/// An open session. Dropping it closes the connection.
///
/// Every question has a time limit: the server's `statement_timeout`, and a little more on our side for a
/// server that answers nothing at all.
pub struct Session {
    client: Client,
    place: Arc<Place>,
    version: ServerVersion,
    answer_limit: Option<Duration>,
    tls: MakeRustlsConnect,
    driver: JoinHandle<()>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Session({})", self.place)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Session {
    /// Connects and logs in.
    ///
    /// # Errors
    /// [`PostgresError`] of the connection: unreachable, TLS, refused.
    pub async fn open(
        url: &ConnectionUrl,
        settings: &ConnectionSettings,
    ) -> Result<Self, PostgresError> {
        let place = Arc::new(Place {
            server: url.server(),
            database: url.database.clone(),
            role: url.role.clone(),
        });
        let config = tls::client_config(url.tls, &url.roots)
            .map_err(|cause| PostgresError::of_roots(&place, cause))?;
        let tls = MakeRustlsConnect::new(config);
        let limit = url.connect_timeout.unwrap_or(CONNECT_TIMEOUT);
        let mut attempts = url.tls.attempts().iter().peekable();
        loop {
            let Some(encryption) = attempts.next() else {
                // `attempts` is never empty, and its last one returns below.
                return Err(PostgresError::NoGreeting { place, limit });
            };
            let config = config_of(url, settings, *encryption, limit);
            let opening = open(&config, tls.clone(), &place, settings);
            let opened = tokio::time::timeout(limit, opening).await;
            let opened = opened.unwrap_or_else(|_| {
                Err(OpenError::Ours(PostgresError::NoGreeting {
                    place: place.clone(),
                    limit,
                }))
            });
            match opened {
                Ok(session) => return Ok(session),
                Err(cause) if cause.may_differ() && attempts.peek().is_some() => {}
                Err(cause) => return Err(cause.into_error(&place, url.tls.name())),
            }
        }
    }

    /// Where this session is.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// The server's version.
    #[must_use]
    pub fn version(&self) -> ServerVersion {
        self.version
    }

    /// Asks a question with parameters and gives its rows. `what` says what for, as `read the catalog`.
    ///
    /// # Errors
    /// [`PostgresError`] of the statement.
    pub async fn rows(
        &self,
        what: &str,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, PostgresError> {
        self.within(what, self.client.query(sql, parameters)).await
    }

    /// Asks a question that has exactly one row for an answer.
    ///
    /// # Errors
    /// As [`Session::rows`], and [`PostgresError::Answer`] when it is not one row.
    pub async fn row(
        &self,
        what: &str,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Row, PostgresError> {
        self.within(what, self.client.query_one(sql, parameters))
            .await
    }

    /// Runs one statement with parameters and gives how many rows it touched.
    ///
    /// # Errors
    /// As [`Session::rows`].
    pub async fn execute(
        &self,
        what: &str,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<u64, PostgresError> {
        self.within(what, self.client.execute(sql, parameters))
            .await
    }

    /// Runs a script as one message: several statements of it are one transaction, unless the script says
    /// otherwise.
    ///
    /// # Errors
    /// As [`Session::rows`].
    pub async fn script(&self, what: &str, sql: &str) -> Result<(), PostgresError> {
        self.within(what, self.client.batch_execute(sql)).await
    }

    /// Has the server parse and plan one statement without running it.
    ///
    /// # Errors
    /// [`PostgresError`] of the statement, with the server's reason.
    pub async fn describe_statement(&self, sql: &str) -> Result<StatementShape, PostgresError> {
        let what = "prepare a statement";
        let prepared = self.within(what, self.client.prepare(sql)).await?;
        let columns = prepared.columns().iter();
        Ok(StatementShape {
            parameters: prepared.params().iter().map(ToString::to_string).collect(),
            columns: columns
                .map(|column| (column.name().to_owned(), column.type_().to_string()))
                .collect(),
        })
    }

    /// Asks the server to end what this session is doing, over a connection of its own.
    ///
    /// # Errors
    /// When the server cannot be asked; whether it obeys is seen at the statement that is cancelled.
    pub async fn cancel(&self) -> Result<(), PostgresError> {
        let token = self.client.cancel_token();
        let asked = tokio::time::timeout(CONNECT_TIMEOUT, token.cancel_query(self.tls.clone()));
        match asked.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(source)) => Err(PostgresError::Lost {
                what: "cancel a statement".into(),
                place: self.place.clone(),
                source,
            }),
            Err(_) => Err(PostgresError::NoAnswer {
                what: "cancel a statement".into(),
                place: self.place.clone(),
                limit: CONNECT_TIMEOUT,
            }),
        }
    }

    /// Reads a column of a row.
    ///
    /// # Errors
    /// As [`Session::rows`], when it is absent, of another type, or null where that is not expected.
    pub fn column<'row, T: tokio_postgres::types::FromSql<'row>>(
        &self,
        what: &str,
        row: &'row Row,
        name: &str,
    ) -> Result<T, PostgresError> {
        row.try_get(name)
            .map_err(|cause| PostgresError::of_statement(what, &self.place, cause))
    }

    async fn within<T>(
        &self,
        what: &str,
        asking: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, PostgresError> {
        let answer = match self.answer_limit {
            None => asking.await,
            Some(limit) => match tokio::time::timeout(limit, asking).await {
                Ok(answer) => answer,
                Err(_) => {
                    return Err(PostgresError::NoAnswer {
                        what: what.to_owned(),
                        place: self.place.clone(),
                        limit,
                    });
                }
            },
        };
        answer.map_err(|cause| PostgresError::of_statement(what, &self.place, cause))
    }
}

/// Why a connection did not come about, before it is known whether another way is left.
enum OpenError {
    Ours(PostgresError),
    Theirs(tokio_postgres::Error),
}

impl OpenError {
    /// Whether the same server may answer otherwise with or without TLS (libpq's `allow` and `prefer`).
    fn may_differ(&self) -> bool {
        match self {
            Self::Ours(_) => false,
            Self::Theirs(cause) => match cause.code() {
                Some(code) => code.code() == "28000",
                None => cause
                    .to_string()
                    .starts_with("error performing TLS handshake"),
            },
        }
    }

    fn into_error(self, place: &Arc<Place>, mode: &'static str) -> PostgresError {
        match self {
            Self::Ours(error) => error,
            Self::Theirs(cause) => PostgresError::of_connection(place, mode, cause),
        }
    }
}

async fn open(
    config: &Config,
    tls: MakeRustlsConnect,
    place: &Arc<Place>,
    settings: &ConnectionSettings,
) -> Result<Session, OpenError> {
    let connected = config.connect(tls.clone()).await;
    let (client, connection) = connected.map_err(OpenError::Theirs)?;
    let driver = tokio::spawn(drive(connection));
    let mut session = Session {
        client,
        place: place.clone(),
        version: ServerVersion::from_number(0),
        answer_limit: settings.answer_limit(),
        tls,
        driver,
    };
    session.version = session.read_version().await.map_err(OpenError::Ours)?;
    session.watch_client().await.map_err(OpenError::Ours)?;
    Ok(session)
}

impl Session {
    async fn read_version(&self) -> Result<ServerVersion, PostgresError> {
        let what = "read the server's version";
        let sql = "SELECT current_setting('server_version_num')::int4 AS version";
        let row = self.row(what, sql, &[]).await?;
        let version = ServerVersion::from_number(self.column(what, &row, "version")?);
        if version.major() < 11 {
            return Err(PostgresError::Unsupported {
                place: self.place.clone(),
                missing: format!("PostgreSQL {version} is older than 11"),
            });
        }
        Ok(version)
    }

    /// A server that is busy does not notice that its client is gone, and would work on for hours. Servers
    /// from 14 on can look.
    async fn watch_client(&self) -> Result<(), PostgresError> {
        if self.version.major() < 14 {
            return Ok(());
        }
        let sql = "SET client_connection_check_interval = '5s'; SET idle_session_timeout = 0";
        self.script("prepare the session", sql).await
    }
}

fn config_of(
    url: &ConnectionUrl,
    settings: &ConnectionSettings,
    encryption: Encryption,
    limit: Duration,
) -> Config {
    let mut config = Config::new();
    config
        .host(&url.host)
        .port(url.port)
        .user(&url.role)
        .dbname(&url.database)
        .application_name(&settings.application_name)
        .options(settings.options(url.options.as_deref()))
        .ssl_mode(encryption.mode())
        .connect_timeout(limit)
        .keepalives_idle(Duration::from_secs(30))
        .keepalives_interval(Duration::from_secs(10))
        .keepalives_retries(3)
        .tcp_user_timeout(Duration::from_secs(60));
    if let Some(password) = &url.password {
        config.password(password.expose());
    }
    config
}

async fn drive<S, T>(mut connection: Connection<S, T>)
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    // An error of the connection is told to whoever waits for an answer; what the server says beside its answers is
    // nobody's.
    while let Some(Ok(_)) = poll_fn(|context| connection.poll_message(context)).await {}
}
