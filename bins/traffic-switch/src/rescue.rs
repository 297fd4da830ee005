//! `rescue`: what the rescue job of a workflow runs. It is told nothing but the deployment's
//! identity, reads the record alone, and is over within four minutes.

use std::time::{Duration, Instant};

use serde_json::json;
use switchyard_cluster::Deadline;
use switchyard_deployment::{Connection, connect, deployment_id, record_failure, session_options};
use switchyard_record::{ClaimRequest, Claimed, DeploymentId, Freshness, Intent, Session, Store};
use switchyard_runner::{Context, Failure, Kind};

use crate::conclude::{conclude, is_settled};
use crate::inputs::RescueInputs;
use crate::run::TITLE;
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
        return nothing_known(&inputs, context, &id, started);
    }
    // Before anything can go wrong: whoever tells how it ended brings the notices up to date.
    let notices = store.latest_of_run(&id).await.map_err(fail)?;
    let notices = notices.map(|stored| stored.record.notify_keys);
    context
        .outputs
        .set("notices", json!(notices.unwrap_or_default()))?;
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
    let phase = match claimed {
        Claimed::Resumed { phase } | Claimed::TakenOver { phase } => phase,
        Claimed::NothingToDo { verdict: None } => {
            let id = session.id().clone();
            return nothing_known(inputs, context, &id, started);
        }
        Claimed::NothingToDo {
            verdict: Some(verdict),
        } => {
            let id = session.id().clone();
            let why = format!("the deployment of this run has ended: {verdict}");
            return nothing_to_do(context, &id, started, &why);
        }
        Claimed::New => return Err(Failure::message(Kind::Bug, "a rescue began a deployment")),
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
        overrule: &[],
        reason: &inputs.reason,
        step: "rescue",
        overall: Some(overall),
        started,
    };
    take_back(&order, connection, session, context).await
}

/// No record tells of a deployment of this run. That is right when the run failed before it began one,
/// and fatal when it is only the wrong place that is looked at.
fn nothing_known(
    inputs: &RescueInputs,
    context: &Context,
    id: &DeploymentId,
    started: Instant,
) -> Result<(), Failure> {
    let text = format!(
        "no record of application `{}` in namespace `{}` tells of a deployment of run {} of `{}`",
        id.application(),
        id.namespace(),
        id.run_id(),
        id.repository()
    );
    let is_expected = inputs.expect_deployment || inputs.deployment.deployment_id.is_some();
    if is_expected {
        return Err(Failure::message(
            Kind::Gate,
            format!("{text}, although one was begun; nothing was taken back"),
        )
        .hint("see that `namespace`, `application`, `context` and the kubeconfig of this job lead to where it was begun; until then traffic may stand half moved there (`traffic-switch status`)"));
    }
    context.console.warning(
        TITLE,
        format!("{text}; if one was begun in another namespace or cluster, it was not taken back"),
    );
    nothing_to_do(
        context,
        id,
        started,
        "this run has not begun a deployment here",
    )
}
