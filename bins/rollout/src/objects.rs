//! Reads and writes objects of any kind: finding them, dry runs, server-side apply. Refuses to know
//! why an object is written.

use futures::{StreamExt, TryStreamExt, stream};
use kube::api::{
    DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams, PostParams,
    Preconditions, ValidationDirective,
};
use serde_json::Value;
use switchyard_cluster::{Cluster, Deadline, DynamicKind, Error, FIELD_MANAGER, Operation, Verb};
use switchyard_deployment::cluster_failure;
use switchyard_manifest::{Identity, Kind, Object};
use switchyard_record::ObjectRef;
use switchyard_runner::Failure;

use crate::plan::conflicts::{self, FieldConflict};
use crate::plan::traffic::LiveObject;

/// Reads under way at the same time.
pub(crate) const CONCURRENCY: usize = 8;

/// Group, version and kind of a route.
#[derive(Clone, Copy, Debug)]
struct RouteKind(&'static str, &'static str, &'static str);

/// The kinds of routes that are read to see where traffic goes.
const ROUTES: [RouteKind; 8] = [
    RouteKind("networking.k8s.io", "v1", "Ingress"),
    RouteKind("traefik.io", "v1alpha1", "TraefikService"),
    RouteKind("traefik.io", "v1alpha1", "IngressRoute"),
    RouteKind("traefik.io", "v1alpha1", "IngressRouteTCP"),
    RouteKind("gateway.networking.k8s.io", "v1", "HTTPRoute"),
    RouteKind("gateway.networking.k8s.io", "v1", "GRPCRoute"),
    RouteKind("gateway.networking.k8s.io", "v1alpha2", "TCPRoute"),
    RouteKind("networking.istio.io", "v1", "VirtualService"),
];

/// How an object is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sending {
    /// The API server does everything but store it.
    DryRun,
    /// For real.
    Write,
}

/// What to do with fields that another manager owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Conflicts {
    /// Report them.
    Refuse,
    /// Take the fields over.
    TakeOver,
}

/// Why an apply was not accepted.
#[derive(Debug)]
pub(crate) enum NotApplied {
    /// Fields belong to other managers.
    Conflicts(Vec<FieldConflict>),
    /// The object changed since it was read.
    Stale(Error),
    /// Anything else.
    Other(Error),
}

/// The objects of one namespace, of any kind.
#[derive(Clone, Debug)]
pub(crate) struct AnyObjects {
    cluster: Cluster,
    deadline: Deadline,
}

impl AnyObjects {
    /// Works on a cluster until a deadline.
    pub(crate) fn new(cluster: &Cluster, deadline: Deadline) -> Self {
        Self {
            cluster: cluster.clone(),
            deadline,
        }
    }

    /// How the cluster serves the kind of an object.
    pub(crate) async fn kind_of(&self, identity: &Identity) -> Result<DynamicKind, Error> {
        let version = identity
            .api_version
            .rsplit_once('/')
            .map_or(identity.api_version.as_str(), |(_, version)| version);
        let gvk = GroupVersionKind::gvk(identity.group(), version, &identity.kind);
        self.cluster.kind(&gvk, self.deadline).await
    }

    /// Reads an object that may not be there.
    pub(crate) async fn find(
        &self,
        kind: &DynamicKind,
        name: &str,
    ) -> Result<Option<Value>, Error> {
        let found = self
            .cluster
            .dynamic_objects(kind)
            .find(name, self.deadline)
            .await?;
        found.map(|object| to_value(&object)).transpose()
    }

    /// Lists all objects of a kind in the namespace.
    pub(crate) async fn list(&self, kind: &DynamicKind) -> Result<Vec<Value>, Error> {
        let listed = self
            .cluster
            .dynamic_objects(kind)
            .list(&ListParams::default(), self.deadline)
            .await?;
        // Items of a list do not say what they are; every other reader of them wants to know.
        let resource = &kind.resource;
        listed
            .iter()
            .map(|object| {
                let mut value = to_value(object)?;
                if let Some(map) = value.as_object_mut() {
                    map.insert("apiVersion".to_owned(), resource.api_version.clone().into());
                    map.insert("kind".to_owned(), resource.kind.clone().into());
                }
                Ok(value)
            })
            .collect()
    }

    /// Lists all objects of a kind that the cluster may not serve; then there are none.
    pub(crate) async fn list_if_served(
        &self,
        group: &str,
        version: &str,
        kind: &str,
    ) -> Result<Vec<Value>, Error> {
        let gvk = GroupVersionKind::gvk(group, version, kind);
        match self.cluster.kind(&gvk, self.deadline).await {
            Ok(kind) => self.list(&kind).await,
            Err(Error::UnknownKind { .. }) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// Reads all routes of the namespace. Kinds that the cluster does not serve have none; kinds that
    /// we may not read are named in the second part.
    pub(crate) async fn routes(&self) -> Result<(Vec<LiveObject>, Vec<String>), Failure> {
        let lists: Vec<_> = stream::iter(ROUTES)
            .map(|route| self.routes_of(route))
            .buffered(CONCURRENCY)
            .try_collect()
            .await?;
        let mut routes = Vec::new();
        let mut unreadable = Vec::new();
        for list in lists {
            match list {
                Ok(found) => routes.extend(found),
                Err(kind) => unreadable.push(kind),
            }
        }
        Ok((routes, unreadable))
    }

    async fn routes_of(
        &self,
        route: RouteKind,
    ) -> Result<Result<Vec<LiveObject>, String>, Failure> {
        let RouteKind(group, version, kind) = route;
        let known = Kind::of(&format!("{group}/{version}"), kind);
        match self.list_if_served(group, version, kind).await {
            Ok(values) => Ok(Ok(values
                .into_iter()
                .map(|value| LiveObject::new(known, kind, value))
                .collect())),
            Err(Error::Forbidden { .. }) => Ok(Err(kind.to_owned())),
            Err(error) => Err(cluster_failure(error)),
        }
    }

    /// Reads the object that the record names; `None` when it is not there.
    pub(crate) async fn find_recorded(&self, target: &ObjectRef) -> Result<Option<Value>, Failure> {
        let identity = Identity {
            api_version: target.api_version.clone(),
            kind: target.kind.clone(),
            namespace: target.namespace.clone(),
            name: target.name.clone(),
        };
        let kind = self.kind_of(&identity).await.map_err(cluster_failure)?;
        self.find(&kind, &target.name)
            .await
            .map_err(cluster_failure)
    }

    /// Sends an object by server-side apply, once. Gives the object as the API server has it then.
    pub(crate) async fn apply(
        &self,
        kind: &DynamicKind,
        object: &Object,
        sending: Sending,
        conflicts: Conflicts,
    ) -> Result<Value, NotApplied> {
        let objects = self.cluster.dynamic_objects(kind);
        let name = object.name();
        let params = PatchParams {
            dry_run: sending == Sending::DryRun,
            force: conflicts == Conflicts::TakeOver,
            field_manager: Some(FIELD_MANAGER.to_owned()),
            field_validation: Some(ValidationDirective::Strict),
        };
        let answer = objects
            .api()
            .patch(name, &params, &Patch::Apply(object.value()))
            .await;
        let operation = objects.operation(Verb::Patch, Some(name));
        match answer {
            Ok(written) => to_value(&written).map_err(NotApplied::Other),
            Err(kube::Error::Api(status)) if status.code == 409 => {
                let fields = conflicts::of_status(&object.identity().to_string(), &status);
                if fields.is_empty() {
                    Err(NotApplied::Stale(Error::from_status(&status, &operation)))
                } else {
                    Err(NotApplied::Conflicts(fields))
                }
            }
            Err(error) => Err(NotApplied::Other(Error::from_kube(error, &operation))),
        }
    }

    /// Merges fields into an object, on exactly the object that was read, once. Kubernetes answers 409
    /// when it has moved on.
    pub(crate) async fn merge(
        &self,
        kind: &DynamicKind,
        live: &Value,
        fields: &Value,
    ) -> Result<Value, NotApplied> {
        let objects = self.cluster.dynamic_objects(kind);
        let mut body = fields.clone();
        for key in ["uid", "resourceVersion"] {
            body["metadata"][key] = live["metadata"][key].clone();
        }
        let name = live
            .pointer("/metadata/name")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let params = PatchParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let answer = objects
            .api()
            .patch(name, &params, &Patch::Merge(&body))
            .await;
        answered(answer, &objects.operation(Verb::Patch, Some(name)))
    }

    /// Replaces an object as a whole, once; the resourceVersion within it is the precondition.
    pub(crate) async fn replace(
        &self,
        kind: &DynamicKind,
        object: &Value,
        sending: Sending,
    ) -> Result<Value, NotApplied> {
        let objects = self.cluster.dynamic_objects(kind);
        let name = crate::plan::traffic::name_of(object);
        let operation = objects.operation(Verb::Update, Some(name));
        let params = post_params(sending);
        let answer = objects.api().replace(name, &params, &typed(object)?).await;
        answered(answer, &operation)
    }

    /// Creates an object, once.
    pub(crate) async fn create(
        &self,
        kind: &DynamicKind,
        object: &Value,
        sending: Sending,
    ) -> Result<Value, NotApplied> {
        let objects = self.cluster.dynamic_objects(kind);
        let name = crate::plan::traffic::name_of(object);
        let operation = objects.operation(Verb::Create, Some(name));
        let params = post_params(sending);
        let answer = objects.api().create(&params, &typed(object)?).await;
        answered(answer, &operation)
    }

    /// Deletes an object with what it owns, on exactly the object that was read, once. Done where it is gone.
    pub(crate) async fn delete(&self, kind: &DynamicKind, live: &Value) -> Result<(), NotApplied> {
        let objects = self.cluster.dynamic_objects(kind);
        let name = crate::plan::traffic::name_of(live);
        let text = |pointer: &str| live.pointer(pointer).and_then(Value::as_str);
        let params = DeleteParams {
            preconditions: Some(Preconditions {
                uid: text("/metadata/uid").map(str::to_owned),
                resource_version: text("/metadata/resourceVersion").map(str::to_owned),
            }),
            ..DeleteParams::background()
        };
        let operation = objects.operation(Verb::Delete, Some(name));
        match objects.api().delete(name, &params).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 409 => {
                Err(NotApplied::Stale(Error::from_status(&status, &operation)))
            }
            Err(error) => Err(NotApplied::Other(Error::from_kube(error, &operation))),
        }
    }

    /// The cluster that is worked on.
    pub(crate) fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Until when reads are repeated.
    pub(crate) fn deadline(&self) -> Deadline {
        self.deadline
    }
}

/// Any typed object as plain data.
pub(crate) fn to_value<T: serde::Serialize>(object: &T) -> Result<Value, Error> {
    serde_json::to_value(object).map_err(|problem| Error::Unreadable {
        what: "an object".to_owned(),
        problem: problem.to_string(),
    })
}

fn post_params(sending: Sending) -> PostParams {
    PostParams {
        dry_run: sending == Sending::DryRun,
        field_manager: Some(FIELD_MANAGER.to_owned()),
    }
}

fn typed(object: &Value) -> Result<DynamicObject, NotApplied> {
    serde_json::from_value(object.clone()).map_err(|problem| {
        NotApplied::Other(Error::Unreadable {
            what: "an object to write".to_owned(),
            problem: problem.to_string(),
        })
    })
}

/// What the API server's answer to a write on a version means.
fn answered(
    answer: kube::Result<DynamicObject>,
    operation: &Operation,
) -> Result<Value, NotApplied> {
    match answer {
        Ok(written) => to_value(&written).map_err(NotApplied::Other),
        Err(kube::Error::Api(status)) if status.code == 409 => {
            Err(NotApplied::Stale(Error::from_status(&status, operation)))
        }
        Err(error) => Err(NotApplied::Other(Error::from_kube(error, operation))),
    }
}
