//! How an object is named: fully in a cluster ([`Identity`]), and by people in inputs and
//! messages ([`ObjectName`], `deployment/web`).

use std::fmt;
use std::str::FromStr;

use crate::kind::Kind;

/// The full identity of an object of a manifest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    /// `apps/v1`
    pub api_version: String,
    /// `Deployment`
    pub kind: String,
    /// The namespace that the manifest states, if it states one.
    pub namespace: Option<String>,
    /// The object's name.
    pub name: String,
}

impl Identity {
    /// The API group; empty for the core group.
    #[must_use]
    pub fn group(&self) -> &str {
        self.api_version
            .split_once('/')
            .map_or("", |(group, _)| group)
    }

    /// What this project knows the kind as.
    #[must_use]
    pub fn known_kind(&self) -> Kind {
        Kind::of(&self.api_version, &self.kind)
    }

    /// The short form that people use.
    #[must_use]
    pub fn short(&self) -> ObjectName {
        ObjectName {
            kind: self.kind.to_lowercase(),
            name: self.name.clone(),
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.kind.to_lowercase(), self.name)
    }
}

/// `kind/name` as inputs spell it; the kind in lower case and in the singular.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName {
    /// `deployment`
    pub kind: String,
    /// `web`
    pub name: String,
}

/// Why a text is no `kind/name`.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("no object: allowed is `kind/name`, as in `deployment/web`")]
pub struct NotAnObjectName {
    /// What was given.
    pub given: String,
}

/// Short and plural spellings that kubectl takes too.
const ALIASES: &[(&str, &[&str])] = &[
    ("configmap", &["cm", "configmaps"]),
    ("cronjob", &["cj", "cronjobs"]),
    ("daemonset", &["ds", "daemonsets"]),
    ("deployment", &["deploy", "deployments"]),
    (
        "horizontalpodautoscaler",
        &["hpa", "horizontalpodautoscalers"],
    ),
    ("httproute", &["httproutes"]),
    ("ingress", &["ing", "ingresses"]),
    ("job", &["jobs"]),
    ("poddisruptionbudget", &["pdb", "poddisruptionbudgets"]),
    ("secret", &["secrets"]),
    ("service", &["svc", "services"]),
    ("statefulset", &["sts", "statefulsets"]),
    ("traefikservice", &["traefikservices"]),
    ("virtualservice", &["vs", "virtualservices"]),
];

impl FromStr for ObjectName {
    type Err = NotAnObjectName;

    fn from_str(given: &str) -> Result<Self, Self::Err> {
        let refused = || NotAnObjectName {
            given: given.to_owned(),
        };
        let (kind, name) = given.trim().split_once('/').ok_or_else(refused)?;
        let kind = kind.to_lowercase();
        if !kind.chars().all(|letter| letter.is_ascii_lowercase())
            || kind.is_empty()
            || !is_object_name(name)
        {
            return Err(refused());
        }
        let kind = ALIASES
            .iter()
            .find(|(_, aliases)| aliases.contains(&kind.as_str()))
            .map_or(kind.as_str(), |(full, _)| full)
            .to_owned();
        Ok(Self {
            kind,
            name: name.to_owned(),
        })
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.kind, self.name)
    }
}

/// Whether a text can be the name of an object: an RFC 1123 subdomain, the widest rule that
/// Kubernetes applies to names (RBAC objects, which also take colons, included).
#[must_use]
pub fn is_object_name(name: &str) -> bool {
    let is_edge = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit();
    name.len() <= 253
        && name.starts_with(is_edge)
        && name.ends_with(is_edge)
        && name
            .chars()
            .all(|letter| is_edge(letter) || matches!(letter, '-' | '.' | ':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_and_plural_kinds_are_understood() {
        for given in ["deploy/web", "Deployment/web", "deployments/web"] {
            assert_eq!(
                given.parse::<ObjectName>().map(|name| name.to_string()),
                Ok("deployment/web".to_owned())
            );
        }
    }

    #[test]
    fn nonsense_is_refused_and_quoted() {
        for given in [
            "web",
            "/web",
            "deployment/",
            "deployment/We b",
            "a b/web",
            "",
        ] {
            let error = given.parse::<ObjectName>().expect_err(given);
            assert_eq!(error.given, given);
        }
    }
}
