//! From the inputs to the databases: each schema's URL, parsed once and masked, and which schemas share a
//! database. It refuses to know what is done with them.

mod event;

use std::collections::BTreeMap;

use switchyard_postgres::ConnectionUrl;
use switchyard_runner::{Console, Environment, Failure, Kind, Secret};

use event::refuse_untrusted;

use crate::inputs::DatabaseArgs;
use crate::project::Schema;

/// A database with the schemas that live in it, in the order in which they were named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Group {
    /// The database.
    pub(crate) url: ConnectionUrl,
    /// Places of its schemas in the list of schemas.
    pub(crate) schemas: Vec<usize>,
}

/// The URL of each schema, in the order of the schemas. Every secret part of each is masked.
///
/// # Errors
/// Kind input: no URL, one that is not whole, a key that is not there or not used; kind gate when the
/// event that began the run lets strangers write what would run with these credentials.
pub(crate) fn urls<'a>(
    args: &DatabaseArgs,
    schemas: impl Iterator<Item = &'a Schema>,
    environment: &Environment,
    console: &Console,
) -> Result<Vec<ConnectionUrl>, Failure> {
    refuse_untrusted(environment)?;
    let keyed = keyed(args)?;
    let mut used = Vec::new();
    let mut urls = Vec::new();
    for schema in schemas {
        let url = match (&schema.url_env, &args.database_url) {
            (Some(key), _) => {
                used.push(key.as_str());
                let found = keyed.get(key.as_str());
                let secret = found.ok_or_else(|| missing_key(schema, key.as_str(), &keyed))?;
                parse("database-urls", Some(key.as_str()), secret)?
            }
            (None, Some(secret)) => parse("database-url", None, secret)?,
            (None, None) => return Err(no_url(schema, environment)),
        };
        for secret in url.secrets() {
            console.mask(&secret);
        }
        urls.push(url);
    }
    match keyed.keys().find(|key| !used.contains(&key.as_str())) {
        Some(unused) => Err(Failure::message(
            Kind::Input,
            format!("input `database-urls` has the key `{unused}`, which no schema names"),
        )
        .hint("name it in `url-env` of a schema, or leave it out")),
        None => Ok(urls),
    }
}

/// Puts schemas of one database together: they run one after another, databases beside each other.
pub(crate) fn groups(urls: &[ConnectionUrl]) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for (place, url) in urls.iter().enumerate() {
        match groups
            .iter_mut()
            .find(|group| group.url.is_same_database(url))
        {
            Some(group) => group.schemas.push(place),
            None => groups.push(Group {
                url: url.clone(),
                schemas: vec![place],
            }),
        }
    }
    groups
}

/// The lines `KEY=URL` of `database-urls`. Errors never hold what comes after a key.
fn keyed(args: &DatabaseArgs) -> Result<BTreeMap<String, Secret>, Failure> {
    let mut keyed = BTreeMap::new();
    let Some(text) = &args.database_urls else {
        return Ok(keyed);
    };
    for (number, line) in (1..).zip(text.expose().lines()) {
        let line = line.trim();
        if line.is_empty() {
            continue;
        }
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let parts = line.split_once('=');
        let Some((key, url)) = parts.filter(|(key, _)| !key.is_empty() && key.chars().all(is_name))
        else {
            return Err(Failure::message(
                Kind::Input,
                format!("input `database-urls`: line {number} is not KEY=URL"),
            ));
        };
        let value = url.trim().trim_matches(['"', '\'']);
        if keyed.insert(key.to_owned(), Secret::new(value)).is_some() {
            return Err(Failure::message(
                Kind::Input,
                format!("input `database-urls` has the key `{key}` twice"),
            ));
        }
    }
    Ok(keyed)
}

fn parse(input: &str, key: Option<&str>, secret: &Secret) -> Result<ConnectionUrl, Failure> {
    ConnectionUrl::parse(secret).map_err(|error| {
        let of = key.map_or_else(String::new, |key| format!(", key `{key}`"));
        Failure::message(Kind::Input, format!("input `{input}`{of}: {error}")).hint(error.hint())
    })
}

fn missing_key(schema: &Schema, key: &str, keyed: &BTreeMap<String, Secret>) -> Failure {
    let there: Vec<&str> = keyed.keys().map(String::as_str).collect();
    let there = if there.is_empty() {
        "it is empty".to_owned()
    } else {
        format!("it has {}", there.join(", "))
    };
    let text = format!(
        "schema `{}` names the key `{key}`, which is not in input `database-urls`: {there}",
        schema.name
    );
    Failure::message(Kind::Input, text)
        .hint("give a line KEY=URL for each; is the secret set for this environment?")
}

fn no_url(schema: &Schema, environment: &Environment) -> Failure {
    let text = format!("no database is given for schema `{}`", schema.name);
    let hint = match environment.get("DATABASE_URL") {
        Some(_) => "the variable DATABASE_URL is set and not read: pass it as `database-url`",
        None => "give `database-url`, or `database-urls` and `url-env` in each schema",
    };
    Failure::message(Kind::Input, text).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::project::Schemas;

    fn read(url: &str, urls_text: &str, schemas: &str) -> Result<Vec<ConnectionUrl>, String> {
        let given = |text: &str| (!text.is_empty()).then(|| Secret::new(text));
        let args = DatabaseArgs {
            database_url: given(url),
            database_urls: given(urls_text),
        };
        let schemas: Schemas = schemas.parse().unwrap();
        let console = Console::plain(Box::new(std::io::sink()));
        urls(&args, schemas.iter(), &Environment::default(), &console)
            .map_err(|failure| failure.chain())
    }

    const SHOP: &str = "postgres://dana:hunter2@db/shop";

    #[test]
    fn schemas_of_one_database_run_in_turn() {
        let keyed = format!("SHOP={SHOP}?schema=a\nOTHER=postgres://dana:hunter2@db/other\n");
        let schemas = "[{name: a, path: p, url-env: SHOP}, {name: b, path: q, url-env: OTHER}, {name: c, path: r, url-env: SHOP}]";
        let groups = groups(&read("", &keyed, schemas).unwrap());
        let places: Vec<&[usize]> = groups.iter().map(|group| &group.schemas[..]).collect();
        assert_eq!(places, [&[0, 2][..], &[1][..]]);
    }

    #[test]
    fn what_is_missing_or_too_much_is_named_and_never_shown() {
        let keyed = format!("SHOP={SHOP}");
        for (url, urls, schemas, said) in [
            (
                "",
                "",
                "[{name: a, path: p}]",
                "no database is given for schema `a`",
            ),
            (
                "hunter2",
                "",
                "[{name: a, path: p}]",
                "input `database-url`: not a URL",
            ),
            ("", "", "[{name: a, path: p, url-env: SHOP}]", "it is empty"),
            (
                "",
                &keyed,
                "[{name: a, path: p, url-env: SHAP}]",
                "it has SHOP",
            ),
            (
                SHOP,
                &keyed,
                "[{name: a, path: p}]",
                "`SHOP`, which no schema names",
            ),
            (
                SHOP,
                "hunter2",
                "[{name: a, path: p}]",
                "line 1 is not KEY=URL",
            ),
        ] {
            let error = read(url, urls, schemas).unwrap_err();
            assert!(error.contains(said), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
