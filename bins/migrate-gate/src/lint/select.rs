//! Which migrations are judged. The others are read all the same: they say what is there before.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use switchyard_runner::child::{Child, ChildResult};
use switchyard_runner::{Context, Failure, Kind};

use crate::project::{Migration, SchemaMigrations};

/// git answers at once, unless it hangs.
const GIT_TIME: Duration = Duration::from_secs(60);

/// Which migrations are judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Selection {
    /// All of them.
    All,
    /// Those with these files.
    Files(BTreeSet<PathBuf>),
}

impl Selection {
    /// Whether a migration is judged.
    pub(crate) fn has(&self, migration: &Migration) -> bool {
        match self {
            Self::All => true,
            Self::Files(files) => files.contains(&migration.file),
        }
    }
}

/// The files of the migrations that come after one of a name; in a schema that has none of that name,
/// those with a later name. `None` where no schema has it.
fn later_than(name: &str, schemas: &[SchemaMigrations]) -> Option<BTreeSet<PathBuf>> {
    let mut is_known = false;
    let mut files = BTreeSet::new();
    for schema in schemas {
        let position = schema
            .migrations
            .iter()
            .position(|migration| migration.name == name);
        is_known |= position.is_some();
        let later =
            schema
                .migrations
                .iter()
                .enumerate()
                .filter(|(number, migration)| match position {
                    Some(position) => *number > position,
                    None => migration.name.as_str() > name,
                });
        files.extend(later.map(|(_, migration)| migration.file.clone()));
    }
    is_known.then_some(files)
}

/// Reads the selection from the inputs.
///
/// # Errors
/// Kind input when both are given, no migration has the name of `after`, or git does not know `base`.
pub(crate) async fn select(
    base: Option<&str>,
    after: Option<&str>,
    schemas: &[SchemaMigrations],
    context: &Context,
) -> Result<Selection, Failure> {
    match (base, after) {
        (Some(_), Some(_)) => Err(Failure::message(
            Kind::Input,
            "`base` and `after` are given together",
        )
        .hint("give one of them")),
        (None, None) => Ok(Selection::All),
        (None, Some(name)) => later_than(name, schemas)
            .map(Selection::Files)
            .ok_or_else(|| {
                Failure::message(
                    Kind::Input,
                    format!("input `after`: no migration is called `{name}`"),
                )
                .hint("give the name of the last migration that is left alone")
            }),
        (Some(base), None) => changed_since(base, schemas, context).await,
    }
}

/// The files that are new or changed since the branch left `base`, committed or not.
async fn changed_since(
    base: &str,
    schemas: &[SchemaMigrations],
    context: &Context,
) -> Result<Selection, Failure> {
    if base.starts_with('-') {
        return Err(
            Failure::message(Kind::Input, format!("input `base` is `{base}`"))
                .hint("a branch, a tag or a commit"),
        );
    }
    let mut changed_files = BTreeSet::new();
    for schema in schemas {
        let folder = &schema.schema.path;
        let folder = if folder.is_file() {
            folder.parent().unwrap_or(folder)
        } else {
            folder
        };
        let root = git(folder, &["rev-parse", "--show-toplevel"], context).await?;
        let root = PathBuf::from(root.trim_end_matches('\n'));
        let commit = git(folder, &["merge-base", base, "HEAD"], context).await.map_err(|failure| {
            failure.hint("check out with `fetch-depth: 0`: a shallow clone does not know where the branch began")
        })?;
        let changed = git(
            folder,
            &["diff", "--name-only", "--no-renames", "-z", commit.trim()],
            context,
        )
        .await?;
        let untracked = git(
            folder,
            &[
                "ls-files",
                "--others",
                "--exclude-standard",
                "--full-name",
                "-z",
            ],
            context,
        )
        .await?;
        for name in changed
            .split('\0')
            .chain(untracked.split('\0'))
            .filter(|name| !name.is_empty())
        {
            // What was deleted is no migration any more.
            changed_files.extend(std::fs::canonicalize(root.join(name)));
        }
    }
    let migrations = schemas.iter().flat_map(|schema| &schema.migrations);
    let is_changed = |file: &PathBuf| {
        std::fs::canonicalize(file).is_ok_and(|file| changed_files.contains(&file))
    };
    let files = migrations
        .map(|migration| &migration.file)
        .filter(|file| is_changed(file));
    Ok(Selection::Files(files.cloned().collect()))
}

async fn git(folder: &Path, arguments: &[&str], context: &Context) -> Result<String, Failure> {
    let program = std::iter::once("git").chain(arguments.iter().copied());
    let child = Child::program(program.map(str::to_owned).collect(), GIT_TIME)
        .directory(folder)
        .variable("GIT_OPTIONAL_LOCKS", "0");
    let (ended, output) = child.capture(&context.environment, &context.cancel).await?;
    if ended.result == ChildResult::Exited(0) {
        return Ok(output);
    }
    let said = ended.last_lines.last().cloned().unwrap_or_default();
    Err(Failure::message(
        Kind::Input,
        format!(
            "input `base`: `git {}` in `{}`: {said}",
            arguments.join(" "),
            folder.display()
        ),
    ))
}
