//! What follows from the checks that fail: one action at a time.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a check is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Concern {
    /// Pods, restarts, health endpoints, database connections.
    Health,
    /// Failed requests.
    Errors,
    /// Latency and query time.
    Performance,
    /// CPU and memory.
    Capacity,
    /// Work that piles up.
    Queue,
    /// Everything else that is worth a look: business figures, caches.
    Business,
}

/// What is to be done. A later one outweighs those before it.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Keep it.
    #[default]
    None,
    /// Tell somebody; it stays.
    Alert,
    /// More pods.
    ScaleUp,
    /// Traffic to the old side, or what the user's hook does instead.
    CircuitBreak,
    /// Back to the old version.
    Rollback,
}

impl Action {
    /// The word in outputs and files.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Alert => "alert",
            Self::ScaleUp => "scale-up",
            Self::CircuitBreak => "circuit-break",
            Self::Rollback => "rollback",
        }
    }

    /// Whether the version may not stay under traffic: the gate says no.
    #[must_use]
    pub fn says_no(self) -> bool {
        match self {
            Self::None | Self::Alert | Self::ScaleUp => false,
            Self::CircuitBreak | Self::Rollback => true,
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// Which action follows from which concern.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Thresholds {
    /// A canary: whatever fails rolls back.
    #[default]
    Canary,
    /// A running service: each concern has its remedy.
    Runbook,
    /// After a deployment: health and errors roll back, performance only where it is critical.
    Deployment,
}

impl Thresholds {
    fn action(self, concern: Concern, is_critical: bool) -> Action {
        match (self, concern) {
            (Self::Canary, _) => Action::Rollback,
            (Self::Runbook | Self::Deployment, Concern::Health | Concern::Errors) => {
                Action::Rollback
            }
            (Self::Runbook, Concern::Performance | Concern::Business) => Action::Alert,
            (Self::Runbook, Concern::Capacity) => Action::ScaleUp,
            (Self::Runbook, Concern::Queue) => Action::CircuitBreak,
            (
                Self::Deployment,
                Concern::Performance | Concern::Capacity | Concern::Queue | Concern::Business,
            ) if is_critical => Action::Rollback,
            (
                Self::Deployment,
                Concern::Performance | Concern::Capacity | Concern::Queue | Concern::Business,
            ) => Action::Alert,
        }
    }
}

/// A check that fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failing {
    /// Its name.
    pub name: String,
    /// What it is about.
    pub concern: Concern,
    /// Whether a critical feature depends on it.
    pub is_critical: bool,
    /// What its author wants done, whatever the thresholds say.
    pub action: Option<Action>,
}

/// What is to be done, and which check says so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// The one action.
    pub action: Action,
    /// The check that it follows from.
    pub because_of: Option<String>,
}

/// Decides over everything that fails now: the weightiest action, and of several checks that ask for it the one whose
/// concern comes first (health before errors before performance).
#[must_use]
pub fn decide(thresholds: Thresholds, failing: &[Failing]) -> Decision {
    let asked = failing.iter().map(|check| {
        let by_thresholds = thresholds.action(check.concern, check.is_critical);
        (check.action.unwrap_or(by_thresholds), check)
    });
    let weightiest = asked.reduce(|one, other| {
        let outweighs = other.0 > one.0 || (other.0 == one.0 && other.1.concern < one.1.concern);
        if outweighs { other } else { one }
    });
    weightiest.map_or_else(Decision::default, |(action, check)| Decision {
        action,
        because_of: (action != Action::None).then(|| check.name.clone()),
    })
}

/// What was ordered during a watch: never two actions at once, and none again before the last one could show.
#[derive(Clone, Debug, Default)]
pub struct Ordered {
    last: Option<(Decision, u32)>,
    scale_ups: u32,
}

/// Looks that an action is given to show what it does.
pub const SETTLING_LOOKS: u32 = 3;

impl Ordered {
    /// What of `decision` is to be done at this look: nothing while an earlier action settles, unless this one outweighs
    /// it; nothing twice where once is enough; no more than `most_scale_ups`.
    pub fn next(&mut self, decision: &Decision, look: u32, most_scale_ups: u32) -> Action {
        let settles = |(last, at): &(Decision, u32)| {
            let is_fresh = look < at.saturating_add(SETTLING_LOOKS);
            let is_told = last.action == Action::Alert && *last == *decision;
            last.action >= decision.action && (is_fresh || is_told)
        };
        let is_exhausted = decision.action == Action::ScaleUp && self.scale_ups >= most_scale_ups;
        if decision.action == Action::None
            || is_exhausted
            || self.last.as_ref().is_some_and(settles)
        {
            return Action::None;
        }
        self.scale_ups += u32::from(decision.action == Action::ScaleUp);
        self.last = Some((decision.clone(), look));
        decision.action
    }

    /// The weight of what was ordered last.
    #[must_use]
    pub fn last(&self) -> Decision {
        let last = self.last.as_ref();
        last.map_or_else(Decision::default, |(decision, _)| decision.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failing(concern: Concern) -> Failing {
        Failing {
            name: format!("{concern:?}"),
            concern,
            is_critical: false,
            action: None,
        }
    }

    fn action(thresholds: Thresholds, concern: Concern) -> Action {
        decide(thresholds, &[failing(concern)]).action
    }

    const CONCERNS: [Concern; 6] = [
        Concern::Health,
        Concern::Errors,
        Concern::Performance,
        Concern::Capacity,
        Concern::Queue,
        Concern::Business,
    ];

    #[test]
    fn whatever_fails_rolls_a_canary_back() {
        for concern in CONCERNS {
            assert_eq!(action(Thresholds::Canary, concern), Action::Rollback);
        }
        assert_eq!(decide(Thresholds::Canary, &[]), Decision::default());
    }

    #[test]
    fn the_runbook_has_a_remedy_for_each_concern() {
        let actions = CONCERNS.map(|concern| action(Thresholds::Runbook, concern));
        assert_eq!(
            actions,
            [
                Action::Rollback,
                Action::Rollback,
                Action::Alert,
                Action::ScaleUp,
                Action::CircuitBreak,
                Action::Alert,
            ]
        );
    }

    #[test]
    fn after_a_deployment_critical_features_decide_over_performance() {
        let tree = Thresholds::Deployment;
        assert_eq!(action(tree, Concern::Health), Action::Rollback);
        assert_eq!(action(tree, Concern::Errors), Action::Rollback);
        assert_eq!(action(tree, Concern::Performance), Action::Alert);
        let critical = Failing {
            is_critical: true,
            ..failing(Concern::Performance)
        };
        assert_eq!(decide(tree, &[critical]).action, Action::Rollback);
    }

    #[test]
    fn of_several_the_weightiest_is_done_and_health_is_named_first() {
        let decision = decide(
            Thresholds::Runbook,
            &[
                failing(Concern::Queue),
                failing(Concern::Errors),
                failing(Concern::Health),
                failing(Concern::Capacity),
            ],
        );
        assert_eq!(decision.action, Action::Rollback);
        assert_eq!(decision.because_of.unwrap(), "Health");
    }

    #[test]
    fn a_check_may_ask_for_its_own_action() {
        let quiet = Failing {
            action: Some(Action::None),
            ..failing(Concern::Health)
        };
        assert_eq!(decide(Thresholds::Canary, &[quiet]), Decision::default());
        let loud = Failing {
            action: Some(Action::Rollback),
            ..failing(Concern::Business)
        };
        assert_eq!(
            decide(Thresholds::Runbook, &[loud]).action,
            Action::Rollback
        );
    }

    fn decision(action: Action) -> Decision {
        Decision {
            action,
            because_of: Some("it".to_owned()),
        }
    }

    #[test]
    fn an_action_is_given_time_before_the_next_one() {
        let mut ordered = Ordered::default();
        let up = decision(Action::ScaleUp);
        assert_eq!(ordered.next(&up, 1, 5), Action::ScaleUp);
        assert_eq!(ordered.next(&up, 2, 5), Action::None);
        assert_eq!(ordered.next(&decision(Action::Alert), 3, 5), Action::None);
        assert_eq!(ordered.next(&up, 1 + SETTLING_LOOKS, 5), Action::ScaleUp);
    }

    #[test]
    fn a_weightier_action_does_not_wait() {
        let mut ordered = Ordered::default();
        ordered.next(&decision(Action::ScaleUp), 1, 5);
        let back = decision(Action::Rollback);
        assert_eq!(ordered.next(&back, 2, 5), Action::Rollback);
        assert_eq!(ordered.last(), back);
    }

    #[test]
    fn more_pods_are_asked_for_a_bounded_number_of_times() {
        let mut ordered = Ordered::default();
        let asked = (0..50).map(|look| ordered.next(&decision(Action::ScaleUp), look, 2));
        assert_eq!(asked.filter(|action| *action == Action::ScaleUp).count(), 2);
    }

    #[test]
    fn nobody_is_told_the_same_twice() {
        let mut ordered = Ordered::default();
        let tell = decision(Action::Alert);
        assert_eq!(ordered.next(&tell, 1, 0), Action::Alert);
        assert_eq!(ordered.next(&tell, 40, 0), Action::None);
        let other = Decision {
            because_of: Some("another".to_owned()),
            ..tell
        };
        assert_eq!(ordered.next(&other, 41, 0), Action::Alert);
    }
}
