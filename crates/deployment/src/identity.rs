//! The identity of the deployment that the inputs and the workflow run name.

use switchyard_record::{DeploymentId, DeploymentIdParts};
use switchyard_runner::{DeploymentArgs, Environment, Failure};

use crate::connection::Connection;
use crate::failure::bad_input;

/// The environment in the identity of deployments whose workflow names none.
pub const DEFAULT_ENVIRONMENT: &str = "default";
/// Repository and run id outside of a workflow.
const LOCAL: &str = "local";

/// The deployment's identity: the one that was given, else repository / run id / environment /
/// cluster / namespace / application.
///
/// # Errors
/// A failure of kind input: `application` is missing, a part cannot be used, or the given identity
/// contradicts the other inputs.
pub fn deployment_id(
    args: &DeploymentArgs,
    environment: &Environment,
    connection: &Connection,
) -> Result<DeploymentId, Failure> {
    if let Some(given) = &args.deployment_id {
        let id: DeploymentId = given.parse().map_err(|error| {
            Failure::input(
                anyhow::Error::new(error).context("input `deployment-id` cannot be used"),
            )
            .hint("give the output `deployment-id` of the step that started the deployment")
        })?;
        refuse_contradictions(args, connection, &id)?;
        return Ok(id);
    }
    let Some(application) = &args.application else {
        return Err(bad_input("input `application` is required").hint(
            "give the application's name, or the output `deployment-id` of the step that started the deployment",
        ));
    };
    let run = environment.workflow_run();
    DeploymentId::new(DeploymentIdParts {
        repository: run.repository.unwrap_or_else(|| LOCAL.to_owned()),
        run_id: run.run_id.unwrap_or_else(|| LOCAL.to_owned()),
        environment: args
            .environment
            .clone()
            .unwrap_or_else(|| DEFAULT_ENVIRONMENT.to_owned()),
        cluster: connection.cluster_name.clone(),
        namespace: connection.cluster.namespace().to_owned(),
        application: application.clone(),
    })
    .map_err(Failure::input)
}

/// An identity of another application or namespace would open another record than the objects that
/// the other inputs name belong to.
fn refuse_contradictions(
    args: &DeploymentArgs,
    connection: &Connection,
    id: &DeploymentId,
) -> Result<(), Failure> {
    let namespace = connection.cluster.namespace();
    let stated = [
        ("application", args.application.as_deref(), id.application()),
        ("environment", args.environment.as_deref(), id.environment()),
        ("cluster", args.cluster.as_deref(), id.cluster()),
        ("namespace", Some(namespace), id.namespace()),
    ];
    for (input, given, expected) in stated {
        if given.is_some_and(|given| given != expected) {
            let given = given.unwrap_or_default();
            return Err(bad_input(format!(
                "input `{input}` is `{given}`, but deployment `{id}` has `{expected}`"
            )));
        }
    }
    Ok(())
}
