//! The version of a server.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A server's version as `server_version_num` says it: 150018 is 15.18.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ServerVersion(i32);

impl ServerVersion {
    /// From `server_version_num`.
    #[must_use]
    pub fn from_number(number: i32) -> Self {
        Self(number)
    }

    /// From the text of `PostgreSQL` programs and servers: `15.18 (Debian …)`, `16beta1`.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        let digits =
            |text: &str| -> String { text.chars().take_while(char::is_ascii_digit).collect() };
        let major = digits(text);
        let minor = text.strip_prefix(&major)?.strip_prefix('.').map(digits);
        let major: i32 = major
            .parse()
            .ok()
            .filter(|major| (10..1000).contains(major))?;
        let minor: i32 = minor.and_then(|minor| minor.parse().ok()).unwrap_or(0);
        Some(Self(major * 10_000 + minor))
    }

    /// The major version, such as 15.
    #[must_use]
    pub fn major(self) -> u16 {
        u16::try_from(self.0 / 10_000).unwrap_or(0)
    }
}

impl fmt::Display for ServerVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0 / 10_000, self.0 % 10_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_numbers_and_texts() {
        assert_eq!(ServerVersion::from_number(150_018).to_string(), "15.18");
        let text = "15.18 (Debian 15.18-0+deb12u1)";
        assert_eq!(ServerVersion::from_text(text), Some(ServerVersion(150_018)));
        assert_eq!(ServerVersion::from_text("17beta2").unwrap().major(), 17);
        assert_eq!(ServerVersion::from_text("devel"), None);
    }
}
