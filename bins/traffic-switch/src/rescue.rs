//! `rescue`: what the rescue job of a workflow runs. It is told nothing but the deployment's
//! identity, reads the record alone, and is over within four minutes.

use std::time::{Duration, Instant};

use switchyard_cluster::Deadline;
use switchyard_deployment::{Connection, connect, deployment_id, record_failure, session_options};
use switchyard_record::{ClaimRequest, Claimed, Freshness, Intent, Session, Store};
use switchyard_runner::{Context, Failure};

use crate::conclude::{conclude, is_settled};
use crate::inputs::RescueInputs;
use crate::take_back::{Order, nothing_to_do, take_back};

/// A cancelled run has five minutes for everything, its start-up included.
const OVERALL: Duration = Duration::from_secs(225);
/// Part of it that the lease of a dead process may take.
const LEASE_WAIT: Duration = Duration::from_secs(45);

pub(crate) async fn run(inputs: RescueInputs, context: &mut Context) -> Result<(), Failure> {
    let started = Instant::now();
    let overall = Deadline::after(OVERALL);
    let connection = connect(&inputs.deployment, &context.environment).await?;
    let id = deployment_id(&inputs.deployment, &context.environment, &connection)?;
    let fail = |error| record_failure(error, None);
    let store = Store::new(connection.cluster.client(), id.namespace());
    if store
        .application(id.application())
        .await
        .map_err(fail)?
        .is_none()
    {
        return nothing_to_do(context, &id, started, "the application has no record");
    }
    let mut options = session_options(context)?;
    options.wait = LEASE_WAIT;
    let opened = Session::open(connection.cluster.client(), id, options).await;
    let mut session = opened.map_err(|error| record_failure(error, context.cancel.requested()))?;
    let result = go(
        &inputs,
        overall,
        &connection,
        &mut session,
        context,
        started,
    )
    .await;
    session.close().await;
    result
}

async fn go(
    inputs: &RescueInputs,
    overall: Deadline,
    connection: &Connection,
    session: &mut Session,
    context: &Context,
    started: Instant,
) -> Result<(), Failure> {
    let fail = |error| record_failure(error, context.cancel.requested());
    let request = ClaimRequest {
        intent: Intent::Rescue,
        attempt: context.environment.workflow_run().attempt,
        inputs: None,
        freshness: Freshness::OncePerRun,
    };
    let claimed = session.claim(request).await.map_err(fail)?;
    let (Claimed::Resumed { phase } | Claimed::TakenOver { phase }) = claimed else {
        let id = session.id().clone();
        return nothing_to_do(
            context,
            &id,
            started,
            "this run has no deployment that is under way",
        );
    };
    context.console.info(format!(
        "deployment {} stands in phase {phase}",
        session.id()
    ));
    if is_settled(phase) {
        return conclude(connection, session, context, started).await;
    }
    let order = Order {
        targets: &[],
        proof: &inputs.proof,
        after: &inputs.after,
        reason: &inputs.reason,
        step: "rescue",
        overall: Some(overall),
        started,
    };
    take_back(&order, connection, session, context).await
}
