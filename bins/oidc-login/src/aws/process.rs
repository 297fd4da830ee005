//! What AWS's command line and SDKs start for a profile with a `credential_process`.
//! <https://docs.aws.amazon.com/sdkref/latest/guide/feature-process-credentials.html>

use std::time::Duration;

use clap::Parser;
use jiff::Timestamp;
use serde_json::json;
use switchyard_runner::{Failure, Kind, PluginContext};

use super::session::lasting;
use super::sts::RoleSession;
use crate::credential::{Assume, Network};
use crate::github::TokenSource;
use crate::session::{Session, unavailable};

/// Each exchange ends by itself at the time-out; whatever else hangs ends this much later.
const GRACE: Duration = Duration::from_millis(500);

/// The first argument of a call.
pub(crate) const WORD: &str = "credential-process";

/// Gives AWS's clients the session of a role
#[derive(Debug, Parser)]
#[command(name = "oidc-login credential-process")]
pub(crate) struct CredentialProcess {
    #[command(flatten)]
    assume: Assume,
    #[command(flatten)]
    network: Network,
}

impl CredentialProcess {
    /// The answer for standard output.
    ///
    /// # Errors
    /// When there is no session to be had.
    pub(crate) async fn run(self, context: &PluginContext) -> Result<String, Failure> {
        let source = TokenSource::read(&context.environment).map_err(unavailable)?;
        let environment = &context.environment;
        let session = Session::new(&self.network, source, environment, &context.console)?;
        let limit = self.network.timeout + GRACE;
        let opened = tokio::time::timeout(limit, Box::pin(lasting(&session, &self.assume)))
            .await
            .map_err(|_| Failure::message(Kind::Remote, format!("no session within {limit:?}")))?;
        Ok(answer(&opened?))
    }
}

/// The arguments of a call that gives this.
pub(crate) fn arguments(assume: &Assume, network: &Network) -> Vec<String> {
    let word = std::iter::once(WORD.to_owned());
    let arguments = word.chain(assume.arguments());
    arguments.chain(network.arguments()).collect()
}

fn answer(session: &RoleSession) -> String {
    // SDKs read RFC 3339; sub-seconds would only be noise.
    let until = Timestamp::from_second(session.until.as_second()).unwrap_or(session.until);
    json!({
        "Version": 1,
        "AccessKeyId": session.keys.access_key,
        "SecretAccessKey": session.keys.secret.expose(),
        "SessionToken": session.keys.token.expose(),
        "Expiration": until.to_string(),
    })
    .to_string()
}
