//! What is in a database: sizes, indexes, statistics of statements, and the fingerprint of its schema.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::process::Command;

use support::{open, session};
use switchyard_postgres::{CollationProvider, RelationKind, SchemaDescription, StatisticsAnswer};
use switchyard_test_postgres::{Database, PASSWORD, Server, program};

const SHOP: &str = include_str!("shop.sql");

async fn describe(database: &Database) -> SchemaDescription {
    session(database).await.describe_schema().await.unwrap()
}

/// Dumps a database with PostgreSQL's own programs and restores it into another one.
fn copy(from: &Database, to: &Database) {
    let folder = tempfile::tempdir().unwrap();
    let dump = folder.path().join("dump");
    let run = |name: &str, arguments: &[&str]| {
        let port = Server::shared().port().to_string();
        let output = Command::new(program(name))
            .env("PGPASSWORD", PASSWORD)
            .args(["-h", "127.0.0.1", "-U", "postgres", "-p", &port])
            .args(arguments)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    };
    run(
        "pg_dump",
        &["-Fd", "-f", dump.to_str().unwrap(), from.name()],
    );
    run(
        "pg_restore",
        &[
            "--exit-on-error",
            "--no-owner",
            "--no-privileges",
            "-d",
            to.name(),
            dump.to_str().unwrap(),
        ],
    );
}

#[tokio::test]
async fn a_schema_has_the_same_fingerprint_after_a_dump_and_its_restoration() {
    let (original, restored) = (Server::shared().database(), Server::shared().database());
    original.run(SHOP);
    copy(&original, &restored);
    let (before, after) = (describe(&original).await, describe(&restored).await);
    assert_eq!(before.differences(&after), Vec::<String>::new());
    assert_eq!(before.fingerprint(), after.fingerprint());
    assert!(
        before.len() > 60,
        "the shop has many objects: {}",
        before.len()
    );
    let twice = Server::shared().database();
    copy(&restored, &twice);
    assert_eq!(describe(&twice).await.fingerprint(), before.fingerprint());
}

#[tokio::test]
async fn rows_and_statistics_do_not_change_the_fingerprint() {
    let database = Server::shared().database();
    database.run(SHOP);
    let before = describe(&database).await.fingerprint();
    database.run(
        "INSERT INTO organization.member (name) SELECT 'm' || n FROM generate_series(1, 100) n;
        ANALYZE; COMMENT ON TABLE public.item IS 'things'; GRANT SELECT ON public.item TO PUBLIC",
    );
    assert_eq!(describe(&database).await.fingerprint(), before);
}

/// The columns that say it have another name on almost every major version.
#[tokio::test]
async fn a_database_is_made_like_another_on_every_major_version() {
    let icu = "LOCALE_PROVIDER icu ICU_LOCALE 'de-AT'";
    let rules = "LOCALE_PROVIDER icu ICU_LOCALE 'de-AT' ICU_RULES '&V << w <<< W'";
    let builtin = "LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8'";
    for (major, options) in [
        (14, vec![""]),
        (15, vec!["", icu]),
        (17, vec!["", icu, rules, builtin]),
        (18, vec!["", icu, rules, builtin]),
    ] {
        let server = Server::options().major(major).start();
        let postgres = server.existing_database("postgres");
        let looker = session(&postgres).await;
        for option in options {
            postgres.run(&format!(
                "CREATE DATABASE original TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C.UTF-8' {option}"
            ));
            let original = looker.settings_of_database("original").await.unwrap();
            postgres.run(&original.create_database("copy", looker.version()));
            let copy = session(&server.existing_database("copy")).await;
            let mut made = copy.database_settings().await.unwrap();
            drop(copy);
            made.bytes = original.bytes;
            assert_eq!(made, original, "{major} {option}");
            let provider = match original.provider {
                CollationProvider::Libc => "",
                CollationProvider::Icu => "icu",
                CollationProvider::Builtin => "builtin",
            };
            assert!(option.contains(provider), "{major} {option}");
            assert_eq!(option.is_empty(), provider.is_empty(), "{major} {option}");
            postgres.run("DROP DATABASE copy WITH (FORCE); DROP DATABASE original;");
        }
    }
}

/// It was read after it had been set, so the session kept the one of the description.
#[tokio::test]
async fn the_search_path_of_a_session_that_described_is_given_back() {
    let database = Server::shared().database();
    let session = session(&database).await;
    let path = async || {
        let row = session.row("look", "SHOW search_path", &[]).await.unwrap();
        session
            .column::<String>("look", &row, "search_path")
            .unwrap()
    };
    let set = "SET search_path = \"$user\", shop";
    session.script("set", set).await.unwrap();
    session.describe_schema().await.unwrap();
    assert_eq!(path().await, "\"$user\", shop");
}

#[tokio::test]
async fn every_change_of_the_schema_changes_the_fingerprint() {
    let changes = [
        "ALTER TABLE public.item ADD COLUMN extra int",
        "ALTER TABLE organization.member ALTER COLUMN email TYPE varchar(300)",
        "ALTER TABLE public.item ALTER COLUMN name SET DEFAULT 'x'",
        "ALTER TABLE public.item ALTER COLUMN name DROP NOT NULL",
        "ALTER TABLE public.item RENAME COLUMN name TO title",
        "ALTER TABLE public.item DROP CONSTRAINT item_status_check",
        "ALTER TABLE public.item ADD CONSTRAINT late CHECK (price > 0) NOT VALID",
        "ALTER TABLE public.item ENABLE ROW LEVEL SECURITY",
        "ALTER TABLE public.item DISABLE TRIGGER item_touched",
        "ALTER TABLE public.item SET (fillfactor = 70)",
        "ALTER TYPE public.colour ADD VALUE 'blue'",
        "ALTER TYPE public.colour RENAME VALUE 'red' TO 'scarlet'",
        "CREATE INDEX item_price ON public.item (price)",
        "DROP INDEX public.item_name",
        "CREATE VIEW public.cheap AS SELECT * FROM public.item WHERE price < 1",
        "CREATE OR REPLACE FUNCTION public.touched() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN OLD; END $$",
        "CREATE SCHEMA further",
        "ALTER SEQUENCE organization.member_id_seq INCREMENT BY 2",
        "CREATE TABLE public.sale_2028 PARTITION OF public.sale FOR VALUES FROM ('2028-01-01') TO ('2029-01-01')",
        "ALTER DOMAIN public.price DROP CONSTRAINT price_check",
        "CREATE EXTENSION citext",
        "CREATE POLICY own ON public.item USING (true)",
    ];
    let template = Server::shared().database();
    template.run(SHOP);
    let before = describe(&template).await.fingerprint();
    for change in changes {
        let database = Server::shared().database();
        database.run(SHOP);
        database.run(change);
        assert_ne!(describe(&database).await.fingerprint(), before, "{change}");
    }
}

#[tokio::test]
async fn a_ledger_can_be_left_out() {
    let database = Server::shared().database();
    database.run(SHOP);
    let before = describe(&database).await;
    database.run("CREATE TABLE public._prisma_migrations (id varchar(36) PRIMARY KEY)");
    let after = describe(&database).await;
    assert_ne!(before, after);
    assert_eq!(
        before,
        after.without_relations(&["public._prisma_migrations".into()])
    );
}

#[tokio::test]
async fn relations_come_with_their_sizes_and_estimates() {
    let database = Server::shared().database();
    database.run(SHOP);
    database.run("INSERT INTO public.item (name, price) SELECT 'n' || n, 1 FROM generate_series(1, 5000) n;
        INSERT INTO public.sale SELECT n, '2026-05-05' FROM generate_series(1, 1000) n;
        INSERT INTO public.sale SELECT n, '2027-05-05' FROM generate_series(1, 500) n; ANALYZE public.item, public.sale");
    let relations = session(&database).await.relations().await.unwrap();
    let of = |schema: &str, name: &str| {
        let found = relations
            .iter()
            .find(|one| one.schema == schema && one.name == name);
        found.cloned().unwrap_or_else(|| panic!("{schema}.{name}"))
    };
    let item = of("public", "item");
    assert_eq!(
        (item.kind, item.rows, item.indexes),
        (RelationKind::Table, Some(5000), 2)
    );
    assert!(
        item.bytes > 100_000 && item.index_bytes > 50_000,
        "{item:?}"
    );
    let sale = of("public", "sale");
    assert_eq!(
        (sale.kind, sale.rows),
        (RelationKind::PartitionedTable, Some(1500))
    );
    assert!(sale.bytes > 16_384, "{sale:?}");
    assert_eq!(
        of("organization", "member").rows,
        None,
        "it was never analysed"
    );
    let index = of("public", "item_name");
    assert_eq!(
        (index.kind, index.table.as_deref()),
        (RelationKind::Index, Some("item"))
    );
    assert!(relations.iter().all(|one| one.schema != "pg_catalog"));
}

#[tokio::test]
async fn sizes_are_at_least_what_the_statistics_say() {
    let database = Server::shared().database();
    database.run(
        "CREATE TABLE item (id int);
        UPDATE pg_class SET reltuples = 2e9, relpages = 10000000 WHERE relname = 'item'",
    );
    let relations = session(&database).await.relations().await.unwrap();
    assert_eq!(relations[0].rows, Some(2_000_000_000));
    assert_eq!(relations[0].bytes, 10_000_000 * 8192);
}

#[tokio::test]
async fn an_index_that_a_failed_build_left_is_found() {
    let database = Server::shared().database();
    database.run("CREATE TABLE item (id int); INSERT INTO item VALUES (1), (1)");
    let looker = session(&database).await;
    assert!(looker.invalid_indexes().await.unwrap().is_empty());
    let failed = database.try_run("CREATE UNIQUE INDEX CONCURRENTLY item_id ON item (id)");
    assert!(failed.is_err());
    let found = looker.invalid_indexes().await.unwrap();
    assert_eq!(
        (found[0].name.as_str(), found[0].table.as_str()),
        ("item_id", "item")
    );
}

#[tokio::test]
async fn statements_are_counted_where_the_extension_is_there() {
    let database = Server::shared().database();
    database.run("CREATE TABLE item (id int)");
    let looker = session(&database).await;
    assert_eq!(
        looker.statement_statistics().await.unwrap(),
        StatisticsAnswer::Absent
    );
    database.run("CREATE EXTENSION pg_stat_statements");
    let calls = async || {
        let answer = looker.statement_statistics().await.unwrap();
        let StatisticsAnswer::Counted(statements) = answer else {
            panic!("{answer:?}");
        };
        let is_ours = |text: &str| text.starts_with("SELECT id FROM item");
        let found = statements.iter().find(|one| is_ours(&one.text));
        found.map_or(0, |one| one.calls)
    };
    assert_eq!(calls().await, 0);
    database.run("SELECT id FROM item WHERE id = 1; SELECT id FROM item WHERE id = 2");
    assert_eq!(calls().await, 2);
    database.run("CREATE ROLE reader LOGIN PASSWORD 'reader'");
    let reader = open(&database.url_as("reader", "reader")).await.unwrap();
    assert_eq!(
        reader.statement_statistics().await.unwrap(),
        StatisticsAnswer::Hidden
    );
}

#[tokio::test]
async fn an_extension_that_the_server_does_not_load_is_told_apart() {
    let server = Server::start();
    let database = server.database();
    database.run("CREATE EXTENSION pg_stat_statements");
    let answer = session(&database)
        .await
        .statement_statistics()
        .await
        .unwrap();
    assert_eq!(answer, StatisticsAnswer::NotLoaded);
}
