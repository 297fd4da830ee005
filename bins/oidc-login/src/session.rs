//! What every exchange of one command shares: the client, this job's source of tokens, the time that is
//! left, and the log that masks each secret before anything else is said.

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use switchyard_http::{Client, ClientIdentity, ClientSettings, ProxySettings};
use switchyard_runner::{Console, Environment, Failure, Kind, Secret};
use tokio::time::Instant;

use crate::credential::{Cache, Job, Kept, Network, Shared};
use crate::github::{Jwt, RequestError, TokenSource, Unavailable};
use crate::lock::Lock;
use crate::private::Problem;

/// One command's way to the network.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    pub(crate) client: Client,
    pub(crate) deadline: Instant,
    /// `None` where a command needs no token of GitHub's.
    source: Option<TokenSource>,
    settings: ClientSettings,
    console: Console,
    /// `RUNNER_TEMP`.
    runner_temp: Option<PathBuf>,
}

impl Session {
    /// Prepares the client; sends nothing.
    ///
    /// # Errors
    /// Of kind input when the CA file or a proxy variable is unusable, or no time is given.
    pub(crate) fn new(
        network: &Network,
        source: TokenSource,
        environment: &Environment,
        console: &Console,
    ) -> Result<Self, Failure> {
        console.mask(source.request_token());
        let session = Self::without_tokens(network, environment, console)?;
        Ok(Self {
            source: Some(source),
            ..session
        })
    }

    /// The same for a command that asks GitHub for no token.
    ///
    /// # Errors
    /// As of [`Session::new`].
    pub(crate) fn without_tokens(
        network: &Network,
        environment: &Environment,
        console: &Console,
    ) -> Result<Self, Failure> {
        if network.timeout.is_zero() {
            return Err(Failure::message(Kind::Input, "input `timeout` is `0`")
                .hint("give the login some time, such as `60s`"));
        }
        let settings = ClientSettings {
            connect_timeout: network.timeout.min(Duration::from_secs(10)),
            attempt_timeout: network.timeout.min(Duration::from_secs(30)),
            total_timeout: network.timeout,
            extra_ca: network.extra_ca.clone(),
            proxy: ProxySettings::from_lookup(|name| environment.get(name).map(str::to_owned)),
            ..ClientSettings::new("switchyard-oidc-login", env!("CARGO_PKG_VERSION"))
        };
        Ok(Self {
            client: client(&settings)?,
            deadline: Instant::now() + network.timeout,
            source: None,
            settings,
            console: console.clone(),
            runner_temp: environment.get("RUNNER_TEMP").map(PathBuf::from),
        })
    }

    /// A fresh token of GitHub's, masked.
    ///
    /// # Errors
    /// When GitHub gives none in time.
    pub(crate) async fn jwt(&self, audience: &str) -> Result<Jwt, RequestError> {
        let source = self.source.as_ref().ok_or(RequestError::NotAsked)?;
        let jwt = source.token(&self.client, audience, self.deadline).await?;
        self.console.mask(jwt.token());
        if let Some(difference) = jwt.claims().clock_difference(Timestamp::now()) {
            self.progress(difference);
        }
        Ok(jwt)
    }

    pub(crate) fn console(&self) -> &Console {
        &self.console
    }

    /// Hides a secret in the log.
    pub(crate) fn mask(&self, secret: &Secret) {
        self.console.mask(secret);
    }

    /// Tells how a wait goes.
    pub(crate) fn progress(&self, text: impl std::fmt::Display) {
        self.console.progress(text);
    }

    /// Shows several lines under a title.
    pub(crate) fn tell(&self, title: &str, text: &str) {
        let _group = self.console.group(title);
        self.console.info(text);
    }

    /// `RUNNER_TEMP`.
    ///
    /// # Errors
    /// Where no runner has set it.
    pub(crate) fn runner_temp(&self) -> Result<&Path, Problem> {
        self.runner_temp.as_deref().ok_or(Problem::NoRoot)
    }

    /// Where the calls of this job share what is got by these arguments.
    pub(crate) fn shared(&self, kept: Kept, arguments: &[String]) -> Shared {
        let job = Job {
            runner_temp: self.runner_temp.as_deref(),
            source: self.source.as_ref(),
            console: &self.console,
        };
        Shared::open(job, kept, arguments)
    }

    /// Nobody else gets what is kept in this place while the lock is held; `None`, with the reason in the
    /// log, where there is none to be had. Half of the time is left for what is done under it.
    pub(crate) async fn lock(&self, cache: Option<&Cache>) -> Option<Lock> {
        let lock = cache?.lock(self.deadline - self.left() / 2).await;
        lock.inspect_err(|problem| self.progress(format!("going on without the lock: {problem}")))
            .ok()
    }

    /// The time that is left.
    pub(crate) fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// A client for one cluster: it trusts the cluster's authority alone where there is one.
    ///
    /// # Errors
    /// Of kind remote when authority or certificate cannot be used.
    pub(crate) fn client_of_cluster(
        &self,
        authority: Option<&str>,
        identity: Option<ClientIdentity>,
    ) -> Result<Client, Failure> {
        let settings = ClientSettings {
            only_ca: authority.map(str::to_owned),
            identity,
            ..self.settings.clone()
        };
        Client::new(&settings).map_err(Failure::remote)
    }
}

fn client(settings: &ClientSettings) -> Result<Client, Failure> {
    Client::new(settings).map_err(|cause| {
        Failure::input(cause)
            .hint("see input `extra-ca` and the variables HTTPS_PROXY and SSL_CERT_FILE")
    })
}

/// Each exchange ends by itself at the time-out; whatever else hangs ends this much later.
const GRACE: Duration = Duration::from_millis(500);

/// What another program waits for, which must not hang.
///
/// # Errors
/// As `work`; of kind remote when it takes longer than the time-out.
pub(crate) async fn within<T>(
    timeout: Duration,
    what: impl std::fmt::Display,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let ended = tokio::time::timeout(timeout + GRACE, work).await;
    ended.map_err(|_| Failure::message(Kind::Remote, format!("no {what} within {timeout:?}")))?
}

/// The failure of a job that gets no tokens.
pub(crate) fn unavailable(cause: Unavailable) -> Failure {
    let hint = cause.hint();
    Failure::input(cause).hint(hint)
}

/// The failure of a request for GitHub's token.
pub(crate) fn not_given(cause: RequestError) -> Failure {
    let hint = cause.hint();
    Failure::remote(cause).maybe_hint(hint)
}
