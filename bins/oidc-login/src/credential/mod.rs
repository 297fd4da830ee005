//! The exec plugin: gives a client of a cluster a token, from the cache where one is fresh.
//!
//! Standard output holds the ExecCredential and nothing else. It refuses to know which cluster the token
//! is for, and whatever it cannot use of the cache it gets anew.

mod cache;
mod exec;
mod obtain;
mod recipe;
mod shared;
mod token;

use std::ffi::OsString;
use std::path::Path;

use clap::Parser;
use jiff::Timestamp;
use switchyard_runner::{Environment, Failure, PluginContext};

pub(crate) use cache::{Cache, Kept};
use exec::Version;
pub(crate) use obtain::{Obtained, obtain};
pub(crate) use recipe::{Application, Assume, Eks, Entra, GitHub, Network, Recipe};
pub(crate) use shared::{Job, Shared};
pub(crate) use token::{Token, whole_seconds};

use crate::explain::Expectations;
use crate::github::{Fingerprint, TokenSource};
use crate::session::{Session, unavailable, within};

/// The first argument of a call of the plugin.
pub(crate) const WORD: &str = "credential";

/// Gives a client of a cluster its token, as an exec plugin of `client.authentication.k8s.io`
#[derive(Debug, Parser)]
#[command(name = "oidc-login credential")]
pub(crate) struct Credential {
    /// How the token is got.
    #[command(subcommand)]
    pub(crate) recipe: Recipe,
}

impl Credential {
    /// The ExecCredential for standard output.
    ///
    /// # Errors
    /// When there is no token, or the client asks for what we do not know.
    pub(crate) async fn run(self, context: &PluginContext) -> Result<String, Failure> {
        let version = Version::asked(context.environment.get("KUBERNETES_EXEC_INFO"))
            .map_err(|cause| Failure::input(cause).hint("use a client that speaks `client.authentication.k8s.io/v1`, such as kubectl 1.22 or later"))?;
        let limit = self.recipe.network().timeout;
        let token = within(limit, Kept::Token, self.token(context)).await?;
        Ok(version.answer(&token.secret, answered_until(&token, Timestamp::now())))
    }
}

/// The answer to a call whose token is kept and fresh. `call` are the words from [`WORD`] on: those that a login
/// writes into a kubeconfig are the ones that a token is kept under, so they need not be understood for it.
pub(crate) fn kept(call: &[OsString], environment: &Environment) -> Option<String> {
    let version = Version::asked(environment.get("KUBERNETES_EXEC_INFO")).ok()?;
    let job = Fingerprint::read(environment)?;
    let words = call.iter().map(|word| word.to_str().map(str::to_owned));
    let words: Vec<String> = words.collect::<Option<_>>()?;
    let runner_temp = Path::new(environment.get("RUNNER_TEMP")?);
    let cache = Cache::new(runner_temp, Kept::Token, &words, job).ok()?;
    let token = cache.read().ok()??;
    let is_fresh = token.is_fresh(Timestamp::now());
    is_fresh.then(|| version.answer(&token.secret, token.ask_again()))
}

/// When the client shall ask again. A token that is given out in its last minutes, because no other was
/// to be had, is good until its end.
fn answered_until(token: &Token, now: Timestamp) -> Timestamp {
    if token.is_fresh(now) {
        token.ask_again()
    } else {
        token.until
    }
}

impl Credential {
    async fn token(&self, context: &PluginContext) -> Result<Token, Failure> {
        let source = TokenSource::read(&context.environment).map_err(unavailable)?;
        let job = Job::of_call(context, &source);
        let shared = Shared::open(job, Kept::Token, &self.recipe.arguments());
        if let Some(token) = shared.look(is_fresh) {
            return Ok(token);
        }
        let network = self.recipe.network();
        let session = Session::new(network, source, &context.environment, &context.console)?;
        // Boxed, as every exchange is: a call that only reads what is kept shall not make room on its stack
        // for all of it.
        Box::pin(self.another(&shared, &session)).await
    }

    async fn another(&self, shared: &Shared, session: &Session) -> Result<Token, Failure> {
        let expectations = Expectations::default();
        let fresh = obtain(&self.recipe, session, &expectations);
        match shared.another(session, is_fresh, fresh).await {
            Ok(obtained) => Ok(obtained.token),
            Err(failure) => shared.last_resort(failure, |_| true),
        }
    }
}

fn is_fresh(token: &Token) -> bool {
    token.is_fresh(Timestamp::now())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use switchyard_runner::{Plugin as _, Secret};

    use super::*;
    use crate::plugin::OidcPlugin;

    #[test]
    fn the_words_of_a_kubeconfig_find_what_is_kept_under_their_recipe() {
        let written = "oidc-login credential github --audience=kubernetes --timeout=60000ms";
        let words: Vec<OsString> = written.split(' ').map(OsString::from).collect();
        let Credential { recipe } = Credential::parse_from(&words[1..]);
        let kept = |words: &[OsString], environment: &Environment| {
            let called = OidcPlugin::called(words).expect("it is the plugin");
            OidcPlugin::kept(&called, environment)
        };
        let folder = tempfile::tempdir().unwrap();
        let folder_text = folder.path().display().to_string();
        let job = |token: &'static str| -> Environment {
            let variables = [
                ("RUNNER_TEMP", folder_text.as_str()),
                ("GITHUB_ACTIONS", "true"),
                (
                    "ACTIONS_ID_TOKEN_REQUEST_URL",
                    "https://pipelines.example.com/?x=y",
                ),
                ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", token),
            ];
            variables.into_iter().collect()
        };
        assert_eq!(kept(&words, &job("job")), None, "nothing is kept yet");
        let source = TokenSource::read(&job("job")).unwrap();
        let arguments = recipe.arguments();
        let cache = Cache::new(folder.path(), Kept::Token, &arguments, source.fingerprint());
        let (since, hour) = (Timestamp::now(), Duration::from_secs(3600));
        let token = |until: Timestamp| Token {
            secret: Secret::new("kept-token"),
            since,
            until,
        };
        let cache = cache.unwrap();
        cache.write(&token(since + hour)).unwrap();
        let answer = kept(&words, &job("job")).expect("it is kept");
        assert!(answer.contains("kept-token"), "{answer}");
        assert_eq!(kept(&words, &job("another")), None, "it is another job's");
        let mut another = words.clone();
        another[3] = "--audience=another".into();
        assert_eq!(kept(&another, &job("job")), None, "it is another recipe's");
        cache.write(&token(since)).unwrap();
        assert_eq!(kept(&words, &job("job")), None, "it is not fresh");
    }
}
