//! Stands in the place of the crate `jsonpath-rust`, which brings a JSONPath parser and a regex engine: a fifth of each
//! program. The client of Kubernetes asks it for one thing alone, the token in what the command of a kubeconfig's
//! `auth-provider` printed; Kubernetes has dropped those in 1.26, and `crates/cluster` refuses them before it makes a
//! client. It holds what that client names, and answers with a refusal.

use std::fmt;

use serde_json::Value;

/// What a JSONPath finds in a document.
pub trait JsonPath {
    /// The values that a path leads to.
    ///
    /// # Errors
    /// Always: see the crate.
    fn query(&self, path: &str) -> Result<Vec<&Value>, Refused>;
}

impl JsonPath for Value {
    fn query(&self, _path: &str) -> Result<Vec<&Value>, Refused> {
        Err(Refused)
    }
}

/// Why nothing is looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused;

impl fmt::Display for Refused {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("these programs run no `auth-provider`")
    }
}

impl std::error::Error for Refused {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_asked_is_refused() {
        let document = serde_json::json!({"token": "x"});
        let answer = document
            .query("$.token")
            .map_err(|refused| refused.to_string());
        assert_eq!(
            answer,
            Err("these programs run no `auth-provider`".to_owned())
        );
    }
}
