//! What a port-forward leads to, as it is written. Pure.
//! It refuses to look anything up.

use std::{fmt, str::FromStr};

use thiserror::Error;

use crate::{
    endpoints::PortRef,
    workloads::{WorkloadKind, WorkloadRef, is_object_name},
};

/// What stands behind a forwarded port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ForwardObject {
    /// A Service: its selector chooses the pod, its port is translated to the pod's.
    Service(String),
    /// A workload: its selector chooses the pod.
    Workload(WorkloadRef),
    /// This very pod.
    Pod(String),
}

impl fmt::Display for ForwardObject {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(name) => write!(formatter, "service/{name}"),
            Self::Workload(workload) => workload.fmt(formatter),
            Self::Pod(name) => write!(formatter, "pod/{name}"),
        }
    }
}

/// An object and one of its ports: `service/web:http`, `deployment/api:8080`, `pod/web-0:80`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForwardTarget {
    /// The object.
    pub object: ForwardObject,
    /// A Service's own port, or a container port.
    pub port: PortRef,
}

/// Why a text is no target of a port-forward.
#[derive(Debug, Error, PartialEq, Eq)]
#[error(
    "`{0}` is no target: write `service/NAME:PORT`, `deployment/NAME:PORT`, `statefulset/NAME:PORT`, `daemonset/NAME:PORT` or `pod/NAME:PORT`"
)]
pub struct ForwardTargetError(String);

impl FromStr for ForwardTarget {
    type Err = ForwardTargetError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ForwardTargetError(text.to_owned());
        let (kind, rest) = text.split_once('/').ok_or_else(error)?;
        let (name, port) = rest.rsplit_once(':').ok_or_else(error)?;
        if !is_object_name(name) {
            return Err(error());
        }
        let object = match kind.to_ascii_lowercase().as_str() {
            "service" | "services" | "svc" => ForwardObject::Service(name.to_owned()),
            "pod" | "pods" | "po" => ForwardObject::Pod(name.to_owned()),
            other => match WorkloadKind::parse(other) {
                Some(kind) if kind != WorkloadKind::Job => ForwardObject::Workload(WorkloadRef {
                    kind,
                    name: name.to_owned(),
                }),
                Some(_) | None => return Err(error()),
            },
        };
        let port = match port.parse::<u16>() {
            Ok(0) => return Err(error()),
            Ok(number) => PortRef::Number(number),
            Err(_) if is_port_name(port) => PortRef::Name(port.to_owned()),
            Err(_) => return Err(error()),
        };
        Ok(Self { object, port })
    }
}

/// At most 15 lower-case letters, digits and `-`, with at least one letter (RFC 6335).
fn is_port_name(name: &str) -> bool {
    is_object_name(name)
        && name.len() <= 15
        && !name.contains('.')
        && name.bytes().any(|byte| byte.is_ascii_lowercase())
}

impl fmt::Display for ForwardTarget {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.port {
            PortRef::Number(number) => write!(formatter, "{}:{number}", self.object),
            PortRef::Name(name) => write!(formatter, "{}:{name}", self.object),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read_and_shown() {
        for (text, shown) in [
            ("service/web:http", "service/web:http"),
            ("svc/web:80", "service/web:80"),
            ("deploy/api:8080", "deployment/api:8080"),
            ("pod/web-0:80", "pod/web-0:80"),
        ] {
            assert_eq!(text.parse::<ForwardTarget>().unwrap().to_string(), shown);
        }
        for nonsense in [
            "web:80",
            "service/web",
            "service/web:0",
            "service/web:70000",
            "service/web:Http",
            "job/migrate:80",
            "service/:80",
            "configmap/x:80",
            "http://example.org:80",
        ] {
            assert!(nonsense.parse::<ForwardTarget>().is_err(), "{nonsense}");
        }
    }
}
