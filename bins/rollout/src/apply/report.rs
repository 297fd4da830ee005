//! What `apply` says: the plan, the differences, the outputs, the step's summary.

use std::fmt::Write as _;

use switchyard_manifest::Place;
use switchyard_manifest::diff::{self, Redaction};
use switchyard_record::Phase;
use switchyard_runner::{Context, Failure, summary::cell};

use super::prepare::{Plan, Planned};
use super::write::Written;
use crate::inputs::ApplyArgs;
use crate::ledger::Ledger;

/// Longest difference of one object in the summary, in bytes.
const SUMMARY_LIMIT: usize = 20_000;

/// Prints what will be done, with the differences of every object.
pub(super) fn show(context: &Context, args: &ApplyArgs, plan: &Plan) -> Result<(), Failure> {
    let console = &context.console;
    match plan.place {
        Some(place) => console.info(format!(
            "{place}{}",
            plan.previous
                .map_or_else(String::new, |side| format!(" beside the live side {side}"))
        )),
        None => console.info("in place"),
    }
    for note in &plan.notes {
        console.info(note);
    }
    let salt = Redaction::with_salt(rand::random());
    let changes: Vec<&Planned> = plan
        .objects
        .iter()
        .filter(|planned| planned.is_change())
        .collect();
    console.info(format!(
        "{} objects, {} to change",
        plan.objects.len(),
        changes.len()
    ));
    let mut markdown = String::new();
    for planned in changes {
        let text = difference(planned, &salt);
        // What is shown comes from manifests and from the cluster: untrusted in a runner's log.
        console.untrusted(planned.title(), &text);
        if args.plan {
            let _ = write!(markdown, "{}", details(&planned.title(), &text));
        }
    }
    if args.plan {
        context.summarize("rollout", &markdown);
    }
    Ok(())
}

fn difference(planned: &Planned, redaction: &Redaction) -> String {
    diff::render(
        &planned.title(),
        planned.object.kind(),
        planned.live.as_ref(),
        Some(&planned.after),
        redaction,
    )
}

fn details(title: &str, text: &str) -> String {
    let mut end = text.len().min(SUMMARY_LIMIT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let cut = if end < text.len() { "\n… (cut)" } else { "" };
    // A fence longer than any in the text keeps the text inside.
    let longest = text
        .split(|letter| letter != '`')
        .map(str::len)
        .max()
        .unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    format!(
        "<details><summary>{}</summary>\n\n{fence}diff\n{}{cut}\n{fence}\n</details>\n\n",
        cell(title),
        &text[..end]
    )
}

/// Sets the outputs of a plan that was not carried out.
pub(super) fn planned(context: &Context, ledger: &Ledger, plan: &Plan) -> Result<(), Failure> {
    let changed = plan
        .objects
        .iter()
        .filter(|planned| planned.is_change())
        .count();
    context.console.info("plan only: nothing was changed");
    outputs(context, ledger, plan)?;
    context.outputs.set("applied", 0)?;
    context.outputs.set("changed", changed)
}

/// Sets the outputs of a plan that was carried out, and writes the step's summary.
pub(super) fn applied(
    context: &Context,
    ledger: &Ledger,
    plan: &Plan,
    written: &Written,
) -> Result<(), Failure> {
    outputs(context, ledger, plan)?;
    context.outputs.set("applied", written.applied)?;
    context.outputs.set("changed", written.changed)?;
    context.console.info(format!(
        "applied {} objects, {} changed",
        written.applied, written.changed
    ));
    let mut table = format!(
        "### Applied {} objects{}, {} changed\n\n| object | |\n|---|---|\n",
        written.applied,
        match plan.place {
            None => String::new(),
            Some(Place::Slot(slot)) => format!(" into slot {slot}"),
            Some(Place::Canary) => " as a canary".to_owned(),
        },
        written.changed
    );
    for planned in &plan.objects {
        let what = match (&planned.live, planned.is_change()) {
            (None, _) => "created",
            (Some(_), true) => "changed",
            (Some(_), false) => "unchanged",
        };
        let _ = writeln!(table, "| {} | {what} |", cell(&planned.title()));
    }
    for note in &plan.notes {
        let _ = writeln!(table, "\n- {}", cell(note));
    }
    context.summarize("rollout", &table);
    Ok(())
}

fn outputs(context: &Context, ledger: &Ledger, plan: &Plan) -> Result<(), Failure> {
    let slot = plan.place.map_or("none", Place::as_str);
    let previous = plan.previous.map_or("", |side| side.as_str());
    context.outputs.set("slot", slot)?;
    context.outputs.set("previous-slot", previous)?;
    crate::outputs::deployment_id(context, ledger)
}

/// Sets the outputs of a deployment that was past this step already.
pub(super) fn already_done(
    context: &Context,
    ledger: &Ledger,
    phase: Phase,
) -> Result<(), Failure> {
    context.console.info(format!(
        "this deployment is in phase `{phase}`: its objects are applied already"
    ));
    let sides = ledger
        .record()
        .map(|record| record.sides.clone())
        .unwrap_or_default();
    let slot = sides.to.map_or("none", |to| crate::sides::word_of(to.side));
    context.outputs.set("slot", slot)?;
    let previous = sides.from.map_or("", |from| from.side.as_str());
    context.outputs.set("previous-slot", previous)?;
    context.outputs.set("applied", 0)?;
    context.outputs.set("changed", 0)?;
    crate::outputs::deployment_id(context, ledger)
}
