//! The checklist of a deployment's first hour: items with a window each, seen by checks or left to a person.
//!
//! It only tells: what a failed check leads to is decided elsewhere.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::rule::Verdict;

/// When an item is to be looked at, since the new version took its traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Window {
    /// In the first five minutes.
    #[serde(rename = "0-5")]
    First,
    /// Until half an hour.
    #[serde(rename = "5-30")]
    Second,
    /// From then on.
    #[serde(rename = "30+")]
    Third,
}

impl Window {
    /// All of them, in their order.
    pub const ALL: [Self; 3] = [Self::First, Self::Second, Self::Third];

    /// The window at a time since the new version took its traffic.
    #[must_use]
    pub fn at(elapsed: Duration) -> Self {
        match elapsed.as_secs() {
            0..300 => Self::First,
            300..1800 => Self::Second,
            1800.. => Self::Third,
        }
    }

    /// As written: minutes.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::First => "0-5",
            Self::Second => "5-30",
            Self::Third => "30+",
        }
    }
}

/// Where an item stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Its window has not come.
    Open,
    /// Seen, and good.
    Passed,
    /// Seen, and not good; it stays so.
    Failed,
    /// Its window came and nothing was seen of it.
    Unseen,
    /// A person has to look.
    Person,
    /// A person has looked.
    Confirmed,
}

/// An item of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Its name.
    pub name: String,
    /// Its window.
    pub window: Window,
    /// The checks that see it; a person does where there are none.
    pub checks: Vec<String>,
    /// Where it stands.
    pub state: State,
}

/// The items that every deployment has.
pub const STANDARD: [(&str, Window); 15] = [
    ("health", Window::First),
    ("database-connections", Window::First),
    ("queue-workers", Window::First),
    ("no-500s", Window::First),
    ("p95", Window::First),
    ("errors", Window::Second),
    ("critical-paths", Window::Second),
    ("memory-slope", Window::Second),
    ("failed-jobs", Window::Second),
    ("external-apis", Window::Second),
    ("leaks", Window::Third),
    ("query-time", Window::Third),
    ("cache-hits", Window::Third),
    ("complaints", Window::Third),
    ("business-metrics", Window::Third),
];

/// A list under way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checklist(Vec<Item>);

impl Checklist {
    /// The standard items and further ones, each with the checks that see it.
    #[must_use]
    pub fn new(bound: &[(String, Option<Window>, String)]) -> Self {
        let standard = STANDARD.iter().map(|(name, window)| (*name, *window));
        let further = bound.iter().map(|(item, window, _)| {
            let window = window.unwrap_or(Window::First);
            (item.as_str(), window)
        });
        let mut items: Vec<Item> = Vec::new();
        for (name, window) in standard.chain(further) {
            if items.iter().any(|item| item.name == name) {
                continue;
            }
            let checks = bound.iter().filter(|(item, _, _)| item == name);
            let checks: Vec<_> = checks.map(|(_, _, check)| check.clone()).collect();
            let state = if checks.is_empty() {
                State::Person
            } else {
                State::Open
            };
            items.push(Item {
                name: name.to_owned(),
                window,
                checks,
                state,
            });
        }
        items.sort_by_key(|item| item.window);
        Self(items)
    }

    /// The items, by window.
    #[must_use]
    pub fn items(&self) -> &[Item] {
        &self.0
    }

    /// Takes over where an earlier run left an item.
    pub fn resume(&mut self, name: &str, state: State) {
        if let Some(item) = self.0.iter_mut().find(|item| item.name == name) {
            item.state = match (item.state, state) {
                // It was for a person then, and is seen by a check now.
                (now, State::Person | State::Open) => now,
                (_, earlier) => earlier,
            };
        }
    }

    /// A person has looked at an item; whether there is one of that name.
    pub fn confirm(&mut self, name: &str) -> bool {
        let item = self.0.iter_mut().find(|item| item.name == name);
        item.is_some_and(|item| {
            item.state = State::Confirmed;
            true
        })
    }

    /// Takes a look's verdicts.
    pub fn look(&mut self, elapsed: Duration, verdict_of: impl Fn(&str) -> Option<Verdict>) {
        let now = Window::at(elapsed);
        for item in self.0.iter_mut().filter(|item| !item.checks.is_empty()) {
            if now < item.window {
                continue;
            }
            if now > item.window {
                if item.state == State::Open {
                    item.state = State::Unseen;
                }
                continue;
            }
            let verdicts: Vec<_> = item.checks.iter().map(|check| verdict_of(check)).collect();
            let fails = verdicts.contains(&Some(Verdict::Fail));
            let passes = verdicts
                .iter()
                .all(|verdict| *verdict == Some(Verdict::Pass));
            item.state = match item.state {
                State::Failed | State::Confirmed => item.state,
                State::Open | State::Passed | State::Unseen | State::Person if fails => {
                    State::Failed
                }
                State::Passed => State::Passed,
                State::Open | State::Unseen | State::Person if passes => State::Passed,
                State::Open | State::Unseen | State::Person => State::Unseen,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound() -> Vec<(String, Option<Window>, String)> {
        let bind = |item: &str, window, check: &str| (item.to_owned(), window, check.to_owned());
        vec![
            bind("health", None, "pods"),
            bind("health", None, "ready"),
            bind("leaks", None, "memory"),
            bind("invoices", Some(Window::Second), "invoices"),
        ]
    }

    fn state(list: &Checklist, name: &str) -> State {
        let mut items = list.items().iter();
        items.find(|item| item.name == name).unwrap().state
    }

    fn minutes(count: u64) -> Duration {
        Duration::from_secs(60 * count)
    }

    #[test]
    fn windows_follow_each_other() {
        let windows = [0, 4, 5, 29, 30, 600].map(|count| Window::at(minutes(count)).as_str());
        assert_eq!(windows, ["0-5", "0-5", "5-30", "5-30", "30+", "30+"]);
    }

    #[test]
    fn what_no_check_sees_is_for_a_person() {
        let mut list = Checklist::new(&bound());
        assert_eq!(list.items().len(), STANDARD.len() + 1);
        assert_eq!(state(&list, "complaints"), State::Person);
        list.look(minutes(600), |_| Some(Verdict::Pass));
        assert_eq!(state(&list, "complaints"), State::Person);
        assert!(list.confirm("complaints"));
        assert!(!list.confirm("compliments"));
        assert_eq!(state(&list, "complaints"), State::Confirmed);
    }

    #[test]
    fn an_item_passes_when_all_its_checks_do_in_its_window() {
        let mut list = Checklist::new(&bound());
        list.look(minutes(1), |check| {
            (check == "pods").then_some(Verdict::Pass)
        });
        assert_eq!(state(&list, "health"), State::Unseen);
        assert_eq!(state(&list, "invoices"), State::Open);
        list.look(minutes(2), |_| Some(Verdict::Pass));
        assert_eq!(state(&list, "health"), State::Passed);
        list.look(minutes(6), |_| Some(Verdict::Fail));
        assert_eq!(state(&list, "health"), State::Passed, "its window is over");
        assert_eq!(state(&list, "invoices"), State::Failed);
        list.look(minutes(7), |_| Some(Verdict::Pass));
        assert_eq!(state(&list, "invoices"), State::Failed, "failed is failed");
    }

    #[test]
    fn a_window_that_nobody_watched_is_unseen_unless_an_earlier_run_did() {
        let mut list = Checklist::new(&bound());
        list.look(minutes(31), |_| Some(Verdict::Pass));
        assert_eq!(state(&list, "health"), State::Unseen);
        assert_eq!(state(&list, "leaks"), State::Passed);
        let mut later = Checklist::new(&bound());
        later.resume("health", State::Passed);
        later.resume("leaks", State::Open);
        later.resume("of-another-time", State::Failed);
        later.look(minutes(31), |_| Some(Verdict::Pass));
        assert_eq!(state(&later, "health"), State::Passed);
        assert_eq!(state(&later, "leaks"), State::Passed);
    }
}
