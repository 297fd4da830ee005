//! ECR's password for its registries, which it gives to a session of a role. It lives for twelve hours, so
//! it is got for each use and never kept.
//! <https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_GetAuthorizationToken.html>

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use switchyard_http::{Method, Repeat};
use switchyard_runner::{Failure, Kind, Secret};

use super::names::Service;
use super::refusal::Refusal;
use super::session::current;
use super::signing::{Scope, Unsigned, signed};
use crate::explain::{Expectations, printable};
use crate::registry::Ecr;
use crate::session::Session;

const TARGET: &str = "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    authorization_data: Vec<Authorization>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Authorization {
    authorization_token: String,
}

/// The password for user `AWS`.
///
/// # Errors
/// When AWS gives no session or ECR no password; a refused token is explained in the log first.
pub(crate) async fn registry_password(
    session: &Session,
    ecr: &Ecr,
    expectations: &Expectations,
) -> Result<Secret, Failure> {
    let (role_session, _) = current(session, &ecr.assume, expectations).await?;
    let unsigned = Unsigned {
        method: Method::POST,
        url: ecr.ecr_url.url().clone(),
        headers: &[
            ("content-type", "application/x-amz-json-1.1"),
            ("x-amz-target", TARGET),
        ],
        body: "{}".to_owned(),
    };
    let scope = Scope {
        region: &ecr.assume.region,
        service: Service::Ecr.name(),
        at: role_session.now(),
    };
    let request = signed(unsigned, &role_session.keys, scope).map_err(Failure::bug)?;
    let request = request
        // Another password takes nothing away.
        .repeat(Repeat::IdempotentAfterAnyServerError)
        .within(session.left());
    let unanswered = |cause: switchyard_http::Error| {
        let text = format!("ECR gives no password to `{}`", role_session.arn);
        Failure::remote(anyhow::Error::new(cause).context(text))
    };
    let answer = session.client.send(&request).await.map_err(unanswered)?;
    if !answer.status().is_success()
        && let Some(refusal) = Refusal::of_json(&answer)
    {
        return Err(refused(&role_session.arn, &refusal));
    }
    let answer = answer.require_success().map_err(unanswered)?;
    // The answer is not repeated: it may well hold the password.
    read(answer.body()).ok_or_else(|| {
        let text = "ECR's answer holds no password for user `AWS`";
        Failure::message(Kind::Remote, text)
    })
}

fn refused(caller: &str, refusal: &Refusal) -> Failure {
    let headline = printable(&refusal.headline());
    let text = format!("ECR gives no password to `{caller}`: {headline}");
    let hints = refusal.hints(None).into_iter();
    hints.fold(Failure::message(Kind::Remote, text), Failure::hint)
}

fn read(body: &[u8]) -> Option<Secret> {
    let answer: Answer = serde_json::from_slice(body).ok()?;
    let token = &answer.authorization_data.first()?.authorization_token;
    let pair = String::from_utf8(STANDARD.decode(token).ok()?).ok()?;
    let password = pair.strip_prefix("AWS:")?;
    (!password.is_empty()).then(|| Secret::new(password))
}
