use std::collections::HashSet;

use proptest::prelude::*;

use super::*;

const CHAINS: [Chain; 3] = [Chain::InPlace, Chain::Slots, Chain::Canary];

fn every_phase() -> Vec<Phase> {
    let mut phases = Phase::UNSTAGED.to_vec();
    for stage in 1..=4 {
        phases.push(Phase::Switching(stage));
        phases.push(Phase::Holding(stage));
    }
    phases
}

fn next_phases(chain: Chain, current: Phase) -> Vec<Phase> {
    every_phase()
        .into_iter()
        .filter(|to| matches!(advance(chain, current, *to), Ok(Advance::Enter(_))))
        .collect()
}

fn any_phase() -> impl Strategy<Value = Phase> {
    prop::sample::select(every_phase())
}

fn any_chain() -> impl Strategy<Value = Chain> {
    prop::sample::select(CHAINS.to_vec())
}

/// Goes from `claimed` along the edges that the choices pick. A person is asked once only:
/// orders can bounce between `needs_person` and `reverting` for ever.
fn walk(chain: Chain, choices: &[prop::sample::Index]) -> Vec<Phase> {
    let mut path = vec![Phase::Claimed];
    for choice in choices {
        let current = path[path.len() - 1];
        let mut next = next_phases(chain, current);
        next.retain(|phase| *phase != Phase::NeedsPerson || !path.contains(phase));
        if next.is_empty() {
            break;
        }
        path.push(next[choice.index(next.len())]);
    }
    path
}

#[test]
fn every_phase_is_read_back_from_its_word() {
    for phase in every_phase() {
        assert_eq!(phase.to_string().parse(), Ok(phase));
    }
    for nonsense in [
        "",
        "done",
        "switching",
        "switching(0)",
        "switching(01)",
        "holding(x)",
    ] {
        assert!(nonsense.parse::<Phase>().is_err(), "{nonsense}");
    }
}

#[test]
fn blue_green_goes_through_in_the_stated_order() {
    let order = [
        Phase::BackedUp,
        Phase::Migrated,
        Phase::Applied,
        Phase::Ready,
        Phase::Tested,
        Phase::Switching(1),
        Phase::Holding(1),
        Phase::Switching(2),
        Phase::Soaking,
        Phase::Quieting,
        Phase::Retired,
        Phase::Succeeded,
    ];
    let mut current = Phase::Claimed;
    for to in order {
        assert_eq!(advance(Chain::Slots, current, to), Ok(Advance::Enter(to)));
        current = to;
    }
}

#[test]
fn in_place_has_no_route_to_switch() {
    let order = [
        Phase::BackedUp,
        Phase::Applied,
        Phase::Ready,
        Phase::Tested,
        Phase::Soaking,
        Phase::Succeeded,
    ];
    let mut current = Phase::Claimed;
    for to in order {
        assert_eq!(advance(Chain::InPlace, current, to), Ok(Advance::Enter(to)));
        current = to;
    }
    assert!(advance(Chain::InPlace, Phase::Tested, Phase::Switching(1)).is_err());
    assert!(advance(Chain::InPlace, Phase::Applied, Phase::Abandoning).is_err());
    assert!(advance(Chain::InPlace, Phase::BackedUp, Phase::Soaking).is_err());
}

#[test]
fn a_completed_phase_is_a_no_op() {
    assert_eq!(
        advance(Chain::Slots, Phase::Soaking, Phase::BackedUp),
        Ok(Advance::AlreadyThere)
    );
    assert_eq!(
        advance(Chain::Slots, Phase::Holding(2), Phase::Switching(1)),
        Ok(Advance::AlreadyThere)
    );
    assert!(advance(Chain::Slots, Phase::Reverting, Phase::Applied).is_err());
}

#[test]
fn traffic_moves_one_stage_at_a_time() {
    assert!(advance(Chain::Slots, Phase::Tested, Phase::Switching(2)).is_err());
    assert!(advance(Chain::Slots, Phase::Holding(1), Phase::Switching(3)).is_err());
    assert!(advance(Chain::Slots, Phase::Switching(1), Phase::Holding(2)).is_err());
}

#[test]
fn from_every_reachable_phase_an_end_can_be_reached() {
    for chain in CHAINS {
        let mut reachable = HashSet::from([Phase::Claimed]);
        let mut open = vec![Phase::Claimed];
        while let Some(phase) = open.pop() {
            for next in next_phases(chain, phase) {
                if reachable.insert(next) {
                    open.push(next);
                }
            }
        }
        for phase in reachable {
            let mut seen = HashSet::from([phase]);
            let mut open = vec![phase];
            let mut ends = false;
            while let Some(phase) = open.pop() {
                ends |= phase.is_terminal();
                open.extend(
                    next_phases(chain, phase)
                        .into_iter()
                        .filter(|next| seen.insert(*next)),
                );
            }
            assert!(ends, "{chain}: nothing ends from {phase}");
        }
    }
}

proptest! {
    #[test]
    fn nothing_leaves_a_terminal_phase(chain in any_chain(), from in any_phase(), to in any_phase()) {
        if from.is_terminal() && from != to {
            prop_assert!(advance(chain, from, to).is_err());
        }
    }

    #[test]
    fn every_path_from_claimed_is_finite_and_ends(
        chain in any_chain(),
        choices in prop::collection::vec(any::<prop::sample::Index>(), 60),
    ) {
        // Four stages are in the pool of phases, so sixty steps are more than any path has.
        let path = walk(chain, &choices);
        prop_assert!(path[path.len() - 1].is_terminal(), "{path:?}");
    }

    #[test]
    fn after_the_first_switch_nothing_is_abandoned(
        chain in any_chain(),
        choices in prop::collection::vec(any::<prop::sample::Index>(), 60),
    ) {
        let path = walk(chain, &choices);
        let switched = path.iter().position(|phase| {
            phase.rank().is_some() && !phase.is_before_switch(chain)
        });
        if let Some(switched) = switched {
            // `needs_person` forgets where it came from; the record remembers.
            let later = path[switched..].iter().take_while(|phase| **phase != Phase::NeedsPerson);
            prop_assert!(!later.clone().any(|phase| *phase == Phase::Abandoned), "{path:?}");
        }
    }

    #[test]
    fn a_step_that_was_refused_changes_nothing(chain in any_chain(), from in any_phase(), to in any_phase()) {
        if let Err(refused) = advance(chain, from, to) {
            prop_assert_eq!(refused.current, from);
            prop_assert!(!refused.hint().is_empty());
        }
    }
}
