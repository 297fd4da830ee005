//! The URL of a database: parsed once, never shown with its password.
//!
//! Parameters are those of libpq, and those that Prisma adds for its own client. A parameter that is not
//! known is refused: a misspelt `sslmode` must not become a connection without encryption.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use percent_encoding::{percent_decode_str, utf8_percent_encode};
use switchyard_runner::Secret;
use url::Url;

use crate::settings::ConnectionSettings;
use crate::tls::{RootCertificates, TlsMode};

/// Parameters of Prisma and other clients that say nothing about how we connect.
const OF_OTHER_CLIENTS: &[&str] = &[
    "connection_limit",
    "pool_timeout",
    "socket_timeout",
    "statement_cache_size",
    "target_session_attrs",
];

/// Where a database is and who asks. Its `Debug` and `Display` show neither password nor parameters.
#[derive(Clone, PartialEq, Eq)]
pub struct ConnectionUrl {
    text: Secret,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) role: String,
    pub(crate) password: Option<Secret>,
    pub(crate) database: String,
    pub(crate) tls: TlsMode,
    pub(crate) roots: RootCertificates,
    pub(crate) options: Option<String>,
    pub(crate) connect_timeout: Option<Duration>,
    schema: Option<String>,
}

/// Why a text is not the URL of a database. Never holds the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// It does not parse.
    #[error("not a URL: {0}")]
    Malformed(url::ParseError),
    /// It is no URL of PostgreSQL.
    #[error("the scheme is not `postgresql` or `postgres`")]
    Scheme,
    /// A part is missing.
    #[error("the URL names no {0}")]
    Missing(&'static str),
    /// More than one host.
    #[error("the URL names several hosts")]
    SeveralHosts,
    /// A character that has to be escaped.
    #[error("the URL holds `{0}` where it has to be escaped")]
    Unescaped(char),
    /// An escape that is not UTF-8.
    #[error("the {0} in the URL is not UTF-8")]
    NotUtf8(&'static str),
    /// A parameter that nobody knows.
    #[error("parameter `{0}` of the URL is not known")]
    Parameter(String),
    /// A parameter whose value is not one of those allowed.
    #[error("parameter `{name}` of the URL has to be {allowed}")]
    Value {
        /// Its name.
        name: &'static str,
        /// What it may be.
        allowed: &'static str,
    },
    /// A pooler that gives a session to several clients.
    #[error("the URL says `pgbouncer=true`, and sessions are needed")]
    Pooled,
    /// What we do not do.
    #[error("parameter `{0}`: certificates of clients are not supported")]
    ClientCertificate(&'static str),
}

impl UrlError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Malformed(_) | Self::Unescaped(_) | Self::NotUtf8(_) => {
                "characters of a password that mean something in a URL are escaped: `%40` for @, `%2F` for /, `%23` for #, `%3F` for ?, `%25` for %".into()
            }
            Self::Scheme | Self::Missing(_) | Self::SeveralHosts => {
                "a URL looks like `postgresql://role:password@host:5432/database?sslmode=verify-full`".into()
            }
            Self::Parameter(_) | Self::Value { .. } => {
                "the parameters are those of libpq (sslmode, sslrootcert, connect_timeout, options, application_name, host) and Prisma's (schema, sslaccept, connection_limit, pool_timeout, socket_timeout)".into()
            }
            Self::Pooled => "give the URL of the server itself (Prisma's `directUrl`)".into(),
            Self::ClientCertificate(_) => "log in with a password".into(),
        }
    }
}

impl ConnectionUrl {
    /// Parses a URL.
    ///
    /// # Errors
    /// Naming what is wrong, without the text.
    pub fn parse(text: &Secret) -> Result<Self, UrlError> {
        let url = Url::parse(text.expose().trim()).map_err(UrlError::Malformed)?;
        if !matches!(url.scheme(), "postgresql" | "postgres") {
            return Err(UrlError::Scheme);
        }
        if url.fragment().is_some() {
            return Err(UrlError::Unescaped('#'));
        }
        let path = url.path().strip_prefix('/').unwrap_or_default();
        if let Some(raw) = path.chars().find(|c| matches!(c, '/' | '@' | ':')) {
            return Err(UrlError::Unescaped(raw));
        }
        if url.query().is_some_and(|query| query.contains('@')) {
            return Err(UrlError::Unescaped('@'));
        }
        let password = url.password().map(|raw| decode(raw, "password"));
        let mut parsed = Self {
            text: text.clone(),
            host: decode(url.host_str().unwrap_or_default(), "host")?,
            port: url.port().unwrap_or(5432),
            role: decode(url.username(), "role")?,
            password: password.transpose()?.map(Secret::new),
            database: decode(path, "database")?,
            tls: TlsMode::Prefer,
            roots: RootCertificates::None,
            options: None,
            connect_timeout: None,
            schema: None,
        };
        parsed.host = parsed.host.trim_matches(['[', ']']).to_owned();
        for (name, value) in url.query_pairs() {
            parsed.take(&name, &value)?;
        }
        parsed.check()
    }

    fn take(&mut self, name: &str, value: &str) -> Result<(), UrlError> {
        match name {
            "sslmode" => self.tls = value.parse()?,
            "sslrootcert" | "sslcert" if value.is_empty() => {}
            "sslrootcert" if value == "system" => self.roots = RootCertificates::System,
            // Prisma calls the authority's certificate `sslcert`; libpq's `sslcert` comes with `sslkey`.
            "sslrootcert" | "sslcert" => self.roots = RootCertificates::File(PathBuf::from(value)),
            "sslaccept" => self.take_sslaccept(value)?,
            "sslkey" => return Err(UrlError::ClientCertificate("sslkey")),
            "sslidentity" => return Err(UrlError::ClientCertificate("sslidentity")),
            "sslpassword" => return Err(UrlError::ClientCertificate("sslpassword")),
            "connect_timeout" => self.connect_timeout = Some(seconds(value)?),
            "options" => self.options = Some(value.to_owned()),
            "schema" => self.schema = Some(value.to_owned()),
            "host" => value.clone_into(&mut self.host),
            // Ours is said instead, so that our sessions can be told apart.
            "application_name" => {}
            "pgbouncer" if value == "true" => return Err(UrlError::Pooled),
            "pgbouncer" => {}
            other if OF_OTHER_CLIENTS.contains(&other) => {}
            other => return Err(UrlError::Parameter(showable(other))),
        }
        Ok(())
    }

    /// Prisma verifies neither chain nor name unless it is told to.
    fn take_sslaccept(&mut self, value: &str) -> Result<(), UrlError> {
        match value {
            "strict" => {
                self.tls = TlsMode::VerifyFull;
                if self.roots == RootCertificates::None {
                    self.roots = RootCertificates::System;
                }
                Ok(())
            }
            "accept_invalid_certs" => Ok(()),
            _ => Err(UrlError::Value {
                name: "sslaccept",
                allowed: "`strict` or `accept_invalid_certs`",
            }),
        }
    }

    fn check(self) -> Result<Self, UrlError> {
        if self.host.contains(',') {
            return Err(UrlError::SeveralHosts);
        }
        let parts = [
            ("host", &self.host),
            ("role", &self.role),
            ("database", &self.database),
        ];
        for (name, part) in parts {
            if part.is_empty() {
                return Err(UrlError::Missing(name));
            }
        }
        if self.tls.verifies() && self.roots == RootCertificates::None {
            return Err(UrlError::Value {
                name: "sslrootcert",
                allowed: "the file of an authority's certificate, or `system`, where `sslmode` verifies",
            });
        }
        Ok(self)
    }

    /// Every part that must not be printed: mask them before anything else is.
    #[must_use]
    pub fn secrets(&self) -> Vec<Secret> {
        let mut secrets = vec![self.text.clone()];
        if let Some(password) = &self.password {
            secrets.push(password.clone());
            if let Ok(url) = Url::parse(self.text.expose().trim()) {
                secrets.extend(url.password().map(Secret::new));
                secrets.push(Secret::new(url.as_str()));
            }
        }
        secrets
    }

    /// The text as it was given, for tools that take it; never for argv.
    #[must_use]
    pub fn text(&self) -> &Secret {
        &self.text
    }

    /// Host name, address, or folder of the socket.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Name of the database.
    #[must_use]
    pub fn database(&self) -> &str {
        &self.database
    }

    /// Role that logs in.
    #[must_use]
    pub fn role(&self) -> &str {
        &self.role
    }

    /// Schema for the tables and the ledger (Prisma's `schema` parameter).
    #[must_use]
    pub fn schema(&self) -> Option<&str> {
        self.schema.as_deref()
    }

    /// Host and port, as texts name a server.
    #[must_use]
    pub fn server(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// Whether two URLs lead to the same database, as far as their texts say.
    #[must_use]
    pub fn is_same_database(&self, other: &Self) -> bool {
        (&self.host, self.port, &self.database) == (&other.host, other.port, &other.database)
    }

    /// The same server and role with another database.
    ///
    /// # Panics
    /// Never: the text was parsed before.
    #[must_use]
    pub fn with_database(&self, database: &str) -> Self {
        let mut url = self
            .text
            .expose()
            .trim()
            .parse::<Url>()
            .expect("parsed before");
        let escaped = utf8_percent_encode(database, percent_encoding::NON_ALPHANUMERIC);
        url.set_path(&format!("/{escaped}"));
        Self {
            text: Secret::new(url.as_str()),
            database: database.to_owned(),
            ..self.clone()
        }
    }

    /// The URL for another program that is to have our time limits and our name: its `options` and its
    /// `application_name` are those of the settings and the further ones, after what the URL had itself. Holds
    /// the password.
    #[must_use]
    pub fn with_settings(&self, settings: &ConnectionSettings, more: &[(&str, &str)]) -> Secret {
        let Ok(mut url) = Url::parse(self.text.expose().trim()) else {
            // It was parsed before.
            return self.text.clone();
        };
        let query = url.query().unwrap_or_default();
        let mut pairs: Vec<String> = query
            .split('&')
            .filter(|pair| {
                let name = pair.split('=').next().unwrap_or_default();
                !pair.is_empty() && !["options", "application_name"].contains(&name)
            })
            .map(str::to_owned)
            .collect();
        // `+` for a space is known to forms, and not to every client of PostgreSQL.
        let escaped =
            |text: &str| utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string();
        let name = escaped(&settings.application_name);
        pairs.push(format!("application_name={name}"));
        pairs.push(format!(
            "options={}",
            escaped(&self.options_with(settings, more))
        ));
        url.set_query(Some(&pairs.join("&")));
        Secret::new(url.as_str())
    }

    /// The `options` of a connection: those of the URL, then those of the settings and the further ones, which
    /// count. Values of the further ones hold no spaces.
    #[must_use]
    pub fn options_with(&self, settings: &ConnectionSettings, more: &[(&str, &str)]) -> String {
        let mut options = settings.options(self.options.as_deref());
        for (name, value) in more {
            options.push_str(&format!(" -c {name}={value}"));
        }
        options
    }

    /// The connection as variables of libpq, for the environment of PostgreSQL's own programs. Holds the
    /// password.
    #[must_use]
    pub fn libpq_variables(&self) -> BTreeMap<String, String> {
        let mut variables = BTreeMap::new();
        let mut set = |name: &str, value: String| {
            variables.insert(name.to_owned(), value);
        };
        set("PGHOST", self.host.clone());
        set("PGPORT", self.port.to_string());
        set("PGUSER", self.role.clone());
        set("PGDATABASE", self.database.clone());
        set("PGSSLMODE", self.tls.name().to_owned());
        if let Some(password) = &self.password {
            set("PGPASSWORD", password.expose().to_owned());
        }
        if let Some(path) = self.roots.path() {
            set("PGSSLROOTCERT", path.display().to_string());
        }
        if let Some(options) = &self.options {
            set("PGOPTIONS", options.clone());
        }
        let timeout = self
            .connect_timeout
            .unwrap_or(crate::settings::CONNECT_TIMEOUT);
        set("PGCONNECT_TIMEOUT", timeout.as_secs().max(1).to_string());
        variables
    }
}

impl fmt::Display for ConnectionUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {}", self.database, self.server())
    }
}

impl fmt::Debug for ConnectionUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConnectionUrl({self})")
    }
}

fn decode(raw: &str, part: &'static str) -> Result<String, UrlError> {
    let decoded = percent_decode_str(raw).decode_utf8();
    let decoded = decoded.map_err(|_| UrlError::NotUtf8(part))?;
    if decoded.contains('\0') {
        return Err(UrlError::Unescaped('\0'));
    }
    Ok(decoded.into_owned())
}

fn seconds(value: &str) -> Result<Duration, UrlError> {
    match value.parse::<u16>() {
        Ok(seconds @ 1..) => Ok(Duration::from_secs(seconds.into())),
        Ok(0) | Err(_) => Err(UrlError::Value {
            name: "connect_timeout",
            allowed: "seconds from 1 to 65535",
        }),
    }
}

/// A name that looks like one; anything else may be a piece of a password.
fn showable(name: &str) -> String {
    let is_name = name.chars().all(|c| c.is_ascii_lowercase() || c == '_') && name.len() < 30;
    if is_name {
        name.to_owned()
    } else {
        "…".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<ConnectionUrl, UrlError> {
        ConnectionUrl::parse(&Secret::new(text))
    }

    #[test]
    fn every_part_is_decoded() {
        let url = parse("postgresql://dana%40shop:p%40ss%2Fword@db.example:6432/the%20shop?sslmode=require&schema=organization&options=-c%20statement_timeout%3D5s&connect_timeout=3&connection_limit=1").unwrap();
        assert_eq!(
            (url.role(), url.server().as_str(), url.database()),
            ("dana@shop", "db.example:6432", "the shop")
        );
        assert_eq!(url.password.as_ref().unwrap().expose(), "p@ss/word");
        assert_eq!(url.schema(), Some("organization"));
        assert_eq!(url.tls, TlsMode::Require);
        assert_eq!(url.options.as_deref(), Some("-c statement_timeout=5s"));
        let v6 = parse("postgres://a:b@[::1]/shop").unwrap();
        assert_eq!((v6.host(), v6.server().as_str()), ("::1", "[::1]:5432"));
        let socket = parse("postgres://a@localhost/shop?host=/run/postgresql").unwrap();
        assert_eq!(socket.host(), "/run/postgresql");
    }

    #[test]
    fn the_password_is_in_no_text_and_in_every_mask() {
        let url = parse("postgresql://dana:p%40ss-hunter2@db/shop").unwrap();
        for text in [format!("{url}"), format!("{url:?}")] {
            assert!(!text.contains("hunter2"), "{text}");
        }
        let masks: Vec<String> = url
            .secrets()
            .iter()
            .map(|one| one.expose().to_owned())
            .collect();
        for form in [
            "p@ss-hunter2",
            "p%40ss-hunter2",
            "postgresql://dana:p%40ss-hunter2@db/shop",
        ] {
            assert!(masks.iter().any(|mask| mask == form), "{form}");
        }
        let scratch = url.with_database("shop scratch/1");
        assert_eq!(scratch.database(), "shop scratch/1");
        let again = ConnectionUrl::parse(scratch.text()).unwrap();
        assert_eq!(again.database(), "shop scratch/1");
    }

    #[test]
    fn what_is_wrong_is_named_without_the_text() {
        let refused = [
            ("hunter2", "not a URL"),
            ("mysql://a:hunter2@db/shop", "scheme"),
            ("postgres://a:1#hunter2@db/shop", "`#`"),
            ("postgres://a:1/hunter2@db/shop", "`@`"),
            ("postgres://a:1?hunter2@db/shop", "`@`"),
            ("postgres://a:hunter2@/shop", "not a URL"),
            ("postgres://:hunter2@db/shop", "no role"),
            ("postgres://a:hunter2@db", "no database"),
            ("postgres://a:hunter2@db/shop?sslmod=require", "`sslmod`"),
            ("postgres://a:hunter2@db/shop?HUNTER2-hunter2=1", "`…`"),
            ("postgres://a:hunter2@db/shop?sslmode=on", "`sslmode`"),
            (
                "postgres://a:hunter2@db/shop?sslmode=verify-full",
                "`sslrootcert`",
            ),
            ("postgres://a:hunter2@db/shop?pgbouncer=true", "pgbouncer"),
            ("postgres://a:hunter2@db/shop?sslkey=k", "`sslkey`"),
            (
                "postgres://a:hunter2@db/shop?connect_timeout=0",
                "`connect_timeout`",
            ),
            (
                "postgres://a:%FFhunter2@db/shop",
                "password in the URL is not UTF-8",
            ),
        ];
        for (text, expected) in refused {
            let error = parse(text).unwrap_err();
            assert!(error.to_string().contains(expected), "{text}: {error}");
            assert!(!error.to_string().contains("unter2"), "{error}");
            assert!(!error.hint().is_empty());
        }
    }

    #[test]
    fn prismas_strict_verifies_chain_and_name() {
        let url = parse("postgres://a:b@db/shop?sslaccept=strict&sslcert=ca.pem").unwrap();
        assert_eq!(url.tls, TlsMode::VerifyFull);
        assert_eq!(url.roots, RootCertificates::File("ca.pem".into()));
        let url = parse("postgres://a:b@db/shop?sslaccept=strict").unwrap();
        assert_eq!(url.roots, RootCertificates::System);
    }

    #[test]
    fn another_program_gets_our_limits_and_our_name_after_those_of_the_url() {
        let url = parse("postgres://a:p%40ss@db/shop?schema=privacy&application_name=web&options=-c%20search_path%3Dx").unwrap();
        let settings = ConnectionSettings {
            application_name: "the gate".into(),
            lock_timeout: Duration::from_secs(2),
            statement_timeout: Duration::ZERO,
        };
        let text = url.with_settings(&settings, &[("work_mem", "8MB")]);
        assert!(!text.expose().contains("web") && !text.expose().contains('+'));
        let again = ConnectionUrl::parse(&text).unwrap();
        assert_eq!(again.schema(), Some("privacy"));
        assert_eq!(again.password.as_ref().unwrap().expose(), "p@ss");
        let options =
            "-c search_path=x -c lock_timeout=2000ms -c statement_timeout=0ms -c work_mem=8MB";
        assert_eq!(again.options.as_deref(), Some(options));
    }

    #[test]
    fn libpq_gets_the_password_in_its_environment_alone() {
        let url = parse("postgres://a:hunter2@db/shop?sslmode=require").unwrap();
        let variables = url.libpq_variables();
        assert_eq!(variables["PGPASSWORD"], "hunter2");
        assert_eq!(variables["PGSSLMODE"], "require");
        assert_eq!(variables["PGDATABASE"], "shop");
    }
}
