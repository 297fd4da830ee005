//! Servers start, crash, come back and end with their test; databases are apart from each other.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::net::TcpStream;

use switchyard_test_postgres::{Authority, Encryption, Server};

#[test]
fn databases_of_the_shared_server_are_apart() {
    let (one, other) = (Server::shared().database(), Server::shared().database());
    one.run("CREATE TABLE item (id int); INSERT INTO item VALUES (1), (2)");
    assert_eq!(one.read("SELECT id FROM item ORDER BY id"), "1\n2");
    let refused = other.try_run("SELECT * FROM item").unwrap_err();
    assert!(refused.contains("does not exist"), "{refused}");
}

#[test]
fn statement_statistics_are_there() {
    let database = Server::shared().database();
    database.run("CREATE EXTENSION pg_stat_statements");
    let calls = database.read("SELECT count(*) >= 0 FROM pg_stat_statements");
    assert_eq!(calls, "t");
}

#[test]
fn a_crashed_server_comes_back_with_what_was_committed() {
    let mut server = Server::start();
    let database = server.database();
    database.run("CREATE TABLE item (id int); INSERT INTO item VALUES (1)");
    server.crash();
    assert!(TcpStream::connect(("127.0.0.1", server.port())).is_err());
    server.restart();
    assert_eq!(database.read("SELECT id FROM item"), "1");
}

#[test]
fn a_server_ends_when_it_is_dropped() {
    let server = Server::start();
    let (port, id) = (server.port(), server.id());
    drop(server);
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    assert!(!std::path::Path::new(&format!("/proc/{id}")).exists());
}

#[test]
fn a_server_that_requires_tls_refuses_what_is_not_encrypted() {
    let names = vec!["localhost".to_owned()];
    let encryption = Encryption::Required(Authority::new(), names);
    let server = Server::options().encryption(encryption).start();
    let database = server.existing_database("postgres");
    let used = database.read("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()");
    assert_eq!(used, "t");
    assert!(server.authority().unwrap().exists());
}

#[test]
fn a_session_holds_what_it_took_until_it_is_dropped() {
    let database = Server::shared().database();
    database.run("CREATE TABLE item (id int)");
    let mut session = database.session();
    session.run("BEGIN; LOCK TABLE item IN ACCESS EXCLUSIVE MODE");
    let locks = "SELECT count(*) FROM pg_locks WHERE relation = 'item'::regclass AND granted";
    assert_eq!(database.read(locks), "1");
    let blocked = database.try_run("SET lock_timeout = '50ms'; SELECT * FROM item");
    assert!(blocked.unwrap_err().contains("lock timeout"));
    drop(session);
    database.run("SET lock_timeout = '60s'; SELECT * FROM item");
}
