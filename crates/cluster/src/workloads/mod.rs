//! The workloads we wait for: their kinds, names and the facts all kinds share.
//! It refuses to know when a rollout is done.

mod selector;

use std::{collections::BTreeMap, fmt, str::FromStr, sync::Arc};

use k8s_openapi::{
    api::{
        apps::v1::{DaemonSet, Deployment, StatefulSet},
        batch::v1::Job,
        core::v1::PodTemplateSpec,
    },
    apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta},
};
use thiserror::Error;

pub use selector::{SelectorError, parse_selector, selector_text, selects};

/// A kind of workload whose rollout can be judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WorkloadKind {
    /// `apps/v1` Deployment.
    Deployment,
    /// `apps/v1` StatefulSet.
    StatefulSet,
    /// `apps/v1` DaemonSet.
    DaemonSet,
    /// `batch/v1` Job.
    Job,
}

impl WorkloadKind {
    /// All kinds.
    pub const ALL: [Self; 4] = [
        Self::Deployment,
        Self::StatefulSet,
        Self::DaemonSet,
        Self::Job,
    ];

    /// The kind as manifests write it.
    pub fn as_kind(self) -> &'static str {
        match self {
            Self::Deployment => "Deployment",
            Self::StatefulSet => "StatefulSet",
            Self::DaemonSet => "DaemonSet",
            Self::Job => "Job",
        }
    }

    /// The kind as it is written in front of a name: `deployment/web`.
    pub fn as_prefix(self) -> &'static str {
        match self {
            Self::Deployment => "deployment",
            Self::StatefulSet => "statefulset",
            Self::DaemonSet => "daemonset",
            Self::Job => "job",
        }
    }

    /// Reads a kind as kubectl does: singular, plural, short name, any case, with or without the
    /// group.
    pub fn parse(text: &str) -> Option<Self> {
        match text.to_ascii_lowercase().as_str() {
            "deployment" | "deployments" | "deploy" | "deployment.apps" | "deployments.apps" => {
                Some(Self::Deployment)
            }
            "statefulset" | "statefulsets" | "sts" | "statefulset.apps" | "statefulsets.apps" => {
                Some(Self::StatefulSet)
            }
            "daemonset" | "daemonsets" | "ds" | "daemonset.apps" | "daemonsets.apps" => {
                Some(Self::DaemonSet)
            }
            "job" | "jobs" | "job.batch" | "jobs.batch" => Some(Self::Job),
            _ => None,
        }
    }
}

impl fmt::Display for WorkloadKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_prefix())
    }
}

/// A workload by kind and name: `deployment/web`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkloadRef {
    /// Its kind.
    pub kind: WorkloadKind,
    /// Its name, a valid DNS subdomain.
    pub name: String,
}

/// Why a text names no workload.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum WorkloadRefError {
    /// There is no `KIND/` in front of the name.
    #[error("`{0}` has no kind: write `deployment/{0}`")]
    NoKind(String),
    /// The kind is none we can wait for.
    #[error(
        "`{0}` is no kind that can be waited for: use deployment, statefulset, daemonset or job"
    )]
    UnknownKind(String),
    /// The name is no Kubernetes name.
    #[error("`{0}` is no name of a Kubernetes object: lower-case letters, digits, `-` and `.`")]
    BadName(String),
}

impl FromStr for WorkloadRef {
    type Err = WorkloadRefError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let Some((kind, name)) = text.split_once('/') else {
            return Err(if is_object_name(text) {
                WorkloadRefError::NoKind(text.to_owned())
            } else {
                WorkloadRefError::BadName(text.to_owned())
            });
        };
        let kind = WorkloadKind::parse(kind)
            .ok_or_else(|| WorkloadRefError::UnknownKind(kind.to_owned()))?;
        if !is_object_name(name) {
            return Err(WorkloadRefError::BadName(name.to_owned()));
        }
        Ok(Self {
            kind,
            name: name.to_owned(),
        })
    }
}

impl fmt::Display for WorkloadRef {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.kind, self.name)
    }
}

/// Whether `name` is a DNS subdomain as Kubernetes wants object names to be (RFC 1123).
pub fn is_object_name(name: &str) -> bool {
    let is_label = |label: &str| {
        let bytes = label.as_bytes();
        let is_alphanumeric = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        bytes.first().is_some_and(is_alphanumeric)
            && bytes.last().is_some_and(is_alphanumeric)
            && bytes
                .iter()
                .all(|byte| is_alphanumeric(byte) || *byte == b'-')
    };
    !name.is_empty() && name.len() <= 253 && name.split('.').all(is_label)
}

/// A workload as the API server showed it.
#[derive(Clone, Debug)]
pub enum Workload {
    /// A Deployment.
    Deployment(Arc<Deployment>),
    /// A StatefulSet.
    StatefulSet(Arc<StatefulSet>),
    /// A DaemonSet.
    DaemonSet(Arc<DaemonSet>),
    /// A Job.
    Job(Arc<Job>),
}

impl Workload {
    /// Its kind.
    pub fn kind(&self) -> WorkloadKind {
        match self {
            Self::Deployment(_) => WorkloadKind::Deployment,
            Self::StatefulSet(_) => WorkloadKind::StatefulSet,
            Self::DaemonSet(_) => WorkloadKind::DaemonSet,
            Self::Job(_) => WorkloadKind::Job,
        }
    }

    /// Its metadata.
    pub fn meta(&self) -> &ObjectMeta {
        match self {
            Self::Deployment(object) => &object.metadata,
            Self::StatefulSet(object) => &object.metadata,
            Self::DaemonSet(object) => &object.metadata,
            Self::Job(object) => &object.metadata,
        }
    }

    /// Kind and name.
    pub fn reference(&self) -> WorkloadRef {
        WorkloadRef {
            kind: self.kind(),
            name: self.meta().name.clone().unwrap_or_default(),
        }
    }

    /// UID; empty only for objects that never were in a cluster.
    pub fn uid(&self) -> &str {
        self.meta().uid.as_deref().unwrap_or_default()
    }

    /// Which pods are its own, as its selector says.
    pub fn selector(&self) -> Option<&LabelSelector> {
        match self {
            Self::Deployment(object) => object.spec.as_ref().map(|spec| &spec.selector),
            Self::StatefulSet(object) => object.spec.as_ref().map(|spec| &spec.selector),
            Self::DaemonSet(object) => object.spec.as_ref().map(|spec| &spec.selector),
            Self::Job(object) => object.spec.as_ref().and_then(|spec| spec.selector.as_ref()),
        }
    }

    /// What its pods are made from.
    pub fn template(&self) -> Option<&PodTemplateSpec> {
        match self {
            Self::Deployment(object) => object.spec.as_ref().map(|spec| &spec.template),
            Self::StatefulSet(object) => object.spec.as_ref().map(|spec| &spec.template),
            Self::DaemonSet(object) => object.spec.as_ref().map(|spec| &spec.template),
            Self::Job(object) => object.spec.as_ref().map(|spec| &spec.template),
        }
    }

    /// Container name → image, as the template says.
    pub fn images(&self) -> BTreeMap<String, String> {
        let Some(spec) = self.template().and_then(|template| template.spec.as_ref()) else {
            return BTreeMap::new();
        };
        spec.init_containers
            .iter()
            .flatten()
            .chain(&spec.containers)
            .map(|container| {
                let image = container.image.clone().unwrap_or_default();
                (container.name.clone(), image)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workload_is_read_as_kubectl_reads_it() {
        for (text, shown) in [
            ("deployment/web", "deployment/web"),
            ("deploy/web", "deployment/web"),
            ("Deployments.apps/web", "deployment/web"),
            ("sts/db.main", "statefulset/db.main"),
            ("ds/agent", "daemonset/agent"),
            ("job/migrate", "job/migrate"),
        ] {
            assert_eq!(text.parse::<WorkloadRef>().unwrap().to_string(), shown);
        }
    }

    #[test]
    fn nonsense_is_refused_with_the_reason() {
        let error = |text: &str| text.parse::<WorkloadRef>().unwrap_err();
        assert_eq!(error("web"), WorkloadRefError::NoKind("web".to_owned()));
        assert_eq!(
            error("pod/web"),
            WorkloadRefError::UnknownKind("pod".to_owned())
        );
        for name in ["", "Web", "web/x", "-web", "web-", "we_b", "a..b", "wéb"] {
            let text = format!("deployment/{name}");
            assert_eq!(error(&text), WorkloadRefError::BadName(name.to_owned()));
        }
    }
}
