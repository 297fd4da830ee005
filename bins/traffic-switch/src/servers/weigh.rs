//! `server-weights`: a share of the traffic for some servers, by the weights of all. It owns the order of the
//! writes and their proof; which weights give the share is decided in `switchyard_servers::shares`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use serde_json::json;
use switchyard_runner::values::show_duration;
use switchyard_runner::{Context, Failure, Kind, summary};
use switchyard_servers::Fleet;
use switchyard_servers::fleet::{Combined, Whole};
use switchyard_servers::shares::{NoWeights, Wanted, Weights, weights};

use super::inputs::WeightsInputs;
use super::{fleet, names, servers_failure, survey};
use crate::run::TITLE;

/// Time between two looks.
const POLL: Duration = Duration::from_millis(300);

pub(crate) async fn run(inputs: WeightsInputs, context: &mut Context) -> Result<(), Failure> {
    let started = Instant::now();
    let wanted = wanted(&inputs)?;
    let fleet = fleet(&inputs.haproxy_api, &inputs.backend)?;
    let whole = survey(&fleet, context).await?;
    let group = names(&inputs.servers);
    let weights = weights(&whole.servers, &group, wanted).map_err(failure)?;
    let changes = changes(&whole.servers, &weights);
    context
        .console
        .info(describe(&whole.servers, &weights, &group));
    let outputs = &context.outputs;
    let result = if inputs.plan {
        "planned"
    } else if changes.is_empty() {
        "nothing-to-do"
    } else {
        outputs.set("changed", true)?;
        write(&fleet, &changes).await?;
        confirm(&fleet, &weights.by_server, inputs.timeout, context).await?;
        "weighted"
    };
    outputs.set("changed", result == "weighted")?;
    outputs.set("weights", json!(weights.by_server))?;
    outputs.set("verified", if inputs.plan { "none" } else { "data-plane" })?;
    outputs.set("duration-ms", started.elapsed().as_millis())?;
    outputs.set("result", result)?;
    context.summarize(TITLE, &section(&whole, &weights, &group, result));
    Ok(())
}

fn wanted(inputs: &WeightsInputs) -> Result<Wanted, Failure> {
    match (inputs.weight, inputs.servers.is_empty()) {
        (Some(percent), false) => Ok(Wanted::Percent(percent.get())),
        (None, true) => Ok(Wanted::Configured),
        (Some(_), true) => Err(Failure::message(
            Kind::Input,
            "input `servers` is empty, so nobody is to get the share of `weight`",
        )
        .hint("name the servers that get it together, or leave out both to give every server its configured weight")),
        (None, false) => Err(Failure::message(
            Kind::Input,
            "input `weight` is empty, so `servers` are to get no known share",
        )
        .hint("give a percentage, or leave out both to give every server its configured weight")),
    }
}

/// Weights to write. Those that rise come first, so that at no moment all are 0.
fn changes<'a>(servers: &[Combined], weights: &'a Weights) -> Vec<(&'a str, u16)> {
    let mut changes: Vec<(bool, &str, u16)> = Vec::new();
    for (name, weight) in &weights.by_server {
        let Some(server) = servers.iter().find(|server| server.name == *name) else {
            continue;
        };
        let wanted = u32::from(*weight);
        if server.at.iter().any(|one| one.weight != wanted) {
            let falls = server.at.iter().any(|one| one.weight > wanted);
            changes.push((falls, name, *weight));
        }
    }
    changes.sort_by_key(|(falls, _, _)| *falls);
    changes
        .into_iter()
        .map(|(_, name, weight)| (name, weight))
        .collect()
}

async fn write(fleet: &Fleet, changes: &[(&str, u16)]) -> Result<(), Failure> {
    for (server, weight) in changes {
        for answer in fleet.set_weight(server, *weight).await {
            match answer {
                // Whether it was heard is seen in what the process says next.
                Err(error) if error.may_pass() => {}
                other => other.map_err(servers_failure)?,
            }
        }
    }
    Ok(())
}

/// Waits until every process has the weights.
async fn confirm(
    fleet: &Fleet,
    wanted: &BTreeMap<String, u16>,
    limit: Duration,
    context: &Context,
) -> Result<(), Failure> {
    let deadline = Instant::now() + limit;
    loop {
        let mut against = Vec::new();
        for seen in fleet.look().await {
            let look = match seen.look {
                Ok(look) => look,
                Err(error) if error.may_pass() => {
                    against.push(error.to_string());
                    continue;
                }
                Err(error) => return Err(servers_failure(error)),
            };
            let differs = wanted.iter().find_map(|(name, weight)| {
                let has = look.server(name).map(|server| server.weight);
                (has != Some(u32::from(*weight))).then(|| {
                    let has = has.map_or_else(|| "none".to_owned(), |has| has.to_string());
                    format!("`{}` gives `{name}` weight {has}, not {weight}", seen.place)
                })
            });
            against.extend(differs);
        }
        let size = fleet.size();
        let confirmed = size - against.len();
        if against.is_empty() {
            let line = format_args!(
                "{size} of {size} HAProxies have these weights, until they are reloaded"
            );
            context.console.info(line);
            return Ok(());
        }
        let text = format!(
            "{confirmed} of {size} HAProxies have the weights: {}",
            against.join("; ")
        );
        if Instant::now() >= deadline {
            let text = format!("{text} (waited {})", show_duration(limit));
            return Err(Failure::message(Kind::Remote, text)
                .hint("run it again: weights that are right already are left as they are"));
        }
        tokio::select! {
            () = tokio::time::sleep(POLL) => {}
            signal = context.cancel.cancelled() => {
                return Err(Failure::message(Kind::Cancelled(signal), text));
            }
        }
    }
}

fn describe(servers: &[Combined], weights: &Weights, group: &[String]) -> String {
    let mut text = String::new();
    for server in servers {
        let now: Vec<String> = server.at.iter().map(|one| one.weight.to_string()).collect();
        let weight = weights.by_server.get(&server.name).copied().unwrap_or(0);
        let _ = writeln!(
            text,
            "{}: weight {} → {weight}",
            server.name,
            now.join(" / ")
        );
    }
    text + &reached(weights, group)
}

fn reached(weights: &Weights, group: &[String]) -> String {
    match (group, weights.share) {
        ([], _) => "every server has the weight of the configuration".to_owned(),
        (group, Some(share)) => format!(
            "{} get {share:.1} % of the traffic together",
            group.join(", ")
        ),
        (group, None) => format!("{} get no traffic: no server is up", group.join(", ")),
    }
}

fn section(whole: &Whole, weights: &Weights, group: &[String], result: &str) -> String {
    let mut text = format!(
        "### Weights of servers: {result}\n\n{}\n\n| server | state | weight |\n| --- | --- | --- |\n",
        summary::cell(&reached(weights, group))
    );
    for server in &whole.servers {
        let weight = weights.by_server.get(&server.name).copied().unwrap_or(0);
        let (name, status) = (summary::cell(&server.name), summary::cell(&server.status()));
        let _ = writeln!(text, "| {name} | {status} | {weight} |");
    }
    text
}

fn failure(error: NoWeights) -> Failure {
    let hint = error.hint();
    match error {
        NoWeights::Unknown(_) | NoWeights::TooCoarse { .. } => Failure::input(error).hint(hint),
        NoWeights::GroupIsDown(_) | NoWeights::RestIsDown(_) => Failure::gate(error).hint(hint),
    }
}
