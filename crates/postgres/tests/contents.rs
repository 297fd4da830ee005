//! Snapshots, counts and checksums: what they hold, and that they are the same however the session is set.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use support::{open, session};
use switchyard_postgres::{CountedTable, ExportedSnapshot, Session, TableContents, pin_output};
use switchyard_test_postgres::{Database, Server};

const EVERYTHING: &str = "
    CREATE TABLE item (t text, at timestamptz, ratio float8, raw bytea, span interval, cost money, of regclass);
    INSERT INTO item SELECT 't' || n, '2026-05-05 12:00+02'::timestamptz + n * interval '1 hour', n / 3.0, decode('00ff', 'hex'),
      n * interval '1 day 2 hours', n, 'pg_class' FROM generate_series(1, 100) n;
    INSERT INTO item DEFAULT VALUES";

async fn contents(session: &Session, name: &str) -> TableContents {
    let table = CountedTable {
        schema: "public".into(),
        name: name.into(),
        bytes: 0,
    };
    session.script("begin", "BEGIN").await.unwrap();
    pin_output(session).await.unwrap();
    let contents = session.table_contents(&table).await.unwrap();
    session.script("end", "COMMIT").await.unwrap();
    contents
}

#[tokio::test]
async fn a_checksum_does_not_depend_on_the_settings_of_the_session_or_its_database() {
    let database = Server::shared().database();
    database.run(EVERYTHING);
    let plain = contents(&session(&database).await, "item").await;
    assert_eq!(plain.rows, 101);
    database.run(&format!(
        "ALTER DATABASE {0} SET TimeZone = 'Asia/Tokyo'; ALTER DATABASE {0} SET DateStyle = 'German';
         ALTER DATABASE {0} SET IntervalStyle = 'iso_8601'; ALTER DATABASE {0} SET extra_float_digits = -5;
         ALTER DATABASE {0} SET bytea_output = 'escape'; ALTER DATABASE {0} SET search_path = 'nowhere'",
        database.name()
    ));
    assert_eq!(contents(&session(&database).await, "item").await, plain);
}

#[tokio::test]
async fn a_checksum_depends_on_every_value_and_on_no_order() {
    let database = Server::shared().database();
    database.run(
        "CREATE TABLE item (id int, t text); INSERT INTO item VALUES (1, 'a'), (2, 'b');
        CREATE TABLE same (id int, t text); INSERT INTO same VALUES (2, 'b'), (1, 'a');
        CREATE TABLE other (id int, t text); INSERT INTO other VALUES (1, 'b'), (2, 'a');
        CREATE TABLE empty (id int, t text)",
    );
    let session = session(&database).await;
    let item = contents(&session, "item").await;
    assert_eq!(contents(&session, "same").await, item);
    let other = contents(&session, "other").await;
    assert_eq!(other.rows, item.rows);
    assert_ne!(other.checksum, item.checksum);
    assert_eq!(contents(&session, "empty").await.checksum, "0");
}

#[tokio::test]
async fn rows_of_partitions_and_children_are_counted_once() {
    let database = Server::shared().database();
    database.run(
        "CREATE TABLE sale (day date) PARTITION BY RANGE (day);
        CREATE TABLE sale_2026 PARTITION OF sale FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
        INSERT INTO sale VALUES ('2026-05-05');
        CREATE TABLE parent (id int); CREATE TABLE child () INHERITS (parent);
        INSERT INTO parent VALUES (1); INSERT INTO child VALUES (2);
        CREATE EXTENSION pg_stat_statements; CREATE TEMP TABLE passing (id int)",
    );
    let session = session(&database).await;
    let tables = session.counted_tables().await.unwrap();
    let mut names: Vec<&str> = tables.iter().map(|one| one.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["child", "parent", "sale_2026"]);
    assert_eq!(contents(&session, "parent").await.rows, 1);
}

#[tokio::test]
async fn rows_that_row_security_hides_are_an_error() {
    let database = Server::shared().database();
    database.run("CREATE TABLE item (id int); INSERT INTO item VALUES (1); ALTER TABLE item ENABLE ROW LEVEL SECURITY;
        CREATE ROLE hidden LOGIN PASSWORD 'hidden'; GRANT SELECT ON item TO hidden");
    let session = open(&database.url_as("hidden", "hidden")).await.unwrap();
    session.script("begin", "BEGIN").await.unwrap();
    pin_output(&session).await.unwrap();
    let tables = session.counted_tables().await.unwrap();
    let error = session.table_contents(&tables[0]).await.unwrap_err();
    assert!(error.to_string().contains("row-level security"), "{error}");
}

async fn export(database: &Database) -> ExportedSnapshot {
    ExportedSnapshot::export(session(database).await)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_snapshot_is_shared_and_does_not_see_what_came_later() {
    let database = Server::shared().database();
    database.run("CREATE TABLE item (id int); INSERT INTO item VALUES (1)");
    let snapshot = export(&database).await;
    database.run("INSERT INTO item VALUES (2)");
    let second = session(&database).await;
    snapshot.share_with(&second).await.unwrap();
    let table = &second.counted_tables().await.unwrap()[0];
    assert_eq!(second.table_contents(table).await.unwrap().rows, 1);
    assert_eq!(
        snapshot.session().table_contents(table).await.unwrap().rows,
        1
    );
    let error = second
        .script("write", "INSERT INTO public.item VALUES (3)")
        .await
        .unwrap_err();
    assert_eq!(error.sql_state(), Some("25006"), "it only reads");
    let id = snapshot.id().clone();
    snapshot.end().await.unwrap();
    let third = session(&database).await;
    let sql = format!("BEGIN ISOLATION LEVEL REPEATABLE READ; SET TRANSACTION SNAPSHOT '{id}'");
    let late = third.script("take over", &sql).await;
    assert!(late.is_err(), "the snapshot has ended");
}

#[tokio::test]
async fn an_index_can_be_built_as_soon_as_the_snapshot_has_ended() {
    let database = Server::shared().database();
    database.run("CREATE TABLE item (id int); INSERT INTO item VALUES (1)");
    let snapshot = export(&database).await;
    let build = "SET lock_timeout = '200ms'; CREATE INDEX CONCURRENTLY item_id ON item (id)";
    assert!(
        database.try_run(build).is_err(),
        "an open snapshot is in the way"
    );
    let looker = session(&database).await;
    assert_eq!(looker.invalid_indexes().await.unwrap().len(), 1);
    snapshot.end().await.unwrap();
    database.run("DROP INDEX item_id; SET lock_timeout = '20s'; CREATE INDEX CONCURRENTLY item_id ON item (id)");
    assert!(looker.invalid_indexes().await.unwrap().is_empty());
}

#[tokio::test]
async fn sequences_and_large_objects_are_held_too() {
    let database = Server::shared().database();
    database.run("CREATE SEQUENCE \"Numbers\" INCREMENT BY 5; SELECT nextval('\"Numbers\"'), nextval('\"Numbers\"');
        SELECT lo_from_bytea(4711, 'one'); SELECT lo_from_bytea(4712, 'two')");
    let session = session(&database).await;
    let positions = session.sequence_positions().await.unwrap();
    let numbers = positions["public.Numbers"];
    assert_eq!(
        (numbers.last_value, numbers.is_called, numbers.increment),
        (6, true, 5)
    );
    let before = session.large_objects().await.unwrap();
    assert_eq!(before.count, 2);
    database.run("SELECT lo_put(4712, 0, 'TWO')");
    let after = session.large_objects().await.unwrap();
    assert_eq!(after.count, 2);
    assert_ne!(after.checksum, before.checksum);
}
