//! The two slots of a blue-green application and how an object's name carries one.
//! This module refuses to know which of them takes traffic.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One of the two places in which a version of an application can stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Slot {
    /// The slot whose objects end in `-blue`.
    Blue,
    /// The slot whose objects end in `-green`.
    Green,
}

impl Slot {
    /// Both slots, in the order in which `auto` tries them on an empty application.
    pub const ALL: [Self; 2] = [Self::Blue, Self::Green];

    /// The label value and name suffix.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Blue => "blue",
            Self::Green => "green",
        }
    }

    /// The slot that this one is exchanged with.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Blue => Self::Green,
            Self::Green => Self::Blue,
        }
    }

    /// Reads a label value; anything but `blue` and `green` is none of ours.
    #[must_use]
    pub fn from_label(value: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|slot| slot.as_str() == value)
    }

    /// The name of an object with this base name in this slot.
    #[must_use]
    pub fn name_of(self, base: &str) -> String {
        format!("{base}-{}", self.as_str())
    }

    /// Splits `web-blue` into `web` and blue. A name that is only a suffix is no slotted name.
    #[must_use]
    pub fn split(name: &str) -> Option<(&str, Self)> {
        Self::ALL.into_iter().find_map(|slot| {
            let base = name.strip_suffix(slot.as_str())?.strip_suffix('-')?;
            (!base.is_empty()).then_some((base, slot))
        })
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_splits_into_base_and_slot() {
        assert_eq!(Slot::split("web-api-green"), Some(("web-api", Slot::Green)));
        assert_eq!(Slot::split("web"), None);
        assert_eq!(Slot::split("-blue"), None);
        assert_eq!(Slot::split("skyblue"), None);
    }

    #[test]
    fn a_slotted_name_splits_back_into_what_it_was_made_of() {
        for slot in Slot::ALL {
            assert_eq!(Slot::split(&slot.name_of("shop")), Some(("shop", slot)));
        }
    }
}
