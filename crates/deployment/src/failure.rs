//! Which exit code an error of the cluster or of the record leads to, and with which hint.

use switchyard_cluster::Error;
use switchyard_record::{ErrorClass, RecordError, ResizeError};
use switchyard_runner::{Failure, Kind, Signal};

/// The failure that an error of the cluster leads to.
///
/// What the user gave wrong (kubeconfig, context, namespace, unknown kind) is bad input; what the
/// cluster's state or rules forbid is the gate's no; the rest is a remote failure.
#[must_use]
pub fn cluster_failure(error: Error) -> Failure {
    let hint = error.hint();
    // The enum is open to new remote failures, so it is asked what it is, not matched.
    let is_wrong_input = error.is_bad_input()
        || matches!(
            &error,
            Error::NamespaceMissing { .. } | Error::UnknownKind { .. } | Error::NotServed { .. }
        );
    let is_refusal = matches!(
        &error,
        Error::Conflict { .. } | Error::Unsuitable { .. } | Error::Refused { .. }
    );
    let failure = if is_wrong_input {
        Failure::input(error)
    } else if is_refusal {
        Failure::gate(error)
    } else {
        Failure::remote(error)
    };
    failure.maybe_hint(hint)
}

/// The failure that an error of the record leads to. `signal` is what cancelled the command, where
/// something did.
#[must_use]
pub fn record_failure(error: RecordError, signal: Option<Signal>) -> Failure {
    let hint = error.hint();
    let failure = match error.class() {
        ErrorClass::Gate => Failure::gate(error),
        ErrorClass::Input => Failure::input(error),
        ErrorClass::Remote => Failure::remote(error),
        ErrorClass::Cancelled => Failure::cancelled(signal.unwrap_or(Signal::Terminate), error),
        ErrorClass::Bug => Failure::bug(error),
    };
    failure.maybe_hint(hint)
}

/// The failure of a change of a workload's size.
#[must_use]
pub fn resize_failure(error: ResizeError, signal: Option<Signal>) -> Failure {
    match error {
        ResizeError::Record(error) => record_failure(error, signal),
        ResizeError::Cluster(error) => cluster_failure(error),
        ResizeError::Absent(_) => {
            Failure::gate(error).hint("see who deletes it, then deploy its version again")
        }
        ResizeError::Impossible { .. } => {
            Failure::gate(error).hint("raise the autoscaler's maxReplicas, or ask for less")
        }
    }
}

/// Bad input in words.
pub(crate) fn bad_input(text: impl std::fmt::Display) -> Failure {
    Failure::message(Kind::Input, text)
}
