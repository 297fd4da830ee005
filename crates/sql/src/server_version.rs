//! The major version of a PostgreSQL server, because the same statement costs differently on each.

use std::fmt;
use std::str::FromStr;

/// A major version that the rules know: 11 to 18.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerVersion(u16);

/// A text or a number that is no version the rules know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidServerVersion {
    given: String,
}

impl ServerVersion {
    /// The oldest version that the rules know.
    pub const OLDEST: Self = Self(11);
    /// The newest version that the rules know.
    pub const NEWEST: Self = Self(18);
    /// The one assumed where nobody says.
    pub const DEFAULT: Self = Self(15);

    /// A version by its major number.
    ///
    /// # Errors
    /// When the rules do not know it.
    pub fn new(major: u16) -> Result<Self, InvalidServerVersion> {
        if (Self::OLDEST.0..=Self::NEWEST.0).contains(&major) {
            Ok(Self(major))
        } else {
            Err(InvalidServerVersion {
                given: major.to_string(),
            })
        }
    }

    /// The major number.
    #[must_use]
    pub fn major(self) -> u16 {
        self.0
    }
}

impl fmt::Display for ServerVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for ServerVersion {
    type Err = InvalidServerVersion;

    /// Parses `15` as well as `15.18`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidServerVersion {
            given: text.to_owned(),
        };
        let (major, minor) = text.split_once('.').unwrap_or((text, "0"));
        minor.parse::<u16>().map_err(|_| invalid())?;
        Self::new(major.parse().map_err(|_| invalid())?).map_err(|_| invalid())
    }
}

impl fmt::Display for InvalidServerVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` is no version that the rules know: {} to {}",
            self.given,
            ServerVersion::OLDEST,
            ServerVersion::NEWEST
        )
    }
}

impl std::error::Error for InvalidServerVersion {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_read_with_and_without_its_minor_number() {
        assert_eq!("15".parse(), ServerVersion::new(15));
        assert_eq!("15.18".parse(), ServerVersion::new(15));
    }

    #[test]
    fn what_the_rules_do_not_know_is_refused_with_what_they_know() {
        for text in ["10", "19", "", "15.x", "fifteen"] {
            let error = text.parse::<ServerVersion>().unwrap_err().to_string();
            assert!(error.ends_with("11 to 18"), "{error}");
        }
    }
}
