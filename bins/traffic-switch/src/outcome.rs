//! What is told of a run: outputs, the step's summary, and the failure that decides the exit code.

use std::collections::BTreeMap;
use std::time::Instant;

use serde_json::{Value, json};
use switchyard_record::Side;
use switchyard_runner::{Context, Failure, Kind, Signal, summary};
use switchyard_traffic::engine::{Front, Report};
use switchyard_traffic::machine::{Ending, Trouble, TroubleKind};
use switchyard_traffic::quiet::Quiet;

use crate::run::TITLE;

/// What comes next when the main workload of a canary has been updated and must not stay so.
pub(crate) const UNDO_FIRST: &str = "run `rollout undo`: it brings the main workload back to the version before; then `traffic-switch rollback` (or `rescue`) sends the traffic there";

/// What a run is told by.
pub(crate) struct Told<'run> {
    pub(crate) heading: String,
    pub(crate) deployment: String,
    pub(crate) fronts: &'run [Front],
    pub(crate) report: &'run Report,
    /// The word for an ending that is a success.
    pub(crate) result: &'static str,
    pub(crate) started: Instant,
}

/// Writes the outputs and the summary, and turns the ending into a result.
///
/// # Errors
/// The run did not end as it was asked to.
pub(crate) fn tell(context: &Context, told: &Told<'_>) -> Result<(), Failure> {
    let report = told.report;
    let outputs = &context.outputs;
    outputs.set("deployment-id", &told.deployment)?;
    outputs.set("changed", report.has_changed)?;
    let (active, previous) = standing(told.fronts);
    outputs.set(
        "active",
        active.map_or_else(String::new, |side| side.to_string()),
    )?;
    outputs.set(
        "previous",
        previous.map_or_else(String::new, |side| side.to_string()),
    )?;
    outputs.set("weights", weights(told.fronts))?;
    outputs.set("verified", report.level)?;
    outputs.set("evidence", evidence(report))?;
    let counts = report.counts.clone().unwrap_or_default();
    outputs.set("probes", counts.probes())?;
    outputs.set("lost", counts.lost_total())?;
    let bound = if counts.probes() > 0 {
        format!("{:.6}", counts.loss_bound())
    } else {
        String::new()
    };
    outputs.set("loss-bound", &bound)?;
    outputs.set("duration-ms", told.started.elapsed().as_millis())?;
    outputs.set("result", result_word(&report.ending, told.result))?;
    context.summarize(TITLE, &section(told));
    if counts.probes() > 0 {
        context.console.info(format!(
            "{} probes, {} lost: at 95 % confidence at most {:.3} % of requests were lost",
            counts.probes(),
            counts.lost_total(),
            counts.loss_bound() * 100.0
        ));
    }
    judge(context, &report.ending)
}

fn result_word(ending: &Ending, success: &'static str) -> &'static str {
    match ending {
        Ending::Done => success,
        Ending::Reverted(_) => "rolled-back",
        Ending::ThroughCanary(_) => "through-canary",
        Ending::Sheltered(_) => "sheltered",
        Ending::Refused(_)
        | Ending::Stuck { .. }
        | Ending::NeedsPerson(_)
        | Ending::Cancelled
        | Ending::Preempted(_)
        | Ending::Replaced(_) => "failed",
    }
}

fn judge(context: &Context, ending: &Ending) -> Result<(), Failure> {
    match ending {
        Ending::Done => Ok(()),
        Ending::Refused(trouble) => Err(failure(trouble, "nothing was switched")),
        Ending::Reverted(trouble) => {
            Err(failure(trouble, "traffic is back where it was").title("traffic went back"))
        }
        Ending::ThroughCanary(None) => {
            context.console.warning(TITLE, format!("all traffic is on the canary, which runs the new version; the main workload has none and may be undone: {UNDO_FIRST}"));
            Ok(())
        }
        Ending::ThroughCanary(Some(trouble)) => Err(Failure::message(
            kind_of(trouble),
            format!(
                "{}; all traffic is on the canary, and the main workload has none",
                trouble.reason
            ),
        )
        .title("traffic is on the canary")
        .maybe_hint(trouble.hint.clone())
        .hint(UNDO_FIRST)),
        Ending::Sheltered(trouble) => Err(failure(
            trouble,
            "all traffic is on the other side, which has the pods for it",
        )
        .title("traffic left a side without endpoints")
        .hint("when they are ready again, `traffic-switch rollback` sends the traffic back; `rescue` does so too, and waits for them")),
        Ending::Replaced(trouble) => Err(failure(trouble, "stopped without writing anything more")),
        Ending::NeedsPerson(trouble) => {
            Err(failure(trouble, "a person has to decide").title("needs a person"))
        }
        Ending::Stuck { cause, trouble } => {
            let why = cause
                .as_ref()
                .map(|cause| format!("; the way back was taken because {}", cause.reason));
            let text = format!(
                "the way back did not end: {}{}",
                trouble.reason,
                why.unwrap_or_default()
            );
            Err(Failure::message(kind_of(trouble), text)
                .title("the way back did not end")
                .hint("run `traffic-switch rescue` again: it goes on where this stopped")
                .maybe_hint(trouble.hint.clone()))
        }
        Ending::Cancelled => {
            let signal = context.cancel.requested().unwrap_or(Signal::Terminate);
            Err(Failure::message(Kind::Cancelled(signal), "stopped at a safe point")
                .hint("the record tells how far it came; `traffic-switch rescue` takes it back, a re-run goes on"))
        }
        Ending::Preempted(by) => Err(Failure::message(Kind::Gate, format!("rolled back by {by}"))
            .hint("the rollback goes on elsewhere; nothing more is to be done here")),
    }
}

/// A trouble as a failure of its kind, with what it means for the traffic.
pub(crate) fn failure(trouble: &Trouble, meaning: &str) -> Failure {
    Failure::message(kind_of(trouble), format!("{}; {meaning}", trouble.reason))
        .maybe_hint(trouble.hint.clone())
}

fn kind_of(trouble: &Trouble) -> Kind {
    match trouble.kind {
        TroubleKind::Gate
        | TroubleKind::Foreign { .. }
        | TroubleKind::Deserted
        | TroubleKind::Replaced => Kind::Gate,
        TroubleKind::Remote => Kind::Remote,
    }
}

/// The side with the most traffic, and the other one.
pub(crate) fn standing(fronts: &[Front]) -> (Option<Side>, Option<Side>) {
    let Some(front) = fronts.first() else {
        return (None, None);
    };
    let shares = shares(front);
    let of = |side: Side| shares.get(&side).copied().unwrap_or(0);
    let (taking, giving) = (front.roles.taking.side, front.roles.giving.side);
    if of(giving) > of(taking) {
        (Some(giving), Some(taking))
    } else {
        (Some(taking), Some(giving))
    }
}

/// Percent by side of one target.
pub(crate) fn shares(front: &Front) -> BTreeMap<Side, u8> {
    switchyard_traffic::engine::side_shares(front)
}

fn weights(fronts: &[Front]) -> String {
    let of = |front: &Front| -> Value {
        shares(front)
            .into_iter()
            .map(|(side, percent)| (side.to_string(), Value::from(percent)))
            .collect::<serde_json::Map<_, _>>()
            .into()
    };
    let all: Vec<(String, Value)> = fronts
        .iter()
        .map(|front| (front.target.to_string(), of(front)))
        .collect();
    match all.first() {
        None => "{}".to_owned(),
        Some((_, first)) if all.iter().all(|(_, weights)| weights == first) => first.to_string(),
        Some(_) => Value::Object(all.into_iter().collect()).to_string(),
    }
}

fn evidence(report: &Report) -> String {
    let quiet = report.quiet.as_ref().map(|quiet| match quiet {
        Quiet::Verified => "verified",
        Quiet::NotYet { .. } => "not quiet",
        Quiet::HeldUnverified => "held, not verified",
    });
    let by_version = report
        .counts
        .as_ref()
        .map(|counts| json!({"answers": counts.by_version, "lost": counts.lost}));
    json!({
        "level": report.level,
        "targets": report.targets,
        "front_door": report.front_door,
        "quiet": quiet,
        "answers": by_version,
        "decision_to_evidence_ms": report.decision_to_evidence.map(|taken| u64::try_from(taken.as_millis()).unwrap_or(u64::MAX)),
    })
    .to_string()
}

fn section(told: &Told<'_>) -> String {
    let report = told.report;
    let mut text = format!(
        "### {}\n\n| target | traffic | endpoints | proxies |\n|---|---|---|---|\n",
        summary::cell(&told.heading)
    );
    for front in told.fronts {
        let name = front.target.to_string();
        let seen = report.targets.iter().find(|target| target.target == name);
        let endpoints = seen.map_or_else(
            || "not looked at".to_owned(),
            |target| target.endpoints.to_string(),
        );
        let proxies = seen.map(|target| {
            let parts = target
                .proxies
                .iter()
                .map(|one| format!("{} {} of {}", one.proxy, one.confirmed, one.of));
            parts.collect::<Vec<_>>().join(", ")
        });
        let proxies = proxies
            .filter(|text| !text.is_empty())
            .unwrap_or_else(|| "none asked".to_owned());
        let cells =
            [name, front.routing.describe(), endpoints, proxies].map(|text| summary::cell(&text));
        text.push_str(&format!("| {} |\n", cells.join(" | ")));
    }
    text.push_str(&format!("\nVerified: **{}**.", report.level));
    if let Some(counts) = report.counts.as_ref().filter(|counts| counts.probes() > 0) {
        text.push_str(&format!(
            " {} probes, {} lost; at 95 % confidence at most {:.3} % of requests were lost.",
            counts.probes(),
            counts.lost_total(),
            counts.loss_bound() * 100.0
        ));
    }
    if let Some(Quiet::HeldUnverified | Quiet::NotYet { .. }) = &report.quiet {
        text.push_str(" That requests in flight had ended was waited for, not verified.");
    }
    text.push('\n');
    text
}
