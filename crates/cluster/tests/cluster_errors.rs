//! Each refusal of a real API server arrives as the error that says what to do, and nothing that
//! changes something is ever sent twice.

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use http::Method;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, Secret};
use kube::api::{ApiResource, GroupVersionKind, ListParams, Patch, PatchParams, PostParams};
use serde_json::json;
use support::{app, apply, connect, connect_through, soon};
use switchyard_cluster::access::Permission;
use switchyard_cluster::{Deadline, DynamicKind, Error, Operation, Verb};
use switchyard_sandbox::fault_proxy::{Fault, FaultProxy, FaultRule};
use switchyard_sandbox::{Sandbox, User};

fn config_map(name: &str, value: &str) -> ConfigMap {
    serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": name}, "data": {"value": value}
    }))
    .unwrap()
}

#[tokio::test]
async fn a_write_over_somebody_elses_is_a_conflict_that_names_them() {
    let sandbox = Sandbox::shared();
    let namespace = sandbox.namespace("conflict").await;
    let cluster = connect(&sandbox, &namespace, User::Deployer).await;
    let maps = cluster.objects::<ConfigMap>();
    let written = maps
        .create(&config_map("a", "ours"), &PostParams::default())
        .await
        .unwrap();
    namespace
        .kubectl(&[
            "patch",
            "configmap",
            "a",
            "--field-manager=somebody",
            "-p",
            r#"{"data":{"value":"theirs"}}"#,
        ])
        .unwrap();
    let error = maps
        .replace("a", &written, &PostParams::default())
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Conflict { .. }), "{error}");
    assert!(
        error.hint().unwrap().contains("last written by somebody:"),
        "{:?}",
        error.hint()
    );
}

#[tokio::test]
async fn a_server_side_apply_over_somebody_elses_field_names_them() {
    let sandbox = Sandbox::shared();
    let namespace = sandbox.namespace("apply").await;
    let cluster = connect(&sandbox, &namespace, User::Deployer).await;
    let maps = cluster.objects::<ConfigMap>();
    let as_manager = |manager: &str| PatchParams::apply(manager);
    let theirs = Patch::Apply(config_map("a", "theirs"));
    maps.patch("a", &theirs, &as_manager("somebody"))
        .await
        .unwrap();
    let ours = Patch::Apply(config_map("a", "ours"));
    let error = maps
        .patch("a", &ours, &as_manager("switchyard"))
        .await
        .unwrap_err();
    let Error::Conflict { managers, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(managers, &["somebody"]);
}

#[tokio::test]
async fn refusals_are_told_apart() {
    let sandbox = Sandbox::shared();
    let namespace = sandbox.namespace("refusals").await;
    let cluster = connect(&sandbox, &namespace, User::Deployer).await;
    let maps = cluster.objects::<ConfigMap>();
    let post = PostParams::default();

    maps.create(&config_map("a", "x"), &post).await.unwrap();
    let error = maps.create(&config_map("a", "x"), &post).await.unwrap_err();
    assert!(matches!(error, Error::AlreadyExists { .. }), "{error}");

    let error = maps
        .create(&config_map("Not_A_Name", "x"), &post)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Refused { .. }), "{error}");
    assert!(
        error.hint().unwrap().contains("metadata.name"),
        "{:?}",
        error.hint()
    );

    let error = maps.get("gone", soon()).await.unwrap_err();
    assert!(error.is_not_found(), "{error}");
    assert!(maps.find("gone", soon()).await.unwrap().is_none());

    let secrets = cluster.objects::<Secret>();
    let error = secrets
        .list(&ListParams::default(), soon())
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Forbidden { .. }), "{error}");
    assert_eq!(
        error.hint().unwrap(),
        format!(
            "grant `list` on `secrets` in a Role in namespace `{}` and bind it to this user",
            namespace.name()
        )
    );

    let namespaces = cluster.cluster_objects::<Namespace>();
    let error = namespaces
        .list(&ListParams::default(), soon())
        .await
        .unwrap_err();
    assert!(
        error.hint().unwrap().contains("ClusterRole"),
        "{:?}",
        error.hint()
    );

    let unknown = GroupVersionKind::gvk("traefik.io", "v1alpha1", "Trafficservice");
    let error = cluster.kind(&unknown, soon()).await.unwrap_err();
    assert!(matches!(error, Error::UnknownKind { .. }), "{error}");
    let unknown = GroupVersionKind::gvk("nobody.example", "v1", "Thing");
    let error = cluster.kind(&unknown, soon()).await.unwrap_err();
    assert!(matches!(error, Error::UnknownKind { .. }), "{error}");
}

#[tokio::test]
async fn an_object_of_a_kind_that_is_not_served_is_told_from_one_that_is_missing() {
    let sandbox = Sandbox::shared();
    let namespace = sandbox.namespace("served").await;
    let cluster = connect(&sandbox, &namespace, User::Admin).await;
    let objects = |group: &str, version: &str, kind: &str| {
        let gvk = GroupVersionKind::gvk(group, version, kind);
        cluster.dynamic_objects(&DynamicKind {
            resource: ApiResource::from_gvk(&gvk),
            is_namespaced: true,
            is_scalable: false,
        })
    };
    let traefik = objects("traefik.io", "v1alpha1", "TraefikService");
    let error = traefik.get("web", soon()).await.unwrap_err();
    assert!(error.is_not_found(), "{error}");
    let newer = objects("traefik.io", "v9", "TraefikService");
    let error = newer.get("web", soon()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the cluster does not serve traefikservices.traefik.io in version v9, only in v1alpha1"
    );
    assert!(error.hint().unwrap().contains("serves v9"), "{error:?}");
    let nobody = objects("nobody.example", "v1", "Thing");
    let error = nobody.get("web", soon()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the cluster does not serve things.nobody.example in version v1"
    );
    assert!(nobody.find("web", soon()).await.unwrap().is_none());
}

#[tokio::test]
async fn a_discovered_kind_is_looked_up_once() {
    let sandbox = Sandbox::shared();
    let namespace = sandbox.namespace("discovery").await;
    let proxy = FaultProxy::start(&sandbox).await.unwrap();
    let cluster = connect_through(&sandbox, &proxy, &namespace).await;
    let kind = GroupVersionKind::gvk("traefik.io", "v1alpha1", "TraefikService");
    let first = cluster.kind(&kind, soon()).await.unwrap();
    assert!(first.is_namespaced);
    let lookups = proxy.requests().len();
    let again = cluster
        .in_namespace("other")
        .kind(&kind, soon())
        .await
        .unwrap();
    assert_eq!(first, again);
    assert_eq!(proxy.requests().len(), lookups);
    let objects = cluster.dynamic_objects(&first);
    assert!(
        objects
            .list(&ListParams::default(), soon())
            .await
            .unwrap()
            .is_empty()
    );
}

#[tokio::test]
async fn a_missing_namespace_is_why_its_objects_are_missing() {
    let sandbox = Sandbox::shared();
    let namespace = sandbox.namespace("here").await;
    let cluster = connect(&sandbox, &namespace, User::Admin)
        .await
        .in_namespace("not-here");
    let error = cluster.objects::<Pod>().get("a", soon()).await.unwrap_err();
    assert!(matches!(error, Error::NamespaceMissing { .. }), "{error}");
    let created = cluster
        .objects()
        .create(&config_map("a", "x"), &PostParams::default())
        .await;
    let error = created.unwrap_err();
    assert!(matches!(error, Error::NamespaceMissing { .. }), "{error}");
}

#[tokio::test]
async fn all_gaps_are_in_one_report() {
    let sandbox = Sandbox::shared();
    let namespace = sandbox.namespace("gaps").await;
    let cluster = connect(&sandbox, &namespace, User::Reader).await;
    let name = namespace.name();
    let permissions = [
        Permission::to(Operation::on::<Pod>(Verb::List, name)),
        Permission::to(Operation::on::<Deployment>(Verb::Patch, name).named("api")),
        Permission::to(Operation::on::<Pod>(Verb::Create, name).subresource("portforward")),
    ];
    let report = cluster.review_access(&permissions, soon()).await.unwrap();
    assert_eq!(report.asked, 3);
    assert_eq!(
        report.gaps(),
        [
            format!("patch deployments.apps `{name}/api`"),
            format!("create pods/portforward in namespace `{name}`"),
        ]
    );
}

#[tokio::test]
async fn reads_are_repeated_and_writes_are_not() {
    let sandbox = Sandbox::shared();
    let namespace = sandbox.namespace("retries").await;
    let proxy = FaultProxy::start(&sandbox).await.unwrap();
    let cluster = connect_through(&sandbox, &proxy, &namespace).await;
    let maps = cluster.objects::<ConfigMap>();
    for fault in [
        Fault::TooManyRequests {
            retry_after: Some(1),
        },
        Fault::Status(http::StatusCode::SERVICE_UNAVAILABLE),
        Fault::Status(http::StatusCode::INTERNAL_SERVER_ERROR),
        Fault::CutBefore,
    ] {
        proxy.clear();
        proxy.inject(FaultRule::every(fault.clone()).method(Method::GET).times(1));
        let read = maps.list(&ListParams::default(), soon()).await;
        assert!(read.is_ok(), "{fault:?}: {read:?}");

        proxy.forget_requests();
        proxy.inject(FaultRule::every(fault.clone()).method(Method::POST));
        let written = maps
            .create(&config_map("a", "x"), &PostParams::default())
            .await;
        let error = written.unwrap_err();
        assert!(error.is_transient(), "{fault:?}: {error}");
        let posts = proxy.requests();
        let posts = posts.iter().filter(|seen| seen.method == Method::POST);
        assert_eq!(posts.count(), 1, "{fault:?}");
    }
}

#[tokio::test]
async fn retry_after_is_honoured_and_never_beyond_the_deadline() {
    let sandbox = Sandbox::shared();
    let namespace = sandbox.namespace("retry-after").await;
    let proxy = FaultProxy::start(&sandbox).await.unwrap();
    let cluster = connect_through(&sandbox, &proxy, &namespace).await;
    proxy.inject(FaultRule::every(Fault::TooManyRequests {
        retry_after: Some(3600),
    }));
    let begun = std::time::Instant::now();
    let deadline = Deadline::after(Duration::from_secs(20));
    let read = cluster
        .objects::<ConfigMap>()
        .list(&ListParams::default(), deadline)
        .await;
    let error = read.unwrap_err();
    assert_eq!(
        error.retry_after(),
        Some(Duration::from_secs(3600)),
        "{error}"
    );
    assert_eq!(proxy.requests().len(), 1, "an hour does not fit into 20 s");
    assert!(begun.elapsed() < Duration::from_secs(20));
}

#[tokio::test]
async fn a_write_whose_answer_was_lost_is_of_unknown_outcome() {
    let sandbox = Sandbox::shared();
    let namespace = sandbox.namespace("cut-after").await;
    let proxy = FaultProxy::start(&sandbox).await.unwrap();
    let cluster = connect_through(&sandbox, &proxy, &namespace).await;
    let maps = cluster.objects::<ConfigMap>();
    proxy.inject(
        FaultRule::every(Fault::CutAfter)
            .method(Method::POST)
            .times(1),
    );
    let written = maps
        .create(&config_map("a", "x"), &PostParams::default())
        .await;
    let error = written.unwrap_err();
    assert!(error.leaves_outcome_unknown(), "{error}");
    let data = maps.get("a", soon()).await.unwrap().data.unwrap();
    assert_eq!(data, BTreeMap::from([("value".to_owned(), "x".to_owned())]));
}

#[tokio::test]
async fn a_quota_is_a_refusal_and_no_want_of_permission() {
    let sandbox = Sandbox::shared();
    let namespace = sandbox.namespace("quota").await;
    let quota = json!({
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "small"},
        "spec": {"hard": {"count/deployments.apps": "0"}}
    });
    apply(&namespace, &[quota]);
    let cluster = connect(&sandbox, &namespace, User::Deployer).await;
    let deployment: Deployment =
        serde_json::from_value(app(&sandbox, "v1.0.0", 1)[0].clone()).unwrap();
    let error = support::until("the quota", || async {
        let created = cluster
            .objects()
            .create(&deployment, &PostParams::default())
            .await;
        match created {
            Ok(_) => {
                namespace.kubectl(&["delete", "deployment", "api"]).unwrap();
                None
            }
            Err(error) => Some(error),
        }
    })
    .await;
    assert!(matches!(error, Error::Refused { .. }), "{error}");
    assert!(error.to_string().contains("exceeded quota"), "{error}");
    assert!(error.hint().unwrap().contains("ResourceQuota"));
}
