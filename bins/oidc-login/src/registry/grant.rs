//! Gets a registry's password by its way. A password is masked and handed on; nothing here keeps one.

use jiff::Timestamp;
use serde::Deserialize;
use switchyard_http::{HeaderValue, Method, Repeat, Request, StatusCode, header};
use switchyard_runner::{Failure, Kind, Secret};

use super::entry::Way;
use super::name::RegistryName;
use crate::aws;
use crate::credential::{Entra, Kept, Recipe, Token, obtain};
use crate::explain::Expectations;
use crate::session::Session;

#[derive(Deserialize)]
struct Exchanged {
    refresh_token: String,
}

/// A password for a registry.
///
/// # Errors
/// When the cloud or the registry gives none; a refused token is explained in the log first.
pub(crate) async fn password(
    session: &Session,
    registry: &RegistryName,
    way: &Way,
    expectations: &Expectations,
) -> Result<Secret, Failure> {
    let password = match way {
        Way::Ghcr(token) => token.clone(),
        Way::Acr(entra) => {
            let token = entra_token(session, entra, expectations).await?;
            exchange(session, registry, &token).await?
        }
        Way::Ecr(ecr) => aws::registry_password(session, ecr, expectations).await?,
    };
    session.mask(&password);
    Ok(password)
}

/// The token that is kept for this, else a fresh one.
async fn entra_token(
    session: &Session,
    entra: &Entra,
    expectations: &Expectations,
) -> Result<Secret, Failure> {
    let recipe = Recipe::Azure(entra.clone());
    let shared = session.shared(Kept::Token, &recipe.arguments());
    let is_fresh = |token: &Token| token.is_fresh(Timestamp::now());
    let fresh = obtain(&recipe, session, expectations);
    let secret = shared
        .one_for_all(session, is_fresh, fresh)
        .await?
        .token
        .secret;
    session.mask(&secret);
    Ok(secret)
}

/// ACR's refresh token, which its clients use as a password.
/// <https://github.com/Azure/acr/blob/main/docs/AAD-OAuth.md>
async fn exchange(
    session: &Session,
    registry: &RegistryName,
    token: &Secret,
) -> Result<Secret, Failure> {
    let form_type = HeaderValue::from_static("application/x-www-form-urlencoded");
    let url = registry.url().join_segments(["oauth2", "exchange"]);
    let request = Request::new(Method::POST, url)
        .header(header::CONTENT_TYPE, form_type)
        .body(form(registry, token))
        .redact(token.expose())
        .repeat(Repeat::IdempotentAfterAnyServerError)
        .within(session.left());
    let refused = |cause: switchyard_http::Error| {
        let hint = match cause.status() {
            Some(StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => Some(
                "give the application the role `AcrPull` on the registry; a new assignment takes some minutes",
            ),
            Some(_) | None => None,
        };
        let text = format!("registry `{registry}` gives no password for Entra's token");
        Failure::remote(anyhow::Error::new(cause).context(text)).maybe_hint(hint)
    };
    let answer = session.client.send(&request).await.map_err(refused)?;
    let answer = answer.require_success().map_err(refused)?;
    // The answer is not repeated: it may well hold the password.
    let exchanged: Exchanged = serde_json::from_slice(answer.body()).map_err(|_| {
        let text = format!("registry `{registry}` answers without a `refresh_token`");
        Failure::message(Kind::Remote, text)
    })?;
    Ok(Secret::new(exchanged.refresh_token))
}

fn form(registry: &RegistryName, token: &Secret) -> String {
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    form.extend_pairs([
        ("grant_type", "access_token"),
        ("service", registry.as_str()),
        ("access_token", token.expose()),
    ]);
    form.finish()
}
