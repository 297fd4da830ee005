//! The end of a deployment of which nothing took traffic.

use std::time::Duration;

use switchyard_cluster::Deadline;
use switchyard_cluster::scale::ScaleGoal;
use switchyard_cluster::workloads::{WorkloadKind, WorkloadRef};
use switchyard_deployment::{Connection, actor, record_failure};
use switchyard_record::{
    DeploymentResult, Outcome, Phase, PlannedMutation, Projection, Session, Settlement, Verdict,
};
use switchyard_runner::{Context, Failure};

use crate::run::TITLE;
use crate::take_back::Order;

/// Nothing of it took traffic: its side is taken to 0, when that was asked for, and it ends.
pub(crate) async fn abandon(
    order: &Order<'_>,
    connection: &Connection,
    session: &mut Session,
    context: &Context,
) -> Result<(), Failure> {
    let fail = |error| record_failure(error, context.cancel.requested());
    session
        .advance_because(Phase::Abandoning, order.reason)
        .await
        .map_err(fail)?;
    if order.after.scale_new_down {
        retire(connection, session, context).await?;
    }
    let result = DeploymentResult {
        verdict: Verdict::Abandoned,
        cause: Some(order.reason.to_owned()),
        by: actor(&context.environment),
    };
    session.finish(result).await.map_err(fail)?;
    context
        .console
        .info("no traffic had moved: the deployment was abandoned");
    context.outputs.set("deployment-id", session.id())?;
    context.outputs.set("changed", order.after.scale_new_down)?;
    context
        .outputs
        .set("duration-ms", order.started.elapsed().as_millis())?;
    context.outputs.set("result", "abandoned")
}

/// Takes the workloads of the abandoned side to 0. One that stays costs money, not requests.
async fn retire(
    connection: &Connection,
    session: &mut Session,
    context: &Context,
) -> Result<(), Failure> {
    let fail = |error| record_failure(error, context.cancel.requested());
    let side = session.record().map_err(fail)?.sides.to.clone();
    for workload in side.map(|side| side.workloads).unwrap_or_default() {
        let Some(kind) = WorkloadKind::parse(&workload.workload.kind) else {
            continue;
        };
        let reference = WorkloadRef {
            kind,
            name: workload.workload.name.clone(),
        };
        let deadline = Deadline::after(Duration::from_secs(20));
        let state = match connection.cluster.scale_state(&reference, deadline).await {
            Ok(state) if state.replicas > 0 => state,
            Ok(_) => continue,
            Err(error) => {
                context
                    .console
                    .warning(TITLE, format!("{reference} was left as it is: {error}"));
                continue;
            }
        };
        session
            .raise_fence(&workload.workload)
            .await
            .map_err(fail)?;
        let size = |replicas: i32| Projection::shown(&serde_json::json!({"replicas": replicas}));
        let planned = PlannedMutation {
            operation: "scale".to_owned(),
            target: workload.workload.clone(),
            target_uid: Some(state.uid.clone()),
            precondition_resource_version: None,
            before: size(state.replicas),
            after: size(0),
        };
        let seq = session.plan_mutation(planned).await.map_err(fail)?;
        let settlement = match connection
            .cluster
            .scale(&reference, ScaleGoal::Size(0), deadline)
            .await
        {
            Ok(_) => Settlement::from(Outcome::Applied),
            Err(error) => {
                context
                    .console
                    .warning(TITLE, format!("{reference} was left running: {error}"));
                let outcome = if error.leaves_outcome_unknown() {
                    Outcome::Unknown
                } else {
                    Outcome::NotApplied
                };
                Settlement::failed(outcome, &error)
            }
        };
        session.settle(seq, settlement).await.map_err(fail)?;
    }
    Ok(())
}
