//! The summary of a chain, for people: what happened when, and how that compares with the budgets.
//!
//! Pure rendering of a deployment's record as GitHub markdown; refuses to know where it is shown.

mod budget;
mod escape;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt::Write as _;

use jiff::{SignedDuration, Timestamp};

use crate::deployment::{DeploymentRecord, Evidence, PhaseEntry};
use crate::journal::Outcome;
use crate::migration::MigrationEvent;
use crate::phase::Phase;
use escape::{code, label, link};

pub use budget::{BudgetStage, Budgets, InvalidBudget, StageTime, stage_times};

/// Most journal entries that the summary lists one by one.
const MAX_LISTED_ENTRIES: usize = 20;

/// The whole summary as markdown. `now` is the end of what still goes on.
#[must_use]
pub fn summary(record: &DeploymentRecord, budgets: &Budgets, now: Timestamp) -> String {
    let mut text = String::new();
    headline(&mut text, record);
    stages(&mut text, record, budgets, now);
    timeline(&mut text, record, now);
    gantt(&mut text, record, budgets, now);
    evidence(&mut text, &record.evidence);
    migrations(&mut text, record);
    journal(&mut text, record);
    text
}

// Writing to a String cannot fail, so the results of `write!` are let go throughout.

fn headline(text: &mut String, record: &DeploymentRecord) {
    let verdict = match &record.result {
        Some(result) => result.verdict.to_string(),
        None => format!("in phase {}", record.phase),
    };
    let _ = writeln!(
        text,
        "### {} of {}: {verdict}\n",
        record.kind,
        code(record.id.application())
    );
    let _ = writeln!(text, "| | |\n|---|---|");
    let mut row = |name: &str, value: String| {
        if !value.is_empty() {
            let _ = writeln!(text, "| {name} | {value} |");
        }
    };
    row(
        "version",
        code(record.version.as_deref().unwrap_or_default()),
    );
    row("commit", code(record.commit.as_deref().unwrap_or_default()));
    row("environment", code(record.id.environment()));
    row("side", sides(record));
    row("by", code(&record.actor));
    row("run", run(record));
    if let Some(reverts) = &record.reverts {
        row("reverts", code(&reverts.to_string()));
    }
    if let Some(cause) = record
        .result
        .as_ref()
        .and_then(|result| result.cause.as_ref())
    {
        row("cause", code(cause));
    }
    row("deployment", code(&record.id.to_string()));
    text.push('\n');
}

fn sides(record: &DeploymentRecord) -> String {
    let name = |side: &Option<crate::SideState>| {
        side.as_ref()
            .map_or_else(|| "none".to_owned(), |side| side.side.to_string())
    };
    match (&record.sides.from, &record.sides.to) {
        (None, None) => String::new(),
        (from, to) => format!("{} → {}", name(from), name(to)),
    }
}

fn run(record: &DeploymentRecord) -> String {
    let attempts = record.attempt();
    let name = match attempts {
        1 => record.run.run_id.clone(),
        more => format!("{}, attempt {more}", record.run.run_id),
    };
    match &record.run.url {
        Some(url) => link(&name, url),
        None => code(&name),
    }
}

fn stages(text: &mut String, record: &DeploymentRecord, budgets: &Budgets, now: Timestamp) {
    let times = stage_times(record, now);
    if times.is_empty() {
        return;
    }
    let _ = writeln!(text, "| stage | took | budget | |\n|---|---:|---:|---|");
    for time in &times {
        let took = time.duration();
        let budget = budgets.of(time.stage);
        let note = match (budget, time.is_running) {
            (Some(budget), _) if took > budget => format!("over by {}", duration(took - budget)),
            (_, true) => "goes on".to_owned(),
            (Some(_), false) => "within".to_owned(),
            (None, false) => String::new(),
        };
        let budget = budget.map_or_else(String::new, duration);
        let _ = writeln!(
            text,
            "| {} | {} | {budget} | {note} |",
            time.stage.as_str(),
            duration(took)
        );
    }
    text.push('\n');
}

fn timeline(text: &mut String, record: &DeploymentRecord, now: Timestamp) {
    let _ = writeln!(text, "| phase | entered | lasted | |\n|---|---|---:|---|");
    for (place, entry) in record.phases.iter().enumerate() {
        let lasted = if entry.name.is_terminal() {
            String::new()
        } else {
            duration(end_of(record, place, now).duration_since(entry.at))
        };
        let _ = writeln!(
            text,
            "| {} | {} | {lasted} | {} |",
            entry.name,
            entry.at.strftime("%Y-%m-%d %H:%M:%SZ"),
            note(entry)
        );
    }
    text.push('\n');
}

fn note(entry: &PhaseEntry) -> String {
    let attempt = match entry.attempt {
        0 | 1 => String::new(),
        more => format!("attempt {more} "),
    };
    format!(
        "{attempt}{}",
        code(entry.reason.as_deref().unwrap_or_default())
    )
    .trim_end()
    .to_owned()
}

/// When the phase in this place was left, or now.
fn end_of(record: &DeploymentRecord, place: usize, now: Timestamp) -> Timestamp {
    let next = record.phases.get(place + 1);
    let start = record.phases[place].at;
    next.map_or(now, |next| next.at).max(start)
}

fn gantt(text: &mut String, record: &DeploymentRecord, budgets: &Budgets, now: Timestamp) {
    let version = record.version.as_deref().unwrap_or_default();
    let title = format!("{} {version}", record.id.application());
    let _ = writeln!(
        text,
        "```mermaid\ngantt\n    title {}\n    dateFormat X\n    axisFormat %H:%M:%S",
        label(title.trim_end())
    );
    let _ = writeln!(text, "    section phases");
    for (place, entry) in record.phases.iter().enumerate() {
        if entry.name.is_terminal() {
            continue;
        }
        let is_last = place + 1 == record.phases.len();
        let state = match (entry.name, is_last) {
            (Phase::Reverting | Phase::Abandoning | Phase::NeedsPerson, _) => "crit",
            (_, true) => "active",
            (_, false) => "done",
        };
        let name = entry.name.to_string().replace(['(', ')'], " ");
        bar(
            text,
            name.trim_end(),
            state,
            entry.at,
            end_of(record, place, now),
        );
    }
    let _ = writeln!(text, "    section stages");
    for time in stage_times(record, now) {
        let is_over = budgets
            .of(time.stage)
            .is_some_and(|budget| time.duration() > budget);
        let state = match (is_over, time.is_running) {
            (true, _) => "crit",
            (false, true) => "active",
            (false, false) => "done",
        };
        bar(text, time.stage.as_str(), state, time.start, time.end);
    }
    let _ = writeln!(text, "```\n");
}

/// One bar. Mermaid draws nothing for a bar without length.
fn bar(text: &mut String, name: &str, state: &str, start: Timestamp, end: Timestamp) {
    let start = start.as_second();
    let end = end.as_second().max(start + 1);
    let _ = writeln!(text, "    {name} :{state}, {start}, {end}");
}

fn evidence(text: &mut String, evidence: &[Evidence]) {
    if evidence.is_empty() {
        return;
    }
    let _ = writeln!(
        text,
        "| checked by | result | level | proxies | probes | lost | loss at most (95 %) |\n\
         |---|---|---|---:|---:|---:|---:|"
    );
    for seen in evidence {
        let level = seen
            .level
            .map_or_else(String::new, |level| level.to_string());
        let replicas = seen.replicas.map_or_else(String::new, |replicas| {
            format!("{} of {}", replicas.confirmed, replicas.of)
        });
        let bound = seen
            .bound
            .map_or_else(String::new, |bound| format!("{:.4} %", bound * 100.0));
        let _ = writeln!(
            text,
            "| {} | {} | {level} | {replicas} | {} | {} | {bound} |",
            code(&seen.step),
            seen.verification,
            seen.probes,
            seen.lost
        );
    }
    text.push('\n');
}

fn migrations(text: &mut String, record: &DeploymentRecord) {
    let databases: BTreeSet<&str> = record
        .migrations
        .iter()
        .map(|entry| entry.database.as_str())
        .collect();
    if databases.is_empty() {
        return;
    }
    let _ = writeln!(text, "| database | migrations | plan |\n|---|---|---|");
    for database in databases {
        let entries = record.migrations.iter();
        let of_database = entries.filter(|entry| entry.database == database);
        let (mut digest, mut said) = (String::new(), Vec::new());
        for entry in of_database {
            match &entry.event {
                MigrationEvent::Begun { digest: of, .. } => digest = code(of),
                MigrationEvent::Attempt { schema, .. } => {
                    said.push(format!("{} begun", code(schema)));
                }
                MigrationEvent::Verified { schema } => {
                    said.push(format!("{} verified", code(schema)));
                }
                MigrationEvent::Stopped { schema, why } => {
                    said.push(format!("{} stopped: {}", code(schema), code(why)));
                }
                MigrationEvent::LimitsSet { role, .. } => {
                    said.push(format!("time limits of {} set", code(role)));
                }
                MigrationEvent::LimitsTakenBack
                | MigrationEvent::Ended { .. }
                | MigrationEvent::Resolving { .. }
                | MigrationEvent::Done => {}
            }
        }
        let said = said.join(", ");
        let _ = writeln!(text, "| {} | {said} | {digest} |", code(database));
    }
    text.push('\n');
}

fn journal(text: &mut String, record: &DeploymentRecord) {
    if record.journal.is_empty() {
        return;
    }
    let count = |outcome| {
        let entries = record.journal.iter();
        entries.filter(|entry| entry.outcome == outcome).count()
    };
    let _ = writeln!(
        text,
        "Changes: {}, of them {} applied, {} not applied, {} open, {} by somebody else\n",
        record.journal.len(),
        count(Outcome::Applied),
        count(Outcome::NotApplied),
        count(Outcome::Pending) + count(Outcome::Unknown),
        count(Outcome::Foreign),
    );
    let unapplied: Vec<_> = record
        .journal
        .iter()
        .filter(|entry| entry.outcome != Outcome::Applied)
        .collect();
    for entry in unapplied.iter().take(MAX_LISTED_ENTRIES) {
        let error = entry.error.as_deref().unwrap_or_default();
        let _ = writeln!(
            text,
            "- {} {} of {}: {} {}",
            entry.seq,
            code(&entry.operation),
            code(&entry.target.to_string()),
            outcome(entry.outcome),
            code(error)
        );
    }
    if unapplied.len() > MAX_LISTED_ENTRIES {
        let _ = writeln!(text, "- and {} more", unapplied.len() - MAX_LISTED_ENTRIES);
    }
    text.push('\n');
}

fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Pending => "open",
        Outcome::Applied => "applied",
        Outcome::NotApplied => "not applied",
        Outcome::Foreign => "changed by somebody else",
        Outcome::Unknown => "unknown",
    }
}

/// `1h 2m`, `3m 20s`, `4.2s`.
fn duration(time: SignedDuration) -> String {
    let seconds = time.as_secs().max(0);
    match seconds {
        0..60 => {
            let tenths = (time.as_millis().max(0) / 100) % 600;
            format!("{}.{}s", tenths / 10, tenths % 10)
        }
        60..3600 => format!("{}m {}s", seconds / 60, seconds % 60),
        _longer => format!("{}h {}m", seconds / 3600, seconds % 3600 / 60),
    }
}
