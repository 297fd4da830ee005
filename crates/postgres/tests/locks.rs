//! Who is in the way of whom, and the lock that lets one gate at a time into a database.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::time::Duration;

use support::{open, session, until};
use switchyard_postgres::{AdvisoryLock, GATE_LOCK, LockError, LockKey, LockWait};
use switchyard_test_postgres::Server;

fn wait(limit: Duration) -> LockWait {
    LockWait {
        limit,
        pause: Duration::from_millis(10),
        report_every: Duration::ZERO,
    }
}

#[test]
fn the_key_is_not_prismas() {
    assert_ne!(GATE_LOCK, LockKey(72_707_369));
}

#[tokio::test]
async fn the_second_gate_is_told_who_the_first_one_is() {
    let database = Server::shared().database();
    let take = async |limit| {
        let session = session(&database).await;
        let mut reports = Vec::new();
        let taken = AdvisoryLock::acquire(session, GATE_LOCK, wait(limit), |holder, _| {
            reports.push(holder.to_string());
        });
        (taken.await, reports)
    };
    let first = take(Duration::ZERO).await.0.unwrap();
    assert!(first.confirm().await.unwrap());
    let (second, reports) = take(Duration::from_millis(100)).await;
    let error = second.unwrap_err();
    assert!(matches!(error, LockError::Held { .. }), "{error:?}");
    assert!(error.to_string().contains("switchyard test"), "{error}");
    assert!(reports.len() > 1, "progress is told while it waits");
    first.release().await.unwrap();
    assert!(take(Duration::from_secs(20)).await.0.is_ok());
}

#[tokio::test]
async fn databases_of_one_server_do_not_share_the_lock() {
    let (one, other) = (Server::shared().database(), Server::shared().database());
    let take = async |database| {
        let session = session(database).await;
        AdvisoryLock::acquire(session, GATE_LOCK, wait(Duration::ZERO), |_, _| {}).await
    };
    let _first = take(&one).await.unwrap();
    assert!(take(&other).await.is_ok());
}

#[tokio::test]
async fn a_gate_that_waits_keeps_nobody_from_building_an_index() {
    let database = Server::shared().database();
    database.run("CREATE TABLE item (id int)");
    let first = AdvisoryLock::acquire(
        session(&database).await,
        GATE_LOCK,
        wait(Duration::ZERO),
        |_, _| {},
    );
    let first = first.await.unwrap();
    let second = AdvisoryLock::acquire(
        session(&database).await,
        GATE_LOCK,
        wait(Duration::from_secs(60)),
        |_, _| {},
    );
    let building = async {
        let builder = session(&database).await;
        builder
            .script("build", "CREATE INDEX CONCURRENTLY item_id ON item (id)")
            .await
            .unwrap();
        first.release().await.unwrap();
    };
    let (second, ()) = tokio::join!(second, building);
    assert!(second.is_ok());
}

#[tokio::test]
async fn a_lost_session_has_lost_the_lock() {
    let database = Server::shared().database();
    let lock = AdvisoryLock::acquire(
        session(&database).await,
        GATE_LOCK,
        wait(Duration::ZERO),
        |_, _| {},
    );
    let lock = lock.await.unwrap();
    database.run(
        "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
    );
    assert!(lock.confirm().await.unwrap_err().is_lost());
    let again = AdvisoryLock::acquire(
        session(&database).await,
        GATE_LOCK,
        wait(Duration::from_secs(20)),
        |_, _| {},
    );
    assert!(again.await.is_ok());
}

#[tokio::test]
async fn the_holder_of_a_lock_is_named_and_who_waits_for_it() {
    let database = Server::shared().database();
    database.run("CREATE TABLE \"Item\" (id int)");
    let mut holder = database.session();
    let process = holder.backend();
    holder.run("BEGIN; SELECT * FROM \"Item\"");
    let looker = session(&database).await;
    let holders = looker.holders_of("\"Item\"").await.unwrap();
    assert_eq!(holders.len(), 1);
    assert_eq!(holders[0].process, process);
    assert!(
        holders[0].to_string().contains("idle in transaction"),
        "{}",
        holders[0]
    );
    let mut waiting = database.session();
    let waiter = waiting.backend();
    waiting.begin("ALTER TABLE \"Item\" ADD COLUMN name text");
    until(async || !looker.blockers_of(waiter).await.unwrap().is_empty()).await;
    assert_eq!(
        looker.blockers_of(waiter).await.unwrap()[0].process,
        process
    );
    let blocked = looker.blocked().await.unwrap();
    assert_eq!(
        (blocked[0].waiting.process, blocked[0].by[0].process),
        (waiter, process)
    );
    holder.run("COMMIT");
    waiting.finish();
    assert!(looker.blocked().await.unwrap().is_empty());
}

#[tokio::test]
async fn what_the_role_may_not_see_is_left_out() {
    let database = Server::shared().database();
    database.run("CREATE ROLE onlooker LOGIN PASSWORD 'onlooker'; CREATE TABLE item (id int)");
    let mut holder = database.session();
    holder.run("BEGIN; LOCK TABLE item");
    let looker = open(&database.url_as("onlooker", "onlooker"))
        .await
        .unwrap();
    let holders = looker.holders_of("item").await.unwrap();
    assert_eq!(holders.len(), 1);
    assert_eq!(holders[0].state, None);
}
