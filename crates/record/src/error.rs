//! What goes wrong with records, and what to do about it.

use std::time::Duration;

use thiserror::Error;

use crate::claim::Refusal;
use crate::fence::StaleHolder;
use crate::identity::InvalidIdentity;
use crate::journal::Disagreement;
use crate::phase::PhaseRefused;
use crate::validate::Impossible;

/// Result of an operation on records.
pub type Result<T> = std::result::Result<T, RecordError>;

/// Which exit code an error leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorClass {
    /// The record says no: exit code 1.
    Gate,
    /// The caller gave something impossible: exit code 2.
    Input,
    /// The cluster failed or refused: exit code 3.
    Remote,
    /// The caller cancelled: exit code 130 or 143.
    Cancelled,
    /// A defect of this program: exit code 70.
    Bug,
}

/// Who holds a lease, as far as the lease tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseHolder {
    /// The random identity of its process.
    pub identity: String,
    /// Who started its run.
    pub actor: Option<String>,
    /// Link to its run.
    pub run_url: Option<String>,
}

impl std::fmt::Display for LeaseHolder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.actor, &self.run_url) {
            (Some(actor), Some(url)) => write!(f, "{actor} ({url})"),
            (Some(actor), None) => write!(f, "{actor} (process {})", self.identity),
            (None, Some(url)) => f.write_str(url),
            (None, None) => write!(f, "process {}", self.identity),
        }
    }
}

/// Why an operation on records failed.
#[derive(Debug, Error)]
pub enum RecordError {
    /// A part of the identity cannot be used.
    #[error(transparent)]
    Identity(#[from] InvalidIdentity),
    /// The claim was refused.
    #[error(transparent)]
    Refused(#[from] Box<Refusal>),
    /// The phase may not follow.
    #[error(transparent)]
    Phase(#[from] PhaseRefused),
    /// The live object agrees with neither side of a journal entry.
    #[error(transparent)]
    Disagreement(#[from] Box<Disagreement>),
    /// A newer process has taken the application over.
    #[error(transparent)]
    Stale(#[from] StaleHolder),
    /// The record has a schema that this version does not know.
    #[error("{object} has schema {found}, this version knows {known}")]
    UnknownSchema {
        /// The object.
        object: String,
        /// Its schema.
        found: String,
        /// The schema of this version.
        known: u32,
    },
    /// The record is no record.
    #[error("{object} cannot be read as a record")]
    Unreadable {
        /// The object.
        object: String,
        /// Why.
        source: serde_json::Error,
    },
    /// The record says something that cannot have come about.
    #[error("{object} says something impossible")]
    Impossible {
        /// The object.
        object: String,
        /// What.
        source: Impossible,
    },
    /// Somebody else wrote the record while this process held the lease.
    #[error("{object} was changed by {writer} while this process held the lease")]
    Changed {
        /// The object.
        object: String,
        /// The field manager of the latest foreign write, as far as the object tells.
        writer: String,
    },
    /// An object that must be there is not.
    #[error("{object} does not exist")]
    Missing {
        /// The object.
        object: String,
    },
    /// The record would not fit into a ConfigMap.
    #[error("{object} would have {size} bytes, allowed are {limit}")]
    TooLarge {
        /// The object.
        object: String,
        /// Bytes that it has or would come to.
        size: usize,
        /// Bytes that are allowed.
        limit: usize,
    },
    /// The API server failed or refused.
    #[error("cannot {operation} {object}")]
    Api {
        /// What was tried.
        operation: &'static str,
        /// On which object.
        object: String,
        /// The answer.
        source: Box<kube::Error>,
    },
    /// The API server did not answer in time.
    #[error("cannot {operation} {object}: no answer within {}s", .limit.as_secs())]
    NoAnswer {
        /// What was tried.
        operation: &'static str,
        /// On which object.
        object: String,
        /// How long was waited.
        limit: Duration,
    },
    /// Somebody else holds the lease, and kept it.
    #[error("lease `{lease}` is held by {holder} and was not released within {}s", .waited.as_secs())]
    LeaseHeld {
        /// Name of the lease.
        lease: String,
        /// Who holds it.
        holder: LeaseHolder,
        /// How long was waited.
        waited: Duration,
    },
    /// The lease was lost while work was under way.
    #[error("lease `{lease}` was lost: {reason}")]
    LeaseLost {
        /// Name of the lease.
        lease: String,
        /// How.
        reason: String,
    },
    /// The caller cancelled.
    #[error("cancelled while waiting for {what}")]
    Cancelled {
        /// What was waited for.
        what: String,
    },
    /// The session has no deployment yet.
    #[error("no deployment is claimed in this session")]
    NotClaimed,
    /// There is no such journal entry.
    #[error("the journal has no entry {seq}")]
    NoSuchEntry {
        /// The number.
        seq: u32,
    },
    /// A change that must go through its own function.
    #[error("field `{field}` of a record is not to be changed this way")]
    Protected {
        /// The field.
        field: &'static str,
    },
}

impl From<Refusal> for RecordError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(Box::new(refusal))
    }
}

impl From<Disagreement> for RecordError {
    fn from(disagreement: Disagreement) -> Self {
        Self::Disagreement(Box::new(disagreement))
    }
}

impl RecordError {
    /// Which exit code this leads to.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Identity(_) => ErrorClass::Input,
            Self::Refused(_)
            | Self::Phase(_)
            | Self::Disagreement(_)
            | Self::Stale(_)
            | Self::UnknownSchema { .. }
            | Self::Unreadable { .. }
            | Self::Impossible { .. }
            | Self::Changed { .. }
            | Self::TooLarge { .. }
            | Self::LeaseHeld { .. }
            | Self::LeaseLost { .. } => ErrorClass::Gate,
            Self::Missing { .. } | Self::Api { .. } | Self::NoAnswer { .. } => ErrorClass::Remote,
            Self::Cancelled { .. } => ErrorClass::Cancelled,
            Self::NotClaimed | Self::NoSuchEntry { .. } | Self::Protected { .. } => ErrorClass::Bug,
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Self::Refused(refusal) => return Some(refusal.hint()),
            Self::Phase(refused) => return Some(refused.hint()),
            Self::Stale(_) | Self::LeaseLost { .. } => {
                "a newer run works on this application; nothing more was written by this one"
            }
            Self::Disagreement(_) => {
                "see who wrote the object (`kubectl get … --show-managed-fields -o yaml`), put it \
                 to one of both states, and run the step again"
            }
            Self::UnknownSchema { .. } => {
                "use the version of switchyard that wrote it, or a newer one"
            }
            Self::Unreadable { .. } | Self::Impossible { .. } => {
                "the record was edited by hand; restore it (`kubectl get configmap … -o yaml` \
                 shows it), or delete it when no deployment is under way"
            }
            Self::Changed { .. } => {
                "records are written by switchyard alone; look at what was changed, then run the \
                 step again"
            }
            Self::Missing { .. } => {
                "it was deleted while the application was claimed; when what is live is right, \
                 delete the application's record too and start a new run"
            }
            Self::TooLarge { .. } => {
                "deploy fewer objects at a time: a record must fit into one ConfigMap"
            }
            Self::Api { source, .. } => return api_hint(source),
            Self::NoAnswer { .. } => "check that the API server is reachable from this runner",
            Self::LeaseHeld { .. } => {
                "wait for that run or cancel it; a dead holder's lease runs out by itself"
            }
            Self::Identity(_)
            | Self::Cancelled { .. }
            | Self::NotClaimed
            | Self::NoSuchEntry { .. }
            | Self::Protected { .. } => return None,
        };
        Some(text.to_owned())
    }
}

impl RecordError {
    /// Whether the same request may succeed later without anybody doing anything: an answer that
    /// was lost, a server that is overloaded or starting.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        let Self::Api { source, .. } = self else {
            return matches!(self, Self::NoAnswer { .. });
        };
        if let kube::Error::Api(status) = source.as_ref() {
            return status.code == 429 || status.code >= 500;
        }
        matches!(
            source.as_ref(),
            kube::Error::HyperError(_) | kube::Error::Service(_)
        )
    }

    /// How long the API server asks to wait before the next attempt.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        let Self::Api { source, .. } = self else {
            return None;
        };
        let kube::Error::Api(status) = source.as_ref() else {
            return None;
        };
        let seconds = status.details.as_ref()?.retry_after_seconds;
        (seconds > 0).then(|| Duration::from_secs(u64::from(seconds)))
    }
}

fn api_hint(error: &kube::Error) -> Option<String> {
    let kube::Error::Api(status) = error else {
        return Some("check that the API server is reachable from this runner".to_owned());
    };
    match status.code {
        401 => Some("the credentials were not accepted; log in again".to_owned()),
        403 => Some(
            "the deployer's role needs get, create, update and delete on configmaps, and get, \
             create and update on leases (coordination.k8s.io) in this namespace"
                .to_owned(),
        ),
        404 => Some("check that the namespace exists".to_owned()),
        _other => None,
    }
}
