//! A watch that loses its connection, its place in history or its server sees everything all the
//! same.

mod support;

use http::StatusCode;
use k8s_openapi::api::core::v1::ConfigMap;
use support::connect_through;
use switchyard_cluster::Error;
use switchyard_cluster::watch::{Change, KindWatch, WatchOptions};
use switchyard_sandbox::fault_proxy::{Fault, FaultProxy, FaultRule};
use switchyard_sandbox::{Sandbox, TestNamespace};

struct Case {
    namespace: TestNamespace,
    proxy: FaultProxy,
    watch: KindWatch<ConfigMap>,
}

async fn begin(prefix: &str) -> Case {
    let sandbox = Sandbox::shared();
    let namespace = sandbox.namespace(prefix).await;
    let proxy = FaultProxy::start(&sandbox).await.unwrap();
    let cluster = connect_through(&sandbox, &proxy, &namespace).await;
    let options = WatchOptions::<ConfigMap> {
        keep: Box::new(|map| map.metadata.name.as_deref() != Some("kube-root-ca.crt")),
        ..WatchOptions::default()
    };
    let watch = KindWatch::new(&cluster.objects(), options);
    let mut case = Case {
        namespace,
        proxy,
        watch,
    };
    case.create("first");
    while !case.watch.is_synced() {
        case.watch.next().await.unwrap();
    }
    case
}

impl Case {
    fn create(&self, name: &str) {
        self.namespace
            .kubectl(&["create", "configmap", name])
            .unwrap();
    }

    fn delete(&self, name: &str) {
        self.namespace
            .kubectl(&["delete", "configmap", name])
            .unwrap();
    }

    /// Follows the watch until it shows exactly these objects.
    async fn shows(&mut self, names: &[&str]) -> Vec<String> {
        let mut told = Vec::new();
        loop {
            let mut seen: Vec<_> = self
                .watch
                .objects()
                .map(|map| map.metadata.name.clone().unwrap())
                .collect();
            seen.sort();
            if seen == names {
                return told;
            }
            let limit = std::time::Duration::from_secs(60);
            let change = tokio::time::timeout(limit, self.watch.next()).await;
            match change
                .unwrap_or_else(|_| panic!("seen {seen:?}, wanted {names:?}"))
                .unwrap()
            {
                Change::Interrupted(error) => told.push(format!("interrupted: {error}")),
                Change::Resumed => told.push("resumed".to_owned()),
                Change::Synced => told.push("synced".to_owned()),
                Change::Applied(_) | Change::Deleted(_) => {}
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_come_and_go() {
    let mut case = begin("watch").await;
    case.create("second");
    case.shows(&["first", "second"]).await;
    case.delete("first");
    case.shows(&["second"]).await;
    assert!(
        case.watch
            .get("second")
            .unwrap()
            .metadata
            .managed_fields
            .is_none()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_while_the_server_is_away_is_seen_afterwards() {
    let mut case = begin("away").await;
    case.proxy.go_offline();
    case.create("second");
    case.delete("first");
    let change = case.watch.next().await;
    assert!(change.is_ok());
    case.proxy.go_online();
    case.shows(&["second"]).await;
    while case.watch.interrupted_since().is_some() {
        let limit = std::time::Duration::from_secs(60);
        let next = tokio::time::timeout(limit, case.watch.next()).await;
        next.expect("the watch stands again").unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_in_history_that_the_server_has_forgotten_makes_it_list_again() {
    let mut case = begin("gone").await;
    case.proxy.inject(
        FaultRule::every(Fault::Status(StatusCode::GONE))
            .path("watch=true")
            .times(1),
    );
    case.proxy.cut_connections();
    case.create("second");
    case.delete("first");
    let told = case.shows(&["second"]).await;
    assert!(told.contains(&"synced".to_owned()), "{told:?}");
    assert!(
        case.proxy
            .requests()
            .iter()
            .any(|seen| seen.fault.is_some())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_that_may_not_list_ends_at_once() {
    let sandbox = Sandbox::shared();
    let namespace = sandbox.namespace("forbidden").await;
    let proxy = FaultProxy::start(&sandbox).await.unwrap();
    let cluster = connect_through(&sandbox, &proxy, &namespace).await;
    let secrets = cluster.objects::<k8s_openapi::api::core::v1::Secret>();
    let error = KindWatch::new(&secrets, WatchOptions::default())
        .next()
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Forbidden { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_that_worked_outlives_a_moment_of_being_forbidden() {
    let mut case = begin("moment").await;
    case.proxy.inject(
        FaultRule::every(Fault::Status(StatusCode::FORBIDDEN))
            .path("watch=true")
            .times(2),
    );
    case.proxy.cut_connections();
    case.create("second");
    let told = case.shows(&["first", "second"]).await;
    assert!(
        told.iter().any(|line| line.starts_with("interrupted")),
        "{told:?}"
    );
}
