//! What the consumer's jobs log in to, each workflow in its own way: AKS, EKS, and the cluster itself. All
//! of it stands in front of the sandbox's API server, which trusts the tokens.
//!
//! Each job is known by its environment, as at GitHub: `production` and `production-rollback` may log in to
//! the clouds, `dev` and `dev-rollback` to the cluster itself.

mod aws;
mod azure;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use switchyard_sandbox::standins::{Job, Service, StandIn, TokenService};
use switchyard_sandbox::{DIRECT_AUDIENCE, Sandbox, TestNamespace, TlsAuthority};

use crate::{Doing as _, Result};
use aws::Aws;
use azure::Azure;

/// The environment of the deployments, and that of their rescues.
const PRODUCTION: [&str; 2] = ["production", "production-rollback"];
/// The same of deployments in place.
const DEVELOPMENT: [&str; 2] = ["dev", "dev-rollback"];

/// Everything that the consumer's jobs log in to. It ends when it is dropped.
pub struct Logins {
    github: StandIn<TokenService>,
    azure: Azure,
    aws: Aws,
    server: String,
    authority: TlsAuthority,
    /// What a job of each environment asks GitHub with.
    request_tokens: BTreeMap<&'static str, String>,
    ca: PathBuf,
}

impl Logins {
    /// Starts the services, and grants whoever logs in the deployer's role in a namespace.
    ///
    /// # Errors
    /// The sandbox is not one of our own, or a service does not start.
    pub fn start(sandbox: &Sandbox, namespace: &TestNamespace) -> Result<Self> {
        let told = |what: &'static str| move || what.to_owned();
        let authority = sandbox.tls_authority().doing(told("sign certificates"))?;
        let keys = sandbox.github_keys();
        let github = TokenService::with_keys(keys.doing(told("publish GitHub's keys"))?);
        let environments = [PRODUCTION, DEVELOPMENT].concat();
        let request_tokens = environments.into_iter().map(|environment| {
            let token = github.run_beside(job(environment));
            (environment, token)
        });
        let request_tokens = request_tokens.collect();
        for environment in DEVELOPMENT {
            let user = format!("github:{}", job(environment).subject());
            let granted = namespace.grant_deployer(&user);
            granted.doing(told("grant the job its role"))?;
        }
        let keys = Arc::clone(&github.keys);
        Ok(Self {
            azure: Azure::start(sandbox, namespace, &authority, Arc::clone(&keys))?,
            aws: Aws::start(sandbox, namespace, &authority, keys)?,
            github: started(github, &authority)?,
            server: sandbox.api_server().to_owned(),
            authority,
            request_tokens,
            ca: sandbox.ca_certificate().to_owned(),
        })
    }

    /// What the cluster calls the application at Azure.
    #[must_use]
    pub fn object(&self) -> &str {
        &self.azure.object
    }

    /// The role at AWS.
    #[must_use]
    pub fn role(&self) -> &str {
        &self.aws.role.name
    }

    /// Takes the rescue's credential away at Azure, as if nobody had made one.
    pub fn forget_rescue(&self) {
        self.azure.trust(&PRODUCTION[..1]);
    }

    /// The values of the workflow inputs of each login.
    #[must_use]
    pub fn inputs(&self) -> BTreeMap<&'static str, String> {
        let direct = [
            ("direct-server", self.server.clone()),
            ("direct-audience", DIRECT_AUDIENCE.to_owned()),
            (
                "direct-certificate-authority",
                self.authority.certificate().to_owned(),
            ),
        ];
        let clouds = self.azure.inputs().into_iter().chain(self.aws.inputs());
        clouds.chain(direct).collect()
    }

    /// What the runner gives a job with `id-token: write` and no environment, whom nobody trusts, and the
    /// authority of the stand-ins.
    #[must_use]
    pub fn environment(&self) -> BTreeMap<&'static str, String> {
        let github = self.github.service();
        BTreeMap::from([
            (
                "ACTIONS_ID_TOKEN_REQUEST_URL",
                github.request_url(self.github.base_url()),
            ),
            (
                "ACTIONS_ID_TOKEN_REQUEST_TOKEN",
                github.request_token.clone(),
            ),
            ("SSL_CERT_FILE", self.ca.display().to_string()),
        ])
    }

    /// What a job of each environment has for `ACTIONS_ID_TOKEN_REQUEST_TOKEN`.
    #[must_use]
    pub fn request_tokens(&self) -> BTreeMap<&'static str, String> {
        self.request_tokens.clone()
    }

    /// Everything that was given out so far and that nobody may see.
    #[must_use]
    pub fn secrets(&self) -> Vec<String> {
        [
            self.github.secrets(),
            self.azure.secrets(),
            self.aws.account.secrets(),
        ]
        .concat()
    }
}

fn job(environment: &str) -> Job {
    Job::default().in_environment(environment)
}

fn started<S: Service>(service: S, authority: &TlsAuthority) -> Result<StandIn<S>> {
    let address = SocketAddr::from(([127, 0, 0, 1], 0));
    StandIn::start_tls(service, address, authority).doing(|| "start a stand-in".to_owned())
}

/// A number of its own for each consumer: what the cluster grants to one does not hold for another.
fn unique() -> String {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    format!("{:06x}{count:06x}", std::process::id() & 0x00ff_ffff)
}
