//! Asks GitHub for a token: whether the job may at all, the request, and the answer.

use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use switchyard_http::{
    Client, DisplaySafeUrl, HeaderValue, InvalidUrl, Repeat, Request, StatusCode, header,
};
use switchyard_runner::pull_request::{self, Origin};
use switchyard_runner::{Environment, Secret};
use tokio::time::Instant;

use super::claims::{InvalidJwt, Jwt};

const REQUEST_URL: &str = "ACTIONS_ID_TOKEN_REQUEST_URL";
const REQUEST_TOKEN: &str = "ACTIONS_ID_TOKEN_REQUEST_TOKEN";

/// Where this job gets its tokens.
#[derive(Debug, Clone)]
pub(crate) struct TokenSource {
    url: DisplaySafeUrl,
    request_token: Secret,
    fingerprint: Fingerprint,
}

/// Names a job among all jobs, without telling its request token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// That of the job of this environment, as the runner wrote it; `None` where it gave no tokens. Only a
    /// [`TokenSource`] tells whether they can be used: what was got by one carries the fingerprint of that one.
    pub(crate) fn read(environment: &Environment) -> Option<Self> {
        let url = environment.get(REQUEST_URL)?;
        let token = environment.get(REQUEST_TOKEN)?;
        Some(Self::of(url, token))
    }

    pub(crate) fn of(url: &str, token: &str) -> Self {
        let mut hash = Sha256::new();
        hash.update(url);
        hash.update([0]);
        hash.update(token);
        Self(hash.finalize().into())
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Why this job gets no token. Known before anything is sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unavailable {
    #[error(
        "GitHub gives no identity token to a pull request from a fork (this one is from `{0}`)"
    )]
    Fork(String),
    #[error("GitHub gives this job no identity token: it has not the permission `id-token: write`")]
    NoPermission,
    #[error("there is no identity token outside of a GitHub Actions job")]
    NotInActions,
    #[error("{REQUEST_URL} cannot be used: {0}")]
    Url(InvalidUrl),
    #[error(
        "{REQUEST_URL} names the host {0} without TLS, and the job's request token would be readable on the way"
    )]
    Plain(String),
    #[error("{REQUEST_TOKEN} holds characters that no token has")]
    Token,
}

impl Unavailable {
    /// What to do about it.
    pub(crate) fn hint(&self) -> &'static str {
        match self {
            Self::Fork(_) => {
                "deploy from a branch of the repository itself, or after the merge; a secret or a permission cannot change this"
            }
            Self::NoPermission => {
                "add `permissions: { id-token: write, contents: read }` to the job, and to the job that calls it when it is in a called workflow: permissions only go down"
            }
            Self::NotInActions => {
                "run this as a step of a workflow; `oidc-login explain -` reads a token from standard input instead"
            }
            Self::Url(_) | Self::Plain(_) | Self::Token => {
                "the runner sets this variable; does the workflow set another value over it?"
            }
        }
    }
}

/// Why the request brought no token.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RequestError {
    #[error("GitHub gave no identity token for audience `{audience}`")]
    Http {
        audience: String,
        source: switchyard_http::Error,
    },
    #[error("this command asks for no identity token")]
    NotAsked,
    /// The answer is not repeated: what was not understood may well hold the token.
    #[error("GitHub's answer is not a JSON object with `value`")]
    Answer,
    #[error("GitHub's answer holds no usable identity token: {0}")]
    Token(#[from] InvalidJwt),
    #[error("GitHub gave an identity token for audience `{given}`, and `{asked}` was asked for")]
    Audience { asked: String, given: String },
}

impl RequestError {
    /// What to do about it.
    pub(crate) fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Http { source, .. } => match source.status() {
                Some(StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => Some(
                    "the job's request token is not accepted (any more): a job cannot ask after its end, and `id-token: write` must be granted to this job",
                ),
                _ => Some(
                    "GitHub's status is shown at https://www.githubstatus.com; a runner behind a proxy needs HTTPS_PROXY",
                ),
            },
            Self::NotAsked | Self::Answer | Self::Token(_) | Self::Audience { .. } => None,
        }
    }
}

#[derive(Deserialize)]
struct Answer {
    value: String,
}

impl TokenSource {
    /// What the runner gave this job.
    ///
    /// # Errors
    /// When it gave nothing, with the reason as far as the environment tells.
    pub(crate) fn read(environment: &Environment) -> Result<Self, Unavailable> {
        let (Some(url), Some(token)) =
            (environment.get(REQUEST_URL), environment.get(REQUEST_TOKEN))
        else {
            return Err(reason(environment));
        };
        let fingerprint = Fingerprint::of(url, token);
        let url = DisplaySafeUrl::parse(url).map_err(Unavailable::Url)?;
        if !is_private(&url) {
            return Err(Unavailable::Plain(url.host()));
        }
        if !token.chars().all(|c| c.is_ascii_graphic()) {
            return Err(Unavailable::Token);
        }
        Ok(Self {
            url,
            request_token: Secret::new(token),
            fingerprint,
        })
    }

    /// The token with which the job asks for tokens; to be masked.
    pub(crate) fn request_token(&self) -> &Secret {
        &self.request_token
    }

    /// Names the job among all jobs, without telling the request token.
    pub(crate) fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Asks for a fresh token.
    ///
    /// # Errors
    /// When GitHub gives none until `deadline`, or not the one asked for.
    pub(crate) async fn token(
        &self,
        client: &Client,
        audience: &str,
        deadline: Instant,
    ) -> Result<Jwt, RequestError> {
        let failed = |source| RequestError::Http {
            audience: audience.to_owned(),
            source,
        };
        let request = Request::get(self.url.with_query([("audience", audience)]))
            .bearer(self.request_token.expose())
            .header(
                header::ACCEPT,
                HeaderValue::from_static("application/json; api-version=2.0"),
            )
            .repeat(Repeat::IdempotentAfterAnyServerError)
            .within(deadline.saturating_duration_since(Instant::now()));
        let answer = client.send(&request).await.map_err(failed)?;
        let answer = answer.require_success().map_err(failed)?;
        let answer: Answer =
            serde_json::from_slice(answer.body()).map_err(|_| RequestError::Answer)?;
        let jwt = Jwt::parse(Secret::new(answer.value))?;
        if !jwt.claims().audience.iter().any(|given| given == audience) {
            return Err(RequestError::Audience {
                asked: audience.to_owned(),
                given: jwt.claims().audience.join("`, `"),
            });
        }
        Ok(jwt)
    }
}

/// Whether nobody on the way can read what is sent there.
fn is_private(url: &DisplaySafeUrl) -> bool {
    let url = url.expose();
    let is_loopback = match url.host() {
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => false,
    };
    url.scheme() == "https" || is_loopback
}

fn reason(environment: &Environment) -> Unavailable {
    if !environment.is_actions() {
        return Unavailable::NotInActions;
    }
    // An event that cannot be read costs the better message, no more.
    match pull_request::origin(environment) {
        Some(Origin::Elsewhere(from)) => Unavailable::Fork(from),
        Some(Origin::Repository) | None => Unavailable::NoPermission,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<TokenSource, Unavailable> {
        let variables = variables.iter().copied();
        TokenSource::read(&variables.chain([("GITHUB_ACTIONS", "true")]).collect())
    }

    #[test]
    fn a_job_without_the_permission_is_told_so() {
        assert_eq!(read(&[]).unwrap_err(), Unavailable::NoPermission);
        let half = [(REQUEST_URL, "https://example.test/?a=b")];
        assert_eq!(read(&half).unwrap_err(), Unavailable::NoPermission);
        let outside = TokenSource::read(&Environment::default()).unwrap_err();
        assert_eq!(outside, Unavailable::NotInActions);
    }

    #[test]
    fn a_job_is_told_from_others_by_what_the_runner_gave_it() {
        let job = |url, token| {
            let variables = [(REQUEST_URL, url), (REQUEST_TOKEN, token)];
            variables.into_iter().collect::<Environment>()
        };
        let fingerprint = |url, token| Fingerprint::read(&job(url, token));
        let (url, token) = ("https://example.test/?a=b", "secret");
        let ours = fingerprint(url, token);
        let source = TokenSource::read(&job(url, token)).unwrap();
        assert_eq!(ours, Some(source.fingerprint()));
        for (url, token) in [
            ("https://example.test/?a=c", token),
            (url, "another"),
            ("https://example.test/?a=bs", "ecret"),
        ] {
            let other = fingerprint(url, token);
            assert!(other.is_some() && other != ours, "{url} {token}");
        }
        assert_eq!((fingerprint("", token), fingerprint(url, "")), (None, None));
    }

    #[test]
    fn the_request_token_is_only_sent_where_nobody_can_read_it() {
        let with = |url| read(&[(REQUEST_URL, url), (REQUEST_TOKEN, "secret")]);
        assert!(with("https://example.test/?a=b").is_ok());
        assert!(with("http://127.0.0.1:1/?a=b").is_ok());
        let refused = Unavailable::Plain("example.test".to_owned());
        assert_eq!(with("http://example.test/?a=b").unwrap_err(), refused);
        assert!(matches!(with("nonsense"), Err(Unavailable::Url(_))));
    }
}
