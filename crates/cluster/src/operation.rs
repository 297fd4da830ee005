//! What was asked of the API server, in words a person can act on.
//! It refuses to know how the request is sent or what came of it.

use std::fmt;

use kube::Resource;

/// A verb of the Kubernetes API, named as RBAC rules name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verb {
    /// Read one object.
    Get,
    /// Read all objects of a kind.
    List,
    /// Follow changes.
    Watch,
    /// Make a new object.
    Create,
    /// Replace an object.
    Update,
    /// Change parts of an object (also server-side apply).
    Patch,
    /// Remove an object.
    Delete,
}

impl Verb {
    /// The word used in RBAC rules.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
        }
    }

    /// Whether the verb changes something; such a request is never sent twice by this crate.
    pub fn is_mutation(self) -> bool {
        match self {
            Self::Get | Self::List | Self::Watch => false,
            Self::Create | Self::Update | Self::Patch | Self::Delete => true,
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// One request to the API server: the verb and the object it concerns.
///
/// Every error of this crate carries one, so that messages and hints can name the rule, the
/// object and the namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// What is done.
    pub verb: Verb,
    /// API group, empty for the core group.
    pub group: String,
    /// Plural resource name, with `/subresource` where one is meant.
    pub resource: String,
    /// Object name; absent for lists and watches.
    pub name: Option<String>,
    /// Namespace; absent for cluster-scoped objects.
    pub namespace: Option<String>,
}

impl Operation {
    /// Describes an operation on a statically known kind in `namespace`.
    pub fn on<K>(verb: Verb, namespace: &str) -> Self
    where
        K: Resource<DynamicType = ()>,
    {
        Self {
            verb,
            group: K::group(&()).into_owned(),
            resource: K::plural(&()).into_owned(),
            name: None,
            namespace: Some(namespace.to_owned()),
        }
    }

    /// Describes an operation on a cluster-scoped kind.
    pub fn on_cluster<K>(verb: Verb) -> Self
    where
        K: Resource<DynamicType = ()>,
    {
        Self {
            namespace: None,
            ..Self::on::<K>(verb, "")
        }
    }

    /// Describes an operation on a kind found by discovery.
    pub fn on_dynamic(
        verb: Verb,
        resource: &kube::api::ApiResource,
        namespace: Option<&str>,
    ) -> Self {
        Self {
            verb,
            group: resource.group.clone(),
            resource: resource.plural.clone(),
            name: None,
            namespace: namespace.map(str::to_owned),
        }
    }

    /// The same operation on the object called `name`.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }

    /// The same operation on a subresource such as `log`, `scale` or `portforward`.
    #[must_use]
    pub fn subresource(mut self, subresource: &str) -> Self {
        self.resource = format!("{}/{subresource}", self.resource);
        self
    }

    /// The resource as RBAC error messages name it: `deployments.apps`, `pods/log`.
    pub fn qualified_resource(&self) -> String {
        match (self.group.as_str(), self.resource.split_once('/')) {
            ("", _) => self.resource.clone(),
            (group, Some((resource, sub))) => format!("{resource}.{group}/{sub}"),
            (group, None) => format!("{}.{group}", self.resource),
        }
    }

    /// The object without the verb: ``deployments.apps `shop/web` ``.
    pub fn object(&self) -> String {
        let resource = self.qualified_resource();
        match (&self.namespace, &self.name) {
            (Some(namespace), Some(name)) => format!("{resource} `{namespace}/{name}`"),
            (None, Some(name)) => format!("{resource} `{name}`"),
            (Some(namespace), None) => format!("{resource} in namespace `{namespace}`"),
            (None, None) => resource,
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.verb, self.object())
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod};

    use super::*;

    #[test]
    fn an_operation_reads_as_a_sentence() {
        let patch = Operation::on::<Deployment>(Verb::Patch, "shop").named("web");
        assert_eq!(patch.to_string(), "patch deployments.apps `shop/web`");
        let logs = Operation::on::<Pod>(Verb::Get, "shop")
            .named("web-1")
            .subresource("log");
        assert_eq!(logs.to_string(), "get pods/log `shop/web-1`");
        let scale = Operation::on::<Deployment>(Verb::Get, "shop").subresource("scale");
        assert_eq!(scale.qualified_resource(), "deployments.apps/scale");
    }
}
