use super::*;
use crate::testing::{at, claimed_by, entered, id, record, record_of};
use crate::{Chain, DeploymentResult, SideState};

fn finish(record: &mut DeploymentRecord, verdict: Verdict, seconds: i64) {
    let result = DeploymentResult {
        verdict,
        cause: None,
        by: "test".to_owned(),
    };
    record.finish(result, at(seconds)).unwrap();
}

/// Deploys run after run with success.
fn deployed(runs: std::ops::Range<u32>) -> ApplicationRecord {
    let mut application = ApplicationRecord::new("web");
    for run in runs {
        let mut record = record_of(&id(&run.to_string()), Chain::Slots);
        record.previous.clone_from(&application.live);
        application.claim(&record, at(0));
        entered(&mut record, Phase::Switching(1), 1);
        entered(&mut record, Phase::Soaking, 2);
        finish(&mut record, Verdict::Succeeded, 3);
        application.follow(&record);
        application.validate().unwrap();
    }
    application
}

#[test]
fn what_is_live_follows_the_traffic_and_what_is_good_follows_success() {
    let mut deployment = record(Chain::Slots);
    let mut application = claimed_by(&deployment);
    entered(&mut deployment, Phase::Switching(1), 1);
    assert!(!application.follow(&deployment));
    entered(&mut deployment, Phase::Soaking, 2);
    assert!(application.follow(&deployment));
    assert_eq!(application.live.as_ref().unwrap().side, Side::GREEN);
    assert_eq!(application.last_good, None);
    finish(&mut deployment, Verdict::Succeeded, 3);
    assert!(application.follow(&deployment));
    assert_eq!(application.last_good, application.live);
    assert_eq!(application.active, None);
    assert_eq!(application.index[0].verdict, Some(Verdict::Succeeded));
    application.validate().unwrap();
}

#[test]
fn a_canary_hands_its_traffic_back_to_the_main_workload_which_is_what_is_live() {
    let mut deployment = record(Chain::Canary);
    let side = |side| Some(SideState::new(side));
    deployment.sides.from = side(Side::Stable);
    deployment.sides.to = side(Side::Canary);
    let mut application = claimed_by(&deployment);
    for (phase, second) in [(Phase::Switching(1), 1), (Phase::Promoting, 2)] {
        entered(&mut deployment, phase, second);
        assert!(!application.follow(&deployment));
    }
    entered(&mut deployment, Phase::Soaking, 3);
    assert!(application.follow(&deployment));
    assert_eq!(application.live.as_ref().unwrap().side, Side::Stable);
}

#[test]
fn a_rollback_makes_the_version_before_live_again() {
    let mut application = deployed(1..2);
    let first = application.live.clone();
    let mut second = record_of(&id("2"), Chain::Slots);
    second.previous.clone_from(&first);
    application.claim(&second, at(10));
    entered(&mut second, Phase::Switching(1), 11);
    entered(&mut second, Phase::Soaking, 12);
    application.follow(&second);
    assert_ne!(application.live, first);
    entered(&mut second, Phase::Reverting, 13);
    finish(&mut second, Verdict::RolledBack, 14);
    application.follow(&second);
    assert_eq!(application.live, first);
    assert_eq!(application.last_good, first);
}

#[test]
fn following_twice_is_following_once() {
    let mut deployment = record(Chain::Slots);
    let mut application = claimed_by(&deployment);
    entered(&mut deployment, Phase::Switching(1), 1);
    entered(&mut deployment, Phase::Soaking, 2);
    assert!(application.follow(&deployment));
    assert!(!application.follow(&deployment));
}

#[test]
fn the_deployment_of_somebody_else_changes_nothing() {
    let mut application = claimed_by(&record(Chain::Slots));
    let mut other = record_of(&id("2002"), Chain::Slots);
    entered(&mut other, Phase::Abandoning, 1);
    finish(&mut other, Verdict::Abandoned, 2);
    assert!(!application.follow(&other));
    assert!(application.active.is_some());
}

#[test]
fn a_claim_clears_an_order_that_was_for_the_one_before() {
    let mut application = deployed(1..2);
    application.preempt = Some(Preempt {
        by: "bob".to_owned(),
        run_url: None,
        reason: "x".to_owned(),
        at: at(0),
    });
    application.claim(&record(Chain::Slots), at(5));
    assert_eq!(application.preempt, None);
}

#[test]
fn old_records_go_but_never_what_is_active_live_or_good() {
    let mut application = deployed(1..41);
    let live = application.live.clone().unwrap().deployment.unwrap();
    // Old, but still the last good one.
    application.last_good.as_mut().unwrap().deployment = Some(id("1"));
    application.claim(&record(Chain::Slots), at(5));
    let deleted = application.prune();
    assert_eq!(deleted.len(), 41 - MAX_RECORDS);
    for kept in [live, id("1"), id("1001")] {
        assert!(!deleted.contains(&kept.record_name()), "{kept}");
    }
    application.validate().unwrap();
    assert!(application.prune().is_empty());
}

#[test]
fn the_index_forgets_the_oldest_and_remembers_how_old_they_were() {
    let mut application = deployed(1..(u32::try_from(MAX_INDEX).unwrap() + 6));
    application.prune();
    assert_eq!(application.index.len(), MAX_INDEX);
    assert_eq!(application.forgotten_up_to, Some(5));
    assert!(application.latest_of_run(&id("5")).is_none());
    application.validate().unwrap();
}

#[test]
fn an_impossible_record_is_named() {
    let deployment = record(Chain::Slots);
    let sound = claimed_by(&deployment);
    let broken = [
        ApplicationRecord {
            schema: 2,
            ..sound.clone()
        },
        ApplicationRecord {
            active: None,
            ..sound.clone()
        },
        ApplicationRecord {
            index: Vec::new(),
            ..sound.clone()
        },
        ApplicationRecord {
            index: vec![sound.index[0].clone(), sound.index[0].clone()],
            ..sound.clone()
        },
        ApplicationRecord {
            app: "api".to_owned(),
            ..sound.clone()
        },
    ];
    sound.validate().unwrap();
    let fields: Vec<_> = broken
        .iter()
        .map(|record| record.validate().unwrap_err().field)
        .collect();
    assert_eq!(fields, ["schema", "active", "active", "index", "index"]);
}
