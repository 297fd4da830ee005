//! A job with an account of AWS around it: STS, EKS and an API server that asks STS whose a token is.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use switchyard_harness::{Ended, Step};
use switchyard_sandbox::standins::aws::{Account, Eks, Role, Sts, eks};
use switchyard_sandbox::standins::{
    Answer, GITHUB_ISSUER, Job, Received, Service, StandIn, TokenService,
};
use switchyard_sandbox::{EKS_CLUSTER, Sandbox, TlsAuthority};

use super::{SUBJECT, exec_info, files, plugin_path, read_json, start};

/// An API server that takes EKS's tokens as the real one's webhook does, and asks the account's STS.
pub(crate) struct Webhook {
    sts: Sts,
    host: String,
}

impl Webhook {
    fn caller(&self, token: &str) -> Option<String> {
        let encoded = token.strip_prefix("k8s-aws-v1.")?;
        let text = String::from_utf8(URL_SAFE_NO_PAD.decode(encoded).ok()?).ok()?;
        let url: url::Url = text.parse().ok()?;
        let has = |name: &str, wanted: &str| {
            let mut pairs = url.query_pairs();
            pairs.any(|(key, value)| key == name && value == wanted)
        };
        let is_ours = has("Action", "GetCallerIdentity")
            && has("X-Amz-Expires", "60")
            && has("X-Amz-SignedHeaders", "host;x-k8s-aws-id")
            && url.authority() == self.host;
        let headers = [
            ("host", url.authority()),
            ("x-k8s-aws-id", EKS_CLUSTER),
            ("accept", "application/json"),
        ];
        let asked = Received {
            method: "GET".to_owned(),
            path: url.path().to_owned(),
            query: url.query_pairs().into_owned().collect(),
            raw_query: url.query()?.to_owned(),
            headers: headers
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            body: Vec::new().into(),
            base_url: String::new(),
        };
        let answer = self.sts.answer(&asked);
        let document: Value = serde_json::from_str(&answer.body).ok()?;
        let arn = &document["GetCallerIdentityResponse"]["GetCallerIdentityResult"]["Arn"];
        arn.as_str().filter(|_| is_ours).map(str::to_owned)
    }
}

impl Service for Webhook {
    fn answer(&self, request: &Received) -> Answer {
        let Some(name) = request.bearer().and_then(|token| self.caller(token)) else {
            return Answer::json(401, &json!({"kind": "Status", "reason": "Unauthorized"}));
        };
        let user = json!({"username": name, "groups": ["deployers", "system:authenticated"]});
        Answer::json(
            201,
            &json!({"kind": "SelfSubjectReview", "status": {"userInfo": user}}),
        )
    }

    fn state(&self) -> Value {
        Value::Null
    }
}

/// Everything around a job.
pub(crate) struct Aws {
    pub(crate) authority: TlsAuthority,
    pub(crate) account: Arc<Account>,
    pub(crate) github: StandIn<TokenService>,
    pub(crate) sts: StandIn<Sts>,
    pub(crate) eks: StandIn<Eks>,
    pub(crate) cluster: StandIn<Webhook>,
    /// `RUNNER_TEMP`, shared by the steps of the job.
    pub(crate) temp: tempfile::TempDir,
    own: tempfile::TempDir,
    pub(crate) role: Role,
}

impl Aws {
    /// A role that trusts the job's subject and may describe clusters, and one cluster.
    pub(crate) fn new() -> Self {
        Self::of_server(GITHUB_ISSUER)
    }

    /// The same with another server of GitHub's as issuer.
    pub(crate) fn of_server(issuer: &str) -> Self {
        let authority = TlsAuthority::throw_away().unwrap();
        Self::made(authority, issuer, "deploy", None)
    }

    /// The same around the sandbox's real API server, with a role of its own.
    pub(crate) fn in_sandbox(sandbox: &Sandbox) -> Self {
        let role = format!("deploy-{:08x}", rand::random::<u32>());
        let server = sandbox.api_server().to_owned();
        Self::made(
            sandbox.tls_authority().unwrap(),
            GITHUB_ISSUER,
            &role,
            Some(server),
        )
    }

    fn made(authority: TlsAuthority, issuer: &str, role: &str, server: Option<String>) -> Self {
        let github = TokenService::new().unwrap();
        github.run(Job::default().in_environment("production"));
        github.set_issuer(issuer);
        let account = Account::new().trusting(issuer, Arc::clone(&github.keys));
        let role = Role::new(role, SUBJECT).allowing("eks:DescribeCluster");
        account.add(role.clone());
        let account = Arc::new(account);
        let sts = start(Sts::new(Arc::clone(&account)), &authority);
        let webhook = Webhook {
            sts: Sts::new(Arc::clone(&account)),
            host: sts.base_url().trim_start_matches("https://").to_owned(),
        };
        let aws = Self {
            github: start(github, &authority),
            eks: start(Eks::new(Arc::clone(&account)), &authority),
            cluster: start(webhook, &authority),
            sts,
            temp: tempfile::tempdir().unwrap(),
            own: tempfile::tempdir().unwrap(),
            account,
            role,
            authority,
        };
        let server = server.unwrap_or_else(|| aws.cluster.base_url().to_owned());
        aws.add_cluster(EKS_CLUSTER, &server, "ACTIVE");
        std::fs::write(aws.ca(), aws.authority.certificate()).unwrap();
        aws
    }

    pub(crate) fn add_cluster(&self, name: &str, endpoint: &str, status: &str) {
        self.eks.service().add(eks::Cluster {
            name: name.to_owned(),
            endpoint: endpoint.to_owned(),
            ca: self.authority.certificate().to_owned(),
            status: status.to_owned(),
        });
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
        let step = Step::new(program).variable("GITHUB_RUN_ID", "4711");
        let variables = self.variables().into_iter();
        variables.fold(step, |step, (name, value)| step.variable(name, value))
    }

    /// What the runner gives each step of the job.
    pub(crate) fn variables(&self) -> [(&'static str, String); 3] {
        super::variables(&self.github, self.temp.path())
    }

    /// The step that assumes the role, and logs in to no cluster.
    pub(crate) fn assume(&self) -> Step {
        self.step()
            .input("command", "aws")
            .input("region", self.account.region)
            .input("role", self.role.arn())
            .input("sts-url", self.sts.base_url())
            .input("eks-url", self.eks.base_url())
            .input("extra-ca", self.ca().display().to_string())
            .input("timeout", "20s")
    }

    /// The step that logs in to the cluster.
    pub(crate) fn login(&self) -> Step {
        self.assume().input("cluster", EKS_CLUSTER)
    }

    /// A call of the exec plugin as a client of the current context makes it.
    pub(crate) fn plugin(&self, kubeconfig: &Path) -> Step {
        self.plugin_for(kubeconfig, EKS_CLUSTER)
    }

    /// The same for another cluster of the role's.
    pub(crate) fn plugin_for(&self, kubeconfig: &Path, cluster: &str) -> Step {
        let exec = read_json(kubeconfig)["users"][0]["user"]["exec"].clone();
        assert_eq!(exec["command"], plugin_path());
        let arguments = exec["args"].as_array().unwrap().iter();
        let step = self
            .step()
            .variable("KUBERNETES_EXEC_INFO", exec_info("v1"));
        arguments.fold(step, |step, argument| {
            let argument = argument.as_str().unwrap();
            let own = format!("--cluster={EKS_CLUSTER}");
            step.argument(argument.replace(&own, &format!("--cluster={cluster}")))
        })
    }

    /// Everything that was given out and must not be seen.
    pub(crate) fn secrets(&self) -> Vec<String> {
        [self.github.secrets(), self.account.secrets()].concat()
    }

    /// Fails when a secret is seen in what the step said or wrote, or any file of the job is open to others.
    pub(crate) fn assert_no_secret_in(&self, ended: &Ended) {
        for secret in self.secrets() {
            ended.assert_never_shows(&secret);
        }
        for path in files(self.temp.path()) {
            let mode = path.metadata().unwrap().mode() & 0o777;
            assert_eq!(mode, 0o600, "{}", path.display());
        }
    }

    /// The one file of this kind in which something is kept.
    pub(crate) fn kept(&self, kind: &str) -> PathBuf {
        let is_kept = |path: &PathBuf| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            name.starts_with(&format!("{kind}-")) && name.ends_with(".json")
        };
        let mut found: Vec<PathBuf> = files(self.temp.path())
            .into_iter()
            .filter(is_kept)
            .collect();
        assert_eq!(found.len(), 1, "{kind}: {found:?}");
        found.remove(0)
    }
}
