use serde_json::{Value, json};

use super::*;

fn entry(before: &Value, after: &Value) -> JournalEntry {
    let planned = PlannedMutation {
        operation: "switch".to_owned(),
        target: ObjectRef::namespaced("v1", "Service", "shop", "web"),
        target_uid: Some("u1".to_owned()),
        precondition_resource_version: Some("7".to_owned()),
        before: Projection::shown(before),
        after: Projection::shown(after),
    };
    JournalEntry::pending(1, 3, planned, Timestamp::UNIX_EPOCH)
}

fn live(value: &Value) -> LiveTarget {
    LiveTarget {
        uid: Some("u1".to_owned()),
        projection: Projection::shown(value),
    }
}

#[test]
fn a_mutation_that_did_not_happen_is_made() {
    let entry = entry(&json!({"slot": "blue"}), &json!({"slot": "green"}));
    assert_eq!(resume(&live(&json!({"slot": "blue"})), &entry), Resume::Do);
}

#[test]
fn a_mutation_that_happened_is_not_made_again() {
    let entry = entry(&json!({"slot": "blue"}), &json!({"slot": "green"}));
    assert_eq!(
        resume(&live(&json!({"slot": "green"})), &entry),
        Resume::MarkApplied
    );
}

#[test]
fn a_mutation_that_changes_nothing_counts_as_applied() {
    let entry = entry(&json!({"slot": "blue"}), &json!({"slot": "blue"}));
    assert_eq!(
        resume(&live(&json!({"slot": "blue"})), &entry),
        Resume::MarkApplied
    );
}

#[test]
fn a_third_state_is_shown_to_a_person_with_both_of_ours() {
    let entry = entry(&json!({"slot": "blue"}), &json!({"slot": "green"}));
    let Resume::NeedsPerson { disagreement } = resume(&live(&json!({"slot": "red"})), &entry)
    else {
        panic!("it was resumed");
    };
    assert_eq!(
        disagreement.to_string(),
        "Service `shop/web` is neither as before step 1 nor as after it: \
         before {\"slot\":\"blue\"}, to be {\"slot\":\"green\"}, live {\"slot\":\"red\"}"
    );
}

#[test]
fn another_object_of_the_same_name_is_shown_to_a_person() {
    let entry = entry(&json!({"slot": "blue"}), &json!({"slot": "green"}));
    let other = LiveTarget {
        uid: Some("u2".to_owned()),
        ..live(&json!({"slot": "blue"}))
    };
    assert!(matches!(resume(&other, &entry), Resume::NeedsPerson { .. }));
}

#[test]
fn a_creation_that_did_not_happen_is_made() {
    let mut entry = entry(&json!({}), &json!({"slot": "green"}));
    entry.before = Projection::absent();
    entry.target_uid = None;
    let absent = LiveTarget {
        uid: None,
        projection: Projection::absent(),
    };
    assert_eq!(resume(&absent, &entry), Resume::Do);
    assert_eq!(
        resume(&live(&json!({"slot": "green"})), &entry),
        Resume::MarkApplied
    );
}

#[test]
fn an_error_is_kept_as_one_bounded_line() {
    let mut entry = entry(&json!(1), &json!(2));
    let error = format!("first\nsecond{}", "x".repeat(1000));
    entry.settle(
        Settlement::failed(Outcome::Unknown, &error),
        Timestamp::UNIX_EPOCH,
    );
    let kept = entry.error.unwrap();
    assert!(kept.starts_with("first second"));
    assert_eq!(kept.chars().count(), MAX_ERROR_CHARACTERS + 1);
}

/// Open entries in the order in which they were written.
fn open(steps: &[(&str, &str)]) -> Vec<JournalEntry> {
    let numbered = (1..).zip(steps);
    numbered
        .map(|(seq, (before, after))| JournalEntry {
            seq,
            ..entry(&json!(before), &json!(after))
        })
        .collect()
}

fn settled(steps: &[(&str, &str)], seen: &str) -> Vec<Outcome> {
    let outcomes = outcomes(&live(&json!(seen)), &open(steps));
    outcomes.into_iter().map(|(_, outcome)| outcome).collect()
}

#[test]
fn of_several_writes_without_an_answer_the_one_that_shows_was_carried_out() {
    use Outcome::{Applied, Foreign, NotApplied};
    let twice = [("blue", "both"), ("blue", "green")];
    assert_eq!(settled(&twice, "both"), [Applied, NotApplied]);
    assert_eq!(settled(&twice, "green"), [NotApplied, Applied]);
    assert_eq!(settled(&twice, "blue"), [NotApplied, NotApplied]);
    assert_eq!(settled(&twice, "red"), [Foreign, Foreign]);
    assert_eq!(
        settled(&[("blue", "green"), ("blue", "green")], "green"),
        [NotApplied, Applied]
    );
}

#[test]
fn a_write_that_was_decided_upon_another_one_tells_that_both_were_carried_out() {
    use Outcome::{Applied, NotApplied};
    let chain = [("blue", "both"), ("both", "green"), ("green", "grey")];
    assert_eq!(settled(&chain, "grey"), [Applied, Applied, Applied]);
    assert_eq!(settled(&chain, "green"), [Applied, Applied, NotApplied]);
    assert_eq!(settled(&chain, "both"), [Applied, NotApplied, NotApplied]);
    assert_eq!(settled(&chain, "blue"), [NotApplied; 3]);
}
