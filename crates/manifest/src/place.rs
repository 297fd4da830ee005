//! Where the objects of a version stand beside those that are live: in a slot, or as a canary.
//! Refuses to know which of them takes traffic.

use std::fmt;

use crate::slot::Slot;

/// A place beside the live objects, with names and labels of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// One of the two slots of a blue-green application.
    Slot(Slot),
    /// The small copy that a canary deployment tries first, beside a main workload without slots.
    Canary,
}

impl Place {
    /// The value of the label [`crate::names::SLOT`], and the suffix of names.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Slot(slot) => slot.as_str(),
            Self::Canary => "canary",
        }
    }

    /// The slot, where this place is one.
    #[must_use]
    pub const fn slot(self) -> Option<Slot> {
        match self {
            Self::Slot(slot) => Some(slot),
            Self::Canary => None,
        }
    }

    /// The name that an object with this base name has here.
    #[must_use]
    pub fn name_of(self, base: &str) -> String {
        format!("{base}-{}", self.as_str())
    }
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Slot(slot) => write!(formatter, "slot {slot}"),
            Self::Canary => formatter.write_str("canary"),
        }
    }
}
