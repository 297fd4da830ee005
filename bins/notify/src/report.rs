//! Says what came of the notices: log, outputs, and the step's result.

use switchyard_runner::{Context, Failure};

use crate::channel::{ChannelName, Delivered, Undelivered};
use crate::delivery::Report;
use crate::plan::Plan;

/// The required channels that failed, as one error with the first cause.
#[derive(Debug, thiserror::Error)]
#[error("required channel{} {} did not take the notice", if names.len() == 1 { "" } else { "s" }, quoted(names))]
struct RequiredFailed {
    names: Vec<ChannelName>,
    #[source]
    source: Undelivered,
}

/// Shows what would be sent.
pub(crate) fn preview(plan: &Plan, context: &Context) {
    for (name, channel) in &plan.channels {
        let _group = context.console.group(format!("{name}: would send"));
        context
            .console
            .untrusted(format!("{name}:"), &channel.preview());
    }
    context.console.info("dry run: nothing was sent");
}

/// Writes log and outputs, and fails when a required channel did.
pub(crate) fn conclude(
    plan: &Plan,
    reports: Vec<Report>,
    context: &mut Context,
) -> Result<(), Failure> {
    let mut sent = Vec::new();
    let mut skipped = Vec::new();
    let mut failed = Vec::new();
    for report in reports {
        let name = report.channel;
        match report.result {
            Ok(Delivered::Sent(receipt)) => {
                context.console.info(format!("{name}: {}", receipt.done));
                for cut in &receipt.cuts {
                    context.console.info(format!("{name}: {cut}"));
                }
                for remark in &receipt.remarks {
                    context
                        .console
                        .notice("notify", format!("{name}: {remark}"));
                }
                for (output, value) in receipt.outputs {
                    context.outputs.set(output, value)?;
                }
                sent.push(name);
            }
            Ok(Delivered::Skipped(reason)) => {
                context
                    .console
                    .info(format!("{name}: nothing to do: {reason}"));
                skipped.push(name);
            }
            Err(error) => failed.push((name, error)),
        }
    }
    let listed = |names: &[ChannelName]| {
        names
            .iter()
            .map(|name| name.name())
            .collect::<Vec<_>>()
            .join(",")
    };
    context.outputs.set("sent", listed(&sent))?;
    context.outputs.set("skipped", listed(&skipped))?;
    let names: Vec<ChannelName> = failed.iter().map(|(name, _)| *name).collect();
    context.outputs.set("failed", listed(&names))?;
    verdict(plan, failed, context)
}

/// Warns of each failed channel; those that are required become the step's failure.
fn verdict(
    plan: &Plan,
    failed: Vec<(ChannelName, Undelivered)>,
    context: &Context,
) -> Result<(), Failure> {
    let (required, optional): (Vec<_>, Vec<_>) = failed
        .into_iter()
        .partition(|(name, _)| plan.required.contains(name));
    for (name, error) in &optional {
        warn(*name, error, context);
    }
    let names: Vec<ChannelName> = required.iter().map(|(name, _)| *name).collect();
    let mut required = required.into_iter();
    let Some((_, source)) = required.next() else {
        return Ok(());
    };
    for (name, error) in required {
        warn(name, &error, context);
    }
    let hint = source.hint();
    Err(Failure::remote(RequiredFailed { names, source }).maybe_hint(hint))
}

fn warn(name: ChannelName, error: &Undelivered, context: &Context) {
    let mut text = format!("{name}: {error}");
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.ends_with(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        cause = error.source();
    }
    if let Some(hint) = error.hint() {
        text.push_str("\nhint: ");
        text.push_str(hint);
    }
    context.console.warning("notify", text);
}

fn quoted(names: &[ChannelName]) -> String {
    names
        .iter()
        .map(|name| format!("`{name}`"))
        .collect::<Vec<_>>()
        .join(", ")
}
