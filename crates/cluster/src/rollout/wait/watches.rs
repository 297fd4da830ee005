//! The watches of a wait: what is asked for and what is kept of it.
//! It refuses to know when they are needed.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{
    api::{apps::v1::ReplicaSet, core::v1::Pod},
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};
use kube::{Api, api::PartialObjectMeta};

use crate::{
    connect::Cluster,
    operation::{Operation, Verb},
    watch::{KindWatch, WatchOptions},
    workloads::{parse_selector, selects},
};

/// Watches the named objects of a kind, or those the selector matches; nothing when there is
/// neither. A single name is left to the server to select.
pub(super) fn watch_kind<K>(
    cluster: &Cluster,
    names: BTreeSet<String>,
    selector: Option<&str>,
) -> Option<KindWatch<K>>
where
    K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>
        + Clone
        + serde::de::DeserializeOwned
        + std::fmt::Debug
        + Send
        + Sync
        + 'static,
{
    let mut options = WatchOptions::<K>::default();
    match (names.len(), selector) {
        (0, None) => return None,
        (0, Some(selector)) => options.labels = Some(selector.to_owned()),
        (1, None) => {
            options.fields = names.first().map(|name| format!("metadata.name={name}"));
        }
        // Names and a selector at once: the server can only do either.
        (_, _) => {
            let selector = selector.and_then(|text| parse_selector(text).ok());
            options.keep = Box::new(move |object: &K| {
                let meta = object.meta();
                meta.name.as_ref().is_some_and(|name| names.contains(name))
                    || selector
                        .as_ref()
                        .is_some_and(|selector| selects(selector, meta.labels.as_ref()))
            });
        }
    }
    Some(KindWatch::new(&cluster.objects::<K>(), options))
}

/// Only metadata: name, owner and revision tell which pods are new.
pub(super) fn watch_replica_sets(cluster: &Cluster) -> KindWatch<PartialObjectMeta<ReplicaSet>> {
    let api: Api<PartialObjectMeta<ReplicaSet>> =
        Api::namespaced(cluster.client(), cluster.namespace());
    let operation = Operation::on::<ReplicaSet>(Verb::Watch, cluster.namespace());
    KindWatch::on(api, operation, WatchOptions::default())
}

pub(super) fn watch_pods(
    cluster: &Cluster,
    selectors: &BTreeMap<String, LabelSelector>,
) -> KindWatch<Pod> {
    let mut options = WatchOptions::<Pod> {
        trim: trim_pod,
        ..WatchOptions::default()
    };
    if selectors.len() == 1 {
        options.labels = selectors.keys().next().cloned();
    } else {
        let selectors: Vec<_> = selectors.values().cloned().collect();
        options.keep = Box::new(move |pod: &Pod| {
            let labels = pod.metadata.labels.as_ref();
            selectors.iter().any(|selector| selects(selector, labels))
        });
    }
    KindWatch::new(&cluster.objects(), options)
}

/// Keeps of a pod what the judgement, the report and the HTTP checks read.
fn trim_pod(pod: &mut Pod) {
    pod.metadata.annotations = None;
    let Some(spec) = pod.spec.as_mut() else {
        return;
    };
    spec.volumes = None;
    spec.tolerations = None;
    spec.affinity = None;
    let init = spec.init_containers.iter_mut().flatten();
    for container in spec.containers.iter_mut().chain(init) {
        container.env = None;
        container.env_from = None;
        container.args = None;
        container.command = None;
        container.volume_mounts = None;
        container.liveness_probe = None;
        container.readiness_probe = None;
        container.startup_probe = None;
        container.lifecycle = None;
        container.security_context = None;
    }
}
