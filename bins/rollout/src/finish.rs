//! `rollout finish`: looks at what is live, and only if that is what the deployment wanted, marks it as
//! succeeded. Writes the summary of the whole chain either way.

use jiff::Timestamp;
use serde_json::json;
use switchyard_cluster::access::Permission;
use switchyard_cluster::scale::ScaleGoal;
use switchyard_cluster::{Operation, Verb};
use switchyard_deployment::{actor, cluster_failure, record_failure};
use switchyard_manifest::{Identity, Kind, ObjectName, names, object, references};
use switchyard_record::{
    Budgets, Chain, DeploymentRecord, DeploymentResult, Intent, Phase, Projection, Verdict, summary,
};
use switchyard_runner::{Context, Failure, Kind as FailureKind};

use crate::canary::Takers;
use crate::inputs::FinishArgs;
use crate::ledger::{Ledger, claim_request};
use crate::opening::Opened;
use crate::plan::traffic::name_of;
use crate::sides;
use crate::subject::{Change, Subject, Write};
use crate::survey::Survey;
use crate::timing::within;
use crate::waiting;

/// Verifies and ends the deployment.
///
/// # Errors
/// Bad input, a live state that is not what was wanted, or a cluster that fails.
pub(crate) async fn run(args: FinishArgs, context: &mut Context) -> Result<(), Failure> {
    within(args.timeout, async {
        let opened =
            Opened::begin(context, &args.deployment, args.timeout, to_restore_floors).await?;
        let request = claim_request(context, &args.deployment, Intent::Continue, None);
        let (mut ledger, _) =
            Ledger::open(context, &args.deployment, &opened.connection, request).await?;
        if ledger.record().is_none() {
            return Err(Failure::message(
                FailureKind::Input,
                "input `application` is required: only a record can be finished",
            ));
        }
        let result = finish(&args, context, &opened, &mut ledger).await;
        let told = tell(&args, context, &ledger);
        ledger.close().await;
        result.and(told)
    })
    .await
}

fn to_restore_floors(namespace: &str) -> Vec<Permission> {
    use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
    vec![Permission::to(Operation::on::<HorizontalPodAutoscaler>(
        Verb::Patch,
        namespace,
    ))]
}

async fn finish(
    args: &FinishArgs,
    context: &Context,
    opened: &Opened,
    ledger: &mut Ledger,
) -> Result<(), Failure> {
    crate::outputs::deployment_id(context, ledger)?;
    let record = ledger
        .record()
        .cloned()
        .ok_or_else(|| Failure::message(FailureKind::Bug, "the record is gone"))?;
    refuse_unfinished(&record)?;
    // A canary ends on the main workload.
    let live = match record.chain {
        Chain::InPlace | Chain::Slots => record.sides.to.as_ref(),
        Chain::Canary => record.sides.from.as_ref(),
    };
    let side = live.ok_or_else(|| {
        Failure::message(
            FailureKind::Gate,
            "the record has no side that could be live",
        )
        .hint("run `rollout apply` (or `rollout canary`) first")
    })?;
    context.outputs.set("slot", sides::word_of(side.side))?;
    let workloads = sides::names_of(side);
    waiting::rollout(
        context,
        ledger,
        (opened.cluster(), opened.deadline),
        &workloads,
    )
    .await?;
    let survey = Survey::read(&opened.objects).await?;
    if record.chain == Chain::Slots {
        verify_traffic(&record, &survey, &workloads)?;
        restore_floors(context, opened, ledger, &survey, &workloads).await?;
    }
    match record.chain {
        Chain::InPlace => ledger.advance(Phase::Soaking).await?,
        Chain::Slots => {}
        Chain::Canary => {
            verify_main(&record, &survey)?;
            restore_floors(context, opened, ledger, &survey, &workloads).await?;
        }
    }
    let result = DeploymentResult {
        verdict: Verdict::Succeeded,
        cause: None,
        by: actor(&context.environment),
    };
    if let Some(session) = ledger.session_mut() {
        session
            .finish(result)
            .await
            .map_err(|error| record_failure(error, None))?;
    }
    context.console.info(format!(
        "deployment succeeded: side {} is live and ready",
        side.side
    ));
    let _ = args;
    Ok(())
}

fn refuse_unfinished(record: &DeploymentRecord) -> Result<(), Failure> {
    let is_ready = match record.chain {
        Chain::InPlace => record.phase.has_passed(Phase::Applied),
        Chain::Slots | Chain::Canary => record.phase.has_passed(Phase::Soaking),
    };
    if is_ready {
        return Ok(());
    }
    Err(Failure::message(
        FailureKind::Gate,
        format!(
            "the deployment is in phase `{}`: it is not ready to be finished",
            record.phase
        ),
    )
    .hint("run the steps of the chain before this one"))
}

/// Live traffic must reach the new side and nothing else. Workloads that no traffic reaches on either
/// side have no say.
fn verify_traffic(
    record: &DeploymentRecord,
    survey: &Survey,
    new: &[ObjectName],
) -> Result<(), Failure> {
    let gate = |text: String| {
        Failure::message(FailureKind::Gate, text)
            .hint("look at `traffic-switch status`; take it back with `traffic-switch rollback`")
    };
    let old: Vec<ObjectName> = record
        .sides
        .from
        .as_ref()
        .map(sides::names_of)
        .unwrap_or_default();
    for workload in &old {
        if new.contains(workload) {
            continue;
        }
        if let Some(entry) = sides::traffic_to(survey, workload, Some(record)) {
            return Err(gate(format!(
                "{workload} of the old side still gets traffic through {}",
                entry.decided_by
            )));
        }
    }
    let reached = new
        .iter()
        .any(|workload| sides::traffic_to(survey, workload, Some(record)).is_some());
    if reached {
        Ok(())
    } else {
        Err(gate("no live traffic reaches the new side".to_owned()))
    }
}

/// Traffic must reach the main workload, by the routes of the switch, and no canary.
fn verify_main(record: &DeploymentRecord, survey: &Survey) -> Result<(), Failure> {
    let takers = Takers::of(record, survey);
    let gate = |text: String, hint: &str| Err(Failure::message(FailureKind::Gate, text).hint(hint));
    if let Some(route) = takers.canary.first() {
        return gate(
            format!("the canary still takes traffic ({route})"),
            "move it with `traffic-switch switch` and `to: stable`",
        );
    }
    if takers.main.is_empty() {
        return gate(
            "no route of this deployment sends traffic to the main workload".to_owned(),
            "look at `traffic-switch status`; take it back with `traffic-switch rollback`",
        );
    }
    Ok(())
}

/// Floors of autoscalers that were raised for the switch go back to what the manifest asked for.
async fn restore_floors(
    context: &Context,
    opened: &Opened,
    ledger: &mut Ledger,
    survey: &Survey,
    workloads: &[ObjectName],
) -> Result<(), Failure> {
    for autoscaler in &survey.selectors.autoscalers {
        let target = references::scale_target(Kind::HorizontalPodAutoscaler, autoscaler);
        let is_ours = target.as_ref().is_some_and(|(kind, name)| {
            workloads
                .iter()
                .any(|workload| sides::kind_of(workload) == *kind && workload.name == *name)
        });
        let minimum = object::metadata_entry(autoscaler, "annotations", names::MIN_REPLICAS)
            .and_then(|text| text.parse::<i32>().ok());
        let (true, Some(minimum), Some((kind, name))) = (is_ours, minimum, target) else {
            continue;
        };
        let workload = ObjectName {
            kind: format!("{kind:?}").to_lowercase(),
            name,
        };
        // The floor and the mark that it was raised go together, in one write.
        let identity = Identity {
            api_version: "autoscaling/v2".to_owned(),
            kind: "HorizontalPodAutoscaler".to_owned(),
            namespace: None,
            name: name_of(autoscaler).to_owned(),
        };
        let subject = Subject::of(&opened.objects, identity).await?;
        subject
            .change(ledger, "restore-floor", |live| Ok(lower(live, minimum)))
            .await?;
        let state = opened
            .cluster()
            .scale_state(&sides::reference(&workload)?, opened.deadline)
            .await
            .map_err(cluster_failure)?;
        let left = switchyard_cluster::scale::plan(&state, ScaleGoal::RestoreMinimum(minimum));
        if !left.is_ok_and(|left| left.is_empty()) {
            return Err(Failure::message(
                FailureKind::Gate,
                format!("autoscaler of {workload}: minReplicas did not go back to {minimum}"),
            ));
        }
        context.console.info(format!(
            "autoscaler of {workload}: minReplicas back to {minimum}"
        ));
    }
    Ok(())
}

fn lower(live: &serde_json::Value, minimum: i32) -> Option<Change> {
    let floor = live.pointer("/spec/minReplicas");
    let is_marked = object::metadata_entry(live, "annotations", names::MIN_REPLICAS).is_some();
    is_marked.then(|| Change {
        write: Write::Merge(json!({
            "metadata": {"annotations": {names::MIN_REPLICAS: null}},
            "spec": {"minReplicas": minimum},
        })),
        before: Projection::shown(&json!({"minReplicas": floor})),
        after: Projection::shown(&json!({"minReplicas": minimum})),
    })
}

/// Writes the chain's summary, as far as the chain went.
fn tell(args: &FinishArgs, context: &Context, ledger: &Ledger) -> Result<(), Failure> {
    let Some(record) = ledger.record() else {
        return Ok(());
    };
    let budgets = match (&args.budgets, record.chain) {
        (Some(budgets), _) => budgets.clone(),
        (None, Chain::Slots) => Budgets::blue_green(),
        (None, Chain::InPlace | Chain::Canary) => Budgets::none(),
    };
    context
        .summary
        .markdown(&summary(record, &budgets, Timestamp::now()))
        .map_err(Failure::bug)
}
