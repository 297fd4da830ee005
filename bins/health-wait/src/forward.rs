//! `forward`: port-forwards held open while a command of the user's runs.
//! It refuses to know what the command does; its exit code decides.

use std::collections::BTreeSet;
use std::fmt;
use std::pin::pin;
use std::str::FromStr;
use std::time::{Duration, Instant};

use switchyard_cluster::port_forward::{ForwardTarget, HeldForward};
use switchyard_cluster::{Cluster, Deadline};
use switchyard_deployment::{Connection, Recorder, connect};
use switchyard_record::Phase;
use switchyard_runner::child::{Child, ChildResult, Ended};
use switchyard_runner::{Cancel, Context, Failure, Kind, Signal, values};

use crate::inputs::ForwardInputs;
use crate::report::Report;
use crate::rollout::cancelled;
use switchyard_health::access::{Needs, require_access};
use switchyard_health::connection::failure;

const TITLE: &str = "health-wait forward";
/// Time to get all port-forwards open.
const OPEN_LIMIT: Duration = Duration::from_secs(60);

/// A port-forward as it is written: `api=service/api:http`, or without a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ForwardSpec {
    name: String,
    target: ForwardTarget,
}

impl FromStr for ForwardSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, target) = match text.split_once('=') {
            Some((name, target)) => (Some(name.trim()), target.trim()),
            None => (None, text),
        };
        let target: ForwardTarget = target.parse().map_err(|error| format!("{error}"))?;
        let name = match name {
            Some(name) => name.to_owned(),
            None => {
                let object = target.object.to_string();
                object.rsplit('/').next().unwrap_or_default().to_owned()
            }
        };
        let is_name = name.starts_with(|first: char| first.is_ascii_alphabetic())
            && name
                .chars()
                .all(|one| one.is_ascii_alphanumeric() || matches!(one, '-' | '_' | '.'));
        if !is_name {
            return Err(format!(
                "`{name}` makes no name of a variable: letters, digits, `-` and `_`, a letter first"
            ));
        }
        Ok(Self { name, target })
    }
}

impl fmt::Display for ForwardSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name, self.target)
    }
}

impl ForwardSpec {
    /// The start of its variables' names: `web-api` gives `WEB_API`.
    fn variable(&self) -> String {
        self.name.to_ascii_uppercase().replace(['-', '.'], "_")
    }
}

/// Runs the subcommand.
///
/// # Errors
/// The command failed, or the ports cannot be forwarded.
pub(crate) async fn run(inputs: ForwardInputs, context: &Context) -> Result<(), Failure> {
    let started = Instant::now();
    let mut report = Report::default();
    match execute(&inputs, context, &mut report).await {
        Ok(()) => report.conclude(TITLE, started, context),
        Err(failure) => Err(report.conclude_failed(failure, TITLE, started, context)),
    }
}

async fn execute(
    inputs: &ForwardInputs,
    context: &Context,
    report: &mut Report,
) -> Result<(), Failure> {
    refuse_nonsense(inputs)?;
    let connection = connect(&inputs.deployment, &context.environment).await?;
    let mut recorder = tokio::select! {
        recorder = prepare(inputs, &connection, context) => recorder?,
        signal = context.cancel.cancelled() => return Err(cancelled(signal)),
    };
    if recorder.has_passed(Phase::Tested) {
        recorder.close().await;
        report.healthy = true;
        report.reason = "an earlier attempt of this run has tested this deployment".to_owned();
        return Ok(());
    }
    let ended = hold_and_run(inputs, &connection, context, report, &recorder).await;
    let ended = match ended {
        Ok(()) if report.healthy => recorder.advance(Phase::Tested, context).await,
        other => other,
    };
    recorder.close().await;
    ended
}

fn refuse_nonsense(inputs: &ForwardInputs) -> Result<(), Failure> {
    if inputs.forwards.is_empty() {
        return Err(Failure::message(Kind::Input, "input `forwards` is empty")
            .hint("name what to forward, such as `api=service/api-green:http`"));
    }
    if inputs.run.trim().is_empty() {
        return Err(Failure::message(Kind::Input, "input `run` is empty"));
    }
    let mut known = BTreeSet::new();
    for forward in inputs.forwards.iter() {
        if !known.insert(forward.variable()) {
            let text = format!(
                "two items of input `forwards` make the variable `{}_URL`",
                forward.variable()
            );
            return Err(Failure::message(Kind::Input, text)
                .hint("give them names: `first=service/api:http`"));
        }
    }
    Ok(())
}

async fn prepare(
    inputs: &ForwardInputs,
    connection: &Connection,
    context: &Context,
) -> Result<Recorder, Failure> {
    let needs = Needs {
        targets: inputs.forwards.iter().map(|one| &one.target).collect(),
        ..Needs::default()
    };
    require_access(&connection.cluster, &needs, Deadline::after(OPEN_LIMIT)).await?;
    Recorder::open(&inputs.deployment, connection, context).await
}

async fn hold_and_run(
    inputs: &ForwardInputs,
    connection: &Connection,
    context: &Context,
    report: &mut Report,
    recorder: &Recorder,
) -> Result<(), Failure> {
    let held = tokio::select! {
        held = hold(inputs, &connection.cluster) => held?,
        signal = context.cancel.cancelled() => return Err(cancelled(signal)),
    };
    let mut child = Child::script(&inputs.run, inputs.timeout);
    for (spec, forward) in inputs.forwards.iter().zip(&held) {
        let address = forward.local_addr();
        let name = spec.variable();
        context.console.info(format_args!(
            "{} is at http://{address} ({name}_URL)",
            spec.target
        ));
        child = child
            .variable(format!("{name}_URL"), format!("http://{address}"))
            .variable(format!("{name}_ADDRESS"), address.to_string())
            .variable(format!("{name}_HOST"), address.ip().to_string())
            .variable(format!("{name}_PORT"), address.port().to_string());
    }
    if inputs.pass_kubeconfig
        && let Some(path) = &connection.kubeconfig
    {
        child = child.kubeconfig(path);
    }
    let ended = run_child(&child, context, recorder).await?;
    report.healthy = ended.result.is_success();
    report.reason = describe(ended.result);
    if !report.healthy {
        report.failed_check = Some("run".to_owned());
    }
    for forward in &held {
        for problem in forward.problems() {
            report
                .notes
                .push(format!("{}: {problem}", forward.target()));
        }
    }
    for note in &report.notes {
        context.console.info(format_args!("port-forward {note}"));
    }
    Ok(())
}

/// Runs the command. A rollback that is ordered meanwhile ends it as a signal would: with
/// everything it has started.
async fn run_child(
    child: &Child,
    context: &Context,
    recorder: &Recorder,
) -> Result<Ended, Failure> {
    let cancel = Cancel::default();
    let mut running = pin!(child.run(&context.environment, &context.console, &cancel));
    let mut stop = pin!(recorder.ordered_to_stop());
    tokio::select! {
        ended = &mut running => return ended,
        signal = context.cancel.cancelled() => cancel.request(signal),
        order = &mut stop => {
            cancel.request(Signal::Terminate);
            // However the command took it, the order is why the step ends.
            let _ = running.await;
            return Err(order);
        }
    }
    running.await
}

async fn hold(inputs: &ForwardInputs, cluster: &Cluster) -> Result<Vec<HeldForward>, Failure> {
    let deadline = Deadline::after(OPEN_LIMIT);
    let mut held = Vec::new();
    for spec in inputs.forwards.iter() {
        let forward = cluster.hold_forward(&spec.target, None, deadline).await;
        held.push(forward.map_err(failure)?);
    }
    Ok(held)
}

fn describe(result: ChildResult) -> String {
    match result {
        ChildResult::Exited(0) => "the command succeeded".to_owned(),
        ChildResult::Exited(code) => format!("the command ended with exit code {code}"),
        ChildResult::Killed => "the command was killed".to_owned(),
        ChildResult::TimedOut(limit) => format!(
            "the command was still running after {} and was ended",
            values::show_duration(limit)
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forward_has_a_name_of_its_own_or_its_objects() {
        for (text, variable) in [
            ("api=service/api-green:http", "API"),
            ("service/web-api:80", "WEB_API"),
            ("smoke_1 = pod/web-0:80", "SMOKE_1"),
        ] {
            let spec: ForwardSpec = text.parse().unwrap();
            assert_eq!(spec.variable(), variable);
        }
        for nonsense in [
            "",
            "api",
            "=service/api:80",
            "1=service/api:80",
            "a b=service/api:80",
            "api=service/api",
            "$(x)=service/api:80",
        ] {
            assert!(nonsense.parse::<ForwardSpec>().is_err(), "{nonsense}");
        }
    }
}
