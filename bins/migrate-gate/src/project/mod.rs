//! The project: its schemas, their folders, and the migrations in them, read once.
//!
//! It owns the layouts of tools and the checksums of files. It refuses to know servers, and what a
//! migration means.

mod folder;
mod forward;
mod migration;
mod schemas;

use std::path::Path;

use switchyard_runner::{Failure, Kind};

pub(crate) use migration::{Migration, Wrapping};
pub(crate) use schemas::{Schema, SchemaName, Schemas, Tool};

use crate::inputs::ProjectArgs;

/// One schema with its migrations, in the order in which its tool runs them.
#[derive(Debug)]
pub(crate) struct SchemaMigrations {
    /// What the inputs say about it.
    pub(crate) schema: Schema,
    /// Its migrations, oldest first.
    pub(crate) migrations: Vec<Migration>,
}

/// The one schema of a project that names a folder.
fn alone(path: &Path, args: &ProjectArgs) -> Result<Schema, Failure> {
    let schema = Schema {
        config: args.config.clone(),
        command: args.script.clone(),
        directory: args.directory.clone(),
        ..Schema::alone(path, args.tool)
    };
    match args.tool {
        Tool::Prisma if args.script.is_some() => Err(Failure::message(
            Kind::Input,
            "`script` is given with tool `prisma`",
        )
        .hint("give `tool: command` where a script runs the migrations")),
        Tool::Command if args.config.is_some() => Err(Failure::message(
            Kind::Input,
            "`config` is given with tool `command`",
        )
        .hint("`config` is Prisma's")),
        Tool::Prisma | Tool::Command => Ok(schema),
    }
}

/// Reads all migrations of all schemas that the inputs name.
///
/// # Errors
/// A failure of kind input: nothing or too much is named, a folder is not there, holds no migrations or
/// holds some for another database, a file cannot be read.
pub(crate) fn read(args: &ProjectArgs) -> Result<Vec<SchemaMigrations>, Failure> {
    let schemas = match (&args.path, &args.schemas) {
        (Some(path), None) => vec![alone(path, args)?],
        (None, Some(schemas)) => schemas.to_vec(),
        (None, None) => {
            return Err(Failure::message(Kind::Input, "no migrations are named")
                .hint("give `path`, such as `prisma`, or `schemas` where there is more than one"));
        }
        (Some(_), Some(_)) => {
            return Err(
                Failure::message(Kind::Input, "`path` and `schemas` are given together")
                    .hint("give one of them; a schema of `schemas` has its own path"),
            );
        }
    };
    let of_one = args.config.is_some() || args.script.is_some() || args.directory.is_some();
    if args.schemas.is_some() && of_one {
        return Err(Failure::message(
            Kind::Input,
            "`config`, `script` or `directory` is given beside `schemas`",
        )
        .hint("give them in the schema they are for: `config`, `command`, `directory`"));
    }
    let read = schemas.into_iter().map(|schema| {
        let migrations = folder::read(&schema).map_err(|error| {
            let hint = error.hint();
            Failure::input(error).maybe_hint(hint)
        })?;
        Ok(SchemaMigrations { schema, migrations })
    });
    read.collect()
}
