//! Reading and writing objects of one kind: reads are retried inside a deadline, writes are sent
//! once, errors name the object. It refuses to know what the objects mean.

use std::fmt::Debug;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{
    Api, Resource,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    FIELD_MANAGER,
    connect::Cluster,
    error::{Error, Result},
    managers,
    operation::{Operation, Verb},
    read::Deadline,
};

/// Objects to ask for in one page, as kubectl and client-go do.
const PAGE: u32 = 500;

/// How long the reads may take that only make an error message better.
const EXPLAIN_LIMIT: std::time::Duration = std::time::Duration::from_secs(5);

/// The objects of one kind, in one namespace or of the cluster.
#[derive(Clone, Debug)]
pub struct Objects<K> {
    cluster: Cluster,
    api: Api<K>,
    target: Operation,
    /// Of a kind that is known by name only, so that the cluster may not serve it.
    version: Option<String>,
}

impl<K> Objects<K> {
    pub(crate) fn new(cluster: Cluster, api: Api<K>, target: Operation) -> Self {
        Self {
            cluster,
            api,
            target,
            version: None,
        }
    }

    /// The same objects of a kind that is known by name only, in this version.
    pub(crate) fn in_version(self, version: &str) -> Self {
        Self {
            version: Some(version.to_owned()),
            ..self
        }
    }

    /// The raw API; requests through it are not retried.
    pub fn api(&self) -> &Api<K> {
        &self.api
    }

    /// Describes `verb` on the object called `name`, for error messages.
    pub fn operation(&self, verb: Verb, name: Option<&str>) -> Operation {
        Operation {
            verb,
            name: name.map(str::to_owned),
            ..self.target.clone()
        }
    }
}

impl<K> Objects<K>
where
    K: Resource + Clone + DeserializeOwned + Debug,
{
    /// Reads one object.
    ///
    /// # Errors
    /// [`Error::NotFound`], or [`Error::NamespaceMissing`] or [`Error::NotServed`] when that is why.
    pub async fn get(&self, name: &str, deadline: Deadline) -> Result<K> {
        let operation = self.operation(Verb::Get, Some(name));
        let answer = self
            .cluster
            .read(&operation, deadline, || self.api.get(name))
            .await;
        match answer {
            Err(Error::NotFound { operation }) => Err(self.why_missing(operation, deadline).await),
            other => other,
        }
    }

    /// Reads one object that may not exist.
    ///
    /// # Errors
    /// As [`Objects::get`], without [`Error::NotFound`].
    pub async fn find(&self, name: &str, deadline: Deadline) -> Result<Option<K>> {
        match self.get(name, deadline).await {
            Ok(object) => Ok(Some(object)),
            Err(Error::NotFound { .. } | Error::NotServed { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reads all objects that `params` selects, page by page.
    ///
    /// # Errors
    /// [`Error::Forbidden`] and those of the connection. A missing namespace has no objects and
    /// is not an error here.
    pub async fn list(&self, params: &ListParams, deadline: Deadline) -> Result<Vec<K>> {
        let operation = self.operation(Verb::List, None);
        let mut params = params.clone();
        params.limit = params.limit.or(Some(PAGE));
        let mut items = Vec::new();
        loop {
            let page = self
                .cluster
                .read(&operation, deadline, || self.api.list(&params))
                .await?;
            items.extend(page.items);
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params.continue_token = Some(token),
                None => return Ok(items),
            }
        }
    }

    /// Creates an object; sent once.
    ///
    /// # Errors
    /// [`Error::AlreadyExists`], [`Error::Refused`] and those of the connection; ask
    /// [`Error::leaves_outcome_unknown`] before doing it again.
    pub async fn create(&self, object: &K, params: &PostParams) -> Result<K>
    where
        K: Serialize,
    {
        let name = object.meta().name.as_deref();
        let operation = self.operation(Verb::Create, name);
        self.api
            .create(params, object)
            .await
            .map_err(|error| Error::from_kube(error, &operation))
    }

    /// Replaces an object; sent once. The object's resourceVersion is the precondition.
    ///
    /// # Errors
    /// [`Error::Conflict`] naming the other writer where the object tells.
    pub async fn replace(&self, name: &str, object: &K, params: &PostParams) -> Result<K>
    where
        K: Serialize,
    {
        let operation = self.operation(Verb::Update, Some(name));
        match self.api.replace(name, params, object).await {
            Ok(written) => Ok(written),
            Err(error) => {
                let error = Error::from_kube(error, &operation);
                Err(self.why_refused(error, Some(object.meta())).await)
            }
        }
    }

    /// Patches an object; sent once.
    ///
    /// # Errors
    /// [`Error::Conflict`] naming the other writer where the object tells; a JSON Patch whose
    /// `test` fails arrives as [`Error::Refused`].
    pub async fn patch<P>(&self, name: &str, patch: &Patch<P>, params: &PatchParams) -> Result<K>
    where
        P: Serialize + Debug,
    {
        let operation = self.operation(Verb::Patch, Some(name));
        match self.api.patch(name, params, patch).await {
            Ok(written) => Ok(written),
            Err(error) => {
                let error = Error::from_kube(error, &operation);
                Err(self.why_refused(error, None).await)
            }
        }
    }

    /// Deletes an object; sent once. `false` when it was not there.
    ///
    /// # Errors
    /// [`Error::Conflict`] when a precondition of `params` does not hold.
    pub async fn delete(&self, name: &str, params: &DeleteParams) -> Result<bool> {
        let operation = self.operation(Verb::Delete, Some(name));
        match self.api.delete(name, params).await {
            Ok(_) => Ok(true),
            Err(error) => {
                let error = Error::from_kube(error, &operation);
                if error.is_not_found() {
                    return Ok(false);
                }
                Err(self.why_refused(error, None).await)
            }
        }
    }

    /// A missing object in a missing namespace is a missing namespace, and one of a kind that the
    /// cluster does not serve is a missing kind.
    async fn why_missing(&self, operation: Box<Operation>, deadline: Deadline) -> Error {
        if let Some(namespace) = &operation.namespace {
            let cluster = self.cluster.in_namespace(namespace);
            let deadline = deadline.at_most(EXPLAIN_LIMIT);
            if let Ok(Some(false)) = cluster.namespace_exists(deadline).await {
                return Error::NamespaceMissing {
                    namespace: namespace.clone(),
                };
            }
        }
        if let Some(version) = &self.version {
            let deadline = deadline.at_most(EXPLAIN_LIMIT);
            let why = self.cluster.why_not_served(&operation, version, deadline);
            if let Ok(Some(error)) = why.await {
                return error;
            }
        }
        Error::NotFound { operation }
    }

    /// A conflict names the other writers where the object's managed fields tell; best when it is
    /// known what was read before.
    async fn why_refused(&self, error: Error, before: Option<&ObjectMeta>) -> Error {
        let Error::Conflict {
            operation,
            mut managers,
            message,
        } = error
        else {
            return error;
        };
        if managers.is_empty() {
            let name = operation.name.clone().unwrap_or_default();
            let live = self.find(&name, Deadline::after(EXPLAIN_LIMIT)).await;
            if let Ok(Some(live)) = live {
                managers = writers(before, live.meta());
            }
        }
        Error::Conflict {
            operation,
            managers,
            message,
        }
    }
}

fn writers(before: Option<&ObjectMeta>, live: &ObjectMeta) -> Vec<String> {
    let between = before.map(|before| managers::writers_between(before, live, FIELD_MANAGER));
    match between {
        Some(writers) if !writers.is_empty() => writers,
        Some(_) | None => managers::last_writer(live, FIELD_MANAGER)
            .into_iter()
            .collect(),
    }
}
