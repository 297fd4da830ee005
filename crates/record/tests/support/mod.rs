//! What the cluster tests of records share: an application in a fresh namespace, sessions on it.

#![allow(dead_code, reason = "each test binary uses its own part")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use switchyard_record::{
    Chain, ClaimRequest, Claimed, DeploymentId, DeploymentIdParts, Freshness, Intent, Kind,
    LeaseTimes, ObjectRef, Opening, PlannedMutation, Projection, RecordError, Session,
    SessionOptions, Side, SideState, StepInputs, Store,
};
use switchyard_sandbox::{Sandbox, TestNamespace, User};

/// Longest wait of a test for something that must come about.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// An application without any record.
pub(crate) struct Application {
    pub(crate) sandbox: Sandbox,
    pub(crate) namespace: TestNamespace,
}

/// What sessions of a run have said.
#[derive(Clone, Default)]
pub(crate) struct Said(Arc<Mutex<Vec<String>>>);

impl Said {
    pub(crate) fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    pub(crate) fn contains(&self, part: &str) -> bool {
        self.lines().iter().any(|line| line.contains(part))
    }
}

impl Application {
    pub(crate) async fn new(prefix: &str) -> Self {
        let sandbox = Sandbox::shared();
        let namespace = sandbox.namespace(prefix).await;
        Self { sandbox, namespace }
    }

    pub(crate) async fn client(&self) -> kube::Client {
        self.sandbox.client(User::Deployer).await
    }

    pub(crate) fn id(&self, run: &str) -> DeploymentId {
        DeploymentId::new(DeploymentIdParts {
            repository: "acme/shop".to_owned(),
            run_id: run.to_owned(),
            environment: "production".to_owned(),
            cluster: "sandbox".to_owned(),
            namespace: self.namespace.name().to_owned(),
            application: "web".to_owned(),
        })
        .unwrap()
    }

    pub(crate) async fn open(&self, run: &str) -> Session {
        self.try_open(run, options(run).0).await.unwrap()
    }

    pub(crate) async fn try_open(
        &self,
        run: &str,
        options: SessionOptions,
    ) -> Result<Session, RecordError> {
        Session::open(self.client().await, self.id(run), options).await
    }

    /// A session that has claimed a deployment with two slots.
    pub(crate) async fn deploying(&self, run: &str) -> Session {
        let mut session = self.open(run).await;
        assert_eq!(session.claim(deploy()).await.unwrap(), Claimed::New);
        session
            .amend(|record| record.sides.to = Some(SideState::new(Side::GREEN)))
            .await
            .unwrap();
        session
    }

    pub(crate) async fn store(&self) -> Store {
        Store::new(self.client().await, self.namespace.name())
    }

    /// The record of a deployment, edited by a person: `change` is applied to its JSON.
    pub(crate) fn edit(&self, name: &str, change: impl FnOnce(&mut Value)) {
        let text = self.namespace.kubectl(&[
            "get",
            "configmap",
            name,
            "-o",
            "jsonpath={.data.record\\.json}",
        ]);
        let mut record: Value = serde_json::from_str(&text.unwrap()).unwrap();
        change(&mut record);
        self.write_text(name, &record.to_string());
    }

    pub(crate) fn write_text(&self, name: &str, text: &str) {
        let patch = json!({"data": {"record.json": text}}).to_string();
        self.namespace
            .kubectl(&["patch", "configmap", name, "--type=merge", "-p", &patch])
            .unwrap();
    }

    pub(crate) fn service(&self, name: &str) -> ObjectRef {
        self.namespace
            .kubectl(&["create", "service", "clusterip", name, "--tcp=80:8080"])
            .unwrap();
        ObjectRef::namespaced("v1", "Service", self.namespace.name(), name)
    }
}

/// Options of a run by ann, who waits two seconds at most, and what it says.
pub(crate) fn options(run: &str) -> (SessionOptions, Said) {
    let said = Said::default();
    let lines = said.clone();
    let mut options = SessionOptions::new("ann");
    options.run_url = Some(format!("https://github.com/acme/shop/actions/runs/{run}"));
    options.wait = Duration::from_secs(2);
    options.progress = Arc::new(move |line| lines.0.lock().unwrap().push(line.to_owned()));
    (options, said)
}

/// Times of a lease for tests: it lasts two seconds.
pub(crate) fn short() -> LeaseTimes {
    LeaseTimes {
        duration: Duration::from_secs(2),
        renew_every: Duration::from_millis(500),
        contact_limit: Duration::from_secs(20),
    }
}

/// Times of a lease whose holder sleeps: it is never renewed.
pub(crate) fn asleep() -> LeaseTimes {
    LeaseTimes {
        renew_every: Duration::from_secs(3600),
        ..short()
    }
}

pub(crate) fn deploy() -> ClaimRequest {
    ClaimRequest {
        intent: Intent::Deploy(Opening::new(Kind::Deploy, Chain::Slots)),
        attempt: 1,
        inputs: Some(StepInputs {
            step: "rollout apply".to_owned(),
            hash: "aa".to_owned(),
        }),
        freshness: Freshness::OncePerRun,
    }
}

pub(crate) fn roll_back() -> ClaimRequest {
    ClaimRequest {
        intent: Intent::RollBack(Opening::new(Kind::Rollback, Chain::Slots)),
        inputs: None,
        ..deploy()
    }
}

pub(crate) fn mutation(before: &Value, after: &Value) -> PlannedMutation {
    PlannedMutation {
        operation: "switch".to_owned(),
        target: ObjectRef::namespaced("v1", "Service", "shop", "web"),
        target_uid: Some("u1".to_owned()),
        precondition_resource_version: Some("7".to_owned()),
        before: Projection::shown(before),
        after: Projection::shown(after),
    }
}

/// Waits until something has come about.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let came = tokio::time::timeout(LIMIT, async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    came.await
        .unwrap_or_else(|_| panic!("{what} did not come about"));
}

/// Waits for a token.
pub(crate) async fn cancelled(what: &str, token: tokio_util::sync::CancellationToken) {
    tokio::time::timeout(LIMIT, token.cancelled())
        .await
        .unwrap_or_else(|_| panic!("{what} did not come about"));
}
