//! Which part of a deployment a switch is, by what it asks for and where the record stands.
//! Pure: refuses to read anything but the record.

use switchyard_record::{Chain, DeploymentRecord, Phase, Promotion, Side};
use switchyard_runner::{Failure, Kind};
use switchyard_traffic::machine::{Course, StagePlan, stages_left};
use switchyard_traffic::provider::Capability;
use switchyard_traffic::roles::Target;
use switchyard_traffic::share::{Percent, Steps};

use crate::inputs::ToSide;
use crate::switch::stands_at;

/// What a switch has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Leg {
    /// This.
    Go(Course),
    /// Nothing: the deployment has gone through it before. With where it stands.
    Passed(String),
}

/// Finds out which part of a deployment a switch is.
///
/// # Errors
/// The deployment has no such side, or has not come so far that it may take traffic.
pub(crate) fn leg(
    to: ToSide,
    steps: &Steps,
    record: Option<&DeploymentRecord>,
) -> Result<Leg, Failure> {
    let asked = match to {
        ToSide::Auto => None,
        ToSide::Side(side) => Some(side),
    };
    let chain = record.map_or_else(|| chain_of(asked), |record| record.chain);
    match (chain, asked) {
        (Chain::Canary, None | Some(Side::Canary)) => Ok(stage(steps, record)),
        (Chain::Canary, Some(Side::Stable)) => promotion(steps, record),
        (Chain::Slots | Chain::InPlace, None | Some(Side::Slot(_) | Side::Unslotted)) => {
            Ok(Leg::Go(Course::Takeover))
        }
        (Chain::Canary, Some(side @ (Side::Slot(_) | Side::Unslotted)))
        | (Chain::Slots | Chain::InPlace, Some(side @ (Side::Stable | Side::Canary))) => {
            Err(Failure::message(
                Kind::Input,
                format!("input `to` is `{side}`, but this deployment ({chain}) has no such side"),
            )
            .hint("leave `to` out for the side that the record names, or start a new deployment"))
        }
    }
}

/// The chain of a deployment that begins with a switch to this side.
pub(crate) fn chain_of(asked: Option<Side>) -> Chain {
    match asked {
        Some(Side::Stable | Side::Canary) => Chain::Canary,
        Some(Side::Slot(_) | Side::Unslotted) | None => Chain::Slots,
    }
}

/// A share for the canary, unless the deployment has left it behind: a run that is run again goes
/// through its steps from the first.
fn stage(steps: &Steps, record: Option<&DeploymentRecord>) -> Leg {
    let Some(record) = record else {
        return Leg::Go(Course::Canary);
    };
    if record.phase.has_passed(Phase::Promoting) {
        return Leg::Passed(format!(
            "the canary has had its shares: the deployment stands in phase {}",
            record.phase
        ));
    }
    let stands_at = stands_at(record).map(|(stage, _)| stage);
    let is_behind = |share: Percent| {
        stands_at.is_some_and(|now| {
            let mut stages = record.stages.iter();
            share < now.share
                && stages
                    .any(|stage| stage.index < now.index && u32::from(stage.weight) == share.get())
        })
    };
    match stands_at {
        Some(now) if is_behind(steps.last()) => Leg::Passed(format!(
            "the canary has had {} before and has {} now (phase {})",
            steps.last(),
            now.share,
            record.phase
        )),
        Some(_) | None => Leg::Go(Course::Canary),
    }
}

/// The main workload takes over from its canary once it runs the new version.
fn promotion(steps: &Steps, record: Option<&DeploymentRecord>) -> Result<Leg, Failure> {
    if *steps != Steps::single(Percent::ALL) {
        return Err(Failure::message(
            Kind::Input,
            "the main workload takes all of the traffic from its canary at once",
        )
        .hint("leave out `weight` and `steps` with `to: stable`"));
    }
    let Some(record) = record else {
        return Err(Failure::message(
            Kind::Gate,
            "no canary deployment of this run is under way",
        )
        .hint("run `rollout canary` first; traffic goes back to a version before by `traffic-switch rollback`"));
    };
    if record.phase.has_passed(Phase::Soaking) {
        return Ok(Leg::Go(Course::Promotion));
    }
    let is_updated = record.promotion == Some(Promotion::Done);
    if record.phase == Phase::Promoting && is_updated {
        return Ok(Leg::Go(Course::Promotion));
    }
    let (problem, hint) = not_promoted(record);
    Err(Failure::message(
        Kind::Gate,
        format!(
            "the main workload may not take over from its canary yet: {problem} (phase {})",
            record.phase
        ),
    )
    .hint(hint))
}

/// What is missing before the main workload may take over, and what to do about it.
fn not_promoted(record: &DeploymentRecord) -> (&'static str, &'static str) {
    let back = "to go back to the version before, order `traffic-switch rollback`";
    let has_all = stands_at(record).is_some_and(|(stage, _)| stage.share == Percent::ALL);
    match record.promotion {
        Some(Promotion::Begun) => (
            "its update was begun and is not done",
            "run `rollout promote` to its end first",
        ),
        Some(Promotion::Done | Promotion::Undone) => ("its update was undone", back),
        None if has_all => (
            "it still runs the version before",
            "run `rollout promote` first; to go back to the version before, order `traffic-switch rollback`",
        ),
        None => (
            "it still runs the version before, and the canary does not have all of the traffic",
            "give the canary 100 % (`to: canary`), then run `rollout promote`; to go back to the version before, order `traffic-switch rollback`",
        ),
    }
}

/// What is left to be gone through.
pub(crate) fn stages_of(
    course: Course,
    steps: &Steps,
    record: Option<&DeploymentRecord>,
) -> Vec<StagePlan> {
    match course {
        Course::Takeover | Course::Canary | Course::Rollback => {
            stages_left(steps.as_slice(), record.and_then(stands_at))
        }
        Course::Promotion => {
            if record.is_some_and(|record| record.phase.has_passed(Phase::Soaking)) {
                return Vec::new();
            }
            let last = record.and_then(|record| record.stages.last());
            vec![StagePlan {
                index: last.map_or(1, |stage| stage.index),
                share: Percent::ALL,
            }]
        }
    }
}

/// A canary gets shares, and a front that knows all or nothing has none to give.
///
/// # Errors
/// One of the targets is such a front.
pub(crate) fn refuse_binary(course: Course, targets: &[Target]) -> Result<(), Failure> {
    match course {
        Course::Takeover | Course::Rollback => return Ok(()),
        Course::Canary | Course::Promotion => {}
    }
    let is_binary = |target: &&Target| match target.provider.provider().capability() {
        Capability::Binary => true,
        Capability::Weighted => false,
    };
    match targets.iter().find(is_binary) {
        None => Ok(()),
        Some(target) => Err(Failure::message(
            Kind::Input,
            format!("`{target}` selects pods by their labels and cannot divide traffic between a canary and its main workload"),
        )
        .hint("use a weighted target, such as traefik or gateway")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const CANARY: ToSide = ToSide::Side(Side::Canary);
    const STABLE: ToSide = ToSide::Side(Side::Stable);

    fn record(chain: &str, phase: &str, weights: &[u8]) -> DeploymentRecord {
        let id = switchyard_record::DeploymentId::new(switchyard_record::DeploymentIdParts {
            repository: "example/shop".to_owned(),
            run_id: "1".to_owned(),
            environment: "production".to_owned(),
            cluster: "main".to_owned(),
            namespace: "shop".to_owned(),
            application: "web".to_owned(),
        });
        let stages: Vec<_> = (1..)
            .zip(weights)
            .map(|(index, weight)| json!({"index": index, "weight": weight}))
            .collect();
        serde_json::from_value(json!({
            "schema": 1, "id": id.unwrap(), "kind": "deploy", "chain": chain,
            "run": {"repository": "example/shop", "run_id": "1", "attempts": []},
            "actor": "dana", "phase": phase, "phases": [], "stages": stages,
        }))
        .unwrap()
    }

    fn promoted(phase: &str, promotion: Option<Promotion>) -> DeploymentRecord {
        let mut record = record("canary", phase, &[10, 100]);
        record.promotion = promotion;
        record
    }

    fn steps(shares: &[u32]) -> Steps {
        let shares = shares.iter().map(|share| Percent::new(*share).unwrap());
        Steps::new(shares.collect()).unwrap()
    }

    fn refusal(to: ToSide, shares: &[u32], record: Option<&DeploymentRecord>) -> (Kind, String) {
        let failure = leg(to, &steps(shares), record).unwrap_err();
        let text = format!("{failure}; {}", failure.hints().join("; "));
        (failure.kind(), text)
    }

    #[test]
    fn the_record_says_what_auto_means() {
        let canary = record("canary", "tested", &[]);
        let slots = record("slots", "tested", &[]);
        for to in [ToSide::Auto, CANARY] {
            assert_eq!(
                leg(to, &steps(&[10]), Some(&canary)).unwrap(),
                Leg::Go(Course::Canary)
            );
        }
        assert_eq!(
            leg(ToSide::Auto, &steps(&[100]), Some(&slots)).unwrap(),
            Leg::Go(Course::Takeover)
        );
        assert_eq!(
            leg(CANARY, &steps(&[10]), None).unwrap(),
            Leg::Go(Course::Canary)
        );
    }

    #[test]
    fn a_side_of_another_kind_of_deployment_is_refused() {
        let canary = record("canary", "tested", &[]);
        let slots = record("slots", "tested", &[]);
        let green = ToSide::Side(Side::GREEN);
        for (to, record) in [(green, &canary), (CANARY, &slots), (STABLE, &slots)] {
            let (kind, text) = refusal(to, &[100], Some(record));
            assert_eq!(kind, Kind::Input, "{text}");
            assert!(text.contains("has no such side"), "{text}");
        }
    }

    #[test]
    fn the_main_workload_takes_over_only_when_its_update_is_done() {
        let done = promoted("promoting", Some(Promotion::Done));
        assert_eq!(
            leg(STABLE, &steps(&[100]), Some(&done)).unwrap(),
            Leg::Go(Course::Promotion)
        );
        let partly = record("canary", "holding(1)", &[10]);
        for (record, missing, step) in [
            (partly, "does not have all", "give the canary 100 %"),
            (
                promoted("holding(2)", None),
                "version before",
                "run `rollout promote` first",
            ),
            (
                promoted("promoting", None),
                "version before",
                "run `rollout promote` first",
            ),
            (
                promoted("promoting", Some(Promotion::Begun)),
                "is not done",
                "to its end first",
            ),
        ] {
            let (kind, text) = refusal(STABLE, &[100], Some(&record));
            assert_eq!(kind, Kind::Gate, "{text}");
            assert!(text.contains(missing) && text.contains(step), "{text}");
        }
        assert_eq!(refusal(STABLE, &[100], None).0, Kind::Gate);
        assert_eq!(refusal(STABLE, &[50], Some(&done)).0, Kind::Input);
    }

    #[test]
    fn shares_that_were_gone_through_are_not_gone_through_again() {
        let at_half = record("canary", "holding(2)", &[10, 50]);
        assert!(matches!(
            leg(CANARY, &steps(&[10]), Some(&at_half)).unwrap(),
            Leg::Passed(_)
        ));
        for shares in [&[50][..], &[100], &[10, 50]] {
            assert_eq!(
                leg(CANARY, &steps(shares), Some(&at_half)).unwrap(),
                Leg::Go(Course::Canary),
                "{shares:?}"
            );
        }
        // Nobody has gone through this one.
        assert_eq!(
            leg(CANARY, &steps(&[25]), Some(&at_half)).unwrap(),
            Leg::Go(Course::Canary)
        );
        for phase in ["promoting", "soaking", "retired"] {
            let later = promoted(phase, Some(Promotion::Done));
            assert!(
                matches!(
                    leg(CANARY, &steps(&[100]), Some(&later)).unwrap(),
                    Leg::Passed(_)
                ),
                "{phase}"
            );
        }
    }

    #[test]
    fn a_takeover_that_was_done_is_only_looked_at_again() {
        let all = steps(&[100]);
        let promoting = promoted("promoting", Some(Promotion::Done));
        assert_eq!(
            stages_of(Course::Promotion, &all, Some(&promoting)),
            [StagePlan {
                index: 2,
                share: Percent::ALL
            }]
        );
        let soaking = promoted("soaking", Some(Promotion::Done));
        assert_eq!(
            leg(STABLE, &all, Some(&soaking)).unwrap(),
            Leg::Go(Course::Promotion)
        );
        assert_eq!(stages_of(Course::Promotion, &all, Some(&soaking)), []);
    }

    #[test]
    fn the_stages_of_a_canary_go_on_over_its_steps_and_end_holding() {
        let held = record("canary", "holding(1)", &[10]);
        let half = stages_of(Course::Canary, &steps(&[50]), Some(&held));
        assert_eq!((half[0].index, half[0].share.get()), (2, 50));
        let all = record("canary", "holding(2)", &[10, 100]);
        assert_eq!(stages_of(Course::Canary, &steps(&[100]), Some(&all)), []);
    }

    #[test]
    fn a_front_that_selects_pods_serves_no_canary() {
        let targets = [
            "traefik/web".parse().unwrap(),
            "service/web".parse().unwrap(),
        ];
        for course in [Course::Canary, Course::Promotion] {
            let failure = refuse_binary(course, &targets).unwrap_err();
            assert_eq!(failure.kind(), Kind::Input);
            assert!(failure.to_string().contains("`service/web`"), "{failure}");
        }
        assert!(refuse_binary(Course::Takeover, &targets).is_ok());
    }
}
