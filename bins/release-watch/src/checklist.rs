//! Which checks see which items of the checklist, where its windows begin, and how it is told.

use std::fmt::Write as _;
use std::time::Duration;

use jiff::Timestamp;
use switchyard_record::{ChecklistEntry, DeploymentRecord, Phase};
use switchyard_runner::summary::cell;
use switchyard_runner::{Failure, Kind};
use switchyard_verdict::checklist::{Checklist, State, Window};
use switchyard_verdict::{Action, Concern, Policies, Policy, Rule};

use crate::plan::{Planned, Source, View};
use crate::running::Running;

/// Errors of the second window: below a tenth of a percent.
const FEW_ERRORS: f64 = 0.001;

/// A checklist of a watch, and when its windows began.
pub(crate) struct Kept {
    list: Checklist,
    /// How long the new version had its traffic when the watch began.
    before: Duration,
}

/// Two items are stricter than any release is rolled back for, so they have checks of their own, on what the watch counts
/// anyway: no failed request at all, and fewer than one of a thousand. They only tell.
pub(crate) fn strict(planned: &[Planned], min_requests: u64) -> Vec<Planned> {
    let counts = |one: &&Planned| match &one.source {
        Source::FrontDoor(view) => *view != View::Latency,
        Source::Counts { .. } => one.item.is_none(),
        Source::Pods(_) | Source::Http(_) | Source::Value { .. } => false,
    };
    // The new version's own requests, where they are told apart.
    let Some(source) = planned.iter().rfind(counts).map(|one| &one.source) else {
        return Vec::new();
    };
    let source = match source {
        Source::Counts { canary, .. } => Source::Counts {
            canary: canary.clone(),
            baseline: None,
        },
        Source::Pods(_) | Source::Http(_) | Source::FrontDoor(_) | Source::Value { .. } => {
            source.clone()
        }
    };
    let check = |name: &str, item: &str, limit| Planned {
        name: name.to_owned(),
        concern: Concern::Errors,
        is_critical: false,
        action: Some(Action::None),
        rule: Rule::Rate {
            limit: Some(limit),
            tolerance: None,
            min_requests,
        },
        consecutive: 1,
        policies: Policies {
            no_data: Policy::Ignore,
            error: Policy::Ignore,
        },
        source: source.clone(),
        item: Some((item.to_owned(), None)),
    };
    vec![
        check("checklist: no 500s", "no-500s", 0.0),
        check("checklist: errors below 0.1 %", "errors", FEW_ERRORS),
    ]
}

/// The item that a check sees: the one it names, else the one of its concern.
fn item_of(one: &Planned) -> Option<(String, Option<Window>)> {
    if let Some(named) = &one.item {
        return Some(named.clone());
    }
    let is_judged = match &one.rule {
        Rule::Health | Rule::Rate { .. } | Rule::Latency { .. } => true,
        Rule::Value {
            limit, tolerance, ..
        } => limit.is_some() || tolerance.is_some(),
    };
    let item = match one.concern {
        _ if !is_judged => return None,
        _ if one.is_critical => "critical-paths",
        Concern::Health => "health",
        Concern::Performance if one.name.contains("p95") => "p95",
        Concern::Queue => "queue-workers",
        Concern::Business => "business-metrics",
        Concern::Errors | Concern::Performance | Concern::Capacity => return None,
    };
    Some((item.to_owned(), None))
}

impl Kept {
    /// The list of these checks, gone on from the record, with what a person has looked at.
    ///
    /// # Errors
    /// There is no item of that name.
    pub(crate) fn begin(
        planned: &[Planned],
        record: Option<&DeploymentRecord>,
        checked: &[String],
    ) -> Result<Self, Failure> {
        let bound = planned.iter().filter_map(|one| {
            let (item, window) = item_of(one)?;
            Some((item, window, one.name.clone()))
        });
        let bound: Vec<_> = bound.collect();
        let mut list = Checklist::new(&bound);
        for entry in record.iter().flat_map(|record| &record.checklist) {
            // What another version of this program wrote is nothing to go on from.
            let state = serde_json::from_value(entry.state.as_str().into());
            if let Ok(state) = state {
                list.resume(&entry.item, state);
            }
        }
        for item in checked {
            if !list.confirm(item) {
                let names = list.items().iter().map(|item| item.name.as_str());
                let names: Vec<_> = names.collect();
                let text = format!("input `checked`: `{item}` is no item of the checklist");
                return Err(Failure::message(Kind::Input, text)
                    .hint(format!("its items are {}", names.join(", "))));
            }
        }
        let began = record.and_then(took_traffic);
        let before = began.map_or(Duration::ZERO, |began| {
            let passed = Timestamp::now().duration_since(began);
            Duration::try_from(passed).unwrap_or_default()
        });
        Ok(Self { list, before })
    }

    /// Takes what the checks say at a time since the watch began.
    pub(crate) fn look(&mut self, elapsed: Duration, running: &[Running]) {
        self.list.look(self.before + elapsed, |name| {
            let check = running.iter().find(|one| one.planned.name == name)?;
            check.check.last().map(|last| last.verdict)
        });
    }

    /// For the record.
    pub(crate) fn entries(&self, at: Timestamp) -> Vec<ChecklistEntry> {
        let items = self.list.items().iter();
        let entries = items.map(|item| ChecklistEntry {
            item: item.name.clone(),
            state: word(item.state).to_owned(),
            at,
        });
        entries.collect()
    }

    /// For the summary.
    pub(crate) fn markdown(&self) -> String {
        let mut text = String::from("**Checklist**\n");
        for window in Window::ALL {
            let _ = writeln!(text, "\nMinutes {}:\n", window.as_str());
            let items = self.list.items().iter();
            for item in items.filter(|item| item.window == window) {
                let checks = cell(&item.checks.join(", "));
                let (mark, seen) = match item.state {
                    State::Open => (" ", "its time has not come".to_owned()),
                    State::Passed if checks.is_empty() => {
                        ("x", "seen by an earlier run".to_owned())
                    }
                    State::Passed => ("x", format!("seen by {checks}")),
                    State::Failed => (" ", format!("**failed**: {checks}")),
                    State::Unseen => (" ", "nothing was seen of it".to_owned()),
                    State::Person => (" ", "for a person".to_owned()),
                    State::Confirmed => ("x", "a person has looked".to_owned()),
                };
                let _ = writeln!(text, "- [{mark}] {}: {seen}", cell(&item.name));
            }
        }
        text
    }
}

/// When the new version took its whole traffic, or its first share of it.
fn took_traffic(record: &DeploymentRecord) -> Option<Timestamp> {
    let of = |wanted: fn(&Phase) -> bool| {
        let entry = record.phases.iter().find(|entry| wanted(&entry.name));
        entry.map(|entry| entry.at)
    };
    of(|phase| *phase == Phase::Soaking)
        .or_else(|| of(|phase| matches!(phase, Phase::Switching(_))))
}

fn word(state: State) -> &'static str {
    match state {
        State::Open => "open",
        State::Passed => "passed",
        State::Failed => "failed",
        State::Unseen => "unseen",
        State::Person => "person",
        State::Confirmed => "confirmed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_back() {
        for state in [
            State::Open,
            State::Passed,
            State::Failed,
            State::Unseen,
            State::Person,
            State::Confirmed,
        ] {
            let read: State = serde_json::from_value(word(state).into()).unwrap();
            assert_eq!(read, state);
        }
    }
}
