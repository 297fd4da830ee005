//! A production database and its copy on another server, where a role owns the copy and may do nothing else.

#![allow(dead_code, reason = "each test program uses its part")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::path::Path;
use std::sync::OnceLock;

use serde_json::Value;
use switchyard_harness::{Ended, Step};
use switchyard_test_postgres::{Database, Server};
use tempfile::TempDir;

/// The role of copies; its password is like no other text.
pub(crate) const REHEARSER: &str = "rehearser";
pub(crate) const PASSWORD: &str = "tulip-4Kd9-rehearser";

/// The server of copies, for all tests of this program.
pub(crate) fn scratch_server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| {
        let server = Server::start();
        server.existing_database("postgres").run(&format!(
            "CREATE ROLE {REHEARSER} LOGIN PASSWORD '{PASSWORD}'"
        ));
        server
    })
}

/// Production, its copy, and a project of Prisma's with one migration that ran in both.
pub(crate) struct Shop {
    pub(crate) production: Database,
    pub(crate) copy: Database,
    pub(crate) folder: TempDir,
}

impl Shop {
    /// Both databases with the same tables, and no statement counted yet.
    pub(crate) fn new(tables: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let first = "-- the tables\n";
        migration(folder.path(), "1_first", first);
        let ledger = format!(
            "CREATE TABLE _prisma_migrations (id varchar(36) PRIMARY KEY, checksum varchar(64) NOT NULL,
               finished_at timestamptz, migration_name varchar(255) NOT NULL, logs text,
               rolled_back_at timestamptz, started_at timestamptz NOT NULL DEFAULT now(),
               applied_steps_count int NOT NULL DEFAULT 0);
             INSERT INTO _prisma_migrations (id, checksum, finished_at, migration_name)
             VALUES ('a', encode(sha256('{first}'), 'hex'), now(), '1_first');"
        );
        let production = Server::shared().database();
        production.run(&format!("{ledger}\n{tables}"));
        let copy = scratch_server().database();
        copy.run(&format!(
            "ALTER DATABASE {} OWNER TO {REHEARSER}; SET ROLE {REHEARSER};\n{ledger}\n{tables}",
            copy.name()
        ));
        Self {
            production,
            copy,
            folder,
        }
    }

    /// Adds a pending migration.
    pub(crate) fn pending(self, name: &str, sql: &str) -> Self {
        migration(self.folder.path(), name, sql);
        self
    }

    /// The copy as its own role reaches it.
    pub(crate) fn copy_url(&self) -> String {
        self.copy.url_as(REHEARSER, PASSWORD)
    }

    /// A rehearsal of everything pending.
    pub(crate) fn rehearse(&self) -> Step {
        Step::new(env!("CARGO_BIN_EXE_migrate-gate"))
            .input("command", "rehearse")
            .input("path", self.folder.path().display().to_string())
            .input("database-url", self.production.url())
            .input("scratch-url", self.copy_url())
    }
}

/// Writes a migration as Prisma does.
pub(crate) fn migration(folder: &Path, name: &str, sql: &str) {
    let folder = folder.join("migrations").join(name);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("migration.sql"), sql).unwrap();
}

/// The rehearsal that a step wrote.
pub(crate) fn rehearsal(ended: &Ended) -> Value {
    let path = ended.outputs.get("rehearsal");
    let path = path.unwrap_or_else(|| panic!("no rehearsal: {}", ended.log()));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}
