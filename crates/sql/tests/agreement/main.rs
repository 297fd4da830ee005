//! What the effects say of a statement is what a real server does, in both directions: every lock and
//! every work that they name happens, and none happens that they do not name.
//!
//! The cases are in `tests/fixtures/migrations`: one file each, run on tables that `before.sql` makes.

#![allow(
    clippy::unwrap_used,
    reason = "a helper of a test that cannot go on panics"
)]

mod case;
mod measured;
mod predicted;

use std::collections::BTreeSet;

use switchyard_sql::{ServerVersion, Volatility};
use switchyard_test_postgres::Server;

use case::Way;
use measured::Bench;

/// What happens to tables that were there before, each as a line such as `lock customer ACCESS EXCLUSIVE`.
type Happenings = BTreeSet<String>;

#[test]
fn effects_agree_with_what_a_server_does() {
    agree(15);
}

#[test]
fn effects_agree_with_what_the_oldest_versions_in_use_do() {
    for major in [13, 14] {
        agree(major);
    }
}

#[test]
fn effects_agree_with_what_the_newest_versions_do() {
    for major in [17, 18] {
        agree(major);
    }
}

fn agree(major: u32) {
    let version: ServerVersion = major.to_string().parse().unwrap();
    let mut cases = case::all();
    assert!(cases.len() >= 80, "the corpus has {} cases", cases.len());
    cases.retain(|case| case.since <= major);
    let server = Server::options()
        .major(major)
        .setting("log_min_messages", "debug1")
        .start();
    let bench = Bench::new(&server, &case::before());
    let mut disagreements = Vec::new();
    let mut unknown = Vec::new();
    for case in &cases {
        let predicted = predicted::of(case, version);
        let measured = match case.way {
            Way::Transaction => bench.in_transaction(case),
            Way::Alone => bench.alone(case),
        };
        if !predicted.unknown.is_empty() {
            unknown.push(format!("{}: {}", case.name, predicted.unknown.join("; ")));
            // What is said still has to happen.
            let wrong: Vec<_> = predicted.happenings.difference(&measured).collect();
            if !wrong.is_empty() {
                disagreements.push(format!("{}: said {wrong:?}, did not happen", case.name));
            }
            continue;
        }
        let said: Vec<_> = predicted.happenings.difference(&measured).collect();
        let unsaid: Vec<_> = measured.difference(&predicted.happenings).collect();
        if !said.is_empty() || !unsaid.is_empty() {
            disagreements.push(format!(
                "{}: said {said:?}, but happened {unsaid:?}",
                case.name
            ));
        }
    }
    assert!(
        disagreements.is_empty(),
        "{} of {} cases disagree with PostgreSQL {major}:\n{}",
        disagreements.len(),
        cases.len(),
        disagreements.join("\n")
    );
    // An answer that is always unknown would agree with everything.
    assert!(
        unknown.len() * 20 <= cases.len(),
        "too much is unknown:\n{}",
        unknown.join("\n")
    );
}

/// What is said of PostgreSQL's own functions is what its catalog says.
#[test]
fn no_function_that_is_volatile_counts_as_constant() {
    let server = Server::start();
    let functions = server.database().read(
        "SELECT proname, bool_or(provolatile = 'v') FROM pg_proc \
         WHERE pronamespace = 'pg_catalog'::regnamespace AND proname ~ '^[a-z0-9_]+$' GROUP BY proname",
    );
    let (mut constant, mut volatile) = (0, 0);
    for row in functions.lines() {
        let (name, is_volatile) = row.split_once('|').unwrap();
        let statement = format!("ALTER TABLE t ADD COLUMN c text DEFAULT \"{name}\"()");
        match predicted::default_of(&statement) {
            Some(Volatility::Constant) => {
                assert_eq!(is_volatile, "f", "`{name}` is volatile");
                constant += 1;
            }
            Some(Volatility::Volatile { .. }) => {
                assert_eq!(is_volatile, "t", "`{name}` is not volatile");
                volatile += 1;
            }
            // Nothing is said of it.
            Some(Volatility::Unknown { .. }) | None => {}
        }
    }
    // Names that are said to be known, but that no server has, would agree with everything.
    assert!(
        constant > 700 && volatile > 30,
        "{constant} constant, {volatile} volatile"
    );
}
