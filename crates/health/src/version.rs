//! Which version answered: a header's name, and the value that is expected of it.
//! It refuses to know where an answer comes from.

use switchyard_http::{HeaderMap, HeaderName};

/// How versions are told apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionRule {
    /// The response header that carries the version.
    pub header: HeaderName,
    /// The version that must answer; any will do when absent.
    pub expected: Option<String>,
}

impl VersionRule {
    /// The version that an answer carries. Untrusted text, cut to a length worth showing.
    pub fn of(&self, headers: &HeaderMap) -> Option<String> {
        let value = headers.get(&self.header)?.to_str().ok()?.trim();
        (!value.is_empty()).then(|| value.chars().take(64).collect())
    }

    /// Why an answer with this version is not the expected one's.
    pub fn mismatch(&self, version: Option<&str>) -> Option<String> {
        let expected = self.expected.as_deref()?;
        match version {
            Some(version) if version == expected => None,
            Some(version) => Some(format!(
                "version `{version}` answered, expected `{expected}`"
            )),
            None => Some(format!(
                "the answer has no header `{}`, expected `{expected}` there",
                self.header
            )),
        }
    }
}
