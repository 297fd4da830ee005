//! The databases of a project: which schema lies where, and the sessions to them.
//!
//! It owns the inputs that hold URLs. Everything secret in them is masked before anything else is printed.

mod keys;
mod ledger;

use clap::Args;
use switchyard_postgres::{
    ConnectionSettings, ConnectionUrl, PostgresError, ServerVersion, Session,
};
use switchyard_runner::secret::SECRET;
use switchyard_runner::{Console, Failure, Kind, Secret};
use switchyard_sql::ServerVersion as RulesVersion;

use crate::project::{SchemaMigrations, Tool};
pub(crate) use keys::UrlKeys;
pub(crate) use ledger::{read_ledger, read_ledger_in};

/// Where the databases are.
#[derive(Debug, Args)]
pub(crate) struct DatabaseArgs {
    /// URL of the database of every schema that names no `url-env`
    ///
    /// `postgresql://role:password@host:5432/database?sslmode=verify-full&sslrootcert=FILE`. Prisma's parameters are
    /// known too: `schema` names the schema of its tables and its ledger.
    #[arg(long, value_name = SECRET)]
    pub(crate) database_url: Option<Secret>,
    /// URLs of several databases, one `KEY=URL` a line; `url-env` of a schema names the key
    #[arg(long, value_name = SECRET)]
    pub(crate) database_urls: Option<Secret>,
}

impl DatabaseArgs {
    /// Whether any database is named.
    pub(crate) fn is_given(&self) -> bool {
        self.database_url.is_some() || self.database_urls.is_some()
    }
}

/// A schema of the project with the database that it lies in.
#[derive(Debug)]
pub(crate) struct Located {
    /// The schema and its migrations.
    pub(crate) schema: SchemaMigrations,
    /// Its database.
    pub(crate) url: ConnectionUrl,
}

impl Located {
    /// Schema of its tables and its ledger: Prisma's own default is `public`.
    pub(crate) fn namespace(&self) -> &str {
        self.url.schema().unwrap_or("public")
    }

    /// Its name in reports.
    pub(crate) fn name(&self) -> String {
        self.schema.schema.name.to_string()
    }
}

/// One database with the schemas that lie in it, in the order in which they were named: they run in turn.
#[derive(Debug)]
pub(crate) struct DatabaseGroup {
    /// URL of the first one of its schemas.
    pub(crate) url: ConnectionUrl,
    /// Its schemas; never empty.
    pub(crate) schemas: Vec<Located>,
}

/// Finds the URL of every schema, masks it, and groups the schemas by database.
///
/// # Errors
/// A failure of kind input: no URL, no such key, not a URL, two schemas with one ledger.
pub(crate) fn locate(
    args: &DatabaseArgs,
    schemas: Vec<SchemaMigrations>,
    console: &Console,
) -> Result<Vec<DatabaseGroup>, Failure> {
    let keys = keys_of(args)?;
    let mut groups: Vec<DatabaseGroup> = Vec::new();
    for schema in schemas {
        let url = url_of(args, &keys, &schema, console)?;
        let located = Located { schema, url };
        match groups
            .iter_mut()
            .find(|group| group.url.is_same_database(&located.url))
        {
            Some(group) => {
                refuse_shared_ledger(group, &located)?;
                group.schemas.push(located);
            }
            None => groups.push(DatabaseGroup {
                url: located.url.clone(),
                schemas: vec![located],
            }),
        }
    }
    Ok(groups)
}

/// Every database that the inputs name, each once, for commands that know no schemas.
///
/// # Errors
/// A failure of kind input: none is named, or one is not a URL.
pub(crate) fn distinct(
    args: &DatabaseArgs,
    console: &Console,
) -> Result<Vec<ConnectionUrl>, Failure> {
    let keys = keys_of(args)?;
    let mut urls: Vec<ConnectionUrl> = Vec::new();
    let mut add = |url: ConnectionUrl| {
        if !urls.iter().any(|known| known.is_same_database(&url)) {
            urls.push(url);
        }
    };
    if let Some(text) = &args.database_url {
        add(parse_url("input `database-url`", text, console)?);
    }
    for (key, text) in keys.iter() {
        add(parse_url(
            &format!("key `{key}` of `database-urls`"),
            text,
            console,
        )?);
    }
    if urls.is_empty() {
        return Err(Failure::message(Kind::Input, "no database is named")
            .hint("give `database-url` or `database-urls`"));
    }
    Ok(urls)
}

fn keys_of(args: &DatabaseArgs) -> Result<UrlKeys, Failure> {
    let keys = args.database_urls.as_ref().map(UrlKeys::parse).transpose();
    let keys = keys.map_err(|cause| {
        Failure::message(Kind::Input, format!("input `database-urls`: {cause}"))
    })?;
    Ok(keys.unwrap_or_default())
}

/// Parses one URL that is no schema's, such as that of a scratch server, and masks it.
///
/// # Errors
/// A failure of kind input, naming the input and nothing of the URL.
pub(crate) fn parse_url(
    name: &str,
    text: &Secret,
    console: &Console,
) -> Result<ConnectionUrl, Failure> {
    let url = ConnectionUrl::parse(text).map_err(|cause| {
        let hint = cause.hint();
        Failure::input(anyhow::Error::new(cause).context(name.to_owned())).hint(hint)
    })?;
    for secret in url.secrets() {
        console.mask(&secret);
    }
    Ok(url)
}

fn url_of(
    args: &DatabaseArgs,
    keys: &UrlKeys,
    schema: &SchemaMigrations,
    console: &Console,
) -> Result<ConnectionUrl, Failure> {
    let name = &schema.schema.name;
    let Some(key) = &schema.schema.url_env else {
        let Some(text) = &args.database_url else {
            return Err(Failure::message(
                Kind::Input,
                format!("schema `{name}`: no database is named"),
            )
            .hint("give `database-url`, or `database-urls` and the schema's `url-env`"));
        };
        return parse_url("input `database-url`", text, console);
    };
    let key = key.as_str();
    let Some(text) = keys.get(key) else {
        let known = keys.names();
        let text = format!("schema `{name}`: `database-urls` has no key `{key}`");
        return Err(Failure::message(Kind::Input, text).hint(format!("its keys are: {known}")));
    };
    parse_url(&format!("key `{key}` of `database-urls`"), text, console)
}

/// Two schemas with one ledger would each take the other's migrations for missing ones.
fn refuse_shared_ledger(group: &DatabaseGroup, new: &Located) -> Result<(), Failure> {
    if new.schema.schema.tool != Tool::Prisma {
        return Ok(());
    }
    let twin = group.schemas.iter().find(|other| {
        other.schema.schema.tool == Tool::Prisma && other.namespace() == new.namespace()
    });
    let Some(twin) = twin else {
        return Ok(());
    };
    let text = format!(
        "schemas `{}` and `{}` have one ledger: schema `{}` of {}",
        twin.name(),
        new.name(),
        new.namespace(),
        new.url
    );
    Err(Failure::message(Kind::Input, text)
        .hint("give each a database of its own, or a `schema` parameter in its URL"))
}

/// Opens a session for looking.
///
/// # Errors
/// As [`failure`] says.
pub(crate) async fn open_for_reading(url: &ConnectionUrl) -> Result<Session, Failure> {
    Session::open(url, &ConnectionSettings::reading("switchyard migrate-gate"))
        .await
        .map_err(failure)
}

/// The rules of a server's version; those of the nearest known one for a version that they do not know.
pub(crate) fn rules_of(server: ServerVersion) -> RulesVersion {
    let major = server.major();
    let nearest = if major < RulesVersion::OLDEST.major() {
        RulesVersion::OLDEST
    } else {
        RulesVersion::NEWEST
    };
    RulesVersion::new(major).unwrap_or(nearest)
}

/// What a failure of a server means for the exit code, with its hint.
pub(crate) fn failure(cause: PostgresError) -> Failure {
    let hint = cause.hint();
    Failure::remote(cause).maybe_hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::project::Schema;

    fn schema(text: &str) -> SchemaMigrations {
        let schemas: crate::project::Schemas = format!("[{text}]").parse().unwrap();
        let schema: Schema = schemas[0].clone();
        SchemaMigrations {
            schema,
            migrations: Vec::new(),
        }
    }

    fn located(
        schemas: &[&str],
        url: Option<&str>,
        urls: Option<&str>,
    ) -> Result<Vec<DatabaseGroup>, Failure> {
        let args = DatabaseArgs {
            database_url: url.map(Secret::new),
            database_urls: urls.map(Secret::new),
        };
        let console = Console::plain(Box::new(std::io::sink()));
        locate(
            &args,
            schemas.iter().map(|text| schema(text)).collect(),
            &console,
        )
    }

    const FOUR: [&str; 4] = [
        "{name: schema, path: a, url-env: MAIN}",
        "{name: schema-organization, path: b, url-env: ORGANIZATION}",
        "{name: schema-dropshipping, path: c, url-env: DROPSHIPPING}",
        "{name: schema-privacy, path: d, url-env: PRIVACY}",
    ];

    #[test]
    fn four_schemas_in_two_databases_are_two_groups() {
        let urls = "
            # the shop
            MAIN=postgres://a:hunter2@db/shop
            ORGANIZATION='postgres://a:hunter2@db/shop?schema=organization'
            DROPSHIPPING=postgres://a:hunter2@db/shop?schema=dropshipping
            export PRIVACY=\"postgres://a:hunter2@db/privacy\"";
        let groups = located(&FOUR, None, Some(urls)).unwrap();
        let names: Vec<Vec<String>> = groups
            .iter()
            .map(|group| group.schemas.iter().map(Located::name).collect())
            .collect();
        assert_eq!(
            names,
            [
                vec!["schema", "schema-organization", "schema-dropshipping"],
                vec!["schema-privacy"]
            ]
        );
        assert_eq!(groups[0].schemas[1].namespace(), "organization");
        assert_eq!(groups[0].schemas[0].namespace(), "public");
    }

    #[test]
    fn what_is_not_given_or_wrong_is_named_without_its_value() {
        let one = ["{name: main, path: a}"];
        let keyed = ["{name: main, path: a, url-env: MAIN}"];
        let twins = ["{name: main, path: a}", "{name: other, path: b}"];
        let refused = [
            (
                located(&one, None, None),
                "schema `main`: no database is named",
            ),
            (
                located(&one, Some("hunter2"), None),
                "input `database-url`: not a URL",
            ),
            (
                located(&keyed, None, Some("OTHER=postgres://a:hunter2@db/x")),
                "has no key `MAIN`",
            ),
            (
                located(&keyed, None, Some("hunter2")),
                "line 1 is not `KEY=URL`",
            ),
            (
                located(&keyed, None, Some("MAIN=hunter2")),
                "key `MAIN` of `database-urls`: not a URL",
            ),
            (
                located(&twins, Some("postgres://a:hunter2@db/x"), None),
                "`main` and `other` have one ledger",
            ),
        ];
        for (result, expected) in refused {
            let failure = result.unwrap_err();
            let text = format!("{failure} {:?}", failure.hints());
            assert!(text.contains(expected), "{expected}: {text}");
            assert!(!text.contains("hunter2"), "{text}");
            assert_eq!(failure.kind(), Kind::Input);
        }
    }
}
