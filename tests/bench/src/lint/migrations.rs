//! A thousand migrations of which it is known whether they hurt: each was seen to on a real server
//! (`tests/fixtures/migrations`).

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Context as _;
use tempfile::TempDir;

/// Migrations, the first of which makes the tables.
pub(crate) const COUNT: usize = 1000;

const TABLES: usize = 50;

/// Changes that cost nothing, or that everybody else goes on beside. `@` is a table, `#` a number.
const HARMLESS: [&str; 8] = [
    "ALTER TABLE @ ADD COLUMN c# integer;",
    "ALTER TABLE @ ADD COLUMN c# timestamptz NOT NULL DEFAULT now();",
    "ALTER TABLE @ ALTER COLUMN name TYPE varchar(1#);",
    "ALTER TABLE @ ADD CONSTRAINT k# CHECK (visits >= 0) NOT VALID;",
    "CREATE TABLE n# (id serial PRIMARY KEY, t_id integer REFERENCES @ (id), name text);\nCREATE INDEX n#_name ON n# (name);",
    "UPDATE @ SET visits = 0 WHERE id BETWEEN 1 AND 1000;",
    "INSERT INTO @ (name, visits) VALUES ('#', #);",
    "ALTER TABLE @ ALTER COLUMN visits SET DEFAULT 0;",
];

/// Changes that keep others out for as long as a table is large, lose rows, or break the running version.
const HARMFUL: [&str; 12] = [
    "CREATE INDEX i# ON @ (name);",
    "ALTER TABLE @ ADD COLUMN c# integer;\nUPDATE @ SET c# = 1 WHERE visits > 3;",
    "ALTER TABLE @ ADD COLUMN c# serial;",
    "ALTER TABLE @ ADD COLUMN c# integer CHECK (c# > 0);",
    "ALTER TABLE @ ADD CONSTRAINT k# CHECK (visits >= 0);",
    "ALTER TABLE @ ALTER COLUMN score TYPE numeric(8, 1#);",
    "UPDATE @ SET visits = 0;",
    "TRUNCATE @;",
    "LOCK TABLE @;",
    "CLUSTER @ USING @_pkey;",
    "DO $$ BEGIN ALTER TABLE @ RENAME COLUMN score TO score#; ALTER TABLE @ RENAME COLUMN score# TO score; END $$;",
    "SET lock_timeout = 0;\nALTER TABLE @ ADD COLUMN c# integer;",
];

/// The migrations in a folder of their own.
pub(crate) struct Project {
    folder: TempDir,
    names: BTreeSet<String>,
    harmful: BTreeSet<String>,
}

impl Project {
    /// Writes them in Prisma's layout.
    pub(crate) fn write() -> anyhow::Result<Self> {
        let mut project = Self {
            folder: tempfile::tempdir().context("a temporary folder")?,
            names: BTreeSet::new(),
            harmful: BTreeSet::new(),
        };
        let tables: String = (0..TABLES)
            .map(|table| {
                format!("CREATE TABLE t{table} (id serial PRIMARY KEY, name varchar(5), visits integer, score numeric(8, 2));\n")
            })
            .collect();
        project.add("0000_tables", &tables)?;
        for number in 1..COUNT {
            let is_harmful = number % 2 == 0;
            let changes: &[&str] = if is_harmful { &HARMFUL } else { &HARMLESS };
            let change = changes[(number / 2) % changes.len()]
                .replace('@', &format!("t{}", number % TABLES))
                .replace('#', &number.to_string());
            let name = format!("{number:04}_change");
            let limits = "SET lock_timeout = '2s';\nSET statement_timeout = '60s';\n";
            project.add(&name, &format!("{limits}{change}\n"))?;
            if is_harmful {
                project.harmful.insert(name);
            }
        }
        Ok(project)
    }

    fn add(&mut self, name: &str, text: &str) -> anyhow::Result<()> {
        let folder = self.folder.path().join("migrations").join(name);
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join("migration.sql"), text)?;
        self.names.insert(name.to_owned());
        Ok(())
    }

    /// The folder that holds `migrations`.
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The names of those that hurt.
    pub(crate) fn harmful(&self) -> &BTreeSet<String> {
        &self.harmful
    }

    /// Whether there is a migration of this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.names.contains(name)
    }
}
