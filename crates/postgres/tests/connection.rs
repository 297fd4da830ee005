//! Connections on real servers: who is refused and how it is told, TLS as libpq has it, time limits, and a server
//! that dies.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::time::Duration;

use support::{open, session, settings, told, until, url};
use switchyard_postgres::{PostgresError, Session};
use switchyard_test_postgres::{Authority, Encryption, PASSWORD, Server};

fn with(text: &str, parameters: &str) -> String {
    format!("{text}?{parameters}")
}

#[tokio::test]
async fn a_session_says_who_it_is_and_what_the_server_is() {
    let database = Server::shared().database();
    let session = session(&database).await;
    assert_eq!(session.version().major(), 15);
    let sql = "SELECT current_setting('application_name') AS name, current_setting('lock_timeout') AS lock,
                      current_setting('statement_timeout') AS statement";
    let row = session.row("look", sql, &[]).await.unwrap();
    let seen: Vec<String> = (0..3).map(|at| row.get(at)).collect();
    assert_eq!(seen, ["switchyard test", "5s", "1min"]);
}

#[tokio::test]
async fn a_wrong_password_is_refused_and_printed_nowhere() {
    let database = Server::shared().database();
    let error = open(&database.url_as("postgres", "hunter2@wrong"))
        .await
        .unwrap_err();
    assert_eq!(error.sql_state(), Some("28P01"));
    let text = format!("{}{error:?}", told(&error));
    assert!(
        text.contains("role `postgres`") && text.contains("special characters"),
        "{text}"
    );
    assert!(!text.contains("hunter2"), "{text}");
}

#[tokio::test]
async fn a_password_of_special_characters_logs_in() {
    let database = Server::shared().database();
    database.run("CREATE ROLE special LOGIN PASSWORD 'p@ss/w:o#r?d%25'");
    let session = open(&database.url_as("special", "p@ss/w:o#r?d%25"))
        .await
        .unwrap();
    assert_eq!(session.rights().await.unwrap().role, "special");
}

#[tokio::test]
async fn a_database_that_is_not_there_is_named() {
    let text = Server::shared().url("no_such_shop");
    let error = open(&text).await.unwrap_err();
    assert_eq!(error.sql_state(), Some("3D000"));
    assert!(told(&error).contains("no_such_shop"), "{}", told(&error));
}

#[tokio::test]
async fn a_port_where_nobody_listens_is_unreachable() {
    let mut server = Server::start();
    let text = server.url("postgres");
    server.stop();
    let error = open(&text).await.unwrap_err();
    assert!(
        matches!(error, PostgresError::Unreachable { .. }),
        "{error:?}"
    );
    let text = told(&error);
    assert!(
        text.contains(&server.port().to_string()) && text.contains("refused"),
        "{text}"
    );
    assert!(!text.contains(PASSWORD));
}

#[tokio::test]
async fn a_server_that_accepts_and_says_nothing_is_given_up() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let text = format!("postgres://a:b@127.0.0.1:{port}/shop?connect_timeout=1");
    let error = open(&text).await.unwrap_err();
    assert!(
        matches!(error, PostgresError::NoGreeting { .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_server_that_requires_tls_gets_it_by_default_and_tells_who_has_turned_it_off() {
    let encryption = Encryption::Required(Authority::new(), Vec::new());
    let server = Server::options().encryption(encryption).start();
    let text = server.url("postgres");
    let session = open(&text).await.unwrap();
    let sql = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    let is_encrypted: bool = session.row("look", sql, &[]).await.unwrap().get(0);
    assert!(is_encrypted);
    assert!(open(&with(&text, "sslmode=allow")).await.is_ok());
    let error = open(&with(&text, "sslmode=disable")).await.unwrap_err();
    assert!(told(&error).contains("sslmode=require"), "{}", told(&error));
}

#[tokio::test]
async fn a_server_without_tls_is_taken_by_prefer_and_refused_by_require() {
    let text = Server::shared().url("postgres");
    assert!(open(&with(&text, "sslmode=prefer")).await.is_ok());
    let error = open(&with(&text, "sslmode=require")).await.unwrap_err();
    let text = told(&error);
    assert!(
        text.contains("no TLS")
            && text.contains("sslmode=require")
            && text.contains("speaks no TLS"),
        "{text}"
    );
}

#[tokio::test]
async fn certificates_are_looked_at_as_sslmode_says() {
    let authority = Authority::new();
    let encryption = Encryption::Offered(authority.clone(), vec!["db.example".into()]);
    let server = Server::options().encryption(encryption).start();
    let text = server.url("postgres");
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let own = server.authority().unwrap().display().to_string();
    let other = file("other.pem", Authority::new().certificate());
    for mode in ["require", "verify-ca", "verify-full"] {
        let right = with(&text, &format!("sslmode={mode}&sslrootcert={own}"));
        assert!(open(&right).await.is_ok(), "{mode}");
        // libpq's `require` verifies too where authorities are given.
        let wrong = with(&text, &format!("sslmode={mode}&sslrootcert={other}"));
        let error = open(&wrong).await.unwrap_err();
        assert!(
            told(&error).contains("another authority"),
            "{}",
            told(&error)
        );
    }
    assert!(open(&with(&text, "sslmode=require")).await.is_ok());
    let system = with(&text, "sslmode=verify-full&sslrootcert=system");
    assert!(
        open(&system).await.is_err(),
        "nobody of the system signed it"
    );
}

#[tokio::test]
async fn a_certificate_for_another_name_fails_verify_full_alone() {
    let encryption = Encryption::Offered(Authority::new(), Vec::new());
    let server = Server::options().encryption(encryption).start();
    let own = server.authority().unwrap().display();
    let text = server.url("postgres").replace("127.0.0.1", "localhost");
    let ca = with(&text, &format!("sslmode=verify-ca&sslrootcert={own}"));
    assert!(open(&ca).await.is_ok());
    let full = with(&text, &format!("sslmode=verify-full&sslrootcert={own}"));
    let error = open(&full).await.unwrap_err();
    assert!(
        told(&error).contains("for another name"),
        "{}",
        told(&error)
    );
}

#[tokio::test]
async fn roots_that_cannot_be_read_are_named_before_anybody_is_asked() {
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("empty.pem");
    std::fs::write(&empty, "").unwrap();
    for (path, expected) in [
        (empty, "holds no certificate"),
        (folder.path().join("none"), "cannot read"),
    ] {
        let text = format!(
            "postgres://a:b@127.0.0.1:1/shop?sslmode=verify-ca&sslrootcert={}",
            path.display()
        );
        let error = open(&text).await.unwrap_err();
        assert!(told(&error).contains(expected), "{}", told(&error));
    }
}

#[tokio::test]
async fn a_server_killed_in_mid_statement_is_a_lost_connection() {
    let mut server = Server::start();
    let database = server.database();
    let session = session(&database).await;
    let looking = tokio::spawn(async move { session.script("wait", "SELECT pg_sleep(60)").await });
    until(async || {
        database.read("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'") == "1"
    })
    .await;
    server.crash();
    let error = looking.await.unwrap().unwrap_err();
    assert!(error.is_lost(), "{error:?}");
    assert!(told(&error).contains("not known"), "{}", told(&error));
    server.restart();
    assert!(open(&database.url()).await.is_ok());
}

#[tokio::test]
async fn a_session_that_somebody_terminates_is_lost() {
    let database = Server::shared().database();
    let session = session(&database).await;
    let own: i32 = session
        .row("look", "SELECT pg_backend_pid()", &[])
        .await
        .unwrap()
        .get(0);
    database.run(&format!("SELECT pg_terminate_backend({own})"));
    let error = session.row("look", "SELECT 1", &[]).await.unwrap_err();
    assert!(error.is_lost(), "{error:?}");
}

#[tokio::test]
async fn time_limits_are_the_servers_and_are_told_apart() {
    let database = Server::shared().database();
    database.run("CREATE TABLE item (id int)");
    let mut holder = database.session();
    holder.run("BEGIN; LOCK TABLE item IN ACCESS EXCLUSIVE MODE");
    let mut limits = settings();
    limits.lock_timeout = Duration::from_millis(50);
    let session = Session::open(&url(&database.url()), &limits).await.unwrap();
    let error = session
        .rows("read items", "SELECT * FROM item", &[])
        .await
        .unwrap_err();
    assert!(error.is_lock_timeout(), "{error:?}");
    limits.statement_timeout = Duration::from_millis(100);
    let session = Session::open(&url(&database.url()), &limits).await.unwrap();
    let error = session
        .script("wait", "SELECT pg_sleep(60)")
        .await
        .unwrap_err();
    assert!(error.is_cancelled(), "{error:?}");
}

#[tokio::test]
async fn a_statement_can_be_cancelled_from_outside() {
    let database = Server::shared().database();
    let session = session(&database).await;
    let (waited, cancelled) = tokio::join!(session.script("wait", "SELECT pg_sleep(60)"), async {
        let looks = "SELECT count(*) FROM pg_stat_activity
                     WHERE datname = current_database() AND wait_event = 'PgSleep'";
        until(async || database.read(looks) == "1").await;
        session.cancel().await
    });
    cancelled.unwrap();
    assert!(waited.unwrap_err().is_cancelled());
}

#[tokio::test]
async fn rights_are_those_of_the_role() {
    let database = Server::shared().database();
    database.run("CREATE ROLE plain LOGIN PASSWORD 'plain'; CREATE ROLE maker LOGIN PASSWORD 'maker' CREATEDB");
    let superuser = session(&database).await.rights().await.unwrap();
    assert!(
        superuser.is_superuser && superuser.can_create_databases && superuser.reaches_the_machine
    );
    let plain = open(&database.url_as("plain", "plain"))
        .await
        .unwrap()
        .rights()
        .await
        .unwrap();
    assert!(!plain.is_superuser && !plain.can_create_databases && !plain.reaches_the_machine);
    let maker = open(&database.url_as("maker", "maker"))
        .await
        .unwrap()
        .rights()
        .await
        .unwrap();
    assert!(maker.can_create_databases && !maker.can_create_roles);
}

#[tokio::test]
async fn a_statement_is_described_without_being_run() {
    let database = Server::shared().database();
    database.run("CREATE TABLE item (id int PRIMARY KEY, name text)");
    let session = session(&database).await;
    let insert = "INSERT INTO item (id, name) VALUES ($1, $2) RETURNING id";
    let shape = session.describe_statement(insert).await.unwrap();
    assert_eq!(shape.parameters, ["int4", "text"]);
    assert_eq!(shape.columns, [("id".to_owned(), "int4".to_owned())]);
    assert_eq!(database.read("SELECT count(*) FROM item"), "0");
    let error = session
        .describe_statement("SELECT gone FROM item")
        .await
        .unwrap_err();
    assert_eq!(error.sql_state(), Some("42703"));
}
