//! Everything a workflow logs in to, in one world that fits together: a job of `acme/shop`, an
//! application and a role that trust its environments, a cluster, and registries with an image.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use super::{
    Entra, GITHUB_ISSUER, Job, KeyRing, ResourceManager, StandIn, TokenService,
    arm::{self, ManagedCluster, UserKind},
    aws::{Account, Ecr, Eks, Role, Sts, eks},
    entra::{self, Application, Cloud},
    oci::{Acr, Ghcr, OpenRegistry},
};
use crate::{
    error::{Context as _, Result},
    identity::{DIRECT_AUDIENCE, EKS_CLUSTER},
    tls::TlsAuthority,
};

const CLIENT: &str = "11111111-2222-4333-8444-555555555555";
/// The principal of the application: its name in the cluster.
const PRINCIPAL: &str = "99999999-0000-4000-8000-000000000001";
const GROUP: &str = "shop-rg";
const AKS: &str = "shop-aks";
/// The environments of a deployment and of its rescue, which have credentials of their own.
const ENVIRONMENTS: [&str; 2] = ["production", "production-rollback"];
const IMAGE: &str = "acme/api";

/// Where the stand-ins are started.
pub struct Surroundings<'a> {
    /// The address to listen on.
    pub address: IpAddr,
    /// Who signs their certificates.
    pub authority: &'a TlsAuthority,
    /// The API server of the cluster, and its authority, PEM.
    pub cluster: (String, String),
    /// The keys that sign as GitHub.
    pub github_keys: Arc<KeyRing>,
    /// The keys that sign as Entra.
    pub entra_keys: Arc<KeyRing>,
    /// The token of the job at GitHub.
    pub github_token: &'a str,
}

/// The stand-ins, running until this is dropped.
pub struct Logins {
    /// GitHub's token service.
    pub token_service: StandIn<TokenService>,
    /// Entra.
    pub entra: StandIn<Entra>,
    /// Azure Resource Manager.
    pub manager: StandIn<ResourceManager>,
    /// STS.
    pub sts: StandIn<Sts>,
    /// EKS.
    pub eks: StandIn<Eks>,
    /// ECR.
    pub ecr: StandIn<Ecr>,
    /// ACR with its registry.
    pub acr: OpenRegistry<Acr>,
    /// GHCR with its registry.
    pub ghcr: OpenRegistry<Ghcr>,
    /// The account at AWS.
    pub account: Arc<Account>,
}

impl Logins {
    /// Starts them all.
    ///
    /// # Errors
    /// A socket, a key or the registry cannot be had.
    pub async fn start(surroundings: &Surroundings<'_>) -> Result<Self> {
        let free = SocketAddr::new(surroundings.address, 0);
        let authority = surroundings.authority;
        let (server, ca) = surroundings.cluster.clone();
        let github = token_service(surroundings);
        let entra = entra_of(surroundings, &github);
        let tokens = Arc::clone(&entra.tokens);
        let manager = manager_of(&entra, &server, &ca);
        let account = account_of(&github);
        let eks = Eks::new(Arc::clone(&account));
        eks.add(eks::Cluster {
            name: EKS_CLUSTER.to_owned(),
            endpoint: server,
            ca,
            status: "ACTIVE".to_owned(),
        });
        let acr = Acr::new(tokens, authority, OpenRegistry::<Acr>::reserve()?);
        let acr = acr.context(|| "cannot make ACR's keys")?;
        acr.assign_pull(PRINCIPAL);
        let behind = OpenRegistry::<Ghcr>::reserve()?;
        let ghcr = Ghcr::new(surroundings.github_token, authority, behind);
        let ghcr = ghcr.context(|| "cannot make GHCR's keys")?;
        let logins = Self {
            token_service: started(github, free, authority)?,
            entra: started(entra, free, authority)?,
            manager: started(manager, free, authority)?,
            sts: started(Sts::new(Arc::clone(&account)), free, authority)?,
            eks: started(eks, free, authority)?,
            ecr: started(Ecr::new(Arc::clone(&account)), free, authority)?,
            acr: OpenRegistry::start(acr, free, authority).await?,
            ghcr: OpenRegistry::start(ghcr, free, authority).await?,
            account,
        };
        logins.acr.fill(IMAGE, "v1").await?;
        logins.ghcr.fill(IMAGE, "v1").await?;
        let manager = logins.manager.base_url();
        logins.entra.service().tokens.accept_manager(manager);
        Ok(logins)
    }

    /// The role of AWS that a deployment assumes.
    #[must_use]
    pub fn role_arn() -> String {
        role().arn()
    }

    /// What a workflow needs to reach them, as names and values.
    #[must_use]
    pub fn settings(&self) -> Vec<(&'static str, String)> {
        let github = self.token_service.service();
        let url = |base: &str| base.to_owned();
        vec![
            (
                "ACTIONS_ID_TOKEN_REQUEST_URL",
                github.request_url(self.token_service.base_url()),
            ),
            (
                "ACTIONS_ID_TOKEN_REQUEST_TOKEN",
                github.request_token.clone(),
            ),
            ("AZURE_AUTHORITY_URL", url(self.entra.base_url())),
            ("AZURE_RESOURCE_MANAGER_URL", url(self.manager.base_url())),
            ("AZURE_TENANT_ID", entra::TENANT.to_owned()),
            ("AZURE_CLIENT_ID", CLIENT.to_owned()),
            ("AZURE_PRINCIPAL_ID", PRINCIPAL.to_owned()),
            ("AZURE_SUBSCRIPTION_ID", arm::SUBSCRIPTION.to_owned()),
            ("AKS_RESOURCE_GROUP", GROUP.to_owned()),
            ("AKS_CLUSTER", AKS.to_owned()),
            ("DIRECT_AUDIENCE", DIRECT_AUDIENCE.to_owned()),
            ("AWS_REGION", self.account.region.to_owned()),
            ("AWS_ROLE_ARN", Self::role_arn()),
            ("AWS_ENDPOINT_URL_STS", url(self.sts.base_url())),
            ("AWS_ENDPOINT_URL_EKS", url(self.eks.base_url())),
            ("AWS_ENDPOINT_URL_ECR", url(self.ecr.base_url())),
            ("EKS_CLUSTER", EKS_CLUSTER.to_owned()),
            ("ACR_REGISTRY", self.acr.name().to_owned()),
            ("GHCR_REGISTRY", self.ghcr.name().to_owned()),
            ("REGISTRY_IMAGE", format!("{IMAGE}:v1")),
        ]
    }
}

fn started<S: super::Service>(
    service: S,
    address: SocketAddr,
    authority: &TlsAuthority,
) -> Result<StandIn<S>> {
    StandIn::start_tls(service, address, authority).context(|| "cannot start a stand-in")
}

fn job(environment: &str) -> Job {
    Job::default().in_environment(environment)
}

fn token_service(surroundings: &Surroundings<'_>) -> TokenService {
    let service = TokenService::with_keys(Arc::clone(&surroundings.github_keys));
    service.run(job(ENVIRONMENTS[0]));
    service
}

fn entra_of(surroundings: &Surroundings<'_>, github: &TokenService) -> Entra {
    let cloud = Cloud::Public;
    let entra = Entra::with_keys(cloud, Arc::clone(&surroundings.entra_keys));
    let entra = entra.reaching(GITHUB_ISSUER, Arc::clone(&github.keys));
    let application = Application::new(CLIENT, "shop-deploy", PRINCIPAL);
    let application = ENVIRONMENTS
        .iter()
        .fold(application, |application, environment| {
            let subject = job(environment).subject();
            application.trusting(GITHUB_ISSUER, &subject, cloud.assertion_audience())
        });
    entra.register(application);
    entra
}

fn manager_of(entra: &Entra, server: &str, ca: &str) -> ResourceManager {
    let manager = ResourceManager::new(Arc::clone(&entra.tokens));
    manager.add(ManagedCluster {
        resource_group: GROUP.to_owned(),
        name: AKS.to_owned(),
        server: server.to_owned(),
        public_server: None,
        ca: ca.to_owned(),
        user: UserKind::Exec(entra.cloud),
    });
    let scope = format!(
        "/subscriptions/{}/resourceGroups/{GROUP}",
        arm::SUBSCRIPTION
    );
    manager.assign(PRINCIPAL, &scope);
    manager
}

fn account_of(github: &TokenService) -> Arc<Account> {
    let account = Account::new().trusting(GITHUB_ISSUER, Arc::clone(&github.keys));
    account.add(role());
    Arc::new(account)
}

fn role() -> Role {
    let mut role = Role::new("deploy", &job(ENVIRONMENTS[0]).subject())
        .allowing("eks:DescribeCluster")
        .allowing("ecr:GetAuthorizationToken");
    role.subjects.push(job(ENVIRONMENTS[1]).subject());
    role
}
