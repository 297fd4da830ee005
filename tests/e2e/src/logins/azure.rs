//! Entra, Azure Resource Manager, and an application that trusts the jobs of production.

use std::collections::BTreeMap;
use std::sync::Arc;

use switchyard_sandbox::standins::arm::{ManagedCluster, SUBSCRIPTION, UserKind};
use switchyard_sandbox::standins::entra::{Application, Cloud, TENANT};
use switchyard_sandbox::standins::{Entra, GITHUB_ISSUER, KeyRing, ResourceManager, StandIn};
use switchyard_sandbox::{Sandbox, TestNamespace, TlsAuthority};

use super::{PRODUCTION, job, started, unique};
use crate::{Doing as _, Result};

const CLIENT: &str = "11111111-2222-4333-8444-555555555555";
const GROUP: &str = "shop-production";
const CLUSTER: &str = "shop";

pub(super) struct Azure {
    entra: StandIn<Entra>,
    manager: StandIn<ResourceManager>,
    /// What the cluster calls the application of the jobs.
    pub(super) object: String,
}

impl Azure {
    pub(super) fn start(
        sandbox: &Sandbox,
        namespace: &TestNamespace,
        authority: &TlsAuthority,
        github: Arc<KeyRing>,
    ) -> Result<Self> {
        let keys = sandbox.entra_keys();
        let keys = keys.doing(|| "publish Entra's keys".to_owned())?;
        let entra = Entra::with_keys(Cloud::Public, keys).reaching(GITHUB_ISSUER, github);
        let object = format!("99999999-0000-4000-8000-{}", unique());
        let tokens = Arc::clone(&entra.tokens);
        let manager = started(ResourceManager::new(Arc::clone(&tokens)), authority)?;
        tokens.accept_manager(manager.base_url());
        let scope = format!("/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}");
        manager.service().assign(&object, &scope);
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
            .doing(|| "grant the application its role".to_owned())?;
        let azure = Self {
            entra: started(entra, authority)?,
            manager,
            object,
        };
        azure.trust(&PRODUCTION);
        Ok(azure)
    }

    /// Has a federated credential for each of these environments, and no other.
    pub(super) fn trust(&self, environments: &[&str]) {
        let application = Application::new(CLIENT, "deployer", &self.object);
        let trusting = |application: Application, environment: &&str| {
            let audience = Cloud::Public.assertion_audience();
            application.trusting(GITHUB_ISSUER, &job(environment).subject(), audience)
        };
        let application = environments.iter().fold(application, trusting);
        self.entra.service().register(application);
    }

    pub(super) fn inputs(&self) -> BTreeMap<&'static str, String> {
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

    pub(super) fn secrets(&self) -> Vec<String> {
        self.entra.secrets()
    }
}
