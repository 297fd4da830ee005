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

use switchyard_test_postgres::Server;

use case::Way;
use measured::Bench;

/// What happens to tables that were there before, each as a line such as `lock customer ACCESS EXCLUSIVE`.
type Happenings = BTreeSet<String>;

#[test]
fn effects_agree_with_what_a_server_does() {
    let cases = case::all();
    assert!(cases.len() >= 80, "the corpus has {} cases", cases.len());
    let server = Server::options()
        .setting("log_min_messages", "debug1")
        .start();
    let bench = Bench::new(&server, &case::before());
    let mut disagreements = Vec::new();
    let mut unknown = Vec::new();
    for case in &cases {
        let predicted = predicted::of(case);
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
        "{} of {} cases disagree:\n{}",
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
