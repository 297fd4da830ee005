//! STS: a fresh token of GitHub's for a session of a role, and from there, where asked, of a second role.
//! <https://docs.aws.amazon.com/STS/latest/APIReference/>

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use roxmltree::Document;
use switchyard_http::{HeaderValue, Method, Repeat, Request, Response, header};
use switchyard_runner::{Failure, Secret};

use super::names::{RoleArn, Service};
use super::refusal::{Refusal, text_of};
use super::signing::{Keys, NotSigned, Scope, Unsigned, signed};
use crate::credential::Assume;
use crate::explain::{Expectations, printable, report};
use crate::github::{Claims, RequestError};
use crate::session::{Session, not_given};

/// The audience that an identity provider of IAM is usually given.
pub(crate) const AUDIENCE: &str = "sts.amazonaws.com";

const VERSION: &str = "2011-06-15";
const FORM: &str = "application/x-www-form-urlencoded";

/// The pause before what may go away by itself is tried again; it doubles.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(8);

/// AWS takes signatures that are up to five minutes off. Less than this is not worth correcting, and is
/// what the way there and back takes.
const NOTABLE: SignedDuration = SignedDuration::from_secs(60);

/// A session of a role, with times by this machine's clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RoleSession {
    pub(crate) keys: Keys,
    /// Who we are: `arn:aws:sts::ACCOUNT:assumed-role/ROLE/SESSION`.
    pub(crate) arn: String,
    pub(crate) since: Timestamp,
    pub(crate) until: Timestamp,
    /// How far AWS's clock is ahead of this machine's: signatures are made by AWS's.
    pub(crate) ahead: SignedDuration,
}

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StsError {
    #[error(transparent)]
    NotGiven(RequestError),
    #[error("AWS refuses a session of role `{role}`: {}", printable(&refusal.headline()))]
    Refused {
        role: RoleArn,
        refusal: Refusal,
        /// What the token said, where one was shown.
        claims: Option<Box<Claims>>,
    },
    #[error("AWS gave no session of role `{role}`")]
    Unanswered {
        role: RoleArn,
        source: switchyard_http::Error,
    },
    /// The answer is not repeated: it may well hold a key.
    #[error("AWS's answer for role `{role}` holds no session that lives")]
    Answer { role: RoleArn },
    #[error(transparent)]
    NotSigned(#[from] NotSigned),
}

/// Opens a session of the role, and of the chained role where there is one; its secrets are masked.
///
/// # Errors
/// When there is none until the session's deadline. Only what may go away by itself is tried again.
pub(crate) async fn assume(
    session: &Session,
    assume: &Assume,
) -> Result<(RoleSession, Claims), StsError> {
    let mut pause = FIRST_PAUSE;
    let (first, claims) = loop {
        match with_token(session, assume).await {
            Err(StsError::Refused { refusal, .. })
                if refusal.is_worth_repeating() && pause < session.left() =>
            {
                session.progress(format!(
                    "AWS cannot say yet ({}), trying again in {pause:?}",
                    printable(&refusal.headline())
                ));
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            ended => break ended?,
        }
    };
    let Some(role) = &assume.chained_role else {
        return Ok((first, claims));
    };
    Ok((by_session(session, assume, role, &first).await?, claims))
}

async fn with_token(session: &Session, assume: &Assume) -> Result<(RoleSession, Claims), StsError> {
    let jwt = session.jwt(assume.audience()).await;
    let jwt = jwt.map_err(StsError::NotGiven)?;
    let token = jwt.token().expose();
    let extra = ("WebIdentityToken", token);
    let form = form(
        "AssumeRoleWithWebIdentity",
        &assume.role,
        assume,
        Some(extra),
    );
    let request = Request::new(Method::POST, assume.sts())
        .header(header::CONTENT_TYPE, HeaderValue::from_static(FORM))
        .redact(token)
        .body(form);
    let claims = jwt.claims().clone();
    let opened = send(session, request, &assume.role, assume).await;
    let opened = opened.map_err(|error| match error {
        StsError::Refused { role, refusal, .. } => StsError::Refused {
            role,
            refusal,
            claims: Some(Box::new(claims.clone())),
        },
        other @ (StsError::NotGiven(_)
        | StsError::Unanswered { .. }
        | StsError::Answer { .. }
        | StsError::NotSigned(_)) => other,
    })?;
    Ok((opened, claims))
}

async fn by_session(
    session: &Session,
    assume: &Assume,
    role: &RoleArn,
    first: &RoleSession,
) -> Result<RoleSession, StsError> {
    let unsigned = Unsigned {
        method: Method::POST,
        url: assume.sts(),
        headers: &[("content-type", FORM)],
        body: form("AssumeRole", role, assume, None),
    };
    let scope = Scope {
        region: &assume.region,
        service: Service::Sts.name(),
        at: first.now(),
    };
    send(session, signed(unsigned, &first.keys, scope)?, role, assume).await
}

fn form(action: &str, role: &RoleArn, assume: &Assume, extra: Option<(&str, &str)>) -> String {
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    form.extend_pairs([("Action", action), ("Version", VERSION)]);
    form.append_pair("RoleArn", &role.to_string());
    form.append_pair("RoleSessionName", &assume.session_name());
    let seconds = assume.session_duration.seconds().to_string();
    form.append_pair("DurationSeconds", &seconds);
    form.extend_pairs(extra);
    form.finish()
}

async fn send(
    session: &Session,
    request: Request,
    role: &RoleArn,
    assume: &Assume,
) -> Result<RoleSession, StsError> {
    let unanswered = |source| StsError::Unanswered {
        role: role.clone(),
        source,
    };
    // A second session does no harm: nobody uses the first.
    let request = request
        .repeat(Repeat::IdempotentAfterAnyServerError)
        .within(session.left());
    let since = Timestamp::now();
    let answer = session.client.send(&request).await.map_err(unanswered)?;
    if !answer.status().is_success() {
        return Err(match Refusal::of_xml(answer.body()) {
            Some(refusal) => StsError::Refused {
                role: role.clone(),
                refusal,
                claims: None,
            },
            None => match answer.require_success() {
                Err(source) => unanswered(source),
                Ok(_) => StsError::Answer { role: role.clone() },
            },
        });
    }
    let asked = (since, Timestamp::now());
    let opened = RoleSession::read(&answer, asked, assume.session_duration.duration());
    let opened = opened.ok_or_else(|| StsError::Answer { role: role.clone() })?;
    session.mask(&opened.keys.secret);
    session.mask(&opened.keys.token);
    Ok(opened)
}

impl RoleSession {
    /// The session in the answer to a question, asked and answered at these times, for one of this length.
    fn read(answer: &Response, asked: (Timestamp, Timestamp), length: Duration) -> Option<Self> {
        let (since, _) = asked;
        let text = std::str::from_utf8(answer.body()).ok()?;
        let document = Document::parse(text).ok()?;
        let of = |name: &str| {
            let text = text_of(document.root(), name)?;
            let is_plain = !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic());
            is_plain.then_some(text)
        };
        let ends: Timestamp = of("Expiration")?.parse().ok()?;
        let (until, ahead) = times(asked, length, ends);
        let opened = Self {
            keys: Keys {
                access_key: of("AccessKeyId")?,
                secret: Secret::new(of("SecretAccessKey")?),
                token: Secret::new(of("SessionToken")?),
            },
            arn: of("Arn")?,
            since,
            until,
            ahead,
        };
        (since < until).then_some(opened)
    }

    /// The present by AWS's clock.
    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::now() + self.ahead
    }

    /// The number of the account.
    pub(crate) fn account(&self) -> &str {
        self.arn.split(':').nth(4).unwrap_or_default()
    }
}

/// The end of a session by this machine's clock, and how far AWS's is ahead of it. AWS ends a session as
/// long after its own present as was asked for, which tells that present: some moment between the question,
/// which may have been repeated for a while, and the answer.
fn times(
    (since, answered): (Timestamp, Timestamp),
    length: Duration,
    ends: Timestamp,
) -> (Timestamp, SignedDuration) {
    let end_from = |present: Timestamp| present.checked_add(length).unwrap_or(Timestamp::MAX);
    let (expected, latest) = (end_from(since), end_from(answered));
    // A clock that was set back meanwhile has no moment between.
    let nearest = ends.min(latest).max(expected);
    let ahead = ends.duration_since(nearest);
    if ahead.abs() < NOTABLE {
        (ends.min(expected), SignedDuration::ZERO)
    } else {
        (expected, ahead)
    }
}

impl StsError {
    /// The failure to end with; a refusal is explained in the log first.
    pub(crate) fn into_failure(self, session: &Session, expectations: &Expectations) -> Failure {
        match self {
            Self::NotGiven(cause) => not_given(cause),
            Self::Refused { ref refusal, ref claims, .. } => {
                let mut found = Vec::new();
                if let Some(claims) = claims {
                    let report = report(claims, expectations);
                    session.tell("Why AWS refused the token", &report.text);
                    found.extend(report.mismatches);
                    found.extend(report.warning);
                }
                let hints = refusal.hints(found).into_iter();
                hints.fold(Failure::remote(self), Failure::hint)
            }
            Self::Unanswered { .. } => Failure::remote(self)
                .hint("is input `region` a region of AWS? A runner behind a proxy needs HTTPS_PROXY, one behind a proxy that opens TLS input `extra-ca`"),
            Self::Answer { .. } => Failure::remote(self),
            Self::NotSigned(cause) => Failure::bug(cause),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_session_ends_by_the_clock_here_and_signs_by_that_of_aws() {
        let hour = Duration::from_secs(3600);
        let zero = SignedDuration::ZERO;
        let at_once = (at(1000), at(1000));
        assert_eq!(times(at_once, hour, at(4600)), (at(4600), zero));
        assert_eq!(times(at_once, hour, at(4590)), (at(4590), zero));
        assert_eq!(times(at_once, hour, at(4602)), (at(4600), zero));
        let ahead = SignedDuration::from_secs(600);
        assert_eq!(times(at_once, hour, at(5200)), (at(4600), ahead));
        assert_eq!(times(at_once, hour, at(4000)), (at(4600), -ahead));
    }

    #[test]
    fn a_question_that_was_repeated_for_long_makes_no_clock_wrong() {
        let hour = Duration::from_secs(3600);
        let zero = SignedDuration::ZERO;
        let ahead = SignedDuration::from_secs(600);
        let repeated = (at(1000), at(1240));
        for ends in [4600, 4720, 4840] {
            assert_eq!(times(repeated, hour, at(ends)), (at(4600), zero), "{ends}");
        }
        assert_eq!(times(repeated, hour, at(4840 + 600)), (at(4600), ahead));
        assert_eq!(times(repeated, hour, at(4600 - 600)), (at(4600), -ahead));
        let set_back = (at(1000), at(400));
        assert_eq!(times(set_back, hour, at(4600)), (at(4600), zero));
    }
}
