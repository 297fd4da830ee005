//! `phases` on a real server: contracts are refused for as long as somebody still uses what goes away.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod copies;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use copies::Shop;
use switchyard_harness::{Ended, Step};
use switchyard_test_postgres::Database;

const ITEMS: &str = "CREATE TABLE item (id int PRIMARY KEY, name text, price int);
                     INSERT INTO item SELECT n, 'item ' || n, n FROM generate_series(1, 40) n;";

/// Sends a statement again and again until it is dropped.
struct Traffic {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Traffic {
    fn of(database: &Database, statement: &'static str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (ours, mut session) = (stop.clone(), database.session());
        session.run(statement);
        let thread = std::thread::spawn(move || {
            while !ours.load(Ordering::Relaxed) {
                session.run(statement);
                // What is observed needs a core of its own as well.
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        Self {
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

fn shop(pending: &str) -> Shop {
    let shop = Shop::new(ITEMS).pending("2_pending", pending);
    shop.production.run("CREATE EXTENSION pg_stat_statements");
    shop
}

fn phases(shop: &Shop) -> Step {
    Step::new(env!("CARGO_BIN_EXE_migrate-gate"))
        .input("command", "phases")
        .input("path", shop.folder.path().display().to_string())
        .input("database-url", shop.production.url())
        .input("sample", "2s")
}

fn refused(ended: &Ended, text: &str) {
    assert_eq!(ended.code, Some(1), "{}", ended.log());
    assert_eq!(ended.outputs["safe"], "false");
    assert!(ended.log().contains(text), "{text}: {}", ended.log());
}

fn allowed(ended: &Ended, phase: &str) {
    assert_eq!(ended.code, Some(0), "{}", ended.log());
    assert_eq!(ended.outputs["safe"], "true");
    assert_eq!(ended.outputs["phase"], phase);
}

const CONTRACT: &str = "ALTER TABLE item DROP COLUMN name;";

#[test]
fn a_contract_is_refused_while_the_old_statements_grow_and_passes_when_they_stop() {
    let shop = shop(CONTRACT);
    let new = Traffic::of(&shop.production, "SELECT price FROM item WHERE id = 7");
    let old = Traffic::of(&shop.production, "SELECT name FROM item WHERE id = 7");
    let ended = phases(&shop).run();
    refused(
        &ended,
        "2_pending/migration.sql:1: ALTER TABLE item DROP COLUMN name (contract): it is still used",
    );
    assert!(
        ended
            .log()
            .contains("calls of `SELECT name FROM item WHERE id = $1`"),
        "{}",
        ended.log()
    );
    assert!(
        ended.log().contains("watching the statements of"),
        "{}",
        ended.log()
    );
    drop(old);
    allowed(&phases(&shop).run(), "contract");
    drop(new);
    // Nobody sends anything: that proves nothing.
    refused(
        &phases(&shop).run(),
        "no application sent anything within 2s",
    );
}

/// Statements without a plan and those that name the catalog were left out before anybody looked at them, and the
/// contract was allowed.
#[test]
fn what_has_no_plan_or_names_the_catalog_uses_a_table_as_well() {
    for statement in [
        "COPY item (name) TO STDOUT",
        "SELECT i.name FROM item i, pg_catalog.pg_namespace n WHERE i.id = 7",
    ] {
        let shop = shop(CONTRACT);
        let _new = Traffic::of(&shop.production, "SELECT price FROM item WHERE id = 7");
        let _old = Traffic::of(&shop.production, statement);
        refused(&phases(&shop).run(), "it is still used");
    }
}

#[test]
fn the_input_may_say_whether_the_old_version_runs() {
    let shop = shop(CONTRACT);
    allowed(
        &phases(&shop).input("old-version", "gone").run(),
        "contract",
    );
    refused(
        &phases(&shop).input("old-version", "runs").run(),
        "the old version is said to run",
    );
}

#[test]
fn what_cannot_be_known_is_refused() {
    let shop_without = Shop::new(ITEMS).pending("2_pending", CONTRACT);
    refused(
        &phases(&shop_without).run(),
        "the database has no extension `pg_stat_statements`",
    );
    let hidden = shop("DO $$ BEGIN EXECUTE 'DROP TABLE it' || 'em'; END $$;");
    let _traffic = Traffic::of(&hidden.production, "SELECT price FROM item WHERE id = 7");
    refused(
        &phases(&hidden).run(),
        "which statements of the old version it concerns is not known",
    );
    // Without a database there is nothing to look at.
    let ended = phases(&hidden).input("database-url", "").run();
    refused(&ended, "no database is given");
}

#[test]
fn expansion_and_backfill_need_nobody_gone_and_applied_contracts_do_not_count() {
    let shop = Shop::new(ITEMS)
        .pending(
            "2_expand",
            "ALTER TABLE item ADD COLUMN slug text; CREATE INDEX CONCURRENTLY i ON item (slug);",
        )
        .pending("3_migrate", "UPDATE item SET slug = name WHERE id < 10;");
    allowed(&phases(&shop).run(), "migrate");
    let contract = "ALTER TABLE item DROP COLUMN name;";
    let shop = Shop::new(ITEMS).pending("2_pending", contract);
    shop.production.run(&format!(
        "INSERT INTO _prisma_migrations (id, checksum, finished_at, migration_name)
         VALUES ('b', encode(sha256('{contract}'), 'hex'), now(), '2_pending')"
    ));
    allowed(&phases(&shop).run(), "none");
}

#[test]
fn a_view_upon_a_table_uses_it_too() {
    let shop = shop("DROP TABLE item CASCADE;");
    shop.production.run(
        "CREATE VIEW recent AS SELECT id FROM item; CREATE VIEW newest AS SELECT id FROM recent",
    );
    let _traffic = Traffic::of(&shop.production, "SELECT id FROM newest");
    // What CASCADE takes with it is not known.
    refused(&phases(&shop).run(), "is not known");
    std::fs::write(
        shop.folder
            .path()
            .join("migrations/2_pending/migration.sql"),
        "ALTER TABLE item RENAME TO thing;",
    )
    .unwrap();
    refused(&phases(&shop).run(), "calls of `SELECT id FROM newest`");
}
