//! Reads the migrations of a folder by the layout of its tool.

use std::cmp::Ordering;
use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use super::forward;
use super::migration::{Migration, Wrapping};
use super::schemas::{Schema, SchemaName, Tool, TransactionMode};

/// More than any migration that a person wrote, and little enough to read whole.
const LARGEST_FILE: u64 = 16 * 1024 * 1024;

/// Why the migrations of a schema could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FolderError {
    #[error("schema `{schema}`: `{}` is not a folder", path.display())]
    NoFolder { schema: SchemaName, path: PathBuf },
    #[error("schema `{schema}`: no migrations in `{}`", path.display())]
    Empty {
        schema: SchemaName,
        path: PathBuf,
        tool: Tool,
    },
    #[error("schema `{schema}`: migration `{}` has no `migration.sql`", path.display())]
    NoFile { schema: SchemaName, path: PathBuf },
    #[error("schema `{schema}`: `{}` is for `{provider}`, not for `postgresql`", lock.display())]
    OtherEngine {
        schema: SchemaName,
        lock: PathBuf,
        provider: String,
    },
    #[error("`{}` has {size} bytes, at most {LARGEST_FILE} are read", path.display())]
    TooLarge { path: PathBuf, size: u64 },
    #[error("`{}` is not UTF-8 text", path.display())]
    NotText { path: PathBuf },
    #[error("read `{}`", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
}

impl FolderError {
    /// What to do about it.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::NoFolder { .. } => Some(
                "the path is relative to where the step runs; was the repository checked out?"
                    .to_owned(),
            ),
            Self::Empty {
                tool: Tool::Prisma, ..
            } => Some(
                "Prisma keeps them as `migrations/NAME/migration.sql`; for `.sql` files of another tool give `tool: command`"
                    .to_owned(),
            ),
            Self::Empty {
                tool: Tool::Command,
                ..
            } => Some("give the folder that holds the `.sql` files".to_owned()),
            Self::NoFile { .. } => Some(
                "commit the file, or remove the folder: Prisma stops at it with P3015".to_owned(),
            ),
            Self::OtherEngine { .. } => Some("PostgreSQL alone is known so far".to_owned()),
            Self::TooLarge { .. } | Self::NotText { .. } | Self::Unreadable { .. } => None,
        }
    }
}

/// Reads the migrations of a schema, oldest first.
///
/// # Errors
/// When there is no such folder, none in it, some for another engine, or a file cannot be read.
pub(crate) fn read(schema: &Schema) -> Result<Vec<Migration>, FolderError> {
    let migrations = match schema.tool {
        Tool::Prisma => prisma(schema)?,
        Tool::Command => sql_files(schema)?,
    };
    if migrations.is_empty() {
        return Err(FolderError::Empty {
            schema: schema.name.clone(),
            path: schema.path.clone(),
            tool: schema.tool,
        });
    }
    Ok(migrations)
}

fn prisma(schema: &Schema) -> Result<Vec<Migration>, FolderError> {
    let folder = prisma_folder(schema)?;
    refuse_other_engine(schema, &folder)?;
    let mut migrations = Vec::new();
    for Entry {
        path, is_folder, ..
    } in entries(&folder)?
    {
        if !is_folder {
            continue;
        }
        let file = path.join("migration.sql");
        let Some(metadata) = std::fs::metadata(&file).ok().filter(Metadata::is_file) else {
            return Err(FolderError::NoFile {
                schema: schema.name.clone(),
                path,
            });
        };
        let text = text_of(&file, &metadata)?;
        migrations.push(Migration {
            name: file_name(&path),
            file,
            forward: 0..text.len(),
            text,
            wrapping: Wrapping::OneString,
        });
    }
    migrations.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(migrations)
}

/// `migrations` beside or below what was named: a schema's file, its folder, or that very folder.
fn prisma_folder(schema: &Schema) -> Result<PathBuf, FolderError> {
    let path = &schema.path;
    let base = if path.is_file() {
        path.parent().unwrap_or(path)
    } else {
        path
    };
    let below = base.join("migrations");
    if below.is_dir() {
        return Ok(below);
    }
    if base.is_dir() {
        return Ok(base.to_owned());
    }
    Err(FolderError::NoFolder {
        schema: schema.name.clone(),
        path: path.clone(),
    })
}

/// `migration_lock.toml` names the provider. Its one line needs no parser of TOML.
fn refuse_other_engine(schema: &Schema, folder: &Path) -> Result<(), FolderError> {
    let lock = folder.join("migration_lock.toml");
    if !lock.is_file() {
        return Ok(());
    }
    let content = text(&lock)?;
    let provider = content.lines().find_map(|line| {
        let (key, value) = line.split_once('=')?;
        (key.trim() == "provider").then(|| value.trim().trim_matches('"').to_owned())
    });
    match provider {
        Some(provider) if provider != "postgresql" => Err(FolderError::OtherEngine {
            schema: schema.name.clone(),
            lock,
            provider,
        }),
        Some(_) | None => Ok(()),
    }
}

fn sql_files(schema: &Schema) -> Result<Vec<Migration>, FolderError> {
    if !schema.path.is_dir() {
        return Err(FolderError::NoFolder {
            schema: schema.name.clone(),
            path: schema.path.clone(),
        });
    }
    let mut files = Vec::new();
    collect(&schema.path, &mut files)?;
    files.sort_by(|one, other| by_numbers(&file_name(one), &file_name(other)));
    let read = files.into_iter().map(|file| {
        let text = text(&file)?;
        let name = file_name(&file);
        let wrapping = match schema.transaction.unwrap_or(TransactionMode::File) {
            TransactionMode::File if !forward::asks_for_no_transaction(&text) => {
                Wrapping::Transaction
            }
            TransactionMode::File | TransactionMode::None => Wrapping::None,
        };
        Ok(Migration {
            name: name.strip_suffix(".sql").unwrap_or(&name).to_owned(),
            file,
            forward: forward::forward(&text),
            text,
            wrapping,
        })
    });
    read.collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), FolderError> {
    for entry in entries(folder)? {
        if entry.is_folder {
            // A link to a folder above would never end.
            if !entry.is_link {
                collect(&entry.path, files)?;
            }
        } else if runs_forward(&file_name(&entry.path)) {
            files.push(entry.path);
        }
    }
    Ok(())
}

/// Leaves out what undoes: `NAME.down.sql` (golang-migrate, sqlx), `U1__NAME.sql` (Flyway).
fn runs_forward(name: &str) -> bool {
    let Some(stem) = name.strip_suffix(".sql") else {
        return false;
    };
    let is_flyway_undo = stem
        .strip_prefix('U')
        .and_then(|rest| rest.split_once("__"))
        .is_some_and(|(version, _)| {
            !version.is_empty()
                && version
                    .chars()
                    .all(|c| c.is_ascii_digit() || matches!(c, '.' | '_'))
        });
    !stem.ends_with(".down") && !is_flyway_undo
}

/// Compares names with the numbers in them as numbers: `V2__b` before `V10__a`.
fn by_numbers(one: &str, other: &str) -> Ordering {
    let (mut left, mut right) = (one, other);
    loop {
        let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
        let (left_digits, right_digits) = (digits(left), digits(right));
        if left_digits > 0 && right_digits > 0 {
            let number = |text: &str, length: usize| {
                let number = text[..length].trim_start_matches('0').to_owned();
                (number.len(), number)
            };
            match number(left, left_digits).cmp(&number(right, right_digits)) {
                Ordering::Equal => {
                    (left, right) = (&left[left_digits..], &right[right_digits..]);
                    continue;
                }
                unequal @ (Ordering::Less | Ordering::Greater) => return unequal,
            }
        }
        match (left.chars().next(), right.chars().next()) {
            (Some(a), Some(b)) if a == b => {
                (left, right) = (&left[a.len_utf8()..], &right[b.len_utf8()..]);
            }
            (None, None) => return one.cmp(other),
            (a, b) => return a.cmp(&b),
        }
    }
}

/// What a folder has in it.
struct Entry {
    path: PathBuf,
    /// Whether it is a folder, or a link to one.
    is_folder: bool,
    is_link: bool,
}

/// The entries of a folder. Listing it says already what each of them is, so nothing but links is asked for.
fn entries(folder: &Path) -> Result<Vec<Entry>, FolderError> {
    let unreadable = |source| FolderError::Unreadable {
        path: folder.to_owned(),
        source,
    };
    let listed = std::fs::read_dir(folder).map_err(unreadable)?;
    let entries = listed.map(|entry| {
        let entry = entry?;
        let (path, kind) = (entry.path(), entry.file_type()?);
        let is_link = kind.is_symlink();
        Ok(Entry {
            is_folder: kind.is_dir() || (is_link && path.is_dir()),
            is_link,
            path,
        })
    });
    entries.collect::<Result<_, _>>().map_err(unreadable)
}

fn file_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

fn text(path: &Path) -> Result<String, FolderError> {
    let metadata = std::fs::metadata(path).map_err(|source| FolderError::Unreadable {
        path: path.to_owned(),
        source,
    })?;
    text_of(path, &metadata)
}

/// The text of a file of which it was asked already what it is.
fn text_of(path: &Path, metadata: &Metadata) -> Result<String, FolderError> {
    let unreadable = |source| FolderError::Unreadable {
        path: path.to_owned(),
        source,
    };
    let size = metadata.len();
    if size > LARGEST_FILE {
        return Err(FolderError::TooLarge {
            path: path.to_owned(),
            size,
        });
    }
    // Room for the end to be seen in, so that one read is for the text and one for the end.
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or_default() + 64);
    let file = File::open(path).map_err(unreadable)?;
    let read = file.take(LARGEST_FILE + 1).read_to_end(&mut bytes);
    read.map_err(unreadable)?;
    String::from_utf8(bytes).map_err(|_| FolderError::NotText {
        path: path.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        folder
    }

    fn names(path: &Path, tool: Tool) -> Result<Vec<String>, FolderError> {
        let migrations = read(&Schema::alone(path, tool))?;
        Ok(migrations
            .into_iter()
            .map(|migration| migration.name)
            .collect())
    }

    #[test]
    fn prisma_migrations_are_found_from_the_schema_its_folder_and_their_own() {
        let folder = folder(&[
            ("prisma/schema.prisma", ""),
            (
                "prisma/migrations/migration_lock.toml",
                "provider = \"postgresql\"\n",
            ),
            ("prisma/migrations/20_b/migration.sql", ""),
            ("prisma/migrations/10_a/migration.sql", ""),
        ]);
        for path in ["prisma/schema.prisma", "prisma", "prisma/migrations"] {
            let found = names(&folder.path().join(path), Tool::Prisma).unwrap();
            assert_eq!(found, ["10_a", "20_b"]);
        }
    }

    #[test]
    fn a_prisma_migration_without_its_file_is_refused() {
        let folder = folder(&[("migrations/10_a/migrate.sql", "")]);
        let error = names(folder.path(), Tool::Prisma).unwrap_err();
        assert!(matches!(error, FolderError::NoFile { .. }), "{error}");
    }

    #[test]
    fn another_engine_is_refused() {
        let folder = folder(&[("migrations/migration_lock.toml", "provider = \"mysql\"\n")]);
        let error = names(folder.path(), Tool::Prisma).unwrap_err().to_string();
        assert!(
            error.ends_with("is for `mysql`, not for `postgresql`"),
            "{error}"
        );
    }

    #[test]
    fn an_empty_folder_is_no_clean_bill() {
        let folder = folder(&[("README.md", "")]);
        for tool in [Tool::Prisma, Tool::Command] {
            let error = names(folder.path(), tool).unwrap_err();
            assert!(matches!(error, FolderError::Empty { .. }), "{error}");
        }
        let error = names(&folder.path().join("absent"), Tool::Command).unwrap_err();
        assert!(matches!(error, FolderError::NoFolder { .. }), "{error}");
    }

    #[test]
    fn sql_files_come_in_the_order_of_their_numbers_without_those_that_undo() {
        let folder = folder(&[
            ("V10__c.sql", ""),
            ("V2__b.sql", ""),
            ("2024/V1__a.sql", ""),
            ("U1__a.sql", ""),
            ("V10__c.down.sql", ""),
            ("notes.txt", ""),
        ]);
        let found = names(folder.path(), Tool::Command).unwrap();
        assert_eq!(found, ["V1__a", "V2__b", "V10__c"]);
    }

    #[test]
    fn what_is_not_text_is_refused() {
        let folder = folder(&[("a.sql", "")]);
        std::fs::write(folder.path().join("a.sql"), [0xff, 0xfe]).unwrap();
        let error = names(folder.path(), Tool::Command).unwrap_err();
        assert!(matches!(error, FolderError::NotText { .. }), "{error}");
    }
}
