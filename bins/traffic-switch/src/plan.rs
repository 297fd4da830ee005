//! `plan: true`: the patches and checks of a switch, and nothing else. Takes no lease and writes
//! nothing, so what it shows is what is so now.

use switchyard_cluster::Deadline;
use switchyard_deployment::{Connection, record_failure};
use switchyard_record::{DeploymentId, DeploymentRecord, Store};
use switchyard_runner::{Context, Failure, Kind};
use switchyard_traffic::engine::{Front, load_fronts, priors};
use switchyard_traffic::machine::{Aim, Itinerary, Machine, Task};
use switchyard_traffic::provider::{Goal, Marks};
use switchyard_traffic::share::Steps;

use crate::inputs::SwitchInputs;
use crate::leg::{Leg, leg, refuse_binary, stages_of};
use crate::sides::{self, READ_LIMIT, Sides};
use crate::switch::front_failure;
use crate::tracked;

pub(crate) async fn show(
    inputs: &SwitchInputs,
    steps: &Steps,
    connection: &Connection,
    id: &DeploymentId,
    context: &Context,
) -> Result<(), Failure> {
    let record = active(connection, id, context).await?;
    let course = match leg(inputs.to, steps, record.as_ref())? {
        Leg::Go(course) => course,
        Leg::Passed(why) => {
            context.console.info(format!("nothing to do: {why}"));
            context.outputs.set("deployment-id", id)?;
            context.outputs.set("changed", false)?;
            return context.outputs.set("result", "planned");
        }
    };
    refuse_binary(course, &inputs.targets)?;
    let parts = Sides {
        to: inputs.to,
        course,
        record: record.as_ref(),
    };
    let (taking, giving) = parts.find(&connection.cluster, &inputs.targets).await?;
    let pair = sides::pair(taking, giving);
    let from = giving.map_or_else(|| "no other side".to_owned(), |side| side.to_string());
    let known = record
        .as_ref()
        .map(|record| priors(&record.targets))
        .unwrap_or_default();
    let loaded = load_fronts(
        &connection.cluster,
        &inputs.targets,
        &pair,
        &known,
        Deadline::after(READ_LIMIT),
    )
    .await;
    let fronts = loaded.map_err(front_failure)?;
    tracked::refuse(&fronts)?;
    let itinerary = Itinerary {
        targets: fronts.len(),
        stages: stages_of(course, steps, record.as_ref()),
        reached: Some(steps.last()),
        has_old_side: giving.is_some(),
        has_moved: false,
        course,
    };
    let machine = Machine::forward(&itinerary);
    let text = render(&fronts, machine.tasks(), id)?;
    let _group = context
        .console
        .group(format!("Plan: {} to {taking}, from {from}", steps.last()));
    context.console.info(&text);
    let markdown = format!(
        "### Plan: {} to {taking}, from {from}\n\n```\n{}\n```\n",
        steps.last(),
        text.trim_end()
    );
    context.summarize("traffic-switch", &markdown);
    context.outputs.set("deployment-id", id)?;
    context.outputs.set("changed", false)?;
    let active = giving.unwrap_or(taking);
    context.outputs.set("active", active)?;
    context.outputs.set("previous", active)?;
    context.outputs.set("verified", "none")?;
    context.outputs.set("result", "planned")
}

async fn active(
    connection: &Connection,
    id: &DeploymentId,
    context: &Context,
) -> Result<Option<DeploymentRecord>, Failure> {
    let store = Store::new(connection.cluster.client(), id.namespace());
    let fail = |error| record_failure(error, context.cancel.requested());
    let Some(application) = store.application(id.application()).await.map_err(fail)? else {
        return Ok(None);
    };
    let Some(active) = application.record.active else {
        return Ok(None);
    };
    if !active.deployment.is_same_run(id) {
        return Err(Failure::message(
            Kind::Gate,
            format!(
                "application `{}` is claimed by deployment `{}` of {}",
                id.application(),
                active.deployment,
                active.by
            ),
        )
        .hint("wait for that deployment to end, or roll it back"));
    }
    Ok(store
        .deployment(&active.deployment)
        .await
        .map_err(fail)?
        .map(|stored| stored.record))
}

/// Each task in its order; each write with the patch that would be sent if nobody else writes.
fn render(fronts: &[Front], tasks: &[Task], id: &DeploymentId) -> Result<String, Failure> {
    let mut objects: Vec<serde_json::Value> =
        fronts.iter().map(|front| front.object.clone()).collect();
    let mut lines = Vec::new();
    for task in tasks {
        let Task::Write { target, aim } = task else {
            lines.push(line_of(task));
            continue;
        };
        if let (Some(front), Some(object)) = (fronts.get(*target), objects.get_mut(*target)) {
            lines.extend(write_lines(front, object, *aim, id)?);
        }
    }
    Ok(lines.join("\n"))
}

fn write_lines(
    front: &Front,
    object: &mut serde_json::Value,
    aim: Aim,
    id: &DeploymentId,
) -> Result<Vec<String>, Failure> {
    let provider = front.target.provider.provider();
    let refused = |refusal: switchyard_traffic::provider::Refusal| {
        let hint = refusal.hint();
        Failure::gate(refusal).hint(hint)
    };
    let goal = match aim {
        Aim::Prepare => Goal::Prepare,
        Aim::Share(share) => Goal::Share(share),
        Aim::Settle(share) => Goal::Settle(share),
        Aim::Return => Goal::Return(front.prior.clone()),
        Aim::Restore => Goal::Restore(front.prior.clone()),
    };
    let owned = provider.read(object, &front.roles).map_err(refused)?;
    let after = provider.aim(&owned, &goal, &front.roles).map_err(refused)?;
    if after == owned.routing {
        return Ok(Vec::new());
    }
    let marks = Marks {
        fence: 0,
        deployment: id.to_string(),
    };
    let patch = provider
        .patch(object, &after, &front.roles, &marks)
        .map_err(refused)?;
    let mut lines = vec![format!(
        "write  {} ({}): {}",
        front.target,
        aim.word(),
        after.describe()
    )];
    // Without the fence, which is only known once the lease is held, and the version, which moves with
    // every write.
    let edits = provider
        .edit(object, &after, &front.roles)
        .map_err(refused)?;
    lines.extend(
        edits
            .iter()
            .map(|operation| format!("         {operation}")),
    );
    json_patch::patch(object, &patch).map_err(Failure::bug)?;
    Ok(lines)
}

fn line_of(task: &Task) -> String {
    match task {
        Task::Enter(phase) => format!("phase  {phase}"),
        Task::Shelter
        | Task::ScaleUp
        | Task::Capacity(_)
        | Task::Write { .. }
        | Task::Confirm(_)
        | Task::FrontDoor(_)
        | Task::Hold
        | Task::Quiet
        | Task::RequireQuiet
        | Task::ScaleDown => format!("check  {}", describe(task)),
    }
}

fn describe(task: &Task) -> String {
    match task {
        Task::Enter(phase) => format!("phase {phase}"),
        Task::Shelter => "all traffic on the side that stands".to_owned(),
        Task::ScaleUp => "side has the size it had".to_owned(),
        Task::Capacity(share) => format!("new side has ready, routable pods for {share}"),
        Task::Write { .. } => String::new(),
        Task::Confirm(aim) => match aim {
            Aim::Prepare => "every proxy knows both sides".to_owned(),
            Aim::Share(share) | Aim::Settle(share) => {
                format!("every proxy sends {share} to the new side")
            }
            Aim::Return | Aim::Restore => "every proxy sends all traffic back".to_owned(),
        },
        Task::FrontDoor(share) => {
            format!("front door answers with {share} of the new version, none lost")
        }
        Task::Hold => "hold, watching endpoints".to_owned(),
        Task::Quiet | Task::RequireQuiet => "old side is quiet".to_owned(),
        Task::ScaleDown => "scale the idle side to 0, if asked".to_owned(),
    }
}
