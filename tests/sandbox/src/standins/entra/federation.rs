//! Applications, their federated credentials, and which of them an assertion matches. Pure.

use super::refusal::Refusal;
use crate::standins::jwt::Token;

/// Which subjects a credential is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SubjectMatch {
    /// This subject, to the letter.
    Exact(String),
    /// A flexible credential: `claims['sub'] matches '…'`, `*` standing for anything.
    Expression(String),
}

/// A federated credential of an application.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FederatedCredential {
    /// Whose tokens.
    pub issuer: String,
    /// For which subject.
    pub subject: SubjectMatch,
    /// For which audience.
    pub audience: String,
}

/// An application (or managed identity) with the principal that acts for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Application {
    /// Its client id.
    pub client_id: String,
    /// Its display name.
    pub name: String,
    /// The object id of its service principal.
    pub object_id: String,
    /// Object ids of the groups that the principal is in.
    pub groups: Vec<String>,
    /// Its federated credentials.
    pub credentials: Vec<FederatedCredential>,
}

impl Application {
    /// An application without credentials.
    #[must_use]
    pub fn new(client_id: &str, name: &str, object_id: &str) -> Self {
        Self {
            client_id: client_id.to_owned(),
            name: name.to_owned(),
            object_id: object_id.to_owned(),
            groups: Vec::new(),
            credentials: Vec::new(),
        }
    }

    /// The application trusting one more subject of an issuer.
    #[must_use]
    pub fn trusting(mut self, issuer: &str, subject: &str, audience: &str) -> Self {
        self.credentials.push(FederatedCredential {
            issuer: issuer.to_owned(),
            subject: SubjectMatch::Exact(subject.to_owned()),
            audience: audience.to_owned(),
        });
        self
    }
}

/// Finds the credential that an assertion matches: by issuer, then audience, then subject.
pub(super) fn match_credential(
    assertion: &Token,
    application: &Application,
) -> Result<(), Refusal> {
    let (issuer, subject) = (assertion.text("iss"), assertion.text("sub"));
    let audience = assertion.text("aud");
    if application.credentials.is_empty() {
        return Err(Refusal::NoCredentials {
            client: application.client_id.clone(),
            name: application.name.clone(),
        });
    }
    let of_issuer: Vec<_> = application
        .credentials
        .iter()
        .filter(|known| known.issuer == issuer)
        .collect();
    if of_issuer.is_empty() {
        return Err(Refusal::Issuer(issuer.to_owned()));
    }
    let of_audience: Vec<_> = of_issuer
        .into_iter()
        .filter(|known| known.audience == audience)
        .collect();
    if of_audience.is_empty() {
        return Err(Refusal::Audience(audience.to_owned()));
    }
    if of_audience
        .iter()
        .any(|known| is_for(&known.subject, subject))
    {
        return Ok(());
    }
    let differs_by_case = of_audience.iter().any(|known| match &known.subject {
        SubjectMatch::Exact(wanted) => wanted.eq_ignore_ascii_case(subject),
        SubjectMatch::Expression(_) => false,
    });
    let is_flexible = |known: &&FederatedCredential| match known.subject {
        SubjectMatch::Exact(_) => false,
        SubjectMatch::Expression(_) => true,
    };
    let subject = subject.to_owned();
    Err(if differs_by_case {
        Refusal::SubjectCase(subject)
    } else if of_audience.iter().all(is_flexible) {
        Refusal::Expression(subject)
    } else {
        Refusal::Subject(subject)
    })
}

fn is_for(wanted: &SubjectMatch, subject: &str) -> bool {
    match wanted {
        SubjectMatch::Exact(text) => text == subject,
        SubjectMatch::Expression(expression) => {
            let pattern = expression
                .strip_prefix("claims['sub'] matches '")
                .and_then(|rest| rest.strip_suffix('\''));
            pattern.is_some_and(|pattern| matches(pattern, subject))
        }
    }
}

/// Whether a text is one of a pattern in which `*` stands for any number of characters.
pub(crate) fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((start, rest)) => text.strip_prefix(start).is_some_and(|tail| {
            let ends = tail
                .char_indices()
                .map(|(index, _)| index)
                .chain([tail.len()]);
            ends.into_iter().any(|index| matches(rest, &tail[index..]))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_anything() {
        for (pattern, text, is_match) in [
            ("repo:acme/*", "repo:acme/shop:environment:x", true),
            (
                "repo:acme/*:environment:x",
                "repo:acme/shop:environment:x",
                true,
            ),
            (
                "repo:acme/*:environment:y",
                "repo:acme/shop:environment:x",
                false,
            ),
            ("*", "", true),
            ("a*", "b", false),
        ] {
            assert_eq!(matches(pattern, text), is_match, "{pattern} {text}");
        }
    }
}
