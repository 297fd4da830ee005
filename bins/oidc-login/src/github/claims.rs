//! What GitHub says in a token about the job that asked for it.
//!
//! Reads claims; refuses to verify a signature (whoever the token is shown to does that) and to show a
//! token or any part of one.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use switchyard_runner::Secret;

/// A token of GitHub's issuer with its claims read.
#[derive(Debug, Clone)]
pub(crate) struct Jwt {
    token: Secret,
    claims: Claims,
}

/// Why a text is not a token. Never holds any of the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidJwt {
    #[error("it has {0} parts separated by dots instead of three")]
    Parts(usize),
    #[error("its second part is not base64url")]
    Encoding,
    /// The parser's own words would quote the claims' values.
    #[error("its second part is not a JSON object with `iss`, `sub`, `aud` and `exp`")]
    Claims,
    #[error("it is longer than {LONGEST} bytes")]
    TooLong,
}

/// Far more than a token with every claim at its longest.
const LONGEST: usize = 64 * 1024;

impl Jwt {
    /// Reads a token's claims without verifying them.
    ///
    /// # Errors
    /// When the text does not have the shape of a token.
    pub(crate) fn parse(token: Secret) -> Result<Self, InvalidJwt> {
        let text = token.expose().trim();
        if text.len() > LONGEST {
            return Err(InvalidJwt::TooLong);
        }
        let parts: Vec<&str> = text.split('.').collect();
        let [_, payload, _] = parts.as_slice() else {
            return Err(InvalidJwt::Parts(parts.len()));
        };
        let payload = URL_SAFE_NO_PAD
            .decode(payload.trim_end_matches('='))
            .map_err(|_| InvalidJwt::Encoding)?;
        let claims = serde_json::from_slice(&payload).map_err(|_| InvalidJwt::Claims)?;
        let token = Secret::new(text);
        Ok(Self { token, claims })
    }

    /// The token itself, for the one place that sends it.
    pub(crate) fn token(&self) -> &Secret {
        &self.token
    }

    pub(crate) fn claims(&self) -> &Claims {
        &self.claims
    }
}

/// The claims that decide what a token opens, and those that help a person to understand it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Claims {
    #[serde(rename = "iss")]
    pub(crate) issuer: String,
    #[serde(rename = "sub")]
    pub(crate) subject: String,
    #[serde(rename = "aud", deserialize_with = "one_or_many")]
    pub(crate) audience: Vec<String>,
    /// Seconds since 1970 by GitHub's clock.
    #[serde(rename = "exp")]
    expires: i64,
    /// Seconds since 1970 by GitHub's clock.
    #[serde(rename = "iat", default)]
    issued: Option<i64>,
    #[serde(default)]
    pub(crate) job_workflow_ref: Option<String>,
    #[serde(default)]
    pub(crate) environment: Option<String>,
    #[serde(rename = "ref", default)]
    pub(crate) reference: Option<String>,
    #[serde(default)]
    pub(crate) event_name: Option<String>,
    #[serde(default)]
    pub(crate) repository: Option<String>,
}

/// How long a token lives that does not say when it was issued; GitHub's live this long.
const USUAL_LIFE: Duration = Duration::from_secs(300);

/// Clocks that differ by less are not worth a word: this much the way from GitHub may take.
const NOTABLE: SignedDuration = SignedDuration::from_secs(60);

impl Claims {
    /// How long the token lives. Counted from its own two times, so that a runner whose clock is wrong
    /// still knows when to ask for another.
    pub(crate) fn lifetime(&self) -> Duration {
        let seconds = self.issued.map(|issued| self.expires - issued);
        seconds.map_or(USUAL_LIFE, |seconds| {
            Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
        })
    }

    /// What there is to say of GitHub's clock when this token was issued at `now` by this machine's.
    pub(crate) fn clock_difference(&self, now: Timestamp) -> Option<String> {
        let issued = Timestamp::from_second(self.issued?).ok()?;
        let ahead = issued.duration_since(now);
        if ahead.abs() < NOTABLE {
            return None;
        }
        let direction = if ahead.is_positive() {
            "ahead of"
        } else {
            "behind"
        };
        Some(format!(
            "GitHub's clock is about {} min {direction} this machine's; whoever checks the token goes by a third",
            (ahead.abs().as_secs() + 30) / 60
        ))
    }
}

/// `aud` is a text or a list of texts (RFC 7519, 4.1.3).
fn one_or_many<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OneOrMany {
        One(String),
        Many(Vec<String>),
    }
    Ok(match OneOrMany::deserialize(deserializer)? {
        OneOrMany::One(audience) => vec![audience],
        OneOrMany::Many(audiences) => audiences,
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A token with these claims and a signature that nobody made.
    pub(crate) fn unsigned(claims: &serde_json::Value) -> Secret {
        let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
        let header = part(r#"{"alg":"RS256","typ":"JWT"}"#);
        let payload = part(&claims.to_string());
        Secret::new(format!("{header}.{payload}.{}", part("no signature")))
    }

    fn claims() -> serde_json::Value {
        serde_json::json!({
            "iss": "https://token.actions.githubusercontent.com",
            "sub": "repo:example/shop:environment:production",
            "aud": "api://AzureADTokenExchange",
            "iat": 1_790_000_000, "nbf": 1_789_999_400, "exp": 1_790_000_300,
            "environment": "production", "ref": "refs/heads/main",
        })
    }

    #[test]
    fn the_claims_of_a_token_are_read_without_a_key() {
        let jwt = Jwt::parse(unsigned(&claims())).unwrap();
        assert_eq!(
            jwt.claims().subject,
            "repo:example/shop:environment:production"
        );
        assert_eq!(jwt.claims().audience, ["api://AzureADTokenExchange"]);
        assert_eq!(jwt.claims().environment.as_deref(), Some("production"));
    }

    #[test]
    fn the_life_of_a_token_does_not_depend_on_the_clock_here() {
        assert_eq!(
            Jwt::parse(unsigned(&claims())).unwrap().claims().lifetime(),
            Duration::from_secs(300)
        );
        let mut backwards = claims();
        backwards["exp"] = 1.into();
        assert_eq!(
            Jwt::parse(unsigned(&backwards))
                .unwrap()
                .claims()
                .lifetime(),
            Duration::ZERO
        );
    }

    #[test]
    fn an_audience_may_be_a_list() {
        let mut listed = claims();
        listed["aud"] = serde_json::json!(["a", "b"]);
        assert_eq!(
            Jwt::parse(unsigned(&listed)).unwrap().claims().audience,
            ["a", "b"]
        );
    }

    #[test]
    fn what_is_no_token_is_refused_without_being_repeated() {
        let payload = URL_SAFE_NO_PAD.encode(r#"{"sub":"hunter2"}"#);
        for (text, error) in [
            ("hunter2".to_owned(), InvalidJwt::Parts(1)),
            ("a.hunter2!.c".to_owned(), InvalidJwt::Encoding),
            (format!("a.{payload}.c"), InvalidJwt::Claims),
            ("x".repeat(LONGEST + 1), InvalidJwt::TooLong),
        ] {
            let refused = Jwt::parse(Secret::new(text)).unwrap_err();
            assert_eq!(refused, error);
            assert!(!format!("{refused} {refused:?}").contains("hunter2"));
        }
    }

    #[test]
    fn a_token_cannot_be_printed() {
        let jwt = Jwt::parse(unsigned(&claims())).unwrap();
        let shown = format!("{jwt:?}");
        assert!(!shown.contains(jwt.token().expose()), "{shown}");
    }

    #[test]
    fn a_clock_that_is_off_is_told_when_it_may_matter() {
        let said = |issued: i64| {
            let mut claims = claims();
            claims["exp"] = (issued + 300).into();
            claims["iat"] = issued.into();
            let jwt = Jwt::parse(unsigned(&claims)).unwrap();
            let now = Timestamp::from_second(10_000).unwrap();
            jwt.claims().clock_difference(now)
        };
        assert_eq!(said(10_059), None);
        assert_eq!(said(9_941), None);
        let ahead = said(10_400).unwrap();
        assert!(
            ahead.contains("about 7 min ahead of this machine's"),
            "{ahead}"
        );
        let behind = said(9_000).unwrap();
        assert!(behind.contains("about 17 min behind"), "{behind}");
    }
}
