//! What AWS's command line and SDKs start for a profile with a `credential_process`.
//! <https://docs.aws.amazon.com/sdkref/latest/guide/feature-process-credentials.html>

use clap::Parser;
use serde_json::json;
use switchyard_runner::{Failure, PluginContext};

use super::session::{kept, lasting};
use super::sts::RoleSession;
use crate::credential::{Assume, Job, Kept, Network, Shared, whole_seconds};
use crate::github::TokenSource;
use crate::session::{Session, unavailable, within};

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
        let job = Job::of_call(context, &source);
        let shared = Shared::open(job, Kept::Session, &self.assume.arguments());
        if let Some(kept) = kept(&shared, &context.console) {
            return Ok(answer(&kept));
        }
        let environment = &context.environment;
        let session = Session::new(&self.network, source, environment, &context.console)?;
        let opened = Box::pin(lasting(&session, &self.assume, &shared));
        let opened = within(self.network.timeout, Kept::Session, opened).await?;
        Ok(answer(&opened))
    }
}

/// The arguments of a call that gives this.
pub(crate) fn arguments(assume: &Assume, network: &Network) -> Vec<String> {
    let word = std::iter::once(WORD.to_owned());
    let arguments = word.chain(assume.arguments());
    arguments.chain(network.arguments()).collect()
}

fn answer(session: &RoleSession) -> String {
    json!({
        "Version": 1,
        "AccessKeyId": session.keys.access_key,
        "SecretAccessKey": session.keys.secret.expose(),
        "SessionToken": session.keys.token.expose(),
        // SDKs read RFC 3339.
        "Expiration": whole_seconds(session.until).to_string(),
    })
    .to_string()
}
