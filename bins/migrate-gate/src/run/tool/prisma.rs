//! Prisma Migrate's command line, and stages: a copy of a schema with its migrations up to one of them, so
//! that one is applied at a time. What is left of a migration that failed can be told only then.

use std::io;
use std::path::{Path, PathBuf};

use super::{ToolInputs, shown};
use crate::project::{Migration, Schema};

/// A copy of a schema with some of its migrations; removed when it is dropped.
#[derive(Debug)]
pub(crate) struct Stage {
    folder: tempfile::TempDir,
}

impl Stage {
    /// Copies the schema's files and the migrations. `None` where Prisma is told its folders by a
    /// configuration, which is code.
    ///
    /// # Errors
    /// When something cannot be copied.
    pub(crate) fn of(schema: &Schema, migrations: &[&Migration]) -> io::Result<Option<Self>> {
        if schema.config.is_some() {
            return Ok(None);
        }
        let folder = tempfile::tempdir()?;
        let source = schema_of(&schema.path);
        let files = if source.is_file() {
            vec![name_of(&source)]
        } else {
            prisma_files(&source)?
        };
        let root = if source.is_file() {
            source.parent().unwrap_or(Path::new("."))
        } else {
            &source
        };
        for file in files {
            let target = folder.path().join(&file);
            std::fs::create_dir_all(target.parent().unwrap_or(folder.path()))?;
            std::fs::copy(root.join(&file), target)?;
        }
        for migration in migrations {
            let target = folder.path().join("migrations").join(&migration.name);
            std::fs::create_dir_all(&target)?;
            std::fs::write(target.join("migration.sql"), &migration.text)?;
            let lock = migration
                .file
                .ancestors()
                .nth(2)
                .map(|folder| folder.join("migration_lock.toml"));
            if let Some(lock) = lock.filter(|lock| lock.is_file()) {
                std::fs::copy(lock, folder.path().join("migrations/migration_lock.toml"))?;
            }
        }
        Ok(Some(Self { folder }))
    }
}

/// Prisma, what it is to do, and which schema it is to do it with: `--config` where the schema names a
/// configuration (Prisma 7 has the URL there), `--schema` otherwise.
pub(super) fn words(
    inputs: &ToolInputs,
    (schema, stage): (&Schema, Option<&Stage>),
    what: &[&str],
) -> Vec<String> {
    let mut words = inputs.prisma.clone();
    words.extend(what.iter().map(|word| (*word).to_owned()));
    match (&schema.config, stage) {
        (Some(config), _) => words.extend(["--config".to_owned(), shown(config, schema)]),
        (None, Some(stage)) => {
            words.extend([
                "--schema".to_owned(),
                shown(&schema_of(stage.folder.path()), schema),
            ]);
        }
        (None, None) => words.extend([
            "--schema".to_owned(),
            shown(&schema_of(&schema.path), schema),
        ]),
    }
    words
}

/// The files of a schema of several, those in folders below included, as seen from its folder. Links are not followed;
/// packages bring schemas of their own, which are not the application's.
fn prisma_files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(below) = folders.pop() {
        for entry in std::fs::read_dir(folder.join(&below))? {
            let entry = entry?;
            let path = below.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                if entry.file_name() != "node_modules" {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|end| end == "prisma") {
                files.push(path);
            }
        }
    }
    Ok(files)
}

fn name_of(file: &Path) -> PathBuf {
    file.file_name()
        .map_or_else(|| PathBuf::from("schema.prisma"), PathBuf::from)
}

/// What Prisma calls the schema: a file, or the folder of several; never the folder of migrations.
fn schema_of(path: &Path) -> PathBuf {
    let is_migrations = path.file_name().is_some_and(|name| name == "migrations");
    let folder = match path.parent() {
        Some(parent) if is_migrations && parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) if is_migrations => parent,
        Some(_) | None => path,
    };
    let file = folder.join("schema.prisma");
    if file.is_file() {
        file
    } else {
        folder.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::project::{Tool, Wrapping};

    #[test]
    fn the_schema_is_found_from_its_file_its_folder_and_its_migrations() {
        let folder = tempfile::tempdir().unwrap();
        let prisma = folder.path().join("prisma");
        std::fs::create_dir_all(prisma.join("migrations")).unwrap();
        let file = prisma.join("schema.prisma");
        assert_eq!(schema_of(&prisma.join("migrations")), prisma);
        std::fs::write(&file, "").unwrap();
        for path in [&file, &prisma, &prisma.join("migrations")] {
            assert_eq!(schema_of(path), file);
        }
        assert_eq!(schema_of(Path::new("migrations")), Path::new("."));
    }

    #[test]
    fn a_stage_holds_the_schema_and_the_migrations_that_were_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let prisma = folder.path().join("prisma");
        let migrations = prisma.join("migrations");
        std::fs::create_dir_all(&migrations).unwrap();
        std::fs::write(prisma.join("schema.prisma"), "datasource").unwrap();
        std::fs::write(migrations.join("migration_lock.toml"), "lock").unwrap();
        let migration = Migration {
            name: "1_a".to_owned(),
            file: migrations.join("1_a/migration.sql"),
            text: "SELECT 1;".to_owned(),
            forward: 0..9,
            wrapping: Wrapping::OneString,
        };
        let schema = Schema::alone(&prisma, Tool::Prisma);
        let stage = Stage::of(&schema, &[&migration]).unwrap().unwrap();
        let read = |name: &str| std::fs::read_to_string(stage.folder.path().join(name)).unwrap();
        assert_eq!(read("schema.prisma"), "datasource");
        assert_eq!(read("migrations/1_a/migration.sql"), "SELECT 1;");
        assert_eq!(read("migrations/migration_lock.toml"), "lock");
    }

    #[test]
    fn a_schema_of_several_files_is_staged_with_those_in_folders_below() {
        let folder = tempfile::tempdir().unwrap();
        let prisma = folder.path().join("prisma");
        std::fs::create_dir_all(prisma.join("models/shop")).unwrap();
        std::fs::write(prisma.join("main.prisma"), "datasource").unwrap();
        std::fs::write(prisma.join("models/shop/item.prisma"), "model").unwrap();
        std::fs::write(prisma.join("models/notes.txt"), "notes").unwrap();
        std::fs::create_dir_all(prisma.join("node_modules/client")).unwrap();
        std::fs::write(prisma.join("node_modules/client/its.prisma"), "theirs").unwrap();
        let schema = Schema::alone(&prisma, Tool::Prisma);
        let stage = Stage::of(&schema, &[]).unwrap().unwrap();
        let read = |name: &str| std::fs::read_to_string(stage.folder.path().join(name)).ok();
        assert_eq!(read("main.prisma").as_deref(), Some("datasource"));
        assert_eq!(read("models/shop/item.prisma").as_deref(), Some("model"));
        assert_eq!(read("models/notes.txt"), None);
        assert_eq!(read("node_modules/client/its.prisma"), None);
    }
}
