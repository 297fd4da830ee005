//! A job with GitHub, Entra, Azure Resource Manager and an API server around it, all of them stand-ins
//! over TLS, and what the job leaves in the runner's folder for temporary files.

#![allow(dead_code, reason = "each test file uses its part")]
#![allow(
    clippy::unwrap_used,
    reason = "a helper of a test that cannot go on panics"
)]

pub(crate) mod aws;
pub(crate) mod registry;

use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};
use switchyard_harness::{Ended, Step};
use switchyard_sandbox::standins::arm::{ManagedCluster, SUBSCRIPTION, UserKind};
use switchyard_sandbox::standins::entra::{AccessTokens, Application, Cloud, Resource, TENANT};
use switchyard_sandbox::standins::{
    Answer, Clock, Entra, GITHUB_ISSUER, Job, KeyRing, Received, ResourceManager, Service, StandIn,
    TokenService,
};
use switchyard_sandbox::{Sandbox, TlsAuthority};

pub(crate) const CLIENT: &str = "11111111-2222-4333-8444-555555555555";
pub(crate) const OBJECT: &str = "99999999-8888-4777-8666-555555555555";
pub(crate) const GROUP: &str = "shop-production";
pub(crate) const SUBJECT: &str = "repo:acme/shop:environment:production";
/// Audience of a cluster that trusts GitHub's issuer.
pub(crate) const DIRECT: &str = "https://kubernetes.example.test";

/// As strict as an API server about who is who; RBAC and the rest is for the real one.
pub(crate) struct ApiServer {
    entra: Arc<AccessTokens>,
    github: Arc<KeyRing>,
    clock: Clock,
    pub(crate) reviews: AtomicU32,
}

impl Service for ApiServer {
    fn answer(&self, request: &Received) -> Answer {
        let refused = |status: u16, reason: &str| {
            let status_object = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": status});
            Answer::json(status, &status_object)
        };
        let Some(name) = request.bearer().and_then(|token| self.name(token)) else {
            return refused(401, "Unauthorized");
        };
        let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
        if request.path != path || request.method != "POST" {
            return refused(404, "NotFound");
        }
        let review: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        if review["kind"] != "SelfSubjectReview"
            || review["apiVersion"] != "authentication.k8s.io/v1"
        {
            return refused(400, "BadRequest");
        }
        self.reviews.fetch_add(1, Ordering::Relaxed);
        let user = json!({"username": name, "groups": ["system:authenticated"]});
        Answer::json(
            201,
            &json!({"kind": "SelfSubjectReview", "status": {"userInfo": user}}),
        )
    }

    fn state(&self) -> Value {
        json!({"reviews": self.reviews.load(Ordering::Relaxed)})
    }
}

impl ApiServer {
    fn name(&self, token: &str) -> Option<String> {
        use switchyard_sandbox::standins::jwt::{Signature, Token};
        let now = self.clock.now();
        if let Ok(token) = self.entra.check(token, &Resource::KubernetesServer, now) {
            return Some(token.text("oid").to_owned());
        }
        let token = Token::parse(token)?;
        let is_good = self.github.check(&token) == Signature::Good
            && token.text("aud") == DIRECT
            && token.lives_at(now);
        is_good.then(|| format!("github:{}", token.text("sub")))
    }
}

/// Everything around a job.
pub(crate) struct World {
    pub(crate) authority: TlsAuthority,
    pub(crate) github: StandIn<TokenService>,
    pub(crate) entra: StandIn<Entra>,
    pub(crate) arm: StandIn<ResourceManager>,
    pub(crate) cluster: StandIn<ApiServer>,
    /// `RUNNER_TEMP`, shared by the steps of the job.
    pub(crate) temp: tempfile::TempDir,
    /// Files that are the test's own.
    pub(crate) own: tempfile::TempDir,
    /// Object id of the application's principal: its name in the cluster.
    pub(crate) object: String,
    server: Option<String>,
}

/// What a world is made of.
struct Parts {
    authority: TlsAuthority,
    github: Arc<KeyRing>,
    entra: Arc<KeyRing>,
    object: String,
    server: Option<String>,
    cloud: Cloud,
    issuer: String,
    trusted: String,
}

impl World {
    /// The public cloud, an application that trusts the job's subject, and one cluster, `shop`.
    pub(crate) fn new() -> Self {
        Self::of(Cloud::Public, SUBJECT)
    }

    pub(crate) fn of(cloud: Cloud, trusted: &str) -> Self {
        Self::trusting(GITHUB_ISSUER, cloud, trusted)
    }

    /// The same with another server of GitHub's as issuer.
    pub(crate) fn of_server(issuer: &str) -> Self {
        Self::trusting(issuer, Cloud::Public, SUBJECT)
    }

    fn trusting(issuer: &str, cloud: Cloud, trusted: &str) -> Self {
        Self::made(Parts {
            authority: TlsAuthority::throw_away().unwrap(),
            github: KeyRing::generate().unwrap(),
            entra: KeyRing::generate().unwrap(),
            object: OBJECT.to_owned(),
            server: None,
            cloud,
            issuer: issuer.to_owned(),
            trusted: trusted.to_owned(),
        })
    }

    /// The same around the sandbox's real API server, which trusts these services.
    pub(crate) fn in_sandbox(sandbox: &Sandbox) -> Self {
        Self::made(Parts {
            authority: sandbox.tls_authority().unwrap(),
            github: sandbox.github_keys().unwrap(),
            entra: sandbox.entra_keys().unwrap(),
            object: format!("99999999-0000-4000-8000-{:012x}", rand::random::<u32>()),
            server: Some(sandbox.api_server().to_owned()),
            cloud: Cloud::Public,
            issuer: GITHUB_ISSUER.to_owned(),
            trusted: SUBJECT.to_owned(),
        })
    }

    fn made(parts: Parts) -> Self {
        let Parts {
            authority,
            cloud,
            object,
            ..
        } = parts;
        let (issuer, trusted) = (parts.issuer.as_str(), parts.trusted.as_str());
        let github = TokenService::with_keys(parts.github);
        github.run(Job::default().in_environment("production"));
        github.set_issuer(issuer);
        let keys = Arc::clone(&github.keys);
        let entra = Entra::with_keys(cloud, parts.entra);
        let entra = entra.reaching(issuer, Arc::clone(&keys));
        let application = Application::new(CLIENT, "deployer", &object);
        entra.register(application.trusting(issuer, trusted, cloud.assertion_audience()));
        let tokens = Arc::clone(&entra.tokens);
        let api = ApiServer {
            entra: Arc::clone(&tokens),
            github: keys,
            clock: Clock::default(),
            reviews: AtomicU32::default(),
        };
        let world = Self {
            github: start(github, &authority),
            entra: start(entra, &authority),
            arm: start(ResourceManager::new(Arc::clone(&tokens)), &authority),
            cluster: start(api, &authority),
            temp: tempfile::tempdir().unwrap(),
            own: tempfile::tempdir().unwrap(),
            server: parts.server,
            authority,
            object,
        };
        tokens.accept_manager(world.arm.base_url());
        let scope = format!("/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}");
        world.arm.service().assign(&world.object, &scope);
        world.add_cluster("shop", UserKind::Exec(cloud));
        std::fs::write(world.ca(), world.authority.certificate()).unwrap();
        world
    }

    pub(crate) fn add_cluster(&self, name: &str, user: UserKind) {
        self.arm.service().add(ManagedCluster {
            resource_group: GROUP.to_owned(),
            name: name.to_owned(),
            server: self.server().to_owned(),
            public_server: None,
            ca: self.authority.certificate().to_owned(),
            user,
        });
    }

    /// Puts every clock but this machine's ahead by so many seconds.
    pub(crate) fn skew(&self, seconds: i64) {
        let clocks = [
            &self.github.service().clock,
            &self.entra.service().clock,
            &self.arm.service().clock,
            &self.cluster.service().clock,
        ];
        for clock in clocks {
            clock.skew(seconds);
        }
    }

    /// The API server's address: the real one's, else the stand-in's.
    pub(crate) fn server(&self) -> &str {
        self.server.as_deref().unwrap_or(self.cluster.base_url())
    }

    /// The authority's certificate as a file.
    pub(crate) fn ca(&self) -> PathBuf {
        self.own.path().join("ca.pem")
    }

    /// A step of the job.
    pub(crate) fn step(&self) -> Step {
        self.step_of(env!("CARGO_BIN_EXE_oidc-login"))
    }

    /// A step of the job that runs another program.
    pub(crate) fn step_of(&self, program: impl Into<PathBuf>) -> Step {
        let variables = self.variables().into_iter();
        variables.fold(Step::new(program), |step, (name, value)| {
            step.variable(name, value)
        })
    }

    /// What the runner gives each step of the job.
    pub(crate) fn variables(&self) -> [(&'static str, String); 3] {
        variables(&self.github, self.temp.path())
    }

    /// The step that logs in to Azure's cluster `shop`.
    pub(crate) fn azure(&self) -> Step {
        self.step()
            .input("command", "azure")
            .input("tenant", TENANT)
            .input("client-id", CLIENT)
            .input("subscription", SUBSCRIPTION)
            .input("resource-group", GROUP)
            .input("cluster", "shop")
            .input("authority-url", self.entra.base_url())
            .input("resource-manager-url", self.arm.base_url())
            .input("extra-ca", self.ca().display().to_string())
            .input("timeout", "20s")
    }

    /// The step that logs in to the cluster with GitHub's token itself.
    pub(crate) fn direct(&self) -> Step {
        self.step()
            .input("command", "direct")
            .input("server", self.server())
            .input("certificate-authority", self.ca().display().to_string())
            .input("audience", DIRECT)
            .input("extra-ca", self.ca().display().to_string())
            .input("timeout", "20s")
    }

    /// A call of the exec plugin as a client of the current context makes it, inside of some later step.
    pub(crate) fn plugin(&self, kubeconfig: &Path) -> Step {
        let exec = exec_of(kubeconfig);
        assert_eq!(exec["command"], plugin_path());
        let arguments = exec["args"].as_array().unwrap().iter();
        let step = self
            .step()
            .input("event", "success")
            .variable("KUBERNETES_EXEC_INFO", exec_info("v1"));
        arguments.fold(step, |step, argument| {
            step.argument(argument.as_str().unwrap())
        })
    }

    /// Every token that was given out: none of them may be seen anywhere.
    pub(crate) fn tokens(&self) -> Vec<String> {
        [self.github.secrets(), self.entra.secrets()].concat()
    }

    /// Fails when a token is seen in what the step said or wrote, or lies in a file that others may read.
    pub(crate) fn assert_no_secret_in(&self, ended: &Ended) {
        for token in self.tokens() {
            ended.assert_never_shows(&token);
            for path in files(self.temp.path()) {
                let text = std::fs::read_to_string(&path).unwrap();
                let mode = path.metadata().unwrap().mode() & 0o777;
                assert!(
                    !text.contains(&token) || mode == 0o600,
                    "{} ({mode:o})",
                    path.display()
                );
            }
        }
    }
}

/// What the runner gives each step of a job with `id-token: write`.
pub(crate) fn variables(
    github: &StandIn<TokenService>,
    runner_temp: &Path,
) -> [(&'static str, String); 3] {
    let service = github.service();
    [
        (
            "ACTIONS_ID_TOKEN_REQUEST_URL",
            service.request_url(github.base_url()),
        ),
        (
            "ACTIONS_ID_TOKEN_REQUEST_TOKEN",
            service.request_token.clone(),
        ),
        ("RUNNER_TEMP", runner_temp.display().to_string()),
    ]
}

pub(crate) fn start<S: Service>(service: S, authority: &TlsAuthority) -> StandIn<S> {
    StandIn::start_tls(service, SocketAddr::from(([127, 0, 0, 1], 0)), authority).unwrap()
}

pub(crate) fn plugin_path() -> String {
    let path = Path::new(env!("CARGO_BIN_EXE_oidc-login")).canonicalize();
    path.unwrap().display().to_string()
}

pub(crate) fn exec_info(version: &str) -> String {
    let version = format!("client.authentication.k8s.io/{version}");
    json!({"apiVersion": version, "kind": "ExecCredential", "spec": {"interactive": false}})
        .to_string()
}

/// Every file below a folder; what a link leads to is not in it.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_symlink() {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path);
            }
        }
    }
    found
}

/// The kubeconfig that a step put out.
pub(crate) fn kubeconfig(ended: &Ended) -> PathBuf {
    let path = ended.outputs.get("kubeconfig");
    path.unwrap_or_else(|| panic!("no kubeconfig: {}", ended.log()))
        .into()
}

pub(crate) fn read_json(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn exec_of(kubeconfig: &Path) -> Value {
    read_json(kubeconfig)["users"][0]["user"]["exec"].clone()
}

/// The file in which the plugin keeps its token.
pub(crate) fn cache_file(world: &World) -> PathBuf {
    let is_token = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        name.starts_with("token-") && name.ends_with(".json")
    };
    let mut found = files(world.temp.path()).into_iter().filter(is_token);
    let first = found.next().expect("a kept token");
    assert!(found.next().is_none(), "more than one kept token");
    first
}
