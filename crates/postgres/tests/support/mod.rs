//! What the tests of this crate share: sessions to databases of theirs.

#![allow(dead_code, reason = "each test program uses its part")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::time::Duration;

use switchyard_postgres::{ConnectionSettings, ConnectionUrl, PostgresError, Session};
use switchyard_runner::Secret;
use switchyard_test_postgres::Database;

pub(crate) fn settings() -> ConnectionSettings {
    ConnectionSettings::reading("switchyard test")
}

pub(crate) fn url(text: &str) -> ConnectionUrl {
    ConnectionUrl::parse(&Secret::new(text)).unwrap()
}

pub(crate) async fn open(text: &str) -> Result<Session, PostgresError> {
    Session::open(&url(text), &settings()).await
}

pub(crate) async fn session(database: &Database) -> Session {
    open(&database.url()).await.unwrap()
}

/// The error with all its causes and its hint, as a person would read it.
pub(crate) fn told(error: &PostgresError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(one) = cause {
        text.push_str(&format!(": {one}"));
        cause = one.source();
    }
    format!("{text}\nhint: {}", error.hint().unwrap_or_default())
}

/// Waits until a question is answered with yes.
pub(crate) async fn until(mut holds: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), waiting)
        .await
        .expect("it comes to hold within a minute");
}
