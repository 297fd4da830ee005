//! `servers`: a rolling update of servers that stand behind HAProxy, outside Kubernetes. It owns the way
//! from the inputs to a plan; which servers may go is decided in `switchyard_servers::plan`, and how one is
//! taken out, updated and put back in `roll` and `renew`.

mod health;
pub(crate) mod inputs;
mod observe;
mod renew;
mod report;
mod roll;
mod state_file;
mod update;
mod weigh;

use std::time::{Duration, Instant};

use switchyard_runner::{Context, Failure, Kind};
use switchyard_servers::fleet::{FleetError, Whole};
use switchyard_servers::haproxy::{Haproxy, Place};
use switchyard_servers::journal::Journal;
use switchyard_servers::plan::{Plan, Refusal, Wish, plan};
use switchyard_servers::{Fleet, Servers, ServersError};

use inputs::{Name, ServersInputs};
use report::Report;
use roll::Roll;
use state_file::StateFile;
use update::Update;
pub(crate) use weigh::run as run_weights;

/// Most time for one answer of a runtime API, which comes at once unless its process hangs.
const ANSWER_LIMIT: Duration = Duration::from_secs(3);

pub(crate) async fn run(inputs: ServersInputs, context: &mut Context) -> Result<(), Failure> {
    let started = Instant::now();
    let update = Update::of(&inputs)?;
    let fleet = fleet(&inputs.haproxy_api, &inputs.backend)?;
    let whole = survey(&fleet, context).await?;
    let path = state_file::path(&inputs, &context.environment)?;
    let id = update.id(&context.environment, inputs.expect_version.as_deref());
    if inputs.plan {
        let journal = state_file::read(&path, fleet.backend(), &id)?;
        let plan = decide(&whole, &journal, &inputs)?;
        let report = Report::new(&whole, &plan, &journal, started);
        context.console.info(report.plan(&plan));
        return report.tell(context, "planned");
    }
    let state = StateFile::open(path, fleet.backend(), &id)?;
    let plan = decide(&whole, state.journal(), &inputs)?;
    let report = Report::new(&whole, &plan, state.journal(), started);
    context.console.info(report.plan(&plan));
    let roll = Roll::new(context, &inputs, &update, &fleet, state, report)?;
    roll.run(&plan).await
}

fn fleet(places: &[Place], backend: &Name) -> Result<Fleet, Failure> {
    if places.is_empty() {
        return Err(
            Failure::message(Kind::Input, "input `haproxy-api` is empty").hint(
                "name the runtime API of every HAProxy process, such as `/run/haproxy/admin.sock`",
            ),
        );
    }
    let members = places
        .iter()
        .map(|place| Box::new(Haproxy::new(place.clone(), ANSWER_LIMIT)) as Box<dyn Servers>)
        .collect();
    Ok(Fleet::new(members, backend.as_str()))
}

/// What every process says, and whether each would let itself be told.
async fn survey(fleet: &Fleet, context: &Context) -> Result<Whole, Failure> {
    let asked = async {
        let whole = Whole::of(fleet.look().await).map_err(fleet_failure)?;
        fleet.require_control().await.map_err(servers_failure)?;
        Ok(whole)
    };
    tokio::select! {
        whole = asked => whole,
        signal = context.cancel.cancelled() => Err(Failure::message(
            Kind::Cancelled(signal),
            "stopped before anything was touched",
        )),
    }
}

fn decide(whole: &Whole, journal: &Journal, inputs: &ServersInputs) -> Result<Plan, Failure> {
    let (servers, adopt) = (names(&inputs.servers), names(&inputs.adopt));
    let wish = Wish {
        servers: &servers,
        adopt: &adopt,
        batch: usize::try_from(inputs.batch).unwrap_or(usize::MAX),
        min_up: inputs.min_up,
    };
    plan(&whole.servers, journal, &wish).map_err(refusal_failure)
}

fn names(list: &[Name]) -> Vec<String> {
    list.iter().map(ToString::to_string).collect()
}

/// Nothing was asked for that cannot be, or the servers do not allow it now.
fn refusal_failure(refusal: Refusal) -> Failure {
    let hint = refusal.hint();
    let failure = match refusal {
        Refusal::Unknown(_) | Refusal::Twice(_) | Refusal::NoAddress(_) | Refusal::Empty => {
            Failure::input(refusal)
        }
        Refusal::Floor { .. } | Refusal::NothingToUpdate => Failure::gate(refusal),
    };
    failure.hint(hint)
}

fn fleet_failure(error: FleetError) -> Failure {
    let hint = error.hint();
    match error {
        FleetError::Asked(error) => servers_failure(error),
        FleetError::SameProcess { .. } => Failure::input(error).hint(hint),
        FleetError::Different { .. } | FleetError::Stopping { .. } => {
            Failure::gate(error).hint(hint)
        }
    }
}

fn servers_failure(error: ServersError) -> Failure {
    let hint = error.hint();
    if error.is_misuse() {
        Failure::input(error).hint(hint)
    } else {
        Failure::remote(error).hint(hint)
    }
}
