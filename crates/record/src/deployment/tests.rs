use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::testing::{at, entered, evidence, record};
use crate::{ObjectRef, Outcome, Projection, Side};

fn planned(before: &Value, after: &Value) -> PlannedMutation {
    PlannedMutation {
        operation: "switch".to_owned(),
        target: ObjectRef::namespaced("v1", "Service", "shop", "web"),
        target_uid: Some("u1".to_owned()),
        precondition_resource_version: Some("7".to_owned()),
        before: Projection::shown(before),
        after: Projection::shown(after),
    }
}

fn step(to: Phase, seconds: i64) -> PhaseStep {
    PhaseStep {
        to,
        at: at(seconds),
        reason: None,
    }
}

#[test]
fn before_the_switch_the_way_back_is_to_abandon() {
    let mut record = record(Chain::Slots);
    entered(&mut record, Phase::Tested, 1);
    assert_eq!(record.way_back(), WayBack::Abandon);
    assert!(record.advance(step(Phase::Reverting, 2)).is_err());
}

#[test]
fn from_the_switch_on_the_way_back_is_to_revert() {
    let mut record = record(Chain::Slots);
    entered(&mut record, Phase::Switching(1), 1);
    assert_eq!(record.way_back(), WayBack::Revert);
    entered(&mut record, Phase::NeedsPerson, 2);
    assert_eq!(record.way_back(), WayBack::NeedsPerson);
    assert!(record.advance(step(Phase::Abandoning, 3)).is_err());
    entered(&mut record, Phase::Reverting, 3);
    assert_eq!(record.way_back(), WayBack::Revert);
}

#[test]
fn a_person_who_is_asked_before_the_switch_may_have_it_abandoned() {
    let mut record = record(Chain::Slots);
    entered(&mut record, Phase::NeedsPerson, 1);
    assert!(record.advance(step(Phase::Reverting, 2)).is_err());
    entered(&mut record, Phase::Abandoning, 2);
}

#[test]
fn in_place_the_first_write_is_the_switch() {
    let mut record = record(Chain::InPlace);
    entered(&mut record, Phase::BackedUp, 1);
    assert_eq!(record.way_back(), WayBack::Abandon);
    let seq = record.plan_mutation(1, planned(&json!(1), &json!(2)), at(2));
    assert_eq!(record.way_back(), WayBack::Revert);
    assert!(record.clone().advance(step(Phase::Abandoning, 3)).is_err());
    record
        .settle(seq, Outcome::NotApplied.into(), at(3))
        .unwrap();
    assert_eq!(record.way_back(), WayBack::Abandon);
}

#[test]
fn an_ended_deployment_has_a_result_and_no_way_back() {
    let mut record = record(Chain::Slots);
    entered(&mut record, Phase::Abandoning, 1);
    let result = DeploymentResult {
        verdict: Verdict::Abandoned,
        cause: Some("image\nnot found".to_owned()),
        by: "rescue".to_owned(),
    };
    record.finish(result, at(2)).unwrap();
    assert_eq!(record.way_back(), WayBack::Ended(Verdict::Abandoned));
    assert_eq!(
        record.result.as_ref().unwrap().cause.as_deref(),
        Some("image not found")
    );
    record.validate().unwrap();
}

#[test]
fn a_stage_that_was_not_planned_is_not_switched_to() {
    let mut record = record(Chain::Slots);
    record.stages = vec![Stage {
        index: 1,
        weight: 100,
        hold_until: None,
    }];
    entered(&mut record, Phase::Switching(1), 1);
    entered(&mut record, Phase::Holding(1), 2);
    assert!(record.advance(step(Phase::Switching(2), 3)).is_err());
}

#[test]
fn the_journal_counts_from_one_and_knows_what_is_open() {
    let mut record = record(Chain::Slots);
    let first = record.plan_mutation(3, planned(&json!(1), &json!(2)), at(1));
    let second = record.plan_mutation(3, planned(&json!(2), &json!(3)), at(2));
    assert_eq!((first, second), (1, 2));
    record
        .settle(first, Outcome::Applied.into(), at(3))
        .unwrap();
    let open: Vec<_> = record.open_entries().map(|entry| entry.seq).collect();
    assert_eq!(open, [2]);
    assert_eq!(record.settle(9, Outcome::Applied.into(), at(3)), None);
    record.validate().unwrap();
}

#[test]
fn compacting_keeps_what_a_resume_needs() {
    let mut record = record(Chain::Slots);
    let seq = record.plan_mutation(3, planned(&json!({"a": 1}), &json!({"a": 2})), at(1));
    record.settle(seq, Outcome::Applied.into(), at(2)).unwrap();
    record.plan_mutation(3, planned(&json!({"a": 2}), &json!({"a": 3})), at(3));
    let open = record.journal[1].clone();
    let hash = record.journal[0].after.hash().to_owned();
    record.compact();
    assert_eq!(record.journal[1], open);
    assert_eq!(record.journal[0].after.value(), None);
    assert_eq!(record.journal[0].after.hash(), hash);
    record.validate().unwrap();
}

#[test]
fn weights_and_evidence_are_bounded() {
    let mut record = record(Chain::Slots);
    for second in 0..1_000 {
        record.add_evidence(evidence("watch", second));
        record.add_weights(WeightsEntry {
            at: at(second),
            target: ObjectRef::namespaced("v1", "Service", "shop", "web"),
            weights: BTreeMap::from([(Side::GREEN, 100)]),
        });
    }
    assert_eq!(
        (record.weights.len(), record.evidence.len()),
        (MAX_WEIGHTS, MAX_EVIDENCE)
    );
    assert_eq!(record.evidence[MAX_EVIDENCE - 1].at, at(999));
}

#[test]
fn an_impossible_record_is_named() {
    let mut sound = record(Chain::Slots);
    sound.plan_mutation(3, planned(&json!(1), &json!(2)), at(1));
    entered(&mut sound, Phase::Switching(1), 1);
    sound.validate().unwrap();
    let broken = |change: fn(&mut DeploymentRecord)| {
        let mut record = sound.clone();
        change(&mut record);
        record.validate().unwrap_err().field
    };
    assert_eq!(broken(|record| record.schema = 0), "schema");
    assert_eq!(broken(|record| record.run.run_id = "7".to_owned()), "run");
    assert_eq!(broken(|record| record.run.attempts.clear()), "run.attempts");
    assert_eq!(
        broken(|record| record.reverts = Some(record.id.clone())),
        "reverts"
    );
    assert_eq!(broken(|record| record.phase = Phase::Succeeded), "result");
    assert_eq!(broken(|record| record.phase = Phase::Soaking), "phase");
    assert_eq!(
        broken(|record| {
            record.phases.remove(0);
        }),
        "phases"
    );
    assert_eq!(
        broken(|record| record.phases[1].name = Phase::Soaking),
        "phases"
    );
    assert_eq!(broken(|record| record.journal[0].seq = 2), "journal");
    assert_eq!(
        broken(|record| record.stages = vec![Stage {
            index: 2,
            weight: 1,
            hold_until: None
        }]),
        "stages"
    );
}

#[test]
fn a_record_is_written_with_the_model_s_names() {
    let mut record = record(Chain::Slots);
    record.plan_mutation(3, planned(&json!({"w": 1}), &json!({"w": 2})), at(1));
    entered(&mut record, Phase::Switching(1), 1);
    insta::assert_snapshot!(serde_json::to_string_pretty(&record).unwrap());
}

/// Phases in an order that a confused caller might try.
fn any_phases() -> impl Strategy<Value = Vec<Phase>> {
    let phases = [
        Phase::BackedUp,
        Phase::Migrated,
        Phase::Applied,
        Phase::Ready,
        Phase::Tested,
        Phase::Switching(1),
        Phase::Holding(1),
        Phase::Switching(2),
        Phase::Promoting,
        Phase::Soaking,
        Phase::Quieting,
        Phase::Retired,
        Phase::Abandoning,
        Phase::Reverting,
        Phase::NeedsPerson,
    ];
    prop::collection::vec(prop::sample::select(phases.to_vec()), 0..40)
}

proptest! {
    #[test]
    fn whatever_is_tried_the_record_stays_possible_and_is_read_back(
        chain in prop::sample::select(vec![Chain::InPlace, Chain::Slots, Chain::Canary]),
        tried in any_phases(),
        verdict in prop::sample::select(vec![Verdict::Succeeded, Verdict::Abandoned, Verdict::RolledBack]),
    ) {
        let mut record = record(chain);
        for (second, to) in (1..).zip(tried) {
            if record.advance(step(to, second)).is_ok() && to == Phase::Applied {
                record.plan_mutation(1, planned(&json!(1), &json!(2)), at(second));
            }
            prop_assert_eq!(record.validate(), Ok(()));
        }
        let switched = record.may_have_moved_traffic();
        let result = DeploymentResult { verdict, cause: None, by: "test".to_owned() };
        let ended = record.finish(result, at(100));
        prop_assert_eq!(record.validate(), Ok(()));
        if ended.is_ok() {
            // After anything moved live traffic there is no `abandoned`, before it no other end.
            prop_assert_eq!(switched, verdict != Verdict::Abandoned);
        }
        let text = serde_json::to_string(&record).unwrap();
        prop_assert_eq!(serde_json::from_str::<DeploymentRecord>(&text).unwrap(), record);
    }
}

#[test]
fn only_a_canary_has_a_main_workload_to_promote() {
    for chain in [Chain::InPlace, Chain::Slots, Chain::Canary] {
        let mut record = record(chain);
        record.promotion = Some(Promotion::Begun);
        let is_canary = chain == Chain::Canary;
        assert_eq!(record.validate().is_ok(), is_canary, "{chain}");
    }
}

#[test]
fn a_main_workload_counts_as_updated_from_the_first_write_until_it_is_undone() {
    let mut canary = record(Chain::Canary);
    let seen = [
        None,
        Some(Promotion::Begun),
        Some(Promotion::Done),
        Some(Promotion::Undone),
    ]
    .map(|promotion| {
        canary.promotion = promotion;
        canary.has_promoted()
    });
    assert_eq!(seen, [false, true, true, false]);
}

#[test]
fn items_of_a_checklist_keep_the_time_at_which_they_came_to_stand_where_they_do() {
    let mut record = record(Chain::Slots);
    let entry = |item: &str, state: &str, at: &str| ChecklistEntry {
        item: item.to_owned(),
        state: state.to_owned(),
        at: at.parse().unwrap(),
    };
    let first = "2026-01-01T10:00:00Z";
    record.update_checklist(vec![
        entry("health", "open", first),
        entry("p95", "passed", first),
    ]);
    let second = "2026-01-01T10:05:00Z";
    record.update_checklist(vec![
        entry("health", "passed", second),
        entry("p95", "passed", second),
    ]);
    assert_eq!(
        record.checklist,
        [
            entry("health", "passed", second),
            entry("p95", "passed", first)
        ]
    );
    let many = (0..2 * MAX_CHECKLIST).map(|number| entry(&number.to_string(), "open", second));
    record.update_checklist(many.collect());
    assert_eq!(record.checklist.len(), MAX_CHECKLIST);
}
