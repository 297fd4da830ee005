//! Kinds that are known by name only (custom resources), looked up once.
//! It refuses to know what the objects of a kind mean.

use std::{collections::HashMap, sync::Mutex};

use kube::{
    Api,
    api::{ApiResource, DynamicObject, GroupVersionKind},
    discovery::{self, Scope},
};

use crate::{
    connect::Cluster,
    error::{Error, Result},
    objects::Objects,
    operation::{Operation, Verb},
    read::Deadline,
};

/// A kind that the cluster serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DynamicKind {
    /// Group, version, kind and plural name.
    pub resource: ApiResource,
    /// Whether its objects live in namespaces.
    pub is_namespaced: bool,
    /// Whether the kind has a `scale` subresource.
    pub is_scalable: bool,
}

#[derive(Debug, Default)]
pub(crate) struct DiscoveryCache {
    // Held for a map access only, never across an await.
    kinds: Mutex<HashMap<GroupVersionKind, DynamicKind>>,
}

impl DiscoveryCache {
    fn get(&self, gvk: &GroupVersionKind) -> Option<DynamicKind> {
        let kinds = self.kinds.lock().unwrap_or_else(|held| held.into_inner());
        kinds.get(gvk).cloned()
    }

    fn put(&self, gvk: &GroupVersionKind, kind: &DynamicKind) {
        let mut kinds = self.kinds.lock().unwrap_or_else(|held| held.into_inner());
        kinds.insert(gvk.clone(), kind.clone());
    }
}

impl Cluster {
    /// Finds out how the cluster serves `gvk`; remembered for the life of this client.
    ///
    /// # Errors
    /// [`Error::UnknownKind`] when it does not serve it.
    pub async fn kind(&self, gvk: &GroupVersionKind, deadline: Deadline) -> Result<DynamicKind> {
        if let Some(known) = self.discovery.get(gvk) {
            return Ok(known);
        }
        let operation = Operation {
            verb: Verb::Get,
            group: gvk.group.clone(),
            resource: gvk.kind.clone(),
            name: None,
            namespace: None,
        };
        let client = self.client();
        let found = self
            .read(&operation, deadline, || async {
                match discovery::pinned_kind(&client, gvk).await {
                    // The group is served and has no such kind: as final as a 404.
                    Err(kube::Error::Discovery(_)) => Ok(None),
                    Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
                    other => other.map(Some),
                }
            })
            .await?;
        let Some((resource, capabilities)) = found else {
            return Err(Error::UnknownKind {
                api_version: gvk.api_version(),
                kind: gvk.kind.clone(),
            });
        };
        let kind = DynamicKind {
            is_namespaced: capabilities.scope == Scope::Namespaced,
            is_scalable: capabilities
                .subresources
                .iter()
                .any(|(resource, _)| resource.plural.ends_with("/scale")),
            resource,
        };
        self.discovery.put(gvk, &kind);
        Ok(kind)
    }

    /// Objects of a discovered kind; in our namespace when the kind is namespaced.
    pub fn dynamic_objects(&self, kind: &DynamicKind) -> Objects<DynamicObject> {
        let namespace = kind.is_namespaced.then(|| self.namespace());
        let target = Operation::on_dynamic(Verb::Get, &kind.resource, namespace);
        Objects::new(self.clone(), self.dynamic_api(kind), target)
    }

    /// Raw API of a discovered kind; requests through it are not retried.
    pub fn dynamic_api(&self, kind: &DynamicKind) -> Api<DynamicObject> {
        if kind.is_namespaced {
            Api::namespaced_with(self.client(), self.namespace(), &kind.resource)
        } else {
            Api::all_with(self.client(), &kind.resource)
        }
    }
}
