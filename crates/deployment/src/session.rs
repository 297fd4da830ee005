//! A session on the deployment's record, opened the same way by every program.

use std::sync::Arc;

use switchyard_record::{DeploymentId, FaultPoint, Session, SessionOptions};
use switchyard_runner::{Context, Environment, Failure};

use crate::connection::Connection;
use crate::failure::record_failure;

/// Environment variable for tests of crash recovery; see [`FaultPoint`].
const FAULT: &str = "SWITCHYARD_FAULT_ABORT_AFTER";

/// Who acts: the workflow's actor, else the user of this machine.
#[must_use]
pub fn actor(environment: &Environment) -> String {
    environment
        .workflow_run()
        .actor
        .or_else(|| environment.get("USER").map(str::to_owned))
        .unwrap_or_else(|| "unknown".to_owned())
}

/// How a session of this command is opened; to be refined where a command waits longer.
///
/// # Errors
/// A failure of kind input when the fault point of a test cannot be read.
pub fn session_options(context: &Context) -> Result<SessionOptions, Failure> {
    let environment = &context.environment;
    let mut options = SessionOptions::new(&actor(environment));
    options.run_url = environment.workflow_run().url();
    options.cancel = context.cancel.token();
    let console = context.console.clone();
    options.progress = Arc::new(move |line| console.progress(line));
    options.fault = environment
        .get(FAULT)
        .map(str::parse::<FaultPoint>)
        .transpose()
        .map_err(|error| Failure::input(error).title(FAULT))?;
    Ok(options)
}

/// Takes the application's lease, raises the fence and reads the records.
///
/// # Errors
/// The lease stays held by somebody else, or the API server fails or refuses.
pub async fn open_session(
    context: &Context,
    connection: &Connection,
    id: DeploymentId,
) -> Result<Session, Failure> {
    let options = session_options(context)?;
    Session::open(connection.cluster.client(), id, options)
        .await
        .map_err(|error| record_failure(error, context.cancel.requested()))
}
