//! `switch`: from the inputs to a claimed deployment, a state machine and its run.

use std::collections::BTreeSet;
use std::time::Instant;

use switchyard_cluster::Deadline;
use switchyard_deployment::{
    Connection, cluster_failure, connect, deployment_id, open_session, record_failure,
};
use switchyard_record::{
    ClaimRequest, DeploymentRecord, Freshness, Intent, Kind as DeploymentKind, Opening, Phase,
    Session, Side, Stage,
};
use switchyard_runner::{Context, Failure, Kind};
use switchyard_traffic::engine::{Foreign, Front, FrontError, load_fronts, priors, take_up};
use switchyard_traffic::machine::{Course, Ending, Itinerary, Machine, StagePlan};
use switchyard_traffic::provider::Capability;
use switchyard_traffic::roles::Target;
use switchyard_traffic::share::{Percent, Steps};

use crate::access::{self, Writing};
use crate::inputs::{SwitchInputs, ToSide};
use crate::leg::{Leg, chain_of, leg, refuse_binary, stages_of};
use crate::outcome::{Told, UNDO_FIRST, failure, tell};
use crate::plan;
use crate::run::{Preparation, drive, prober, settings, versions};
use crate::sides::{self, READ_LIMIT, Sides};
use crate::take_back::nothing_to_do;
use crate::tracked;

pub(crate) async fn run(inputs: SwitchInputs, context: &mut Context) -> Result<(), Failure> {
    let started = Instant::now();
    let steps = steps_of(&inputs)?;
    check_targets(&inputs.targets, &steps)?;
    let connection = connect(&inputs.deployment, &context.environment).await?;
    let id = deployment_id(&inputs.deployment, &context.environment, &connection)?;
    connection
        .cluster
        .require_namespace(Deadline::after(READ_LIMIT))
        .await
        .map_err(cluster_failure)?;
    access::require(
        &connection.cluster,
        &access::Plan {
            namespace: connection.cluster.namespace(),
            application: id.application(),
            targets: &inputs.targets,
            proxies: inputs
                .proof
                .traefik_api
                .iter()
                .chain(inputs.proof.traefik_metrics.iter())
                .chain(inputs.proof.envoy_admin.iter())
                .chain(inputs.proof.nginx_status.iter())
                .collect(),
            writing: if inputs.plan {
                Writing::No
            } else {
                Writing::Yes
            },
        },
    )
    .await?;
    if inputs.plan {
        return plan::show(&inputs, &steps, &connection, &id, context).await;
    }
    let mut session = open_session(context, &connection, id).await?;
    let result = go(&inputs, &steps, &connection, &mut session, context, started).await;
    session.close().await;
    result
}

/// The steps that the inputs ask for.
fn steps_of(inputs: &SwitchInputs) -> Result<Steps, Failure> {
    let bad = |text: String| {
        Failure::message(Kind::Input, text).hint("give `weight: 25`, or `steps: 10,50,100`")
    };
    let shares = match (inputs.weight, inputs.steps.to_vec()) {
        (Some(_), steps) if !steps.is_empty() => {
            return Err(bad(
                "inputs `weight` and `steps` exclude each other".to_owned()
            ));
        }
        (Some(weight), _) => vec![weight],
        (None, steps) if steps.is_empty() => vec![Percent::ALL],
        (None, steps) => steps,
    };
    Steps::new(shares).map_err(|error| {
        bad(format!(
            "input `{}`: {error}",
            if inputs.weight.is_some() {
                "weight"
            } else {
                "steps"
            }
        ))
    })
}

/// Each target once, and none asked for what it cannot do.
pub(crate) fn check_targets(targets: &[Target], steps: &Steps) -> Result<(), Failure> {
    let bad = |text: String| Failure::message(Kind::Input, text);
    if targets.is_empty() {
        return Err(bad("input `targets` is empty".to_owned()).hint(
            "give one or more of service/NAME, traefik/NAME, gateway/NAME, istio/NAME, nginx/NAME",
        ));
    }
    let mut seen = BTreeSet::new();
    for target in targets {
        if !seen.insert((target.provider, &target.name)) {
            return Err(bad(format!("input `targets` names `{target}` twice"))
                .hint("name each front object once"));
        }
        let partial = steps
            .as_slice()
            .iter()
            .find(|share| **share != Percent::ALL);
        match (target.provider.provider().capability(), partial) {
            (Capability::Binary, Some(share)) => {
                return Err(bad(format!(
                    "`{target}` can only get all of the traffic or none, not {share}"
                ))
                .hint(
                    "leave out `weight` and `steps`, or use a weighted target (traefik, gateway, istio, nginx)",
                ));
            }
            (Capability::Binary, None) | (Capability::Weighted, _) => {}
        }
    }
    Ok(())
}

async fn go(
    inputs: &SwitchInputs,
    steps: &Steps,
    connection: &Connection,
    session: &mut Session,
    context: &Context,
    started: Instant,
) -> Result<(), Failure> {
    let fail = |error| record_failure(error, context.cancel.requested());
    session
        .claim(claim_of(inputs, context))
        .await
        .map_err(fail)?;
    let record = session.record().map_err(fail)?.clone();
    refuse_going_back(&record)?;
    let course = match leg(inputs.to, steps, Some(&record))? {
        Leg::Go(course) => course,
        Leg::Passed(why) => return nothing_to_do(context, &record.id, started, &why),
    };
    refuse_binary(course, &inputs.targets)?;
    let parts = Sides {
        to: inputs.to,
        course,
        record: Some(&record),
    };
    let (taking, giving) = parts.find(&connection.cluster, &inputs.targets).await?;
    let pair = sides::pair(taking, giving);
    refuse_other_targets(&record, &inputs.targets)?;
    let stages = stages_of(course, steps, Some(&record));
    if stages.is_empty() {
        refuse_other_end(&record, &inputs.targets, steps.last())?;
    }
    let known = priors(&record.targets);
    let loaded = load_fronts(
        &connection.cluster,
        &inputs.targets,
        &pair,
        &known,
        Deadline::after(READ_LIMIT),
    )
    .await;
    let mut fronts = loaded.map_err(front_failure)?;
    tracked::refuse(&fronts)?;
    sides::refuse_open_selectors(&fronts, &record)?;
    sides::refuse_busy_canary(&fronts, &record)?;
    let foreign = take_up(session, &mut fronts)
        .await
        .map_err(|trouble| failure(&trouble, "nothing was switched"))?;
    if stages.is_empty() && foreign.is_empty() {
        refuse_unreached(&fronts, steps.last())?;
    }
    if course != Course::Promotion {
        let standing = sides::Standing {
            taking,
            giving,
            has_moved: record.may_have_moved_traffic(),
        };
        sides::keep(context, &connection.cluster, session, &fronts, &standing).await?;
        keep_stages(session, &stages).await.map_err(fail)?;
    }
    let record = session.record().map_err(fail)?.clone();
    session
        .reserve(fronts.len() * (3 * stages.len() + 3) + 10)
        .map_err(fail)?;

    let itinerary = Itinerary {
        targets: fronts.len(),
        reached: Some(steps.last()),
        has_old_side: giving.is_some(),
        has_moved: record.may_have_moved_traffic(),
        course,
        stages,
    };
    let mut machine = machine(&itinerary, foreign)?;
    let prober = prober(context, &inputs.proof)?;
    let versions = versions(&record, course, inputs.proof.expect_version.as_ref());
    let mut settings = settings(context, &inputs.proof, versions, "switch");
    settings.min_ready = inputs.min_ready;
    settings.hold = inputs.hold;
    // The canary carries everything again should the main workload fail to take over.
    settings.retires_new_side = inputs.after.scale_new_down && course != Course::Promotion;
    let preparation = Preparation {
        cluster: &connection.cluster,
        sides: pair,
        fronts,
        proof: &inputs.proof,
        prober: prober.as_ref(),
        settings,
        overall: None,
    };
    let (report, fronts) = drive(context, session, preparation, &mut machine).await?;
    let is_done = matches!(report.ending, Ending::Done);
    let told = Told {
        heading: heading(&fronts, steps, is_done),
        deployment: session.id().to_string(),
        fronts: &fronts,
        report: &report,
        result: if steps.last() == Percent::ALL {
            "switched"
        } else {
            "holding"
        },
        started,
    };
    tell(context, &told)
}

fn heading(fronts: &[Front], steps: &Steps, is_done: bool) -> String {
    let side = fronts
        .first()
        .map(|front| front.roles.taking.side.to_string())
        .unwrap_or_default();
    if is_done {
        format!("Traffic: {} to {side}", steps.last())
    } else {
        format!("Traffic stays or is back on {side}")
    }
}

fn claim_of(inputs: &SwitchInputs, context: &Context) -> ClaimRequest {
    let intent = match inputs.to {
        // The main workload takes over at the end of what has begun before.
        ToSide::Auto | ToSide::Side(Side::Stable) => Intent::Continue,
        ToSide::Side(side @ (Side::Slot(_) | Side::Canary | Side::Unslotted)) => {
            let mut opening = Opening::new(DeploymentKind::Deploy, chain_of(Some(side)));
            opening.version = inputs.proof.expect_version.clone();
            Intent::Deploy(opening)
        }
    };
    ClaimRequest {
        intent,
        attempt: context.environment.workflow_run().attempt,
        // The same run may switch in several steps with other inputs each: the sides and the
        // stages in the record say whether they agree.
        inputs: None,
        freshness: if inputs.deployment.new_deployment {
            Freshness::NewDeployment
        } else {
            Freshness::OncePerRun
        },
    }
}

fn refuse_going_back(record: &DeploymentRecord) -> Result<(), Failure> {
    if !record.phase.is_backward() {
        return Ok(());
    }
    Err(Failure::message(
        Kind::Gate,
        format!(
            "deployment `{}` is on its way back (phase {})",
            record.id, record.phase
        ),
    )
    .hint(if record.has_promoted() {
        UNDO_FIRST
    } else {
        "let `traffic-switch rescue` finish that, then start a new run"
    }))
}

/// A target that was switched before and is left out now would stay where it is, while the record
/// says that all have gone on.
fn refuse_other_targets(record: &DeploymentRecord, given: &[Target]) -> Result<(), Failure> {
    if !record.may_have_moved_traffic() {
        return Ok(());
    }
    let written = record.targets.iter().filter(|target| {
        let mut journal = record.journal.iter();
        journal.any(|entry| entry.target == target.object)
    });
    let mut left_out = written.filter(|target| !given.iter().any(|given| is_of(given, target)));
    let Some(target) = left_out.next() else {
        return Ok(());
    };
    Err(Failure::message(
        Kind::Input,
        format!(
            "input `targets` leaves out {}, which this deployment has begun to switch",
            target.object
        ),
    )
    .hint("name the same targets in every step of a deployment"))
}

/// No stage is left: only what has been done can be asked for again.
fn refuse_other_end(
    record: &DeploymentRecord,
    given: &[Target],
    asked: Percent,
) -> Result<(), Failure> {
    let bad = |text: String, hint: &str| Err(Failure::message(Kind::Gate, text).hint(hint));
    let stands_at = stands_at(record).map_or(Percent::ALL, |(stage, _)| stage.share);
    if asked != stands_at {
        return bad(
            format!("{asked} was asked for, and this deployment has reached {stands_at} already"),
            "traffic goes forward in steps; `traffic-switch rollback` takes it back",
        );
    }
    let is_known = |given: &&Target| record.targets.iter().any(|target| is_of(given, target));
    match given.iter().find(|target| !is_known(target)) {
        None => Ok(()),
        Some(target) => bad(
            format!(
                "`{target}` was not switched: this deployment has reached {stands_at} (phase {}) without it",
                record.phase
            ),
            "name all targets of a deployment in one step; for this one start a new deployment",
        ),
    }
}

fn is_of(given: &Target, recorded: &switchyard_record::Target) -> bool {
    given.provider.provider().resource().kind == recorded.object.kind
        && given.name == recorded.object.name
}

/// What the record says is done has to be so.
fn refuse_unreached(fronts: &[Front], asked: Percent) -> Result<(), Failure> {
    for front in fronts {
        let side = front.roles.taking.side;
        let live = crate::outcome::shares(front).get(&side).copied();
        let live = u32::from(live.unwrap_or(0));
        if live != asked.get() {
            return Err(Failure::message(
                Kind::Gate,
                format!(
                    "{} sends {live} % to side `{side}`, not {asked}, and this deployment has no step left",
                    front.target
                ),
            )
            .hint("order `traffic-switch rollback`, or start a new deployment"));
        }
    }
    Ok(())
}

/// The stage that the record stands at, once it has begun to switch.
pub(crate) fn stands_at(record: &DeploymentRecord) -> Option<(StagePlan, Phase)> {
    let index = if let Phase::Switching(index) | Phase::Holding(index) = record.phase {
        index
    } else if record.phase.is_before_switch(record.chain) {
        return None;
    } else {
        record.stages.last().map_or(1, |stage| stage.index)
    };
    let stage = record.stages.iter().find(|stage| stage.index == index);
    let weight = stage.map_or(100, |stage| u32::from(stage.weight));
    let share = Percent::new(weight).unwrap_or(Percent::ALL);
    Some((StagePlan { index, share }, record.phase))
}

/// Writes the stages that are ahead into the record.
pub(crate) async fn keep_stages(
    session: &mut Session,
    stages: &[StagePlan],
) -> Result<(), switchyard_record::RecordError> {
    let amended = session.amend(|record| {
        for stage in stages {
            let weight = u8::try_from(stage.share.get()).unwrap_or(100);
            match record
                .stages
                .iter_mut()
                .find(|known| known.index == stage.index)
            {
                Some(known) => known.weight = weight,
                None => record.stages.push(Stage {
                    index: stage.index,
                    weight,
                    hold_until: None,
                }),
            }
        }
        let last = stages.last().map(|stage| stage.index);
        record
            .stages
            .retain(|stage| last.is_none_or(|last| stage.index <= last));
    });
    amended.await
}

/// The way forward, or, when somebody else has written a target, the way back of the others.
pub(crate) fn machine(itinerary: &Itinerary, foreign: Vec<Foreign>) -> Result<Machine, Failure> {
    let Some(first) = foreign.first().cloned() else {
        return Ok(Machine::forward(itinerary));
    };
    if !itinerary.has_moved {
        return Err(failure(&first.trouble, "nothing was switched"));
    }
    let targets = foreign.iter().map(|one| one.target).collect();
    if !itinerary.has_old_side {
        return Ok(Machine::stranded(itinerary.targets, targets, first.trouble));
    }
    Ok(Machine::back_except(
        itinerary.targets,
        itinerary.course.refuge(),
        targets,
        first.trouble,
    ))
}

pub(crate) fn front_failure(error: FrontError) -> Failure {
    let hint = error.hint();
    match error {
        FrontError::Cluster(error) => cluster_failure(error),
        FrontError::Refused(refusal) => Failure::gate(refusal).maybe_hint(hint),
    }
}

#[cfg(test)]
mod tests {
    use switchyard_traffic::machine::stages_left;

    use super::*;

    fn targets(list: &[&str]) -> Vec<Target> {
        list.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn steps(shares: &[u32]) -> Steps {
        Steps::new(
            shares
                .iter()
                .map(|share| Percent::new(*share).unwrap())
                .collect(),
        )
        .unwrap()
    }

    #[test]
    fn a_binary_target_is_refused_a_tenth_before_anything_is_touched() {
        let failure = check_targets(
            &targets(&["traefik/web", "service/api"]),
            &steps(&[10, 100]),
        )
        .unwrap_err();
        assert_eq!(failure.kind(), Kind::Input);
        assert_eq!(
            failure.to_string(),
            "`service/api` can only get all of the traffic or none, not 10 %"
        );
        assert!(
            check_targets(
                &targets(&["traefik/web", "gateway/api"]),
                &steps(&[10, 100])
            )
            .is_ok()
        );
    }

    fn record(phases: &[&str], weight: u8) -> DeploymentRecord {
        use serde_json::json;
        let phases: Vec<_> = phases
            .iter()
            .map(|name| json!({"name": name, "at": "2026-01-01T00:00:00Z", "attempt": 1}))
            .collect();
        let service =
            json!({"api_version": "v1", "kind": "Service", "namespace": "shop", "name": "web"});
        let id = switchyard_record::DeploymentId::new(switchyard_record::DeploymentIdParts {
            repository: "example/shop".to_owned(),
            run_id: "1".to_owned(),
            environment: "production".to_owned(),
            cluster: "main".to_owned(),
            namespace: "shop".to_owned(),
            application: "web".to_owned(),
        });
        let mut record: DeploymentRecord = serde_json::from_value(json!({
            "schema": 1, "id": id.unwrap(), "kind": "deploy", "chain": "slots",
            "run": {"repository": "example/shop", "run_id": "1", "attempts": []},
            "actor": "dana", "phase": phases.last().unwrap()["name"].clone(), "phases": phases,
            "targets": [{"ref": service, "uid": "u", "owned_paths": [], "prior": {}}],
            "stages": [{"index": 1, "weight": weight}],
        }))
        .unwrap();
        let object = record.targets[0].object.clone();
        let nothing = switchyard_record::Projection::shown(&json!({}));
        let planned = switchyard_record::PlannedMutation {
            operation: "route switch".to_owned(),
            target: object,
            target_uid: None,
            precondition_resource_version: None,
            before: nothing.clone(),
            after: nothing,
        };
        let at = record.phases[0].at;
        record.plan_mutation(1, planned, at);
        record
    }

    #[test]
    fn success_is_not_reported_for_a_target_that_the_finished_switch_did_not_move() {
        let done = record(&["tested", "switching(1)", "soaking"], 100);
        let all = Percent::ALL;
        assert!(refuse_other_end(&done, &targets(&["service/web"]), all).is_ok());
        let failure =
            refuse_other_end(&done, &targets(&["service/web", "service/api"]), all).unwrap_err();
        assert_eq!(failure.kind(), Kind::Gate);
        assert!(failure.to_string().contains("`service/api`"), "{failure}");
    }

    #[test]
    fn less_traffic_than_was_reached_is_not_reported_as_done() {
        let half = record(&["tested", "switching(1)", "holding(1)"], 50);
        let ten = Percent::new(10).unwrap();
        assert!(stages_left(&[ten], stands_at(&half)).is_empty());
        let failure = refuse_other_end(&half, &targets(&["service/web"]), ten).unwrap_err();
        assert_eq!(failure.kind(), Kind::Gate);
    }

    #[test]
    fn a_target_that_was_begun_may_not_be_left_behind() {
        let begun = record(&["tested", "switching(1)", "holding(1)"], 50);
        assert!(refuse_other_targets(&begun, &targets(&["service/web"])).is_ok());
        let failure = refuse_other_targets(&begun, &targets(&["service/api"])).unwrap_err();
        assert_eq!(failure.kind(), Kind::Input);
        let before = record(&["tested"], 50);
        assert!(refuse_other_targets(&before, &targets(&["service/api"])).is_ok());
    }

    #[test]
    fn a_target_named_twice_and_none_at_all_are_refused() {
        assert!(
            check_targets(
                &targets(&["traefik/web", "traefik/web:other"]),
                &steps(&[100])
            )
            .is_err()
        );
        assert!(check_targets(&[], &steps(&[100])).is_err());
    }
}
