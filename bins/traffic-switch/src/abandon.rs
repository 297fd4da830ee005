//! The end of a deployment of which nothing took traffic.

use switchyard_cluster::scale::ScaleGoal;
use switchyard_deployment::{Connection, actor, record_failure};
use switchyard_record::{DeploymentResult, Phase, Session, Verdict};
use switchyard_runner::{Context, Failure};
use switchyard_traffic::engine::resize;

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
        let object = &workload.workload;
        match resize(session, &connection.cluster, object, ScaleGoal::Size(0)).await {
            Ok(done) => done
                .into_iter()
                .for_each(|line| context.console.progress(line)),
            Err(trouble) => context.console.warning(
                TITLE,
                format!("{object} was left as it is: {}", trouble.reason),
            ),
        }
    }
    Ok(())
}
