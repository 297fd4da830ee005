use super::*;
use crate::testing::{at, claimed_by, entered, id, record, record_of};
use crate::{Chain, DeploymentResult, IndexEntry, LiveVersion, PhaseStep, Side};

fn deploy(hash: &str) -> ClaimRequest {
    ClaimRequest {
        intent: Intent::Deploy(Opening::new(Kind::Deploy, Chain::Slots)),
        attempt: 1,
        inputs: Some(StepInputs {
            step: "rollout apply".to_owned(),
            hash: hash.to_owned(),
        }),
        freshness: Freshness::OncePerRun,
    }
}

fn anew(request: ClaimRequest) -> ClaimRequest {
    ClaimRequest {
        freshness: Freshness::NewDeployment,
        ..request
    }
}

fn roll_back() -> ClaimRequest {
    ClaimRequest {
        intent: Intent::RollBack(Opening::new(Kind::Rollback, Chain::Slots)),
        inputs: None,
        ..deploy("aa")
    }
}

fn with(intent: Intent) -> ClaimRequest {
    ClaimRequest {
        intent,
        ..deploy("aa")
    }
}

fn claim(
    application: &ApplicationRecord,
    active: Option<&DeploymentRecord>,
    run: &str,
    request: &ClaimRequest,
) -> Claim {
    decide(
        Known {
            application,
            active,
        },
        &id(run),
        request,
    )
}

fn refused(claim: Claim) -> Refusal {
    let Claim::Refuse(refusal) = claim else {
        panic!("it was not refused: {claim:?}");
    };
    assert!(!refusal.hint().is_empty());
    refusal
}

/// An application on which run 1001 has ended a deployment with success.
fn after_success() -> ApplicationRecord {
    let mut done = record(Chain::Slots);
    let mut application = claimed_by(&done);
    entered(&mut done, Phase::Switching(1), 1);
    entered(&mut done, Phase::Soaking, 2);
    let result = DeploymentResult {
        verdict: Verdict::Succeeded,
        cause: None,
        by: "finish".to_owned(),
    };
    done.finish(result, at(3)).unwrap();
    assert!(application.follow(&done));
    application
}

/// The record of run 1001, stuck.
fn stuck() -> DeploymentRecord {
    let mut record = record(Chain::Slots);
    entered(&mut record, Phase::Switching(1), 1);
    let reason = Some("Service `shop/web` was changed".to_owned());
    record
        .advance(PhaseStep {
            to: Phase::NeedsPerson,
            at: at(2),
            reason,
        })
        .unwrap();
    record
}

#[test]
fn the_first_claim_of_a_run_begins_a_deployment() {
    let claim = claim(&ApplicationRecord::new("web"), None, "1001", &deploy("aa"));
    assert_eq!(
        claim,
        Claim::New {
            id: id("1001"),
            reverts: None
        }
    );
}

#[test]
fn a_re_run_goes_on_while_its_deployment_is_active() {
    let mut active = record(Chain::Slots);
    entered(&mut active, Phase::Applied, 1);
    let application = claimed_by(&active);
    let again = ClaimRequest {
        attempt: 2,
        ..deploy("aa")
    };
    assert_eq!(
        claim(&application, Some(&active), "1001", &again),
        Claim::Resume {
            id: id("1001"),
            phase: Phase::Applied
        }
    );
}

#[test]
fn a_re_run_with_other_inputs_is_refused() {
    let active = record(Chain::Slots);
    let refusal = refused(claim(
        &claimed_by(&active),
        Some(&active),
        "1001",
        &deploy("bb"),
    ));
    assert_eq!(
        refusal.to_string(),
        "the inputs of `rollout apply` are not those deployment \
         `acme/shop/1001/production/main/shop/web` was begun with (aa, now bb)"
    );
}

#[test]
fn a_step_that_claims_for_the_first_time_has_no_inputs_to_compare() {
    let active = record(Chain::Slots);
    let mut request = deploy("bb");
    request.inputs = Some(StepInputs {
        step: "traffic-switch".to_owned(),
        hash: "bb".to_owned(),
    });
    assert!(matches!(
        claim(&claimed_by(&active), Some(&active), "1001", &request),
        Claim::Resume { .. }
    ));
}

#[test]
fn the_re_run_of_an_ended_run_is_refused_unless_asked_anew() {
    let application = after_success();
    let again = ClaimRequest {
        attempt: 2,
        ..deploy("aa")
    };
    let refusal = refused(claim(&application, None, "1001", &again));
    assert_eq!(
        refusal.to_string(),
        "deployment `acme/shop/1001/production/main/shop/web` of this run has ended: succeeded"
    );
    assert_eq!(
        claim(&application, None, "1001", &anew(again)),
        Claim::New {
            id: id("1001").with_repeat(2),
            reverts: None
        }
    );
}

#[test]
fn deployments_by_hand_follow_each_other() {
    let hand = record_of(&id("local"), Chain::Slots);
    let mut application = claimed_by(&hand);
    application.active = None;
    application.index[0].verdict = Some(Verdict::Succeeded);
    assert_eq!(
        claim(&application, None, "local", &deploy("aa")),
        Claim::New {
            id: id("local").with_repeat(2),
            reverts: None
        }
    );
}

#[test]
fn another_run_is_refused_while_one_is_active_and_told_whose_it_is() {
    let active = record(Chain::Slots);
    let refusal = refused(claim(
        &claimed_by(&active),
        Some(&active),
        "1002",
        &deploy("aa"),
    ));
    assert_eq!(
        refusal.to_string(),
        "application `web` is claimed by deployment `acme/shop/1001/production/main/shop/web` of \
         ann (phase claimed): https://github.com/acme/shop/actions/runs/1001"
    );
    assert!(refusal.hint().contains("traffic-switch rollback"));
    assert!(refusal.hint().contains("traffic-switch rescue"));
    // Asking anew is no way around a deployment that is under way, however old it is.
    refused(claim(
        &claimed_by(&active),
        Some(&active),
        "1002",
        &anew(deploy("aa")),
    ));
}

#[test]
fn a_deployment_on_its_way_back_does_not_go_forward() {
    let mut active = record(Chain::Slots);
    entered(&mut active, Phase::Abandoning, 1);
    let refusal = refused(claim(
        &claimed_by(&active),
        Some(&active),
        "1001",
        &deploy("aa"),
    ));
    assert!(matches!(
        refusal,
        Refusal::GoingBack {
            phase: Phase::Abandoning,
            ..
        }
    ));
}

#[test]
fn an_order_to_stop_stops_every_step_but_the_way_back() {
    let active = record(Chain::Slots);
    let mut application = claimed_by(&active);
    application.preempt = Some(Preempt {
        by: "bob".to_owned(),
        run_url: None,
        reason: "errors".to_owned(),
        at: at(5),
    });
    for request in [deploy("aa"), with(Intent::Continue)] {
        let refusal = refused(claim(&application, Some(&active), "1001", &request));
        assert!(matches!(refusal, Refusal::Preempted { .. }));
    }
    for request in [roll_back(), with(Intent::Rescue)] {
        assert!(matches!(
            claim(&application, Some(&active), "1001", &request),
            Claim::Resume { .. }
        ));
    }
}

#[test]
fn a_stuck_deployment_is_superseded_only_when_asked() {
    let active = stuck();
    let application = claimed_by(&active);
    assert!(matches!(
        refused(claim(&application, Some(&active), "1002", &deploy("aa"))),
        Refusal::Active {
            phase: Phase::NeedsPerson,
            ..
        }
    ));
    let refusal = refused(claim(&application, Some(&active), "1001", &deploy("aa")));
    assert!(
        refusal
            .to_string()
            .ends_with("needs a person: Service `shop/web` was changed")
    );
    assert_eq!(
        claim(&application, Some(&active), "1002", &anew(deploy("aa"))),
        Claim::Supersede {
            stuck: id("1001"),
            id: id("1002"),
            reverts: None
        }
    );
    assert_eq!(
        claim(&application, Some(&active), "1001", &anew(deploy("aa"))),
        Claim::Supersede {
            stuck: id("1001"),
            id: id("1001").with_repeat(2),
            reverts: None
        }
    );
}

#[test]
fn a_deployment_that_does_not_come_back_is_superseded_when_asked() {
    let mut abandoning = record(Chain::Slots);
    entered(&mut abandoning, Phase::Abandoning, 1);
    let mut reverting = record(Chain::Slots);
    entered(&mut reverting, Phase::Switching(1), 1);
    entered(&mut reverting, Phase::Reverting, 2);
    for active in [abandoning, reverting] {
        let application = claimed_by(&active);
        assert!(matches!(
            refused(claim(&application, Some(&active), "1002", &deploy("aa"))),
            Refusal::Active { .. }
        ));
        assert_eq!(
            claim(&application, Some(&active), "1002", &anew(deploy("aa"))),
            Claim::Supersede {
                stuck: id("1001"),
                id: id("1002"),
                reverts: None
            }
        );
    }
}

#[test]
fn a_rollback_takes_the_active_deployment_over_whoever_s_it_is() {
    let mut active = record(Chain::Slots);
    entered(&mut active, Phase::Switching(1), 1);
    let application = claimed_by(&active);
    assert_eq!(
        claim(&application, Some(&active), "1002", &roll_back()),
        Claim::TakeOver {
            id: id("1001"),
            phase: Phase::Switching(1)
        }
    );
    assert_eq!(
        claim(&application, Some(&active), "1001", &roll_back()),
        Claim::Resume {
            id: id("1001"),
            phase: Phase::Switching(1)
        }
    );
}

#[test]
fn a_rollback_of_an_ended_deployment_is_one_of_its_own() {
    let application = after_success();
    assert_eq!(
        claim(&application, None, "1002", &roll_back()),
        Claim::New {
            id: id("1002"),
            reverts: Some(id("1001"))
        }
    );
    // In the run that deployed, too: undoing is not deploying again.
    assert_eq!(
        claim(&application, None, "1001", &roll_back()),
        Claim::New {
            id: id("1001").with_repeat(2),
            reverts: Some(id("1001"))
        }
    );
}

#[test]
fn the_re_run_of_an_ended_rollback_does_not_roll_back_once_more() {
    let mut application = after_success();
    application.index.push(IndexEntry {
        deployment: id("1002"),
        kind: Kind::Rollback,
        version: None,
        since: at(50),
        verdict: Some(Verdict::Succeeded),
        is_pruned: false,
    });
    let again = ClaimRequest {
        attempt: 2,
        ..roll_back()
    };
    assert!(matches!(
        refused(claim(&application, None, "1002", &again)),
        Refusal::EndedRun { .. }
    ));
}

#[test]
fn the_re_run_of_a_rollback_that_did_not_succeed_tries_again() {
    for verdict in [Verdict::RolledBack, Verdict::Abandoned, Verdict::Superseded] {
        let mut application = after_success();
        application.index.push(IndexEntry {
            deployment: id("1002"),
            kind: Kind::Rollback,
            version: None,
            since: at(50),
            verdict: Some(verdict),
            is_pruned: false,
        });
        let again = ClaimRequest {
            attempt: 2,
            ..roll_back()
        };
        assert_eq!(
            claim(&application, None, "1002", &again),
            Claim::New {
                id: id("1002").with_repeat(2),
                reverts: Some(id("1001"))
            },
            "{verdict}"
        );
    }
}

#[test]
fn there_is_nothing_to_roll_back_to_before_the_first_deployment() {
    let mut application = ApplicationRecord::new("web");
    assert!(matches!(
        refused(claim(&application, None, "1002", &roll_back())),
        Refusal::NothingToRollBack { .. }
    ));
    application.live = Some(LiveVersion {
        side: Side::Unslotted,
        version: None,
        digests: std::collections::BTreeMap::new(),
        deployment: None,
    });
    assert!(matches!(
        refused(claim(&application, None, "1002", &roll_back())),
        Refusal::NothingToRollBack { .. }
    ));
}

#[test]
fn a_later_step_needs_a_deployment_to_go_on_with() {
    let request = with(Intent::Continue);
    let active = record(Chain::Slots);
    assert!(matches!(
        claim(&claimed_by(&active), Some(&active), "1001", &request),
        Claim::Resume { .. }
    ));
    assert!(matches!(
        refused(claim(&claimed_by(&active), Some(&active), "1002", &request)),
        Refusal::NothingClaimed { .. }
    ));
    assert!(matches!(
        refused(claim(&after_success(), None, "1001", &request)),
        Refusal::EndedRun {
            verdict: Some(Verdict::Succeeded),
            ..
        }
    ));
}

#[test]
fn a_rescue_touches_its_own_run_only() {
    let request = with(Intent::Rescue);
    let active = record(Chain::Slots);
    let application = claimed_by(&active);
    assert!(matches!(
        claim(&application, Some(&active), "1001", &request),
        Claim::Resume { .. }
    ));
    assert_eq!(
        claim(&application, Some(&active), "1002", &request),
        Claim::NothingToDo { verdict: None }
    );
    assert_eq!(
        claim(&after_success(), None, "1001", &request),
        Claim::NothingToDo {
            verdict: Some(Verdict::Succeeded)
        }
    );
}

#[test]
fn a_run_that_names_its_cluster_otherwise_is_told_so_and_not_that_nothing_is_to_do() {
    let mut active = record(Chain::Slots);
    entered(&mut active, Phase::Switching(1), 1);
    let application = claimed_by(&active);
    let known = Known {
        application: &application,
        active: Some(&active),
    };
    let elsewhere: DeploymentId = "acme/shop/1001/production/in-cluster/shop/web"
        .parse()
        .unwrap();
    for intent in [Intent::Rescue, Intent::Continue] {
        let refusal = refused(decide(known, &elsewhere, &with(intent)));
        assert_eq!(
            refusal.to_string(),
            "deployment `acme/shop/1001/production/main/shop/web` of this run is under way under \
             another name than was asked for: cluster `main`, asked for `in-cluster`"
        );
        assert!(refusal.hint().contains("`cluster: main`"));
    }
    // The same run may have ended its own deployment there before: that one is meant.
    let mut application = application.clone();
    application.index.push(IndexEntry {
        deployment: elsewhere.clone(),
        kind: Kind::Deploy,
        version: None,
        since: at(50),
        verdict: Some(Verdict::Succeeded),
        is_pruned: false,
    });
    let known = Known {
        application: &application,
        active: Some(&active),
    };
    assert_eq!(
        decide(known, &elsewhere, &with(Intent::Rescue)),
        Claim::NothingToDo {
            verdict: Some(Verdict::Succeeded)
        }
    );
}

#[test]
fn a_full_id_means_exactly_that_deployment() {
    let second = record_of(&id("1001").with_repeat(2), Chain::Slots);
    let application = claimed_by(&second);
    let known = Known {
        application: &application,
        active: Some(&second),
    };
    assert!(matches!(
        decide(known, &id("1001"), &with(Intent::Continue)),
        Claim::Resume { .. }
    ));
    let third = id("1001").with_repeat(3);
    assert!(matches!(
        decide(known, &third, &with(Intent::Continue)),
        Claim::Refuse(_)
    ));
}

#[test]
fn the_re_run_of_a_run_that_the_index_has_forgotten_is_refused() {
    let mut application = ApplicationRecord::new("web");
    application.forgotten_up_to = Some(1001);
    let again = ClaimRequest {
        attempt: 2,
        ..deploy("aa")
    };
    assert!(matches!(
        refused(claim(&application, None, "1001", &again)),
        Refusal::EndedRun { verdict: None, .. }
    ));
    assert!(matches!(
        claim(&application, None, "1002", &again),
        Claim::New { .. }
    ));
    assert!(matches!(
        claim(&application, None, "1001", &deploy("aa")),
        Claim::New { .. }
    ));
    assert!(matches!(
        claim(&application, None, "1001", &anew(again)),
        Claim::New { .. }
    ));
}

#[test]
fn a_rollback_whose_process_died_is_finished_by_the_next_order() {
    let mut active = record(Chain::Slots);
    active.kind = Kind::Rollback;
    entered(&mut active, Phase::Switching(1), 1);
    let application = claimed_by(&active);
    assert_eq!(
        claim(&application, Some(&active), "1002", &roll_back()),
        Claim::TakeOver {
            id: id("1001"),
            phase: Phase::Switching(1)
        }
    );
    // Its own run goes on with it, but does not deploy under its name.
    assert!(matches!(
        claim(&application, Some(&active), "1001", &roll_back()),
        Claim::Resume { .. }
    ));
    assert!(matches!(
        refused(claim(&application, Some(&active), "1001", &deploy("aa"))),
        Refusal::OtherKind {
            kind: Kind::Rollback,
            wanted: Kind::Deploy,
            ..
        }
    ));
}

/// A rollback of run 1001 that stands in a phase.
fn rollback_in(phases: &[Phase]) -> DeploymentRecord {
    let mut record = record(Chain::Slots);
    record.kind = Kind::Rollback;
    record.reverts = Some(id("900"));
    for (seconds, phase) in (1..).zip(phases) {
        entered(&mut record, *phase, seconds);
    }
    record
}

#[test]
fn an_ordered_rollback_ends_one_that_has_turned_round_and_undoes_what_that_was_to_undo() {
    for phases in [
        &[Phase::Switching(1), Phase::Reverting][..],
        &[Phase::Switching(1), Phase::Soaking, Phase::Reverting],
        &[Phase::Switching(1), Phase::NeedsPerson],
        &[Phase::NeedsPerson],
        &[Phase::Abandoning],
    ] {
        let active = rollback_in(phases);
        let application = claimed_by(&active);
        for (run, new) in [("1002", id("1002")), ("1001", id("1001").with_repeat(2))] {
            assert_eq!(
                claim(&application, Some(&active), run, &roll_back()),
                Claim::Supersede {
                    stuck: id("1001"),
                    id: new,
                    reverts: Some(id("900"))
                },
                "{phases:?} by run {run}"
            );
        }
        // Its own rescue takes it back to where it came from, as ever.
        assert!(matches!(
            claim(&application, Some(&active), "1001", &with(Intent::Rescue)),
            Claim::Resume { .. }
        ));
    }
}

#[test]
fn an_ordered_rollback_finishes_one_that_still_goes_forward() {
    for phases in [
        &[][..],
        &[Phase::Switching(1)],
        &[Phase::Switching(1), Phase::Soaking],
        &[Phase::Switching(1), Phase::Soaking, Phase::Quieting],
    ] {
        let active = rollback_in(phases);
        assert_eq!(
            claim(&claimed_by(&active), Some(&active), "1002", &roll_back()),
            Claim::TakeOver {
                id: id("1001"),
                phase: active.phase
            },
            "{phases:?}"
        );
    }
}
