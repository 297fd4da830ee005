//! Sides: the versions of an application that are able to take traffic.
//!
//! Owns their names and the names of what belongs to them; refuses to know objects of a cluster.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use switchyard_manifest::Slot;

/// A text that names no side.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{given}` is not a side, allowed are {allowed}")]
pub struct UnknownSide {
    /// What was given.
    pub given: String,
    /// What would have been accepted.
    pub allowed: &'static str,
}

/// One version that is able to take traffic. Written as one word: `blue`, `green`, `stable`,
/// `canary` or `unslotted`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Side {
    /// A slot of blue-green.
    Slot(Slot),
    /// The main workload of a canary deployment.
    Stable,
    /// The small copy that a canary deployment tries first.
    Canary,
    /// An application without slots: deployed in place, or there before its first slot.
    Unslotted,
}

impl Side {
    /// The blue slot.
    pub const BLUE: Self = Self::Slot(Slot::Blue);
    /// The green slot.
    pub const GREEN: Self = Self::Slot(Slot::Green);
    /// Every side.
    pub const ALL: [Self; 5] = [
        Self::BLUE,
        Self::GREEN,
        Self::Stable,
        Self::Canary,
        Self::Unslotted,
    ];

    /// The word for this side, as in inputs, outputs and records.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Slot(slot) => slot.as_str(),
            Self::Stable => "stable",
            Self::Canary => "canary",
            Self::Unslotted => "unslotted",
        }
    }

    /// The slot, where this side is one.
    #[must_use]
    pub fn slot(self) -> Option<Slot> {
        match self {
            Self::Slot(slot) => Some(slot),
            Self::Stable | Self::Canary | Self::Unslotted => None,
        }
    }

    /// The name that an object with the unsuffixed name `base` has on this side: `web-green`,
    /// `web-canary`, and plain `web` for the stable and the unslotted side.
    #[must_use]
    pub fn object_name(self, base: &str) -> String {
        match self {
            Self::Slot(slot) => format!("{base}-{slot}"),
            Self::Canary => format!("{base}-canary"),
            Self::Stable | Self::Unslotted => base.to_owned(),
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Side {
    type Err = UnknownSide;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|side| side.as_str() == text)
            .ok_or_else(|| UnknownSide {
                given: text.to_owned(),
                allowed: "blue, green, stable, canary, unslotted",
            })
    }
}

impl TryFrom<String> for Side {
    type Error = UnknownSide;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Side> for String {
    fn from(side: Side) -> Self {
        side.as_str().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_side_is_read_back_from_its_word() {
        for side in Side::ALL {
            assert_eq!(side.as_str().parse(), Ok(side));
        }
    }

    #[test]
    fn an_unknown_side_names_what_is_allowed() {
        let error = "teal".parse::<Side>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "`teal` is not a side, allowed are blue, green, stable, canary, unslotted"
        );
    }

    #[test]
    fn only_slots_and_the_canary_have_suffixed_names() {
        let names: Vec<_> = Side::ALL.iter().map(|s| s.object_name("web")).collect();
        assert_eq!(names, ["web-blue", "web-green", "web", "web-canary", "web"]);
    }
}
