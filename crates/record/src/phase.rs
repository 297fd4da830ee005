//! The phases of a deployment and which one may follow which.
//!
//! Pure: it refuses to know clusters, records and time.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// How a deployment reaches its users, which decides the phases it goes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Chain {
    /// The live workload itself is updated; there is no second side.
    InPlace,
    /// A second side comes up beside the live one, then the route moves.
    Slots,
    /// A canary takes shares of the traffic, then the main workload is updated.
    Canary,
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InPlace => "in-place",
            Self::Slots => "slots",
            Self::Canary => "canary",
        })
    }
}

/// Where a deployment stands. Written as one word, with the stage from 1 where there are
/// stages: `switching(1)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Phase {
    /// The application is ours; nothing was changed.
    Claimed,
    /// What is live was backed up.
    BackedUp,
    /// The database was migrated.
    Migrated,
    /// The new version's objects were applied.
    Applied,
    /// The new version's workloads are ready.
    Ready,
    /// The user's tests passed.
    Tested,
    /// The route is being moved to the share of this stage.
    Switching(u16),
    /// The share of this stage is confirmed and watched.
    Holding(u16),
    /// The main workload is being updated behind the canary.
    Promoting,
    /// The new version takes all traffic and is watched.
    Soaking,
    /// The old side has lost its traffic and is becoming quiet.
    Quieting,
    /// The old side was scaled down.
    Retired,
    /// Ended: the new version is live.
    Succeeded,
    /// Failed before its first switch: the new side is being taken away.
    Abandoning,
    /// Ended: nothing of it ever took traffic.
    Abandoned,
    /// Failed after its first switch: traffic is going back.
    Reverting,
    /// Ended: the version before it is live.
    RolledBack,
    /// What is live agrees with neither side of a step; a person decides.
    NeedsPerson,
    /// Ended: a person settled it, a later deployment took the application over.
    Superseded,
}

/// What an [`advance`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advance {
    /// The phase is entered.
    Enter(Phase),
    /// The deployment is in this phase or already past it: a completed phase is a no-op.
    AlreadyThere,
}

/// A phase that may not follow the present one.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("a deployment ({chain}) in phase `{current}` cannot enter `{to}`")]
pub struct PhaseRefused {
    /// The deployment's chain.
    pub chain: Chain,
    /// Where it stands.
    pub current: Phase,
    /// Where it was to go.
    pub to: Phase,
}

impl PhaseRefused {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        if self.current.is_terminal() {
            return format!(
                "this deployment has ended ({}); start a new one",
                self.current
            );
        }
        match self.current {
            Phase::Abandoning | Phase::Reverting => {
                "it is on its way back; let `traffic-switch rescue` finish that first".to_owned()
            }
            Phase::NeedsPerson => {
                "compare what is live with the record (`traffic-switch status`), \
                 then order `traffic-switch rollback`, or start a new deployment with \
                 `new-deployment: true` once the live state is right"
                    .to_owned()
            }
            Phase::Claimed
            | Phase::BackedUp
            | Phase::Migrated
            | Phase::Applied
            | Phase::Ready
            | Phase::Tested
            | Phase::Switching(_)
            | Phase::Holding(_)
            | Phase::Promoting
            | Phase::Soaking
            | Phase::Quieting
            | Phase::Retired
            | Phase::Succeeded
            | Phase::Abandoned
            | Phase::RolledBack
            | Phase::Superseded => {
                "run the steps of the chain in their order, against one deployment id".to_owned()
            }
        }
    }
}

impl Phase {
    /// Whether the deployment has ended here: nothing leaves such a phase, and the application
    /// is free for the next deployment.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        matches!(
            self,
            Self::Succeeded | Self::Abandoned | Self::RolledBack | Self::Superseded
        )
    }

    /// Whether this phase lies before the first write that can move live traffic.
    #[must_use]
    pub fn is_before_switch(self, chain: Chain) -> bool {
        self.rank()
            .is_some_and(|rank| rank < first_live_rank(chain))
    }

    /// Whether the deployment is on its way back or has gone back.
    #[must_use]
    pub fn is_backward(self) -> bool {
        matches!(
            self,
            Self::Abandoning | Self::Abandoned | Self::Reverting | Self::RolledBack
        )
    }

    /// Whether a deployment that stands here has completed `earlier` on its way forward.
    #[must_use]
    pub fn has_passed(self, earlier: Self) -> bool {
        match (self.rank(), earlier.rank()) {
            (Some(current), Some(earlier)) => current >= earlier,
            (None, _) | (_, None) => self == earlier,
        }
    }

    /// Place on the way forward: (step, stage, part of the stage). Nothing for phases beside it.
    fn rank(self) -> Option<(u8, u16, u8)> {
        match self {
            Self::Claimed => Some((0, 0, 0)),
            Self::BackedUp => Some((1, 0, 0)),
            Self::Migrated => Some((2, 0, 0)),
            Self::Applied => Some((3, 0, 0)),
            Self::Ready => Some((4, 0, 0)),
            Self::Tested => Some((5, 0, 0)),
            Self::Switching(stage) => Some((6, stage, 0)),
            Self::Holding(stage) => Some((6, stage, 1)),
            Self::Promoting => Some((7, 0, 0)),
            Self::Soaking => Some((8, 0, 0)),
            Self::Quieting => Some((9, 0, 0)),
            Self::Retired => Some((10, 0, 0)),
            Self::Succeeded => Some((11, 0, 0)),
            Self::Abandoning
            | Self::Abandoned
            | Self::Reverting
            | Self::RolledBack
            | Self::NeedsPerson
            | Self::Superseded => None,
        }
    }
}

/// The first phase in which live traffic may have been touched.
fn first_live_rank(chain: Chain) -> (u8, u16, u8) {
    match chain {
        // Applying in place changes what is live.
        Chain::InPlace => (3, 0, 0),
        Chain::Slots | Chain::Canary => (6, 0, 0),
    }
}

/// Decides whether a deployment may go from `current` to `to`.
///
/// Entering the present phase again, or one that was completed on the way here, is a no-op.
///
/// # Errors
/// The graph has no such edge. After the first switch there is none to `abandoned`, and none
/// leaves a terminal phase.
pub fn advance(chain: Chain, current: Phase, to: Phase) -> Result<Advance, PhaseRefused> {
    if current == to {
        return Ok(Advance::AlreadyThere);
    }
    let refused = PhaseRefused { chain, current, to };
    if current.is_terminal() {
        return Err(refused);
    }
    if let (Some(from), Some(target)) = (current.rank(), to.rank())
        && target < from
    {
        return if exists_in(chain, to) {
            Ok(Advance::AlreadyThere)
        } else {
            Err(refused)
        };
    }
    if is_edge(chain, current, to) {
        Ok(Advance::Enter(to))
    } else {
        Err(refused)
    }
}

/// Whether a chain has this phase at all.
fn exists_in(chain: Chain, phase: Phase) -> bool {
    match phase {
        Phase::Switching(stage) | Phase::Holding(stage) => chain != Chain::InPlace && stage > 0,
        Phase::Promoting => chain == Chain::Canary,
        Phase::Quieting | Phase::Retired => chain != Chain::InPlace,
        Phase::Claimed
        | Phase::BackedUp
        | Phase::Migrated
        | Phase::Applied
        | Phase::Ready
        | Phase::Tested
        | Phase::Soaking
        | Phase::Succeeded
        | Phase::Abandoning
        | Phase::Abandoned
        | Phase::Reverting
        | Phase::RolledBack
        | Phase::NeedsPerson
        | Phase::Superseded => true,
    }
}

fn is_edge(chain: Chain, current: Phase, to: Phase) -> bool {
    if !exists_in(chain, to) {
        return false;
    }
    match current {
        Phase::Claimed
        | Phase::BackedUp
        | Phase::Migrated
        | Phase::Applied
        | Phase::Ready
        | Phase::Tested => is_edge_before_switch(chain, current, to),
        Phase::Switching(stage) => {
            to == Phase::Holding(stage) || is_last_stage_done(chain, to) || leads_back(to)
        }
        Phase::Holding(stage) => {
            stage.checked_add(1).map(Phase::Switching) == Some(to)
                || is_last_stage_done(chain, to)
                || leads_back(to)
        }
        Phase::Promoting => to == Phase::Soaking || leads_back(to),
        Phase::Soaking => matches!(to, Phase::Quieting | Phase::Succeeded) || leads_back(to),
        // The old side's size is no condition of success: what cannot be scaled down is left.
        Phase::Quieting => matches!(to, Phase::Retired | Phase::Succeeded) || leads_back(to),
        Phase::Retired => to == Phase::Succeeded || leads_back(to),
        Phase::Abandoning => matches!(to, Phase::Abandoned | Phase::NeedsPerson),
        Phase::Reverting => matches!(to, Phase::RolledBack | Phase::NeedsPerson),
        // Only by order of a person. Whether it had switched is not known here: see
        // `DeploymentRecord::advance`, which looks at the phases before.
        Phase::NeedsPerson => {
            matches!(to, Phase::Abandoning | Phase::Reverting | Phase::Superseded)
        }
        Phase::Succeeded | Phase::Abandoned | Phase::RolledBack | Phase::Superseded => false,
    }
}

/// Steps before the switch may be left out (no backup, no tests), but never gone through in
/// another order.
fn is_edge_before_switch(chain: Chain, current: Phase, to: Phase) -> bool {
    match to {
        Phase::BackedUp | Phase::Migrated | Phase::Applied | Phase::Ready | Phase::Tested => {
            current.rank() < to.rank()
        }
        Phase::Switching(stage) => stage == 1,
        // In place, applying is the switch, so there is no abandoning after it; and a first
        // write that was cut short must be undone although `applied` was not reached.
        Phase::Soaking => chain == Chain::InPlace && !current.is_before_switch(chain),
        Phase::Abandoning => current.is_before_switch(chain),
        Phase::Reverting => chain == Chain::InPlace,
        Phase::NeedsPerson => true,
        Phase::Claimed
        | Phase::Holding(_)
        | Phase::Promoting
        | Phase::Quieting
        | Phase::Retired
        | Phase::Succeeded
        | Phase::Abandoned
        | Phase::RolledBack
        | Phase::Superseded => false,
    }
}

/// What follows the last stage: a canary's main workload is promoted, a slot is simply live.
fn is_last_stage_done(chain: Chain, to: Phase) -> bool {
    to == Phase::Promoting || (chain == Chain::Slots && to == Phase::Soaking)
}

fn leads_back(to: Phase) -> bool {
    matches!(to, Phase::Reverting | Phase::NeedsPerson)
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Claimed => f.write_str("claimed"),
            Self::BackedUp => f.write_str("backed_up"),
            Self::Migrated => f.write_str("migrated"),
            Self::Applied => f.write_str("applied"),
            Self::Ready => f.write_str("ready"),
            Self::Tested => f.write_str("tested"),
            Self::Switching(stage) => write!(f, "switching({stage})"),
            Self::Holding(stage) => write!(f, "holding({stage})"),
            Self::Promoting => f.write_str("promoting"),
            Self::Soaking => f.write_str("soaking"),
            Self::Quieting => f.write_str("quieting"),
            Self::Retired => f.write_str("retired"),
            Self::Succeeded => f.write_str("succeeded"),
            Self::Abandoning => f.write_str("abandoning"),
            Self::Abandoned => f.write_str("abandoned"),
            Self::Reverting => f.write_str("reverting"),
            Self::RolledBack => f.write_str("rolled_back"),
            Self::NeedsPerson => f.write_str("needs_person"),
            Self::Superseded => f.write_str("superseded"),
        }
    }
}

/// A text that names no phase.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{0}` is not a phase of a deployment")]
pub struct UnknownPhase(pub String);

impl FromStr for Phase {
    type Err = UnknownPhase;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let unknown = || UnknownPhase(text.to_owned());
        let staged = |prefix: &str| -> Option<u16> {
            let digits = text.strip_prefix(prefix)?.strip_suffix(')')?;
            let stage: u16 = digits.parse().ok()?;
            (stage > 0 && digits == stage.to_string()).then_some(stage)
        };
        if let Some(stage) = staged("switching(") {
            return Ok(Self::Switching(stage));
        }
        if let Some(stage) = staged("holding(") {
            return Ok(Self::Holding(stage));
        }
        Self::UNSTAGED
            .into_iter()
            .find(|phase| phase.to_string() == text)
            .ok_or_else(unknown)
    }
}

impl Phase {
    /// Every phase without stages.
    const UNSTAGED: [Self; 17] = [
        Self::Claimed,
        Self::BackedUp,
        Self::Migrated,
        Self::Applied,
        Self::Ready,
        Self::Tested,
        Self::Promoting,
        Self::Soaking,
        Self::Quieting,
        Self::Retired,
        Self::Succeeded,
        Self::Abandoning,
        Self::Abandoned,
        Self::Reverting,
        Self::RolledBack,
        Self::NeedsPerson,
        Self::Superseded,
    ];
}

impl TryFrom<String> for Phase {
    type Error = UnknownPhase;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Phase> for String {
    fn from(phase: Phase) -> Self {
        phase.to_string()
    }
}

#[cfg(test)]
mod tests;
