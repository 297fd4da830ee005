//! The exchange: a fresh token of GitHub's for a token of Entra's.

use std::sync::Arc;
use std::time::Duration;

use azure_core::cloud::CustomConfiguration;
use azure_core::credentials::TokenCredential as _;
use azure_core::http::{ClientOptions, RetryOptions};
use azure_identity::{ClientAssertionCredential, ClientAssertionCredentialOptions};
use jiff::Timestamp;
use switchyard_http::Response;
use switchyard_runner::{Failure, Secret};

use super::refusal::Refusal;
use super::transport::{Seen, Transport};
use crate::credential::{Entra, Obtained, Token};
use crate::explain::{Expectations, printable, report};
use crate::github::{Claims, RequestError};
use crate::session::{Session, not_given};

/// The pause before a credential that is not known everywhere yet is tried again; it doubles.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// Why there is no token of Entra's.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EntraError {
    #[error(transparent)]
    NotGiven(RequestError),
    #[error("Entra refuses GitHub's token for application `{client_id}`: {}", printable(refusal.headline()))]
    Refused {
        client_id: String,
        refusal: Refusal,
        claims: Box<Claims>,
    },
    #[error("Entra gave no token for application `{client_id}`")]
    Unanswered {
        client_id: String,
        source: switchyard_http::Error,
    },
    /// The answer is not repeated: it may well hold a token.
    #[error("Entra's answer for application `{client_id}` holds no token that lives")]
    Empty { client_id: String },
    #[error("the exchange for application `{client_id}` cannot be made: {problem}")]
    Library { client_id: String, problem: String },
}

/// Exchanges a fresh token of GitHub's for one of Entra's, masked.
///
/// # Errors
/// When there is none until the session's deadline. A credential that may still be spreading is tried
/// again until then; nothing else that Entra refuses is.
pub(crate) async fn exchange(session: &Session, entra: &Entra) -> Result<Obtained, EntraError> {
    let mut pause = FIRST_PAUSE;
    loop {
        match once(session, entra).await {
            Err(EntraError::Refused { refusal, .. })
                if refusal.is_worth_repeating() && pause < session.left() =>
            {
                session.progress(format!(
                    "Entra knows no federated credential that matches; one that was just made needs a while, trying again in {pause:?}"
                ));
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            ended => return ended,
        }
    }
}

async fn once(session: &Session, entra: &Entra) -> Result<Obtained, EntraError> {
    let transport = Transport::new(session, entra.application.audience());
    let unusable = |problem: azure_core::Error| EntraError::Library {
        client_id: entra.application.client_id.to_string(),
        problem: printable(&problem.to_string()),
    };
    let credential = ClientAssertionCredential::new(
        entra.application.tenant.to_string(),
        entra.application.client_id.to_string(),
        transport.clone(),
        Some(options(&transport, entra)),
    )
    .map_err(unusable)?;
    let since = Timestamp::now();
    let given = credential.get_token(&[&entra.scope], None).await;
    let seen = transport.seen();
    match given {
        Ok(given) => {
            let until = Timestamp::from_second(given.expires_on.unix_timestamp());
            let life = until.map_or(Duration::ZERO, |until| {
                Duration::try_from(until.duration_since(since)).unwrap_or_default()
            });
            let secret = Secret::new(given.token.secret());
            session.mask(&secret);
            match seen.claims {
                // The library reads a missing field as nothing at all.
                Some(claims) if !secret.expose().is_empty() && !life.is_zero() => Ok(Obtained {
                    token: Token::new(secret, since, life),
                    claims: Some(claims),
                }),
                _ => Err(EntraError::Empty {
                    client_id: entra.application.client_id.to_string(),
                }),
            }
        }
        Err(cause) => Err(error(entra, seen).unwrap_or_else(|| unusable(cause))),
    }
}

fn options(transport: &Transport, entra: &Entra) -> ClientAssertionCredentialOptions {
    let mut cloud = CustomConfiguration::default();
    cloud.authority_host = entra.application.authority().expose().to_string();
    let client_options = ClientOptions {
        transport: Some(azure_core::http::Transport::new(Arc::new(
            transport.clone(),
        ))),
        // Our client repeats what is worth repeating, within the time there is.
        retry: RetryOptions::none(),
        cloud: Some(Arc::new(cloud.into())),
        ..ClientOptions::default()
    };
    ClientAssertionCredentialOptions { client_options }
}

/// What really went wrong, as far as we saw it.
fn error(entra: &Entra, seen: Seen) -> Option<EntraError> {
    let client_id = entra.application.client_id.to_string();
    if let Some(cause) = seen.not_given {
        return Some(EntraError::NotGiven(cause));
    }
    if let Some(source) = seen.unanswered {
        return Some(EntraError::Unanswered { client_id, source });
    }
    let answer = seen.answer?;
    if answer.status().is_success() {
        return Some(EntraError::Empty { client_id });
    }
    match (refusal(&answer), seen.claims) {
        (Some(refusal), Some(claims)) => Some(EntraError::Refused {
            client_id,
            refusal,
            claims: Box::new(claims),
        }),
        _ => {
            let source = answer.require_success().err()?;
            Some(EntraError::Unanswered { client_id, source })
        }
    }
}

fn refusal(answer: &Response) -> Option<Refusal> {
    serde_json::from_slice(answer.body()).ok()
}

impl EntraError {
    /// The failure to end with; a refusal is explained in the log first.
    pub(crate) fn into_failure(self, session: &Session, expectations: &Expectations) -> Failure {
        match self {
            Self::NotGiven(cause) => not_given(cause),
            Self::Refused { ref refusal, ref claims, .. } => {
                let report = report(claims, expectations);
                session.tell("Why Entra refused the token", &report.text);
                let meaning = refusal.meaning();
                let ids = ids(refusal);
                let mut hints: Vec<String> = meaning
                    .map(|meaning| [meaning.plain, meaning.change].map(str::to_owned))
                    .into_iter()
                    .flatten()
                    .collect();
                hints.extend(report.mismatches);
                hints.extend(report.warning);
                hints.extend(ids);
                let failure = Failure::remote(self);
                hints.into_iter().fold(failure, Failure::hint)
            }
            Self::Unanswered { .. } => Failure::remote(self)
                .hint("a runner behind a proxy needs HTTPS_PROXY, one behind a proxy that opens TLS input `extra-ca`"),
            Self::Empty { .. } | Self::Library { .. } => Failure::remote(self),
        }
    }
}

/// What Microsoft's support asks for.
fn ids(refusal: &Refusal) -> Option<String> {
    let (trace, correlation) = (refusal.trace_id.as_ref()?, refusal.correlation_id.as_ref()?);
    Some(printable(&format!(
        "for Microsoft's support: trace id {trace}, correlation id {correlation}"
    )))
}
