//! `backfill` on real servers: killed and gone on with, held up by locks and standbys, and never content too early.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use switchyard_harness::{Ended, Step, until};
use switchyard_test_postgres::{Database, PASSWORD, SUPERUSER, Server, program};
use tempfile::TempDir;

/// A table of `rows` items, its database, and the folder of the position.
struct Shop {
    database: Database,
    folder: TempDir,
}

impl Shop {
    fn new(rows: u32) -> Self {
        Self::on(Server::shared(), rows)
    }

    fn on(server: &Server, rows: u32) -> Self {
        let database = server.database();
        database.run(&format!(
            "CREATE TABLE item (id bigint PRIMARY KEY, name text, slug text, changes int NOT NULL DEFAULT 0, note int);
             INSERT INTO item (id, name) SELECT n, 'Item ' || n FROM generate_series(1, {rows}) n; ANALYZE item"
        ));
        Self {
            database,
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn position(&self) -> PathBuf {
        self.folder.path().join("position.json")
    }

    /// A backfill that counts how often it changes each row.
    fn backfill(&self) -> Step {
        Step::new(env!("CARGO_BIN_EXE_migrate-gate"))
            .input("command", "backfill")
            .input("database-url", self.database.url())
            .input("table", "item")
            .input("set", "slug = lower(name), changes = changes + 1")
            .input("where", "slug IS NULL")
            .input("batch-size", "100")
            .input("pause", "0")
            .input("position-file", self.position().display().to_string())
    }

    fn done(&self) -> u32 {
        self.count("slug IS NOT NULL")
    }

    fn count(&self, condition: &str) -> u32 {
        let sql = format!("SELECT count(*) FROM item WHERE {condition}");
        self.database.read(&sql).parse().unwrap()
    }

    fn assert_every_row_is_right(&self, rows: u32) {
        assert_eq!(self.count("slug = lower(name) AND changes = 1"), rows);
        assert_eq!(self.count("true"), rows);
        assert!(
            !self.position().exists(),
            "a position of what is done is of no use"
        );
    }
}

fn passes(ended: &Ended) {
    assert_eq!(ended.code, Some(0), "{}", ended.log());
    assert_eq!(ended.outputs["verified"], "true");
}

fn refused(ended: &Ended, code: i32, text: &str) {
    assert_eq!(ended.code, Some(code), "{}", ended.log());
    assert!(ended.log().contains(text), "{text}: {}", ended.log());
    ended.assert_never_shows(PASSWORD);
}

fn set_last_key(position: &Path, key: &str) {
    let text = std::fs::read_to_string(position).unwrap();
    let mut value: serde_json::Value = serde_json::from_str(&text).unwrap();
    value["last_key"] = key.into();
    std::fs::write(position, value.to_string()).unwrap();
}

#[test]
fn every_row_is_changed_once_and_none_is_left() {
    let shop = Shop::new(1050);
    let ended = shop.backfill().run();
    passes(&ended);
    assert_eq!(ended.outputs["rows"], "1050");
    shop.assert_every_row_is_right(1050);
    // Nothing is left to do: it is done at once.
    let again = shop.backfill().run();
    passes(&again);
    assert_eq!(again.outputs["rows"], "0");
}

#[test]
fn a_killed_one_goes_on_where_it_was_and_every_row_is_right() {
    let shop = Shop::new(3000);
    let mut started = shop.backfill().input("pause", "20ms").start();
    until("some batches are done", || shop.done() >= 500);
    started.child().kill().unwrap();
    let killed = started.finish();
    assert_eq!(killed.code, None, "{}", killed.log());
    let done = shop.done();
    assert!((500..3000).contains(&done), "{done} rows");
    let ended = shop.backfill().run();
    passes(&ended);
    assert!(
        ended.log().contains("going on after id "),
        "{}",
        ended.log()
    );
    shop.assert_every_row_is_right(3000);
}

#[test]
fn a_batch_whose_position_was_lost_is_not_done_twice_and_rows_below_are_found() {
    let shop = Shop::new(1000);
    let stopped = shop
        .backfill()
        .input("pause", "1s")
        .input("stop-after", "1500ms")
        .run();
    refused(&stopped, 1, "stopped after 1s 500ms");
    assert_eq!(stopped.outputs["verified"], "false");
    // As if it had been killed between the batch and the file; then as if rows had been written below the position.
    set_last_key(&shop.position(), "0");
    let stopped = shop
        .backfill()
        .input("pause", "1s")
        .input("stop-after", "1500ms")
        .run();
    refused(&stopped, 1, "run it again with");
    set_last_key(&shop.position(), "900");
    let ended = shop.backfill().run();
    passes(&ended);
    assert!(
        ended
            .log()
            .contains("rows are left: once more over the table"),
        "{}",
        ended.log()
    );
    shop.assert_every_row_is_right(1000);
}

#[test]
fn a_row_that_somebody_holds_stops_it_naming_who_and_it_goes_on_later() {
    let shop = Shop::new(1000);
    let mut holder = shop.database.session();
    holder.run("BEGIN; UPDATE item SET note = 1 WHERE id = 555");
    let backend = holder.backend();
    let step = || {
        shop.backfill()
            .input("lock-timeout", "100ms")
            .input("batch-attempts", "2")
    };
    let ended = step().run();
    refused(
        &ended,
        1,
        &format!("process {backend} (test, role postgres"),
    );
    assert!(
        !ended.log().contains("SET note"),
        "statements hold values: {}",
        ended.log()
    );
    assert_eq!(shop.done(), 500);
    holder.run("COMMIT");
    passes(&step().run());
    shop.assert_every_row_is_right(1000);
}

#[test]
fn a_condition_that_still_holds_afterwards_is_refused_and_changes_nothing() {
    let shop = Shop::new(10);
    let ended = shop.backfill().input("where", "name IS NOT NULL").run();
    refused(
        &ended,
        2,
        "input `where` still holds for 10 of 10 rows after `set`",
    );
    assert_eq!(shop.done(), 0);
}

#[test]
fn what_cannot_be_used_is_refused_before_anything_is_touched() {
    let shop = Shop::new(10);
    shop.database.run("CREATE VIEW seen AS SELECT * FROM item; ALTER TABLE item ADD COLUMN twin int NOT NULL DEFAULT 1");
    for (input, value, told) in [
        ("table", "absent", "there is no table `absent`"),
        ("table", "seen", "there is no table `seen`"),
        ("key", "absent", "has no column `absent`"),
        ("key", "note", "may be null"),
        ("key", "twin", "has no unique index of its own"),
        ("set", "slug == 1", "inputs `set` and `where`"),
        (
            "set",
            "slug = 'a'; DROP TABLE item; --",
            "inputs `set` and `where`",
        ),
        (
            "where",
            "absent IS NULL",
            "column \"absent\" does not exist",
        ),
        ("batch-size", "0", "batch-size"),
        ("max-lag", "64", "a size looks like"),
    ] {
        let ended = shop.backfill().input(input, value).run();
        refused(&ended, 2, told);
        let _ = std::fs::remove_file(shop.position());
    }
    assert_eq!(shop.done(), 0);
    assert_eq!(shop.count("true"), 10);
}

#[test]
fn a_position_of_another_backfill_is_refused() {
    let shop = Shop::new(300);
    let stopped = shop
        .backfill()
        .input("pause", "1s")
        .input("stop-after", "1ms")
        .run();
    refused(&stopped, 1, "stopped after 1ms");
    let ended = shop.backfill().input("set", "slug = upper(name)").run();
    refused(&ended, 2, "is the position of another backfill: `set` was");
}

#[test]
fn text_keys_and_quoted_names_are_walked_along_as_the_server_sorts_them() {
    let shop = Shop::new(1);
    shop.database.run(
        r#"CREATE TABLE "Odd Table" ("The Key" text COLLATE "C" PRIMARY KEY, slug text);
           INSERT INTO "Odd Table" SELECT 'it''s \ ' || n FROM generate_series(1, 250) n"#,
    );
    let step = || {
        shop.backfill()
            .input("table", "\"Odd Table\"")
            .input("key", "\"The Key\"")
            .input("set", "slug = 'x' -- a comment")
            .input("where", "slug IS NULL -- another")
    };
    let ended = step().run();
    passes(&ended);
    assert_eq!(ended.outputs["rows"], "250");
}

/// A receiver of WAL, which a server takes for a standby.
struct Receiver(Child);

impl Receiver {
    fn start(server: &Server, folder: &Path) -> Self {
        let child = Command::new(program("pg_receivewal"))
            .env("PGPASSWORD", PASSWORD)
            .env("PGAPPNAME", "receiver")
            .args(["--status-interval=1", "--no-sync", "--host=127.0.0.1"])
            .arg(format!("--port={}", server.port()))
            .arg(format!("--username={SUPERUSER}"))
            .arg(format!("--directory={}", folder.display()))
            .spawn();
        Self(child.unwrap())
    }

    fn signal(&self, signal: &str) {
        let status = Command::new("kill")
            .args([signal, &self.0.id().to_string()])
            .status();
        assert!(status.unwrap().success());
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_standby_that_falls_behind_stops_it_and_it_goes_on_when_that_has_caught_up() {
    let server = Server::start();
    let shop = Shop::on(&server, 20_000);
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(&server, folder.path());
    let behind = || {
        let sql = "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), write_lsn) < 500000 FROM pg_stat_replication";
        shop.database.read(sql)
    };
    until("the receiver has caught up", || behind() == "t");
    receiver.signal("-STOP");
    let step = || {
        shop.backfill()
            .input("batch-size", "1000")
            .input("max-lag", "1MB")
    };
    let ended = step().input("wait-limit", "1s").run();
    refused(&ended, 1, "standby `receiver` is ");
    assert!(
        ended.log().contains("behind, more than 1024kB for 1s"),
        "{}",
        ended.log()
    );
    assert!((1..20_000).contains(&shop.done()));
    receiver.signal("-CONT");
    passes(&step().run());
    shop.assert_every_row_is_right(20_000);
}

#[test]
fn two_backfills_of_a_database_do_not_work_at_once() {
    let shop = Shop::new(2000);
    let first = shop.backfill().input("pause", "100ms").start();
    until("the first one works", || shop.done() > 0);
    let other = shop.folder.path().join("other.json").display().to_string();
    let second = shop
        .backfill()
        .input("position-file", other)
        .input("wait-limit", "0")
        .run();
    refused(&second, 1, "another backfill is at work");
    passes(&first.finish());
    shop.assert_every_row_is_right(2000);
}

/// The position was read before the lock was had, so the one that waited went on from where the other had been.
#[test]
fn one_that_waited_for_another_goes_on_from_where_that_one_ended() {
    let shop = Shop::new(4000);
    let first = shop.backfill().input("pause", "100ms").start();
    until("the first one works", || shop.done() > 0);
    let second = shop.backfill().start();
    let sessions = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'switchyard migrate-gate'";
    until("the second one waits", || {
        shop.database.read(sessions) == "4"
    });
    let (first, second) = (first.finish(), second.finish());
    passes(&first);
    passes(&second);
    assert_eq!(first.outputs["rows"], "4000");
    assert_eq!(second.outputs["rows"], "0", "{}", second.log());
    shop.assert_every_row_is_right(4000);
}

#[test]
fn a_cancelled_one_says_where_it_is_and_goes_on_later() {
    let shop = Shop::new(3000);
    let started = shop.backfill().input("pause", "20ms").start();
    until("some batches are done", || shop.done() >= 300);
    let id = started.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-TERM", &id])
            .status()
            .unwrap()
            .success()
    );
    let ended = started.finish();
    refused(&ended, 143, "SIGTERM stopped the backfill: ");
    passes(&shop.backfill().run());
    shop.assert_every_row_is_right(3000);
}
