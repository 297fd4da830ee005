//! Entra's refusals: the error body, and what its codes mean in plain words.

use serde::Deserialize;

/// The body of Entra's error answers. Read by ourselves from the raw bytes: the client library gives
/// up on a description with any JSON escape in it, and the code is lost.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Refusal {
    pub(crate) error: String,
    #[serde(default)]
    pub(crate) error_description: String,
    #[serde(default)]
    error_codes: Vec<u32>,
    #[serde(default)]
    pub(crate) trace_id: Option<String>,
    #[serde(default)]
    pub(crate) correlation_id: Option<String>,
}

/// What a code means, and what to change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Meaning {
    pub(crate) plain: &'static str,
    pub(crate) change: &'static str,
}

/// The one code that goes away by itself: a credential takes a while to be known everywhere.
const PROPAGATION: u32 = 70021;

impl Refusal {
    /// The code: the first of the list, else the one that the description begins with.
    pub(crate) fn code(&self) -> Option<u32> {
        let described = || {
            let digits = self.error_description.strip_prefix("AADSTS")?;
            let end = digits
                .find(|c: char| !c.is_ascii_digit())
                .unwrap_or(digits.len());
            digits[..end].parse().ok()
        };
        self.error_codes.first().copied().or_else(described)
    }

    /// Whether the same question may be answered otherwise in a moment.
    pub(crate) fn is_worth_repeating(&self) -> bool {
        self.code() == Some(PROPAGATION)
    }

    /// The first line of the description: the rest repeats ids and times.
    pub(crate) fn headline(&self) -> &str {
        let line = self.error_description.lines().next().unwrap_or_default();
        if line.is_empty() { &self.error } else { line }
    }

    /// What the code means, where we know it.
    pub(crate) fn meaning(&self) -> Option<Meaning> {
        let (plain, change) = words(self.code()?)?;
        Some(Meaning { plain, change })
    }
}

/// Codes: <https://learn.microsoft.com/entra/identity-platform/reference-error-codes>
fn words(code: u32) -> Option<(&'static str, &'static str)> {
    Some(match code {
        PROPAGATION => (
            "no federated credential of this application matches the token, or a new one is not known everywhere yet",
            "a credential that was just made needs some minutes; else compare issuer, subject and audience with the token's below",
        ),
        700_211 => (
            "no federated credential of this application has the token's issuer",
            "copy the token's `iss` into the credential's issuer, without a slash at its end; GitHub Enterprise Server, and an enterprise with an issuer of its own, have another issuer than github.com",
        ),
        700_212 => (
            "no federated credential of this application has the token's audience",
            "set input `cloud` to the cloud in which the application is registered, or copy the token's `aud` into the credential's audiences",
        ),
        700_213 => (
            "no federated credential of this application has the token's subject",
            "copy the token's `sub` into the credential's subject; it depends on whether the job has `environment:`, on the event, and on the branch",
        ),
        7_002_138 => (
            "a federated credential has the token's subject but for upper and lower case",
            "copy the token's `sub` into the credential's subject, letter by letter",
        ),
        7_002_131 => (
            "the token does not satisfy the expression of the application's flexible federated credential",
            "correct the expression `claims['sub'] matches '…'`, or use a credential with the exact subject",
        ),
        700_016 => (
            "the application is not known in this tenant",
            "check inputs `client-id` and `tenant`: the client id is that of the application or of the user-assigned identity (not its object id), and it must exist in this tenant",
        ),
        70_025 => (
            "the application has no federated credential at all",
            "add the federated credential below; is input `client-id` the application that you configured?",
        ),
        700_223 | 700_238 => (
            "a policy of the tenant does not allow this federated credential's issuer",
            "an administrator of the tenant must allow the token's issuer in the policy for workload identity federation",
        ),
        900_382 => (
            "the application and the service asked for are in different clouds",
            "set input `cloud` to the cloud of the tenant",
        ),
        50_027 => (
            "the token that was shown is empty or no token",
            "give the job the permission `id-token: write`",
        ),
        90_002 => (
            "the tenant does not exist in this cloud",
            "check inputs `tenant` (its id or one of its domains) and `cloud`",
        ),
        700_024 => (
            "the token that was shown has expired, or is not valid yet",
            "GitHub's tokens live five minutes and each exchange fetches a fresh one: a clock is wrong by more than that; the log says it when GitHub's differs from this machine's",
        ),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(codes: &[u32], description: &str) -> Refusal {
        let body = serde_json::json!({
            "error": "invalid_client", "error_description": description, "error_codes": codes,
            "timestamp": "2026-01-01 00:00:00Z", "trace_id": "t", "correlation_id": "c",
        });
        serde_json::from_value(body).unwrap()
    }

    #[test]
    fn every_code_that_a_login_meets_has_its_words() {
        for code in [
            70021, 700_211, 700_212, 700_213, 7_002_138, 7_002_131, 700_016, 70025, 700_223,
            700_238, 900_382, 50027, 90002, 700_024,
        ] {
            assert!(refusal(&[code], "").meaning().is_some(), "{code}");
        }
        assert_eq!(refusal(&[1], "").meaning(), None);
    }

    #[test]
    fn a_code_is_found_where_only_the_description_has_it() {
        let described = refusal(
            &[],
            "AADSTS700213: No matching federated identity record found.\r\nTrace ID: x",
        );
        assert_eq!(described.code(), Some(700_213));
        assert_eq!(
            described.headline(),
            "AADSTS700213: No matching federated identity record found."
        );
        assert_eq!(refusal(&[], "").headline(), "invalid_client");
    }

    #[test]
    fn only_a_credential_that_may_still_spread_is_tried_again() {
        assert!(refusal(&[70021], "").is_worth_repeating());
        for code in [700_211, 700_212, 700_213, 7_002_138, 700_016, 700_024] {
            assert!(!refusal(&[code], "").is_worth_repeating());
        }
    }
}
