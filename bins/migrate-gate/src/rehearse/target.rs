//! From the inputs to what is rehearsed where: each copy with its schemas, and production where it is given.

use switchyard_postgres::ConnectionUrl;
use switchyard_runner::{Console, Failure, Kind};

use super::inputs::ScratchArgs;
use crate::database::{self, DatabaseArgs, UrlKeys};
use crate::project::{Schema, SchemaMigrations};

/// A copy of a database with the schemas that lie in it, in the order in which they were named.
#[derive(Debug)]
pub(super) struct Target {
    /// The copy.
    pub(super) copy: ConnectionUrl,
    /// Another database of its server, where the copy was kept for this rehearsal alone.
    pub(super) kept_beside: Option<ConnectionUrl>,
    /// Its original, where it is given.
    pub(super) production: Option<ConnectionUrl>,
    /// Its schemas; never empty.
    pub(super) schemas: Vec<TargetSchema>,
}

/// A schema in a copy.
#[derive(Debug)]
pub(super) struct TargetSchema {
    /// The schema and its migrations.
    pub(super) schema: SchemaMigrations,
    /// Schema of its tables and its ledger: Prisma's own default is `public`.
    pub(super) namespace: String,
    /// The copy as this schema's role reaches it.
    pub(super) copy: ConnectionUrl,
    /// Production as this schema's role reaches it.
    pub(super) production: Option<ConnectionUrl>,
}

impl Target {
    /// Schemas of its ledgers.
    pub(super) fn namespaces(&self) -> impl Iterator<Item = &str> {
        self.schemas.iter().map(|one| one.namespace.as_str())
    }
}

/// Finds the copy of every schema, masks its URL, and groups the schemas by copy.
///
/// # Errors
/// A failure of kind input: no copy is named, one copy stands for two databases, or a copy is its original.
pub(super) fn targets(
    scratch: &ScratchArgs,
    production: &DatabaseArgs,
    schemas: Vec<SchemaMigrations>,
    console: &Console,
) -> Result<Vec<Target>, Failure> {
    let copies = Copies::parse(scratch)?;
    let mut targets = Vec::new();
    if production.is_given() {
        for group in database::locate(production, schemas, console)? {
            for located in group.schemas {
                let named = copies.of(&located.schema.schema, console)?;
                let kept = copies.kept(&named, located.url.database(), console)?;
                let copy = kept.clone().unwrap_or_else(|| named.clone());
                let kept_beside = kept.map(|_| named);
                let namespace = copy.schema().unwrap_or(located.namespace()).to_owned();
                let schema = TargetSchema {
                    schema: located.schema,
                    namespace,
                    copy,
                    production: Some(located.url),
                };
                add(&mut targets, schema, kept_beside)?;
            }
        }
    } else {
        copies.require_production()?;
        for schema in schemas {
            let copy = copies.of(&schema.schema, console)?;
            let namespace = copy.schema().unwrap_or("public").to_owned();
            let schema = TargetSchema {
                schema,
                namespace,
                copy,
                production: None,
            };
            add(&mut targets, schema, None)?;
        }
    }
    Ok(targets)
}

/// The URLs of the copies.
struct Copies<'a> {
    args: &'a ScratchArgs,
    keys: UrlKeys,
}

impl<'a> Copies<'a> {
    fn parse(args: &'a ScratchArgs) -> Result<Self, Failure> {
        let keys = args.scratch_urls.as_ref().map(UrlKeys::parse).transpose();
        let keys = keys.map_err(|cause| {
            Failure::message(Kind::Input, format!("input `scratch-urls`: {cause}"))
        })?;
        Ok(Self {
            args,
            keys: keys.unwrap_or_default(),
        })
    }

    /// The copy of a database that an earlier step kept on the server of `named`, where any were kept.
    fn kept(
        &self,
        named: &ConnectionUrl,
        database: &str,
        console: &Console,
    ) -> Result<Option<ConnectionUrl>, Failure> {
        if self.args.copies.is_empty() {
            return Ok(None);
        }
        let mut copies = self.args.copies.iter();
        let Some(kept) = copies.find(|one| one.database == database) else {
            let text = format!("input `copies` names no copy of `{database}`");
            return Err(Failure::message(Kind::Input, text)
                .hint("give the output `copies` of a `backup` of the same databases, with `keep-copy: true`"));
        };
        if kept.copy == named.database() {
            let text = format!("`{}` is the copy itself", kept.copy);
            return Err(Failure::message(Kind::Input, format!("input `scratch-url`: {text}"))
                .hint("with `copies`, name another database of that server, such as `postgres`: the copy is taken away from there"));
        }
        let url = named.with_database(&kept.copy);
        // It is another text than the one that was given, with the same password in it.
        console.mask(url.text());
        Ok(Some(url))
    }

    /// A kept copy is found by the name of its original.
    fn require_production(&self) -> Result<(), Failure> {
        if self.args.copies.is_empty() {
            return Ok(());
        }
        Err(
            Failure::message(Kind::Input, "`copies` are given, and no `database-url`").hint(
                "give `database-url` or `database-urls`: a copy is found by its original's name",
            ),
        )
    }

    /// The copy of a schema: by its key, else the one of all.
    fn of(&self, schema: &Schema, console: &Console) -> Result<ConnectionUrl, Failure> {
        let key = schema.url_env.as_ref().map(|key| key.as_str());
        let keyed = key.and_then(|key| Some((key, self.keys.get(key)?)));
        match (keyed, &self.args.scratch_url) {
            (Some((key, text)), _) => {
                database::parse_url(&format!("key `{key}` of `scratch-urls`"), text, console)
            }
            (None, Some(text)) => database::parse_url("input `scratch-url`", text, console),
            (None, None) => Err(Failure::message(
                Kind::Input,
                format!("schema `{}`: no copy is named", schema.name),
            )
            .hint("give `scratch-url`, or a line of `scratch-urls` with the schema's `url-env`")),
        }
    }
}

fn add(
    targets: &mut Vec<Target>,
    schema: TargetSchema,
    kept_beside: Option<ConnectionUrl>,
) -> Result<(), Failure> {
    if let Some(production) = &schema.production
        && production.is_same_database(&schema.copy)
    {
        return Err(is_production(&production.to_string()));
    }
    let same = targets
        .iter_mut()
        .find(|target| target.copy.is_same_database(&schema.copy));
    let Some(target) = same else {
        targets.push(Target {
            copy: schema.copy.clone(),
            kept_beside,
            production: schema.production.clone(),
            schemas: vec![schema],
        });
        return Ok(());
    };
    if let (Some(one), Some(other)) = (&target.production, &schema.production)
        && !one.is_same_database(other)
    {
        let text = format!(
            "{} is named as the copy of {one} and of {other}",
            target.copy
        );
        return Err(Failure::message(Kind::Input, text)
            .hint("give each database a copy of its own in `scratch-urls`"));
    }
    target.schemas.push(schema);
    Ok(())
}

/// The failure of a rehearsal on production itself, which no input allows.
pub(super) fn is_production(place: &str) -> Failure {
    let text = format!("the scratch database is production itself: {place}");
    Failure::message(Kind::Input, text)
        .hint("the rehearsal applies the migrations: give it a restored copy")
}

#[cfg(test)]
mod tests {
    use switchyard_runner::{List, Secret};

    use super::*;
    use crate::project::Schemas;

    fn found(scratch: [&str; 2], production: [&str; 2]) -> Result<Vec<Target>, Failure> {
        let given = |text: &str| (!text.is_empty()).then(|| Secret::new(text));
        let schemas: Schemas =
            "[{name: main, path: a, url-env: MAIN}, {name: privacy, path: b, url-env: PRIVACY}]"
                .parse()
                .unwrap();
        let schemas = schemas.iter().map(|schema| SchemaMigrations {
            schema: schema.clone(),
            migrations: Vec::new(),
        });
        targets(
            &ScratchArgs {
                scratch_url: given(scratch[0]),
                scratch_urls: given(scratch[1]),
                copies: List::default(),
                allow_privileged_scratch: false,
            },
            &DatabaseArgs {
                database_url: given(production[0]),
                database_urls: given(production[1]),
            },
            schemas.collect(),
            &Console::plain(Box::new(std::io::sink())),
        )
    }

    const SHOP: &str = "postgres://a:hunter2@scratch/shop";

    #[test]
    fn schemas_of_one_copy_run_in_turn_and_each_key_may_have_its_own() {
        assert_eq!(found([SHOP, ""], ["", ""]).unwrap().len(), 1);
        let keyed = format!("PRIVACY={SHOP}_privacy?schema=privacy");
        let targets = found([SHOP, &keyed], ["", ""]).unwrap();
        assert_eq!(targets.len(), 2);
        assert_eq!(targets[1].schemas[0].namespace, "privacy");
    }

    #[test]
    fn a_copy_is_never_its_original_and_stands_for_one_alone() {
        let two = "MAIN=postgres://a:hunter2@db/shop\nPRIVACY=postgres://a:hunter2@db/privacy";
        for (scratch, production, expected) in [
            (["", ""], ["", ""], "no copy is named"),
            ([SHOP, ""], ["", two], "is named as the copy of"),
            (
                ["postgres://a:hunter2@db/shop", ""],
                ["", two],
                "production itself",
            ),
            (["nonsense", ""], ["", ""], "input `scratch-url`"),
            (["", "nonsense"], ["", ""], "input `scratch-urls`"),
        ] {
            let failure = found(scratch, production).unwrap_err();
            assert_eq!(failure.kind(), Kind::Input);
            assert!(failure.chain().contains(expected), "{}", failure.chain());
            assert!(!failure.chain().contains("hunter2"));
        }
    }
}
