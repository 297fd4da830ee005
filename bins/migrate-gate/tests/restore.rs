//! `restore` as a step on real servers: what comes back, what is kept, what is refused.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::path::{Path, PathBuf};
use std::process::Command;

use switchyard_harness::{Ended, Step, expect_code, expect_said, until};
use switchyard_test_postgres::{Database, PASSWORD, Server, programs};

const WEB_PASSWORD: &str = "web-password-5521";

fn step(command: &str) -> Step {
    Step::new(env!("CARGO_BIN_EXE_migrate-gate"))
        .input("command", command)
        .input("pg-programs", programs().display().to_string())
}

/// A shop whose tables belong to one role and are used by another, with settings and grants of its own.
struct Shop {
    database: Database,
    folder: tempfile::TempDir,
}

impl Shop {
    fn open() -> Self {
        Self::on(Server::shared())
    }

    fn on(server: &Server) -> Self {
        let database = server.database();
        let name = database.name();
        database.run(&format!(
            "CREATE ROLE owner_{name} LOGIN; CREATE ROLE web_{name} LOGIN PASSWORD '{WEB_PASSWORD}';
             ALTER DATABASE {name} OWNER TO owner_{name};
             ALTER DATABASE {name} SET statement_timeout = '71s';
             ALTER DATABASE {name} SET search_path = \"$user\", public, shop;
             ALTER ROLE web_{name} IN DATABASE {name} SET lock_timeout = '3s';
             REVOKE ALL ON DATABASE {name} FROM PUBLIC;
             GRANT CONNECT ON DATABASE {name} TO web_{name};
             CREATE TABLE item (id int PRIMARY KEY, name text);
             INSERT INTO item VALUES (1, 'one'), (2, 'two');
             ALTER TABLE item OWNER TO owner_{name};
             GRANT SELECT, INSERT ON item TO web_{name};"
        ));
        let folder = tempfile::tempdir().unwrap();
        Self { database, folder }
    }

    fn backup(&self) -> String {
        let ended = step("backup")
            .input("database-url", self.database.url())
            .input("backup-to", self.folder.path().display().to_string())
            .run();
        assert_code(&ended, 0);
        ended.outputs["backup"].clone()
    }

    fn restore(&self, backup: &str) -> Step {
        step("restore")
            .input("database-url", self.database.url())
            .input("backup", backup)
    }

    /// What the application reads.
    fn web(&self, sql: &str) -> String {
        let name = self.database.name();
        let url = self.database.url_as(&format!("web_{name}"), WEB_PASSWORD);
        let output = Command::new(switchyard_test_postgres::program("psql"))
            .args(["-XAt", "-v", "ON_ERROR_STOP=1", "-c", sql, &url])
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn databases(&self) -> String {
        let name = self.database.name();
        let postgres = Server::shared().existing_database("postgres");
        postgres.read(&format!(
            "SELECT string_agg(datname, ' ' ORDER BY datname) FROM pg_database WHERE datname ~ '^{name}(_r|$)'"
        ))
    }

    fn replaced(&self, backup: &str) -> String {
        format!("{}_replaced_{}", self.database.name(), mark(backup))
    }
}

/// The first digits of a backup's digest, which its names carry.
fn mark(backup: &str) -> &str {
    let (_, digest) = backup.split_once("#sha256=").unwrap();
    &digest[..8]
}

fn assert_code(ended: &Ended, code: i32) {
    ended.assert_never_shows(PASSWORD);
    expect_code(ended, code);
}

#[test]
fn a_restored_database_has_its_rows_owners_grants_and_settings_and_the_other_is_kept() {
    let shop = Shop::open();
    let backup = shop.backup();
    shop.database
        .run("ALTER TABLE item DROP COLUMN name; INSERT INTO item VALUES (3);");
    // A session of the application is in the way.
    let mut busy = shop.database.session();
    let _ = busy.run("BEGIN; SELECT * FROM item;");
    let ended = shop
        .restore(&backup)
        .input("accept-lost-writes", "true")
        .run();
    assert_code(&ended, 0);
    assert_eq!(ended.outputs["restored"], "true");
    expect_said(
        &ended,
        &[
            "table public.item has 3 rows instead of 2",
            &shop.replaced(&backup),
        ],
    );
    // With consent nobody waits for the answer of a first count.
    let counts = ended.log().matches("counting what was written").count();
    assert_eq!(counts, 1, "{}", ended.log());
    let name = shop.database.name();
    assert_eq!(
        shop.web("SELECT string_agg(name, ' ' ORDER BY id) FROM item"),
        "one two"
    );
    let again = shop.restore(&backup).run();
    assert_code(&again, 0);
    expect_said(&again, &["in place already"]);
    assert_eq!(
        shop.web("INSERT INTO item VALUES (4, 'four') RETURNING id")
            .lines()
            .next(),
        Some("4")
    );
    let settings = "SELECT current_setting('statement_timeout') || ' ' || current_setting('lock_timeout') || ' ' || current_setting('search_path')";
    assert_eq!(shop.web(settings), "71s 3s \"$user\", public, shop");
    let owner = format!("SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = '{name}'");
    assert_eq!(shop.database.read(&owner), format!("owner_{name}"));
    assert_eq!(
        shop.database
            .read("SELECT tableowner FROM pg_tables WHERE tablename = 'item'"),
        format!("owner_{name}")
    );
    let everybody = format!("SELECT has_database_privilege('public', '{name}', 'CONNECT')");
    assert_eq!(shop.database.read(&everybody), "f");
    let kept = Server::shared().existing_database(&shop.replaced(&backup));
    assert_eq!(kept.read("SELECT count(*) FROM item"), "3");
    let again = shop
        .restore(&backup)
        .input("accept-lost-writes", "true")
        .run();
    // It was called restored although only its schema was that of the backup.
    assert_code(&again, 1);
    assert!(!again.outputs.contains_key("restored"));
    expect_said(
        &again,
        &[
            "table public.item has 3 rows instead of 2",
            &shop.replaced(&backup),
            "drop or rename it to restore once more",
        ],
    );
    assert_eq!(
        shop.web("SELECT count(*) FROM item"),
        "3",
        "nothing is restored twice"
    );
    Server::shared().existing_database("postgres").run(&format!(
        "ALTER DATABASE {} RENAME TO {name}_kept;",
        shop.replaced(&backup)
    ));
    let again = shop
        .restore(&backup)
        .input("accept-lost-writes", "true")
        .run();
    assert_code(&again, 0);
    assert_eq!(shop.web("SELECT count(*) FROM item"), "2");
}

#[test]
fn what_was_written_since_is_told_and_nothing_is_changed_without_consent() {
    let shop = Shop::open();
    let backup = shop.backup();
    shop.database.run("INSERT INTO item VALUES (3, 'three');");
    let before = shop.databases();
    let ended = shop.restore(&backup).run();
    assert_code(&ended, 1);
    expect_said(
        &ended,
        &[
            "table public.item has 3 rows instead of 2",
            "accept-lost-writes",
        ],
    );
    assert_eq!(shop.databases(), before);
    assert_eq!(shop.web("SELECT count(*) FROM item"), "3");
    assert!(!ended.outputs.contains_key("restored"));
}

#[test]
fn a_damaged_backup_and_one_of_another_database_replace_nothing() {
    let (shop, other) = (Shop::open(), Shop::open());
    let backup = shop.backup();
    let ended = other
        .restore(&backup)
        .input("accept-lost-writes", "true")
        .run();
    assert_code(&ended, 2);
    expect_said(&ended, &["the backup is one of"]);
    let folder = PathBuf::from(backup.split('#').next().unwrap()).join("dump");
    let largest = largest(&folder);
    let mut bytes = std::fs::read(&largest).unwrap();
    let last = bytes.len() / 2;
    bytes[last] ^= 1;
    std::fs::write(&largest, bytes).unwrap();
    let before = shop.databases();
    let ended = shop
        .restore(&backup)
        .input("accept-lost-writes", "true")
        .run();
    assert_code(&ended, 1);
    expect_said(&ended, &["the backup is damaged", "other contents"]);
    assert_eq!(shop.databases(), before);
}

fn largest(folder: &Path) -> PathBuf {
    let files = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    files
        .max_by_key(|file| std::fs::metadata(file).unwrap().len())
        .unwrap()
}

#[test]
fn an_exchange_that_was_cut_off_between_its_renames_is_ended_by_the_next_run() {
    let shop = Shop::open();
    let backup = shop.backup();
    let (name, mark) = (shop.database.name().to_owned(), mark(&backup));
    let postgres = Server::shared().existing_database("postgres");
    postgres.run(&format!(
        "CREATE DATABASE {name}_restored_{mark} TEMPLATE {name};"
    ));
    shop.database.run("DROP TABLE item;");
    postgres.run(&format!(
        "ALTER DATABASE {name} RENAME TO {name}_replaced_{mark};"
    ));
    let ended = shop.restore(&backup).run();
    assert_code(&ended, 0);
    expect_said(&ended, &["an exchange that was cut off is ended"]);
    assert_eq!(shop.database.read("SELECT count(*) FROM item"), "2");
    assert_eq!(shop.databases(), format!("{name} {name}_replaced_{mark}"));
}

#[test]
fn one_that_was_cut_off_before_is_begun_anew() {
    let shop = Shop::open();
    let backup = shop.backup();
    let (name, mark) = (shop.database.name().to_owned(), mark(&backup));
    let postgres = Server::shared().existing_database("postgres");
    // Killed while the copy was filled, and once more after the database was closed.
    postgres.run(&format!("CREATE DATABASE {name}_restored_{mark};"));
    postgres.run(&format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false;"));
    let ended = shop.restore(&backup).run();
    assert_code(&ended, 0);
    assert_eq!(shop.web("SELECT count(*) FROM item"), "2");
    assert_eq!(shop.databases(), format!("{name} {name}_replaced_{mark}"));
}

/// A killed run used to leave its mark where only a superuser could have made it.
#[test]
fn what_a_killed_run_left_readable_only_is_written_again() {
    let shop = Shop::open();
    let backup = shop.backup();
    let (name, mark) = (shop.database.name().to_owned(), mark(&backup));
    let postgres = Server::shared().existing_database("postgres");
    postgres.run(&format!(
        "ALTER DATABASE {name} SET default_transaction_read_only = 'tRUE';"
    ));
    let ended = shop.restore(&backup).run();
    assert_code(&ended, 0);
    assert_eq!(shop.web("SHOW default_transaction_read_only"), "off");
    assert_eq!(shop.databases(), format!("{name} {name}_replaced_{mark}"));
}

/// Its tablespace was named, and writes were stopped with a setting, that are a superuser's to give.
#[test]
fn an_owner_who_may_create_databases_restores_without_special_rights() {
    let database = Server::shared().database();
    let (name, folder) = (database.name(), tempfile::tempdir().unwrap());
    database.run(&format!(
        "CREATE ROLE keeper_{name} LOGIN CREATEDB PASSWORD '{WEB_PASSWORD}';
         ALTER DATABASE {name} OWNER TO keeper_{name};"
    ));
    let keeper = database.url_as(&format!("keeper_{name}"), WEB_PASSWORD);
    let keep = |sql: &str| {
        let mut psql = Command::new(switchyard_test_postgres::program("psql"));
        psql.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-c", sql, &keeper]);
        let output = psql.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let settings = format!("ALTER DATABASE {name} SET statement_timeout = '71s'");
    keep("CREATE TABLE item (id int PRIMARY KEY); INSERT INTO item VALUES (1), (2)");
    keep(&settings);
    let ended = step("backup")
        .input("database-url", &keeper)
        .input("backup-to", folder.path().display().to_string())
        .run();
    assert_code(&ended, 0);
    let backup = &ended.outputs["backup"];
    keep("INSERT INTO item VALUES (3)");
    let restore = |consent: &str| {
        step("restore")
            .input("database-url", &keeper)
            .input("backup", backup)
            .input("accept-lost-writes", consent)
            .run()
    };
    assert_code(&restore("false"), 1);
    assert_eq!(keep("SHOW default_transaction_read_only"), "off");
    assert_code(&restore("true"), 0);
    assert_eq!(keep("SELECT count(*) FROM item"), "2");
    assert_eq!(keep("SHOW statement_timeout"), "71s");
    assert_eq!(keep("SHOW default_transaction_read_only"), "off");
    keep("INSERT INTO item VALUES (3)");
}

/// Scratch databases and copies were made with the locale of the operating system, and what ICU had ordered and
/// checked was refused there.
#[test]
fn a_database_of_icu_is_proved_and_restored_as_one() {
    let server = Server::start();
    let (database, folder) = (server.database(), tempfile::tempdir().unwrap());
    let name = database.name().to_owned();
    server.existing_database("postgres").run(&format!(
        "DROP DATABASE {name}; CREATE DATABASE {name} TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'de-AT';"
    ));
    // Bytes say otherwise: `Z` is before `a`.
    database.run(
        "CREATE TABLE item (name text CHECK (name < 'Z')); INSERT INTO item VALUES ('a'), ('b');",
    );
    let ended = step("backup")
        .input("database-url", database.url())
        .input("backup-to", folder.path().display().to_string())
        .run();
    assert_code(&ended, 0);
    assert_eq!(ended.outputs["verified"], "true");
    database.run("INSERT INTO item VALUES ('c');");
    let ended = step("restore")
        .input("database-url", database.url())
        .input("backup", &ended.outputs["backup"])
        .input("accept-lost-writes", "true")
        .run();
    assert_code(&ended, 0);
    let made =
        "SELECT datlocprovider, daticulocale FROM pg_database WHERE datname = current_database()";
    assert_eq!(database.read(made), "i|de-AT");
    assert_eq!(database.read("SELECT count(*) FROM item"), "2");
}

fn signal(process: u32, name: &str) {
    let status = Command::new("kill")
        .args([name, &process.to_string()])
        .status();
    assert!(status.unwrap().success());
}

/// It was told that what was kept is no backup.
#[test]
fn a_signal_before_the_exchange_says_what_is_left() {
    let shop = Shop::open();
    let backup = shop.backup();
    let mut holder = shop.database.session();
    let _ = holder.run("BEGIN; LOCK TABLE item IN ACCESS EXCLUSIVE MODE;");
    let step = shop.restore(&backup).start();
    let waits = "SELECT count(*) > 0 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
                 AND application_name LIKE 'switchyard%'";
    until("the count waits", || shop.database.read(waits) == "t");
    signal(step.id(), "-TERM");
    let ended = step.finish();
    assert_code(&ended, 143);
    expect_said(&ended, &["SIGTERM ended it; the database is as it was"]);
    let _ = holder.run("ROLLBACK;");
    assert_eq!(shop.web("SELECT count(*) FROM item"), "2");
}

/// A signal used to drop the exchange where it was: the database stayed closed, or lost its name.
#[test]
fn a_signal_in_the_exchange_does_not_cut_it_off() {
    let shop = Shop::open();
    let backup = shop.backup();
    let name = shop.database.name();
    let postgres = Server::shared().existing_database("postgres");
    // Whoever comments on a database holds its name.
    let mut holder = postgres.session();
    let _ = holder.run(&format!("BEGIN; COMMENT ON DATABASE {name} IS 'held';"));
    let step = shop.restore(&backup).start();
    let waits = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'ALTER DATABASE%{name}%RENAME%'
         AND application_name LIKE 'switchyard%'"
    );
    until("the exchange waits", || postgres.read(&waits) == "1");
    signal(step.id(), "-TERM");
    let _ = holder.run("ROLLBACK;");
    let ended = step.finish();
    assert_code(&ended, 0);
    assert_eq!(
        shop.databases(),
        format!("{name} {}", shop.replaced(&backup))
    );
    assert_eq!(shop.web("SELECT count(*) FROM item"), "2");
    assert_eq!(shop.web("SHOW default_transaction_read_only"), "off");
}

/// One that was told to end was taken for gone, although it could still commit after the last count.
#[test]
fn nothing_is_counted_before_the_sessions_that_could_write_are_gone() {
    // A process that is held up holds up every `DROP DATABASE` of its server.
    let server = Server::start();
    let shop = Shop::on(&server);
    let backup = shop.backup();
    let mut writer = shop.database.session();
    let process = writer.run("SELECT pg_backend_pid();");
    let process: u32 = process.trim().parse().unwrap();
    signal(process, "-STOP");
    let step = shop.restore(&backup).start();
    let postgres = server.existing_database("postgres");
    let marks = "SELECT count(*) FROM pg_db_role_setting WHERE setconfig::text LIKE '%default_transaction_read_only%'";
    until("the writes are stopped", || postgres.read(marks) == "1");
    until("the writes are allowed", || postgres.read(marks) == "0");
    signal(process, "-CONT");
    let ended = step.finish();
    assert_code(&ended, 3);
    expect_said(&ended, &["end the sessions that can write", "within 30s"]);
    let counts = ended.log().matches("counting what was written").count();
    assert_eq!(counts, 1, "{}", ended.log());
    let inserted = shop.web("INSERT INTO item VALUES (3, 'three') RETURNING id");
    assert_eq!(inserted.lines().next(), Some("3"));
}

#[test]
fn an_exchange_that_fails_leaves_the_database_open_and_writable() {
    let shop = Shop::open();
    let backup = shop.backup();
    let name = shop.database.name();
    let postgres = Server::shared().existing_database("postgres");
    let mut holder = postgres.session();
    let _ = holder.run(&format!("BEGIN; COMMENT ON DATABASE {name} IS 'held';"));
    let ended = shop.restore(&backup).run();
    assert_code(&ended, 3);
    expect_said(&ended, &["lock timeout"]);
    let _ = holder.run("ROLLBACK;");
    let inserted = shop.web("INSERT INTO item VALUES (3, 'three') RETURNING id");
    assert_eq!(inserted.lines().next(), Some("3"));
    assert_eq!(shop.web("SHOW statement_timeout"), "71s");
}

#[test]
fn what_is_written_while_the_copy_is_restored_is_not_lost_without_consent() {
    let shop = Shop::open();
    // Enough to restore for a while.
    shop.database.run(
        "CREATE TABLE log AS SELECT n, repeat('x', 200) AS text FROM generate_series(1, 400000) n;",
    );
    let backup = shop.backup();
    let before = shop.databases();
    let name = shop.database.name();
    let postgres = Server::shared().existing_database("postgres");
    postgres.run(&format!(
        "ALTER DATABASE {name} SET default_transaction_read_only = 'off';"
    ));
    let step = shop.restore(&backup).start();
    let copy = format!("{name}_restored_{}", mark(&backup));
    let is_there = format!("SELECT count(*) FROM pg_database WHERE datname = '{copy}'");
    until("the copy is there", || postgres.read(&is_there) == "1");
    // Somebody else is let in meanwhile, which is no matter of ours.
    postgres.run(&format!("GRANT TEMPORARY ON DATABASE {name} TO PUBLIC;"));
    assert_eq!(
        shop.web("INSERT INTO item VALUES (9, 'late') RETURNING id")
            .lines()
            .next(),
        Some("9")
    );
    let ended = step.finish();
    assert_code(&ended, 1);
    expect_said(
        &ended,
        &[
            "table public.item has 3 rows instead of 2",
            "accept-lost-writes",
        ],
    );
    // Nothing is left of it, and the application may write.
    assert_eq!(
        shop.web("INSERT INTO item VALUES (10, 'later') RETURNING id")
            .lines()
            .next(),
        Some("10")
    );
    assert_eq!(shop.web("SHOW statement_timeout"), "71s");
    let set = format!(
        "SELECT setconfig FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase WHERE d.datname = '{name}' AND s.setrole = 0"
    );
    let set = postgres.read(&set);
    assert!(
        set.contains("default_transaction_read_only=off") && !set.contains("switchyard"),
        "{set}"
    );
    // The grants that were read at the beginning were replayed on the database, and took this one away.
    let everybody = format!("SELECT has_database_privilege('public', '{name}', 'TEMPORARY')");
    assert_eq!(postgres.read(&everybody), "t");
    let ended = shop
        .restore(&backup)
        .input("accept-lost-writes", "true")
        .run();
    assert_code(&ended, 0);
    assert_eq!(shop.web("SELECT count(*) FROM item"), "2");
    assert_eq!(shop.web("SHOW default_transaction_read_only"), "off");
    assert_ne!(shop.databases(), before);
}
