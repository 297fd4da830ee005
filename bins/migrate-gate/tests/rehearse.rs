//! `rehearse` on real servers: whom migrations block, what they break, and copies that nothing is let loose on.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod copies;

use copies::{PASSWORD, REHEARSER, Shop, rehearsal, scratch_server};
use serde_json::{Value, json};
use switchyard_harness::{Ended, Step};
use switchyard_test_postgres::{Server, programs};

const ITEMS: &str = "CREATE TABLE item (id int PRIMARY KEY, name text, price int);
                     INSERT INTO item SELECT n, 'item ' || n, n FROM generate_series(1, 40) n;";

/// An expression whose index takes four seconds to build over forty rows.
const SLOW: &str = "CREATE FUNCTION slow(n int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS
                    $$ BEGIN PERFORM pg_catalog.pg_sleep(0.1); RETURN n; END $$;";

fn passes(ended: &Ended) {
    assert_eq!(ended.code, Some(0), "{}", ended.log());
    assert_eq!(ended.outputs["safe"], "true", "{}", ended.log());
}

fn refused(ended: &Ended, code: i32, text: &str) {
    assert_eq!(ended.code, Some(code), "{}", ended.log());
    assert!(ended.log().contains(text), "{text}: {}", ended.log());
    ended.assert_never_shows(PASSWORD);
    ended.assert_never_shows(switchyard_test_postgres::PASSWORD);
}

fn table(ended: &Ended, place: usize) -> Value {
    rehearsal(ended)["databases"][0]["migrations"][place]["tables"][0].clone()
}

#[test]
fn the_copy_that_proved_a_backup_is_rehearsed_on_and_taken_away() {
    let server = Server::start();
    let admin = server.existing_database("postgres");
    admin.run(&format!(
        "CREATE ROLE copier LOGIN CREATEDB PASSWORD '{PASSWORD}';"
    ));
    let scratch = server.url_as("copier", PASSWORD, "postgres");
    let shop = Shop::new(ITEMS).pending("2_add", "ALTER TABLE item ADD COLUMN slug text;");
    let folder = tempfile::tempdir().unwrap();
    let backup = Step::new(env!("CARGO_BIN_EXE_migrate-gate"))
        .input("command", "backup")
        .input("database-url", shop.production.url())
        .input("backup-to", folder.path().display().to_string())
        .input("pg-programs", programs().display().to_string())
        .input("verify-url", &scratch)
        .input("keep-copy", "true")
        .run();
    assert_eq!(backup.code, Some(0), "{}", backup.log());
    assert_eq!(backup.outputs["verified"], "true");
    let copies = &backup.outputs["copies"];
    let prefix = format!("{}=switchyard_", shop.production.name());
    assert!(copies.starts_with(&prefix), "{copies}");
    let rehearse = |copies: &str| {
        let step = shop.rehearse().input("scratch-url", &scratch);
        step.input("copies", copies)
            .input("unverifiable", "warn")
            .run()
    };
    let ended = rehearse(copies);
    assert_eq!(ended.code, Some(0), "{}", ended.log());
    let database = &rehearsal(&ended)["databases"][0];
    assert_eq!(database["likeness"], json!({"evidence": "verified"}));
    assert_eq!(database["migrations"][0]["name"], "2_add");
    let left = "SELECT count(*) FROM pg_database WHERE datname LIKE 'switchyard%'";
    assert_eq!(admin.read(left), "0");
    refused(&rehearse("other=switchyard_x"), 2, "names no copy of");
    // Somebody's own database would be changed, and dropped afterwards.
    admin.run("CREATE DATABASE precious OWNER copier;");
    let precious = format!("{}=precious", shop.production.name());
    refused(&rehearse(&precious), 2, "is no copy that a backup has kept");
    let there = "SELECT count(*) FROM pg_database WHERE datname = 'precious'";
    assert_eq!(admin.read(there), "1");
}

#[test]
fn ddl_and_a_backfill_in_one_transaction_are_over_budget_for_readers_and_writers() {
    let shop = Shop::new(ITEMS).pending(
        "2_backfill",
        "ALTER TABLE item ADD COLUMN slug text; UPDATE item SET slug = name; SELECT pg_sleep(1);",
    );
    let ended = shop.rehearse().run();
    refused(
        &ended,
        1,
        "`2_backfill` blocks readers and writers of `public.item` for",
    );
    assert_eq!(ended.outputs["safe"], "false");
    assert_eq!(table(&ended, 0)["lock"], "AccessExclusiveLock");
    assert!(
        ended.summary.contains("it must not run like this"),
        "{}",
        ended.summary
    );
}

#[test]
fn an_index_blocks_writers_and_a_concurrent_one_nobody() {
    let tables = format!("{ITEMS}{SLOW}");
    let index = |how: &str| {
        Shop::new(&tables)
            .pending(
                "2_index",
                &format!("CREATE INDEX {how} item_slow ON item (slow(id));"),
            )
            .rehearse()
            .input("unverifiable", "warn")
            .input("budget", "3s")
            .run()
    };
    let plain = index("");
    refused(&plain, 1, "`2_index` blocks writers of `public.item` for");
    let concurrent = index("CONCURRENTLY");
    assert_eq!(concurrent.code, Some(0), "{}", concurrent.log());
    assert_eq!(table(&concurrent, 0)["lock"], "ShareUpdateExclusiveLock");
}

#[test]
fn rows_that_a_backfill_holds_block_their_writers_and_no_reader() {
    let shop = Shop::new(ITEMS).pending(
        "2_backfill",
        "UPDATE item SET price = 0; SELECT pg_sleep(2);",
    );
    let ended = shop.rehearse().input("budget", "1s").run();
    refused(
        &ended,
        1,
        "`2_backfill` blocks writers of `public.item` for",
    );
    assert_eq!(table(&ended, 0)["rows_watched"], true);
}

#[test]
fn probes_that_wait_for_a_row_are_not_in_the_way_of_the_migration_that_holds_it() {
    // A writer who waits for the row with its table's lock in hand would be in a deadlock with the ALTER.
    let shop = Shop::new(ITEMS).pending(
        "2_backfill_then_ddl",
        "UPDATE item SET price = 0; SELECT pg_sleep(2); ALTER TABLE item ADD COLUMN slug text;",
    );
    let ended = shop.rehearse().input("budget", "1s").run();
    refused(
        &ended,
        1,
        "`2_backfill_then_ddl` blocks writers of `public.item` for",
    );
    assert_eq!(
        rehearsal(&ended)["databases"][0]["migrations"][0]["error"],
        Value::Null
    );
}

#[test]
fn the_chain_of_fingerprints_goes_from_migration_to_migration_and_says_what_ran() {
    let shop = Shop::new(ITEMS)
        .pending("2_column", "ALTER TABLE item ADD COLUMN slug text;")
        .pending("3_table", "CREATE TABLE price (id int PRIMARY KEY);");
    let absent = shop
        .rehearse()
        .input("queries", "/nowhere/queries.sql")
        .run();
    refused(&absent, 2, "input `queries`: `/nowhere/queries.sql`");
    let step = shop.rehearse();
    let queries = step.file("queries", "SELECT * FROM item WHERE id = $1; BEGIN");
    let ended = step.input("queries", queries).input("budget", "10s").run();
    passes(&ended);
    let rehearsal = rehearsal(&ended);
    let database = &rehearsal["databases"][0];
    let (one, two) = (&database["migrations"][0], &database["migrations"][1]);
    assert_eq!(database["fingerprint"], one["before"]);
    assert_eq!(one["after"], two["before"]);
    assert_ne!(one["before"], one["after"]);
    assert_eq!(two["name"], "3_table");
    let proof = &database["proof"];
    assert_eq!(proof["from"], "file");
    assert_eq!(proof["utility_statements"], 1);
    assert_eq!(proof["wider"], json!(["SELECT * FROM item WHERE id = $1"]));
    let columns = shop
        .copy
        .read("SELECT count(*) FROM information_schema.columns WHERE table_name = 'item'");
    assert_eq!(columns, "4", "the copy is migrated");
}

#[test]
fn what_the_running_version_sends_and_what_breaks_of_it_is_named() {
    let shop = Shop::new(ITEMS).pending(
        "2_break",
        "ALTER TABLE item DROP COLUMN name, ALTER COLUMN price TYPE bigint,
           ADD COLUMN owner int NOT NULL DEFAULT 1;
         ALTER TABLE item ALTER COLUMN owner DROP DEFAULT;",
    );
    shop.production.run("CREATE EXTENSION pg_stat_statements");
    shop.production.run(
        "SELECT name FROM item WHERE id = 7; SELECT name FROM item WHERE id = 8;
         SELECT price FROM item WHERE id = 7; SELECT id FROM item;
         INSERT INTO item (id, name, price) VALUES (100, 'x', 1); INSERT INTO item (id) VALUES (101);
         BEGIN; COMMIT;",
    );
    let ended = shop.rehearse().input("budget", "10s").run();
    refused(&ended, 1, "the running version's statement breaks");
    let proof = rehearsal(&ended)["databases"][0]["proof"].clone();
    let broken: Vec<(String, String)> = proof["broken"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| {
            (
                one["text"].as_str().unwrap().into(),
                one["change"].as_str().unwrap().into(),
            )
        })
        .collect();
    let told = |text: &str| {
        let found = broken.iter().find(|(statement, _)| statement == text);
        found
            .unwrap_or_else(|| panic!("{text}: {broken:?}"))
            .1
            .clone()
    };
    assert!(
        told("SELECT name FROM item WHERE id = $1").contains("does not exist (SQLSTATE 42703)")
    );
    assert!(
        told("SELECT price FROM item WHERE id = $1")
            .contains("had (price int4) and have (price int8)")
    );
    assert!(!broken.iter().any(|(text, _)| text == "SELECT id FROM item"));
    assert_eq!(proof["required"][0]["column"], "owner");
    let omitting = proof["required"][0]["omitted_by"].to_string();
    assert!(
        omitting.contains("INSERT INTO item (id) VALUES ($1)"),
        "{omitting}"
    );
    assert_eq!(proof["from"], "statistics");
    assert_eq!(proof["evidence"], "verified");
}

#[test]
fn without_statements_nothing_is_proved_and_an_input_decides_what_that_means() {
    let shop = || Shop::new(ITEMS).pending("2_column", "ALTER TABLE item ADD COLUMN slug text;");
    let ended = shop().rehearse().input("budget", "10s").run();
    refused(
        &ended,
        1,
        "production has no extension `pg_stat_statements`",
    );
    let ended = shop()
        .rehearse()
        .input("budget", "10s")
        .input("unverifiable", "warn")
        .run();
    assert_eq!(ended.code, Some(0), "{}", ended.log());
    assert_eq!(ended.outputs["safe"], "false");
    assert!(ended.log().contains("::warning"), "{}", ended.log());
}

#[test]
fn a_migration_that_fails_is_told_and_nothing_after_it_runs() {
    let shop = Shop::new(ITEMS)
        .pending(
            "2_fails",
            "ALTER TABLE item ADD COLUMN slug text; SELECT 1 / 0;",
        )
        .pending("3_never", "CREATE TABLE never ();");
    let ended = shop.rehearse().run();
    refused(&ended, 1, "`2_fails` fails: rehearse `2_fails` in `");
    assert!(ended.log().contains("division by zero"), "{}", ended.log());
    let migrations = rehearsal(&ended)["databases"][0]["migrations"].clone();
    assert_eq!(migrations.as_array().unwrap().len(), 1);
    assert_eq!(migrations[0]["after"], Value::Null);
}

/// It was called a failure of the migration.
#[test]
fn a_lock_that_somebody_else_has_in_the_copy_is_no_failure_of_the_migration() {
    let shop = Shop::new(ITEMS).pending("2_lock", "SELECT pg_advisory_xact_lock(7);");
    let mut holder = shop.copy.session();
    holder.run("BEGIN; SELECT pg_advisory_xact_lock(7);");
    let ended = shop.rehearse().input("lock-timeout", "200ms").run();
    refused(
        &ended,
        1,
        "not everything could be checked: blocking by `2_lock`: it did not get a lock within 200ms",
    );
    assert!(!ended.log().contains("`2_lock` fails"), "{}", ended.log());
    assert_eq!(ended.outputs["safe"], "false");
}

/// The report was written beside the rehearsal, over what was there.
#[test]
fn a_report_is_not_written_over_a_file_of_the_project() {
    let shop = Shop::new(ITEMS).pending("2_expand", "ALTER TABLE item ADD COLUMN slug text;");
    let notes = shop.folder.path().join("item.md");
    std::fs::write(&notes, "ours").unwrap();
    let file = shop.folder.path().join("item.json");
    let ended = shop
        .rehearse()
        .input("rehearsal-file", file.display().to_string())
        .input("unverifiable", "warn")
        .run();
    assert_eq!(ended.code, Some(0), "{}", ended.log());
    assert_eq!(std::fs::read_to_string(&notes).unwrap(), "ours");
    let report = std::fs::read_to_string(&ended.outputs["report"]).unwrap();
    assert!(report.starts_with("### Rehearsal"), "{report}");
}

#[test]
fn a_failed_concurrent_index_is_told_as_invalid() {
    let shop = Shop::new(
        "CREATE TABLE item (id int, name text); INSERT INTO item VALUES (1, 'a'), (2, 'a');",
    )
    .pending(
        "2_index",
        "CREATE UNIQUE INDEX CONCURRENTLY item_name ON item (name);",
    );
    let ended = shop.rehearse().run();
    refused(
        &ended,
        1,
        "`2_index` leaves the index `public.item_name` invalid",
    );
}

#[test]
fn a_copy_with_another_schema_is_refused_with_the_difference() {
    let shop = Shop::new(ITEMS).pending("2_column", "ALTER TABLE item ADD COLUMN slug text;");
    shop.production
        .run("ALTER TABLE item ADD COLUMN colour text");
    let ended = shop.rehearse().run();
    refused(&ended, 1, "the copy has another schema than");
    assert!(ended.log().contains("colour"), "{}", ended.log());
    let columns = shop
        .copy
        .read("SELECT count(*) FROM information_schema.columns WHERE table_name = 'item'");
    assert_eq!(columns, "3", "nothing was changed");
}

#[test]
fn a_role_that_could_reach_more_than_the_copy_is_refused_unless_that_is_allowed() {
    let shop = Shop::new(ITEMS).pending("2_column", "ALTER TABLE item ADD COLUMN slug text;");
    let server = scratch_server().existing_database("postgres");
    server.run(&format!(
        "CREATE ROLE creator LOGIN CREATEROLE PASSWORD '{PASSWORD}'; CREATE ROLE quiet LOGIN NOINHERIT PASSWORD '{PASSWORD}';
         CREATE ROLE runner LOGIN PASSWORD '{PASSWORD}'; GRANT creator TO quiet; GRANT pg_execute_server_program TO runner"
    ));
    let url = |role: &str| shop.copy.url_as(role, PASSWORD);
    for (scratch, told) in [
        (shop.copy.url(), "is a superuser"),
        (url("creator"), "may create roles"),
        (url("quiet"), "may become `creator`"),
        (url("runner"), "may run programs or reach files"),
    ] {
        let ended = shop.rehearse().input("scratch-url", scratch).run();
        refused(&ended, 2, told);
    }
    let allowed = shop
        .rehearse()
        .input("scratch-url", shop.copy.url())
        .input("allow-privileged-scratch", "true")
        .input("unverifiable", "warn")
        .input("budget", "10s")
        .run();
    assert_eq!(allowed.code, Some(0), "{}", allowed.log());
}

#[test]
fn production_itself_and_its_own_role_on_its_own_server_are_refused() {
    let shop = Shop::new(ITEMS).pending("2_column", "ALTER TABLE item ADD COLUMN slug text;");
    // Production as the same role, on the same server, under another name of that server.
    let production = shop.copy_url().replace("127.0.0.1", "localhost");
    for allowed in ["false", "true"] {
        let ended = shop
            .rehearse()
            .input("database-url", &production)
            .input("allow-privileged-scratch", allowed)
            .run();
        refused(&ended, 2, "the scratch database is production itself");
    }
    let other = Shop::new(ITEMS);
    let production = other.copy_url();
    let ended = shop.rehearse().input("database-url", production).run();
    refused(
        &ended,
        2,
        &format!("role `{REHEARSER}` of the scratch database is the role of production"),
    );
    // Another role may still own production.
    let production = other.copy.url();
    let ended = shop.rehearse().input("database-url", production).run();
    refused(&ended, 2, "could drop production's database");
}

#[test]
fn a_tool_that_keeps_its_ledger_to_itself_is_told_what_to_rehearse_and_runs_it_its_way() {
    let shop = Shop::new(ITEMS);
    let files = tempfile::tempdir().unwrap();
    // Outside of a transaction, each statement on its own.
    std::fs::write(
        files.path().join("V2__index.sql"),
        "-- no-transaction\nCREATE INDEX CONCURRENTLY item_name ON item (name);\nVACUUM item;\n",
    )
    .unwrap();
    let step = || {
        shop.rehearse()
            .input("path", files.path().display().to_string())
            .input("tool", "command")
            .input("unverifiable", "warn")
            .input("budget", "10s")
    };
    refused(&step().run(), 2, "input `migrations` names none of them");
    let ended = step().input("migrations", "V2__index").run();
    assert_eq!(ended.code, Some(0), "{}", ended.log());
    assert_eq!(
        shop.copy
            .read("SELECT count(*) FROM pg_indexes WHERE indexname = 'item_name'"),
        "1"
    );
    // What ran long ago is a file as well, and nobody but the tool knows that.
    std::fs::write(
        files.path().join("V1__tables.sql"),
        "CREATE TABLE item (id int);\n",
    )
    .unwrap();
    let run = |rehearsal: &str| {
        Step::new(env!("CARGO_BIN_EXE_migrate-gate"))
            .input("command", "run")
            .input("path", files.path().display().to_string())
            .input("tool", "command")
            .input("directory", files.path().display().to_string())
            .input(
                "script",
                "psql -X -v ON_ERROR_STOP=1 -f V2__index.sql \"$DATABASE_URL\"",
            )
            .input("database-url", shop.production.url())
            .input("rehearsal", rehearsal)
            .run()
    };
    let applied = run(&ended.outputs["rehearsal"]);
    assert_eq!(applied.code, Some(0), "{}", applied.log());
    assert!(
        applied.log().contains("1 of its files were not rehearsed"),
        "{}",
        applied.log()
    );
}

#[test]
fn a_migration_that_hides_what_it_locks_is_measured_on_all_tables_or_said_not_to_be() {
    let hidden = "DO $$ BEGIN EXECUTE 'LOCK TABLE it' || 'em'; PERFORM pg_sleep(2); END $$;";
    let rehearse = |most: &str| {
        let tables =
            format!("{ITEMS} CREATE TABLE big AS SELECT n FROM generate_series(1, 10000) n;");
        let shop = Shop::new(&tables).pending("2_hidden", hidden);
        let step = shop
            .rehearse()
            .input("budget", "1s")
            .input("probed-tables", most);
        step.input("unverifiable", "warn").run()
    };
    refused(
        &rehearse("12"),
        1,
        "`2_hidden` blocks readers and writers of `public.item`",
    );
    let ended = rehearse("1");
    refused(
        &ended,
        1,
        "`public.item` was locked (AccessExclusiveLock) and not probed",
    );
}

#[test]
fn schemas_of_one_database_are_rehearsed_in_turn_each_in_its_own_namespace() {
    let shop = Shop::new(ITEMS).pending("2_column", "ALTER TABLE item ADD COLUMN slug text;");
    let organization = tempfile::tempdir().unwrap();
    copies::migration(
        organization.path(),
        "1_teams",
        "CREATE TABLE team (id int PRIMARY KEY);",
    );
    copies::migration(
        organization.path(),
        "2_name",
        "ALTER TABLE team ADD COLUMN name text;",
    );
    for database in [&shop.production, &shop.copy] {
        database.run("CREATE SCHEMA organization");
    }
    shop.copy
        .run(&format!("GRANT ALL ON SCHEMA organization TO {REHEARSER}"));
    let urls = |url: &str| format!("MAIN={url}\nORGANIZATION={url}?schema=organization");
    let schemas = format!(
        "[{{name: main, path: '{}', url-env: MAIN}}, {{name: organization, path: '{}', url-env: ORGANIZATION}}]",
        shop.folder.path().display(),
        organization.path().display()
    );
    let ended = shop
        .rehearse()
        .without("INPUT_PATH")
        .without("INPUT_DATABASE_URL")
        .without("INPUT_SCRATCH_URL")
        .input("schemas", schemas)
        .input("database-urls", urls(&shop.production.url()))
        .input("scratch-urls", urls(&shop.copy_url()))
        .input("unverifiable", "warn")
        .input("budget", "10s")
        .run();
    assert_eq!(ended.code, Some(0), "{}", ended.log());
    let databases = rehearsal(&ended)["databases"].clone();
    assert_eq!(databases.as_array().unwrap().len(), 1);
    let chain: Vec<(String, String)> = databases[0]["migrations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| {
            (
                one["schema"].as_str().unwrap().into(),
                one["name"].as_str().unwrap().into(),
            )
        })
        .collect();
    let pair = |schema: &str, name: &str| (schema.to_owned(), name.to_owned());
    assert_eq!(
        chain,
        [
            pair("main", "2_column"),
            pair("organization", "1_teams"),
            pair("organization", "2_name")
        ]
    );
    let found = shop
        .copy
        .read("SELECT schemaname FROM pg_tables WHERE tablename = 'team'");
    assert_eq!(found, "organization");
    let table = &databases[0]["migrations"][2]["tables"][0];
    assert_eq!(table["table"], "organization.team");
}
