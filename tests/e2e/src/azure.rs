//! What a job of the consumer logs in to: GitHub's token service, Entra and Azure Resource Manager as
//! stand-ins, in front of the sandbox's API server, which trusts their tokens.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use switchyard_sandbox::standins::arm::{ManagedCluster, SUBSCRIPTION, UserKind};
use switchyard_sandbox::standins::entra::{Application, Cloud, TENANT};
use switchyard_sandbox::standins::{
    Entra, GITHUB_ISSUER, Job, ResourceManager, Service, StandIn, TokenService,
};
use switchyard_sandbox::{Sandbox, TestNamespace, TlsAuthority};

use crate::{Doing as _, Result};

const CLIENT: &str = "11111111-2222-4333-8444-555555555555";
const GROUP: &str = "shop-production";
const CLUSTER: &str = "shop";

/// Everything that the consumer's jobs log in to. It ends when it is dropped.
pub struct Azure {
    github: StandIn<TokenService>,
    entra: StandIn<Entra>,
    manager: StandIn<ResourceManager>,
    /// What the cluster calls the application of the jobs.
    object: String,
    ca: PathBuf,
}

impl Azure {
    /// Starts the services, and grants their application the deployer's role in a namespace.
    ///
    /// # Errors
    /// The sandbox is not one of our own, or a service does not start.
    pub fn start(sandbox: &Sandbox, namespace: &TestNamespace) -> Result<Self> {
        let told = |what: &'static str| move || what.to_owned();
        let authority = sandbox.tls_authority().doing(told("sign certificates"))?;
        let github = TokenService::with_keys(
            sandbox
                .github_keys()
                .doing(told("publish the keys of GitHub's stand-in"))?,
        );
        github.run(Job::default().in_environment("production"));
        let keys = Arc::clone(&github.keys);
        let own = sandbox
            .entra_keys()
            .doing(told("publish the keys of Entra's stand-in"))?;
        let entra = Entra::with_keys(Cloud::Public, own).reaching(GITHUB_ISSUER, keys);
        let object = unique_object();
        entra.register(Application::new(CLIENT, "deployer", &object).trusting(
            GITHUB_ISSUER,
            "repo:acme/shop:environment:production",
            Cloud::Public.assertion_audience(),
        ));
        let tokens = Arc::clone(&entra.tokens);
        let manager = started(ResourceManager::new(Arc::clone(&tokens)), &authority)?;
        tokens.accept_manager(manager.base_url());
        manager.service().assign(
            &object,
            &format!("/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}"),
        );
        manager.service().add(ManagedCluster {
            resource_group: GROUP.to_owned(),
            name: CLUSTER.to_owned(),
            server: sandbox.api_server().to_owned(),
            public_server: None,
            ca: authority.certificate().to_owned(),
            user: UserKind::Exec(Cloud::Public),
        });
        namespace
            .grant_deployer(&object)
            .doing(told("grant the application its role"))?;
        Ok(Self {
            github: started(github, &authority)?,
            entra: started(entra, &authority)?,
            manager,
            object,
            ca: sandbox.ca_certificate().to_owned(),
        })
    }

    /// What the cluster calls the application of the jobs.
    #[must_use]
    pub fn object(&self) -> &str {
        &self.object
    }

    /// The values of the workflow inputs that begin with `azure-`.
    #[must_use]
    pub fn inputs(&self) -> BTreeMap<&'static str, String> {
        BTreeMap::from([
            ("azure-cluster", CLUSTER.to_owned()),
            ("azure-tenant", TENANT.to_owned()),
            ("azure-client-id", CLIENT.to_owned()),
            ("azure-subscription", SUBSCRIPTION.to_owned()),
            ("azure-resource-group", GROUP.to_owned()),
            ("azure-authority-url", self.entra.base_url().to_owned()),
            (
                "azure-resource-manager-url",
                self.manager.base_url().to_owned(),
            ),
        ])
    }

    /// What the runner gives a job with `id-token: write`, and the authority of the stand-ins.
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

    /// Every token that was given out so far: nobody may see one of them.
    #[must_use]
    pub fn tokens(&self) -> Vec<String> {
        let value = |text: &str, name: &str| {
            let document: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
            document[name].as_str().map(str::to_owned)
        };
        let github = self.github.exchanges().into_iter();
        let entra = self.entra.exchanges().into_iter();
        github
            .filter_map(|exchange| value(&exchange.answer, "value"))
            .chain(entra.filter_map(|exchange| value(&exchange.answer, "access_token")))
            .collect()
    }
}

fn started<S: Service>(service: S, authority: &TlsAuthority) -> Result<StandIn<S>> {
    let address = SocketAddr::from(([127, 0, 0, 1], 0));
    StandIn::start_tls(service, address, authority).doing(|| "start a stand-in".to_owned())
}

/// An object id of its own for each consumer: the role bindings of one do not hold for another.
fn unique_object() -> String {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    format!(
        "99999999-0000-4000-8000-{:06x}{:06x}",
        std::process::id() & 0x00ff_ffff,
        count
    )
}
