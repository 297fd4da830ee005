//! A project with real Prisma, whose engine is replaced by its adapter for PostgreSQL.
//!
//! The adapter cuts a script at every `;` and runs each piece on its own, where the engine sends the whole file at
//! once. So ledger, lock and exit codes are Prisma's own; what a failure inside of a file leaves is not.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::tools::tool;

const SCHEMA: &str =
    "datasource db {\n  provider = \"postgresql\"\n  url      = env(\"DATABASE_URL\")\n}\n";

/// A folder with `schema.prisma`, `migrations/` and an installed Prisma.
#[derive(Debug)]
pub struct Prisma {
    folder: TempDir,
}

/// What a command of Prisma said.
#[derive(Debug)]
pub struct Ran {
    /// Exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Both streams.
    pub log: String,
}

impl Default for Prisma {
    fn default() -> Self {
        Self::new()
    }
}

impl Prisma {
    /// An empty project.
    ///
    /// # Panics
    /// When Prisma cannot be installed, or the folder not made.
    #[must_use]
    pub fn new() -> Self {
        let installed = tool("prisma");
        let folder = tempfile::tempdir().expect("a folder for the project");
        let path = |name: &str| folder.path().join(name);
        let modules = installed.join("node_modules");
        std::os::unix::fs::symlink(modules, path("node_modules")).expect("link Prisma");
        // No link: Prisma looks for the schema beside the file that a link leads to.
        let configuration = "prisma.config.ts";
        std::fs::copy(installed.join(configuration), path(configuration)).expect("copy the file");
        std::fs::write(path("schema.prisma"), SCHEMA).expect("write schema.prisma");
        std::fs::create_dir(path("migrations")).expect("make the folder of migrations");
        let lock = "provider = \"postgresql\"\n";
        std::fs::write(path("migrations/migration_lock.toml"), lock).expect("write the lock file");
        Self { folder }
    }

    /// The project's folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// File of a migration.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        let folder = self.folder.path().join("migrations").join(name);
        folder.join("migration.sql")
    }

    /// Adds a migration, or writes another text into it.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn migration(&self, name: &str, sql: &str) -> &Self {
        let file = self.file(name);
        std::fs::create_dir_all(file.with_file_name("")).expect("make the migration's folder");
        std::fs::write(file, sql).expect("write the migration");
        self
    }

    /// Takes a migration away.
    ///
    /// # Panics
    /// When it is not there.
    pub fn remove(&self, name: &str) {
        let folder = self.folder.path().join("migrations").join(name);
        std::fs::remove_dir_all(folder).expect("remove the migration");
    }

    /// `prisma migrate deploy`. Prisma's engine would make the schema that the URL names; here it has to be there.
    #[must_use]
    pub fn deploy(&self, url: &str) -> Ran {
        self.run(url, &["migrate", "deploy"])
    }

    /// Runs any command of Prisma.
    ///
    /// # Panics
    /// When Node cannot be started.
    #[must_use]
    pub fn run(&self, url: &str, arguments: &[&str]) -> Ran {
        let output = Command::new("node")
            .arg("node_modules/prisma/build/index.js")
            .args(arguments)
            .current_dir(self.folder.path())
            .envs(Self::variables())
            .env("DATABASE_URL", url)
            .output()
            .expect("start Prisma");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ran {
            code: output.status.code(),
            log: text(&output.stdout) + &text(&output.stderr),
        }
    }

    /// What keeps Prisma from looking for its engine and from calling home.
    #[must_use]
    pub fn variables() -> [(&'static str, &'static str); 3] {
        [
            ("PRISMA_SCHEMA_ENGINE_BINARY", "/bin/true"),
            ("PRISMA_QUERY_ENGINE_LIBRARY", "/bin/true"),
            ("CHECKPOINT_DISABLE", "1"),
        ]
    }
}
