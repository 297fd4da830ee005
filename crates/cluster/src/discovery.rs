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
            .in_version(&kind.resource.version)
    }

    /// [`Error::NotServed`] when the cluster does not serve the resource of `operation` in this
    /// version, with those in which it does.
    pub(crate) async fn why_not_served(
        &self,
        operation: &Operation,
        version: &str,
        deadline: Deadline,
    ) -> Result<Option<Error>> {
        if self.is_served(operation, version, deadline).await? {
            return Ok(None);
        }
        let client = self.client();
        let groups = self
            .read(operation, deadline, || client.list_api_groups())
            .await?;
        let mut of_group = groups.groups.into_iter();
        let group = of_group.find(|group| group.name == operation.group);
        let mut served = Vec::new();
        for other in group.map(|group| group.versions).unwrap_or_default() {
            if self.is_served(operation, &other.version, deadline).await? {
                served.push(other.version);
            }
        }
        Ok(Some(Error::NotServed {
            resource: operation.qualified_resource(),
            version: version.to_owned(),
            served,
        }))
    }

    async fn is_served(
        &self,
        operation: &Operation,
        version: &str,
        deadline: Deadline,
    ) -> Result<bool> {
        let client = self.client();
        let group_version = format!("{}/{version}", operation.group);
        let listed = self
            .read(operation, deadline, || {
                client.list_api_group_resources(&group_version)
            })
            .await;
        match listed {
            Ok(list) => Ok(list
                .resources
                .iter()
                .any(|resource| resource.name == operation.resource)),
            Err(Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
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
