use super::*;
use crate::testing::{at, entered, evidence as seen, record};
use crate::{
    Chain, DeploymentResult, MigrationEntry, PlannedMutation, Projection, Settlement, Verdict,
};

#[test]
fn budgets_are_read_from_lines_or_commas() {
    let budgets: Budgets = "deploy=12, switch=0.5\n\nsafety = 10".parse().unwrap();
    assert_eq!(
        budgets.of(BudgetStage::Switch),
        Some(SignedDuration::from_secs(30))
    );
    assert_eq!(budgets.of(BudgetStage::Cleanup), None);
}

#[test]
fn nonsense_in_budgets_is_named() {
    for (text, rule) in [
        ("deploy", "expected name=minutes"),
        (
            "soak=3",
            "the stages are validation, deploy, test, switch, monitor, safety, cleanup",
        ),
        ("deploy=-1", "expected minutes, from 0 to 100000"),
        ("deploy=NaN", "expected minutes, from 0 to 100000"),
        ("deploy=1,deploy=2", "this stage is there twice"),
    ] {
        assert_eq!(text.parse::<Budgets>().unwrap_err().rule, rule, "{text}");
    }
}

#[test]
fn every_stage_of_blue_green_has_a_default_budget() {
    let budgets = Budgets::blue_green();
    assert!(
        BudgetStage::ALL
            .into_iter()
            .all(|stage| budgets.of(stage).is_some())
    );
}

#[test]
fn stages_lie_between_the_phases() {
    let mut record = record(Chain::Slots);
    entered(&mut record, Phase::BackedUp, 10);
    entered(&mut record, Phase::Applied, 20);
    entered(&mut record, Phase::Ready, 70);
    entered(&mut record, Phase::Tested, 100);
    entered(&mut record, Phase::Switching(1), 130);
    entered(&mut record, Phase::Soaking, 135);
    record.add_evidence(seen("watch", 255));
    entered(&mut record, Phase::Quieting, 855);
    entered(&mut record, Phase::Retired, 860);
    entered(&mut record, Phase::Succeeded, 861);
    let times: Vec<_> = stage_times(&record, at(9999))
        .iter()
        .map(|time| {
            (
                time.stage.as_str(),
                time.duration().as_secs(),
                time.is_running,
            )
        })
        .collect();
    assert_eq!(
        times,
        [
            ("validation", 10, false),
            ("deploy", 60, false),
            ("test", 30, false),
            ("switch", 5, false),
            ("monitor", 120, false),
            ("safety", 600, false),
            ("cleanup", 6, false),
        ]
    );
}

#[test]
fn a_stage_ends_where_the_deployment_turns_back() {
    let mut record = record(Chain::Slots);
    entered(&mut record, Phase::Applied, 20);
    entered(&mut record, Phase::Abandoning, 50);
    let times = stage_times(&record, at(9999));
    let last = times[times.len() - 1];
    assert_eq!(
        (last.stage, last.duration().as_secs(), last.is_running),
        (BudgetStage::Deploy, 30, false)
    );
}

#[test]
fn the_summary_of_a_success() {
    let mut record = record(Chain::Slots);
    entered(&mut record, Phase::BackedUp, 10);
    entered(&mut record, Phase::Applied, 20);
    entered(&mut record, Phase::Ready, 70);
    entered(&mut record, Phase::Switching(1), 130);
    entered(&mut record, Phase::Soaking, 195);
    record.add_evidence(seen("watch", 315));
    entered(&mut record, Phase::Quieting, 915);
    entered(&mut record, Phase::Retired, 920);
    let result = DeploymentResult {
        verdict: Verdict::Succeeded,
        cause: None,
        by: "finish".to_owned(),
    };
    record.finish(result, at(921)).unwrap();
    insta::assert_snapshot!(summary(&record, &Budgets::blue_green(), at(9999)));
}

#[test]
fn the_summary_of_a_rollback_with_hostile_names() {
    let mut record = record(Chain::Slots);
    record.version = Some("1.1|<img src=x>\n```".to_owned());
    record.actor = "@everyone".to_owned();
    entered(&mut record, Phase::Switching(1), 10);
    let planned = PlannedMutation {
        operation: "switch".to_owned(),
        target: crate::ObjectRef::namespaced("v1", "Service", "shop", "web"),
        target_uid: None,
        precondition_resource_version: None,
        before: Projection::absent(),
        after: Projection::absent(),
    };
    let seq = record.plan_mutation(1, planned, at(11));
    record
        .settle(
            seq,
            Settlement::failed(Outcome::Unknown, &"no | answer"),
            at(12),
        )
        .unwrap();
    let step = crate::PhaseStep {
        to: Phase::Reverting,
        at: at(20),
        reason: Some("<b>5 of 9 probes failed".to_owned()),
    };
    record.advance(step).unwrap();
    insta::assert_snapshot!(summary(&record, &Budgets::blue_green(), at(80)));
}

#[test]
fn databases_are_told_with_what_became_of_them() {
    let mut record = record(Chain::Slots);
    let events = [
        MigrationEvent::Begun {
            digest: "d1".to_owned(),
            files: "f".to_owned(),
        },
        MigrationEvent::Verified {
            schema: "main".to_owned(),
        },
        MigrationEvent::Stopped {
            schema: "privacy".to_owned(),
            why: "a | b\nc".to_owned(),
        },
    ];
    for event in events {
        record.add_migration(MigrationEntry {
            at: at(0),
            database: "shop on db:5432".to_owned(),
            event,
        });
    }
    let text = summary(&record, &Budgets::none(), at(10));
    let line = text.lines().find(|line| line.contains("shop on db"));
    let line = line.expect("the database has a line");
    assert!(line.contains("<code>main</code> verified"), "{line}");
    assert!(line.contains("<code>d1</code>"), "{line}");
    assert!(line.contains("stopped"), "{line}");
    assert_eq!(
        line.matches(" | ").count(),
        2,
        "cells cannot be left: {line}"
    );
}
