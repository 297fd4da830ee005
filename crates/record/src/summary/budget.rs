//! How long each stage of a chain may take, and how long it took.
//!
//! Pure: a record and a time in, durations out.

use std::str::FromStr;

use jiff::{SignedDuration, Timestamp};
use thiserror::Error;

use crate::deployment::DeploymentRecord;
use crate::phase::Phase;

/// A stage of a chain, as workflows budget them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BudgetStage {
    /// From the claim to the backup of what is live.
    Validation,
    /// From there until the new workloads are ready.
    Deploy,
    /// Until the user's tests have passed.
    Test,
    /// From the first route write until the new side is confirmed at its full share.
    Switch,
    /// From there until the watch has ended.
    Monitor,
    /// From there until the old side is let go.
    Safety,
    /// From there to the end.
    Cleanup,
}

impl BudgetStage {
    /// Every stage, in order.
    pub const ALL: [Self; 7] = [
        Self::Validation,
        Self::Deploy,
        Self::Test,
        Self::Switch,
        Self::Monitor,
        Self::Safety,
        Self::Cleanup,
    ];

    /// The stage's name in budgets and summaries.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Validation => "validation",
            Self::Deploy => "deploy",
            Self::Test => "test",
            Self::Switch => "switch",
            Self::Monitor => "monitor",
            Self::Safety => "safety",
            Self::Cleanup => "cleanup",
        }
    }
}

/// A budget for each stage that has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Budgets {
    budgets: Vec<(BudgetStage, SignedDuration)>,
}

impl Budgets {
    /// No budgets: times are shown, nothing is judged.
    #[must_use]
    pub fn none() -> Self {
        Self {
            budgets: Vec::new(),
        }
    }

    /// The defaults of blue-green, in minutes: validation 5, deploy 12, test 8, switch 1,
    /// monitor 2, safety 10, cleanup 2.
    #[must_use]
    pub fn blue_green() -> Self {
        let minutes = [
            (BudgetStage::Validation, 5),
            (BudgetStage::Deploy, 12),
            (BudgetStage::Test, 8),
            (BudgetStage::Switch, 1),
            (BudgetStage::Monitor, 2),
            (BudgetStage::Safety, 10),
            (BudgetStage::Cleanup, 2),
        ];
        Self {
            budgets: minutes
                .into_iter()
                .map(|(stage, minutes)| (stage, SignedDuration::from_mins(minutes)))
                .collect(),
        }
    }

    /// The budget of a stage.
    #[must_use]
    pub fn of(&self, stage: BudgetStage) -> Option<SignedDuration> {
        let found = self.budgets.iter().find(|(named, _)| *named == stage);
        found.map(|(_, budget)| *budget)
    }
}

/// A text that is no list of budgets.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{given}` is not a budget: {rule}")]
pub struct InvalidBudget {
    /// The item.
    pub given: String,
    /// What is allowed.
    pub rule: &'static str,
}

impl FromStr for Budgets {
    type Err = InvalidBudget;

    /// Reads `name=minutes`, one per line or separated by commas; `deploy=12, switch=0.5`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut budgets: Vec<(BudgetStage, SignedDuration)> = Vec::new();
        let items = text.split(['\n', ',']).map(str::trim);
        for item in items.filter(|item| !item.is_empty()) {
            let invalid = |rule| InvalidBudget {
                given: item.to_owned(),
                rule,
            };
            let (name, minutes) = item
                .split_once('=')
                .ok_or_else(|| invalid("expected name=minutes"))?;
            let stage = BudgetStage::ALL
                .into_iter()
                .find(|stage| stage.as_str() == name.trim())
                .ok_or_else(|| {
                    invalid(
                        "the stages are validation, deploy, test, switch, monitor, safety, cleanup",
                    )
                })?;
            let minutes: f64 = minutes
                .trim()
                .parse()
                .ok()
                .filter(|minutes| (0.0..=100_000.0).contains(minutes))
                .ok_or_else(|| invalid("expected minutes, from 0 to 100000"))?;
            if budgets.iter().any(|(named, _)| *named == stage) {
                return Err(invalid("this stage is there twice"));
            }
            budgets.push((stage, SignedDuration::from_secs_f64(minutes * 60.0)));
        }
        Ok(Self { budgets })
    }
}

/// How long a stage took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StageTime {
    /// The stage.
    pub stage: BudgetStage,
    /// When it began.
    pub start: Timestamp,
    /// When it ended, or the time of asking.
    pub end: Timestamp,
    /// Whether it still goes on.
    pub is_running: bool,
}

impl StageTime {
    /// How long it took so far.
    #[must_use]
    pub fn duration(&self) -> SignedDuration {
        self.end.duration_since(self.start)
    }
}

/// The stages that a deployment went through, in order. A stage that it left on its way back
/// ends there.
#[must_use]
pub fn stage_times(record: &DeploymentRecord, now: Timestamp) -> Vec<StageTime> {
    let marks = Marks::of(record);
    BudgetStage::ALL
        .into_iter()
        .filter_map(|stage| marks.time_of(stage, now))
        .collect()
}

/// The moments between which the stages lie.
struct Marks {
    claimed: Option<Timestamp>,
    prepared: Option<Timestamp>,
    ready: Option<Timestamp>,
    tested: Option<Timestamp>,
    switching: Option<Timestamp>,
    soaking: Option<Timestamp>,
    watched: Option<Timestamp>,
    released: Option<Timestamp>,
    ended: Option<Timestamp>,
    turned_back: Option<Timestamp>,
}

impl Marks {
    fn of(record: &DeploymentRecord) -> Self {
        let first = |phases: &[Phase]| {
            let entries = record.phases.iter();
            let mut entries = entries.filter(|entry| phases.contains(&entry.name));
            entries.next().map(|entry| entry.at)
        };
        let first_write = record.journal.first().map(|entry| entry.at);
        let switching = first(&[Phase::Switching(1)]);
        let soaking = first(&[Phase::Soaking]);
        let prepared = first(&[Phase::BackedUp])
            .or(first(&[Phase::Migrated]))
            .or(first_write)
            .or(first(&[Phase::Applied, Phase::Ready, Phase::Tested]))
            // A deployment that only switches prepares nothing.
            .filter(|at| switching.is_none_or(|switching| *at <= switching));
        let mut watches = record.evidence.iter().filter(|seen| seen.step == "watch");
        Self {
            claimed: first(&[Phase::Claimed]),
            prepared,
            ready: first(&[Phase::Ready]).or(first(&[Phase::Tested])),
            tested: first(&[Phase::Tested]),
            switching,
            soaking,
            watched: watches
                .next_back()
                .map(|seen| seen.at)
                .filter(|at| Some(*at) >= soaking),
            released: first(&[Phase::Quieting]),
            ended: first(&[Phase::Succeeded]),
            turned_back: first(&[Phase::Abandoning, Phase::Reverting, Phase::NeedsPerson]),
        }
    }

    fn time_of(&self, stage: BudgetStage, now: Timestamp) -> Option<StageTime> {
        let (start, ends) = match stage {
            BudgetStage::Validation => (self.claimed, vec![self.prepared]),
            BudgetStage::Deploy => (self.prepared, vec![self.ready]),
            // Without tests there is no such stage.
            BudgetStage::Test => (self.ready.filter(|_| self.tests_ran()), vec![self.tested]),
            BudgetStage::Switch => (self.switching, vec![self.soaking]),
            BudgetStage::Monitor => (
                self.soaking
                    .filter(|_| self.watched.is_some() || !self.is_let_go()),
                vec![self.watched],
            ),
            BudgetStage::Safety => (
                self.watched.or(self.soaking.filter(|_| self.is_let_go())),
                vec![self.released, self.ended],
            ),
            BudgetStage::Cleanup => (self.released, vec![self.ended]),
        };
        let start = start?;
        // A step that was skipped ends with whatever came after it.
        let after = [
            self.switching,
            self.soaking,
            self.released,
            self.ended,
            self.turned_back,
        ];
        let known = ends.into_iter().flatten().min();
        let end = known.or_else(|| after.into_iter().flatten().filter(|at| *at > start).min());
        Some(StageTime {
            stage,
            start,
            end: end.unwrap_or(now).max(start),
            is_running: end.is_none(),
        })
    }

    fn tests_ran(&self) -> bool {
        self.tested.is_some() || self.switching.is_none()
    }

    fn is_let_go(&self) -> bool {
        self.released.is_some() || self.ended.is_some()
    }
}
