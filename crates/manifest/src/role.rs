//! The part that an object plays in a switch when it cannot be told from its kind. Read from the
//! annotation `switchyard.dev/role` or from an input; what follows from it is decided in
//! [`crate::slotting`].

use std::fmt;

use crate::suggestion::nearest;

/// A declared part in a switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Decides where traffic goes; never slotted, never re-applied with traffic fields.
    Front,
    /// Stands once and is changed in place after the switch.
    AfterSwitch,
    /// Stands once in each slot, although nothing tells so.
    PerSlot,
}

impl Role {
    const ALL: [Self; 3] = [Self::Front, Self::AfterSwitch, Self::PerSlot];

    /// The value of the annotation.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Front => "front",
            Self::AfterSwitch => "after-switch",
            Self::PerSlot => "per-slot",
        }
    }

    /// Reads the annotation's value.
    ///
    /// # Errors
    /// The value is none of the three.
    pub fn parse(value: &str) -> Result<Self, UnknownRole> {
        Self::ALL
            .into_iter()
            .find(|role| role.as_str() == value)
            .ok_or_else(|| UnknownRole {
                given: value.to_owned(),
                suggestion: nearest(value, Self::ALL.map(Self::as_str)).map(str::to_owned),
            })
    }
}

impl fmt::Display for Role {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// A value that is no role.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{given}` is no role: allowed are `front`, `after-switch` and `per-slot`{}", meant(.suggestion.as_deref()))]
pub struct UnknownRole {
    /// What was given.
    pub given: String,
    /// What was probably meant.
    pub suggestion: Option<String>,
}

fn meant(suggestion: Option<&str>) -> String {
    suggestion.map_or_else(String::new, |name| format!("; did you mean `{name}`?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_role_is_refused_with_the_likely_one() {
        assert_eq!(Role::parse("per-slot"), Ok(Role::PerSlot));
        assert_eq!(
            Role::parse("after_switch").map_err(|error| error.to_string()),
            Err("`after_switch` is no role: allowed are `front`, `after-switch` and `per-slot`; did you mean `after-switch`?".to_owned())
        );
    }
}
