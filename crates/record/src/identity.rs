//! The identity of a deployment, and the names of the objects that hold its record.
//!
//! Owns how an identity is written, read and shortened; refuses to know where its parts come from.

use std::fmt;
use std::fmt::Write as _;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

/// Longest application and namespace name: a DNS label, which is also a valid label value.
/// <https://kubernetes.io/docs/concepts/overview/working-with-objects/names/>
const DNS_LABEL_LENGTH: usize = 63;
/// Longest environment or cluster name. GitHub allows 255 characters for an environment.
const FREE_NAME_LENGTH: usize = 255;

/// The parts of a [`DeploymentId`] before they are checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeploymentIdParts {
    /// `owner/name` of the repository whose workflow deploys, or `local`.
    pub repository: String,
    /// Id of the workflow run (the same over its attempts), or `local`.
    pub run_id: String,
    /// Name of the environment, such as `production`.
    pub environment: String,
    /// Name of the cluster, such as the kubeconfig context.
    pub cluster: String,
    /// Kubernetes namespace of the application.
    pub namespace: String,
    /// Name of the application.
    pub application: String,
}

/// Which deployment this is: repository / run id / environment / cluster / namespace /
/// application, the same over all re-runs of one workflow run.
///
/// `repeat` tells apart the deployments which one run made when a person asked for a new one
/// after the first had ended; it is 1 otherwise and then not written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DeploymentId {
    repository: String,
    run_id: String,
    environment: String,
    cluster: String,
    namespace: String,
    application: String,
    repeat: u32,
}

/// A part of an identity that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{part} `{given}` cannot be part of a deployment id: {rule}")]
pub struct InvalidIdentity {
    /// Which part.
    pub part: &'static str,
    /// What was given.
    pub given: String,
    /// What is allowed.
    pub rule: &'static str,
}

impl DeploymentId {
    /// Checks the parts and makes an identity of them.
    ///
    /// # Errors
    /// A part is empty, too long, or has characters which its place does not allow.
    pub fn new(parts: DeploymentIdParts) -> Result<Self, InvalidIdentity> {
        check_repository(&parts.repository)?;
        check_run_id(&parts.run_id)?;
        check_free_name("environment", &parts.environment)?;
        check_free_name("cluster", &parts.cluster)?;
        check_dns_label("namespace", &parts.namespace)?;
        check_dns_label("application", &parts.application)?;
        Ok(Self {
            repository: parts.repository,
            run_id: parts.run_id,
            environment: parts.environment,
            cluster: parts.cluster,
            namespace: parts.namespace,
            application: parts.application,
            repeat: 1,
        })
    }

    /// `owner/name` of the repository, or `local`.
    #[must_use]
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// Id of the workflow run.
    #[must_use]
    pub fn run_id(&self) -> &str {
        &self.run_id
    }

    /// Name of the environment.
    #[must_use]
    pub fn environment(&self) -> &str {
        &self.environment
    }

    /// Name of the cluster.
    #[must_use]
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// Kubernetes namespace that holds the application and its records.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Name of the application.
    #[must_use]
    pub fn application(&self) -> &str {
        &self.application
    }

    /// Which deployment of its run this is, from 1.
    #[must_use]
    pub fn repeat(&self) -> u32 {
        self.repeat
    }

    /// The identity of a later deployment of the same run.
    #[must_use]
    pub fn with_repeat(&self, repeat: u32) -> Self {
        Self {
            repeat: repeat.max(1),
            ..self.clone()
        }
    }

    /// Whether both are deployments of one run in one place; `repeat` may differ.
    #[must_use]
    pub fn is_same_run(&self, other: &Self) -> bool {
        self.with_repeat(1) == other.with_repeat(1)
    }

    /// Twelve hexadecimal digits of the SHA-256 of the whole identity: short enough for object
    /// names and label values, the same on every machine.
    #[must_use]
    pub fn short_hash(&self) -> String {
        let mut hash = hex(&Sha256::digest(self.to_string().as_bytes()));
        hash.truncate(12);
        hash
    }

    /// Name of the ConfigMap that holds this deployment's record: `switchyard.APP.HASH`.
    #[must_use]
    pub fn record_name(&self) -> String {
        format!(
            "{}.{}",
            application_record_name(&self.application),
            self.short_hash()
        )
    }

    /// Link to the workflow run, where the repository is one on `server` (such as
    /// `https://github.com`).
    #[must_use]
    pub fn run_url(&self, server: &str) -> Option<String> {
        let is_run = self.repository.contains('/') && self.run_number().is_some();
        is_run.then(|| {
            let server = server.trim_end_matches('/');
            format!("{server}/{}/actions/runs/{}", self.repository, self.run_id)
        })
    }

    /// The run id as a number, where it is one. GitHub's grow over time.
    #[must_use]
    pub fn run_number(&self) -> Option<u64> {
        self.run_id.parse().ok()
    }
}

/// Name of the ConfigMap that holds the application's record: `switchyard.APP`.
#[must_use]
pub fn application_record_name(application: &str) -> String {
    format!("switchyard.{application}")
}

/// Name of the Lease that guards one process at a time: `switchyard-APP`.
#[must_use]
pub fn lease_name(application: &str) -> String {
    format!("switchyard-{application}")
}

impl fmt::Display for DeploymentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}/{}/{}/{}/{}/{}",
            self.repository,
            self.run_id,
            encode(&self.environment),
            encode(&self.cluster),
            self.namespace,
            self.application
        )?;
        if self.repeat > 1 {
            write!(f, "~{}", self.repeat)?;
        }
        Ok(())
    }
}

impl FromStr for DeploymentId {
    type Err = InvalidIdentity;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = |rule| InvalidIdentity {
            part: "text",
            given: text.to_owned(),
            rule,
        };
        let (rest, repeat) = match text.rsplit_once('~') {
            None => (text, 1),
            Some((rest, repeat)) => match repeat.parse() {
                Ok(repeat) if repeat > 1 => (rest, repeat),
                Ok(_) | Err(_) => return Err(invalid("after `~` comes a number from 2")),
            },
        };
        let mut parts = rest.rsplitn(6, '/');
        let mut next = || {
            parts.next().ok_or_else(|| {
                invalid("expected repository/run-id/environment/cluster/namespace/application")
            })
        };
        let application = next()?.to_owned();
        let namespace = next()?.to_owned();
        let cluster = decode(next()?).ok_or_else(|| invalid("the cluster is badly escaped"))?;
        let environment =
            decode(next()?).ok_or_else(|| invalid("the environment is badly escaped"))?;
        let run_id = next()?.to_owned();
        let repository = next()?.to_owned();
        Self::new(DeploymentIdParts {
            repository,
            run_id,
            environment,
            cluster,
            namespace,
            application,
        })
        .map(|id| id.with_repeat(repeat))
    }
}

impl TryFrom<String> for DeploymentId {
    type Error = InvalidIdentity;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<DeploymentId> for String {
    fn from(id: DeploymentId) -> Self {
        id.to_string()
    }
}

/// Lower-case hexadecimal digits of `bytes`.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

fn check(
    part: &'static str,
    given: &str,
    is_valid: bool,
    rule: &'static str,
) -> Result<(), InvalidIdentity> {
    if is_valid {
        Ok(())
    } else {
        Err(InvalidIdentity {
            part,
            given: given.to_owned(),
            rule,
        })
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text != "."
        && text != ".."
        && text.len() <= 100
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

fn check_repository(given: &str) -> Result<(), InvalidIdentity> {
    let is_valid = match given.split_once('/') {
        None => given == "local",
        Some((owner, name)) => is_name(owner) && is_name(name),
    };
    check(
        "repository",
        given,
        is_valid,
        "allowed is `owner/name`, or `local`",
    )
}

fn check_run_id(given: &str) -> Result<(), InvalidIdentity> {
    check(
        "run-id",
        given,
        is_name(given),
        "allowed are up to 100 letters, digits, `-`, `_` and `.`",
    )
}

fn check_free_name(part: &'static str, given: &str) -> Result<(), InvalidIdentity> {
    let is_valid = !given.trim().is_empty()
        && given.trim() == given
        && given.len() <= FREE_NAME_LENGTH
        && !given.chars().any(char::is_control);
    check(
        part,
        given,
        is_valid,
        "allowed are 1 to 255 characters without control characters and outer spaces",
    )
}

fn check_dns_label(part: &'static str, given: &str) -> Result<(), InvalidIdentity> {
    let is_valid = !given.is_empty()
        && given.len() <= DNS_LABEL_LENGTH
        && !given.starts_with('-')
        && !given.ends_with('-')
        && given
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    check(
        part,
        given,
        is_valid,
        "allowed are up to 63 lower-case letters, digits and `-` inside",
    )
}

/// Escapes what the text form of an identity uses as separators.
fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '/' | '~' | '%' => {
                let _ = write!(encoded, "%{:02X}", u32::from(c));
            }
            other => encoded.push(other),
        }
    }
    encoded
}

/// The opposite of [`encode`]; nothing for an escape that it does not write.
fn decode(text: &str) -> Option<String> {
    let mut decoded = String::with_capacity(text.len());
    let mut pieces = text.split('%');
    decoded.push_str(pieces.next()?);
    for piece in pieces {
        let (code, rest) = piece.split_at_checked(2)?;
        decoded.push(match code {
            "2F" => '/',
            "7E" => '~',
            "25" => '%',
            _ => return None,
        });
        decoded.push_str(rest);
    }
    Some(decoded)
}

#[cfg(test)]
mod tests;
