//! The time limit of a command.

use std::future::Future;
use std::time::Duration;

use switchyard_runner::{Failure, Kind, values};

/// How much later than the command's own waits the limit strikes.
const GRACE: Duration = Duration::from_secs(5);

/// Runs a command's work within its `timeout`.
///
/// # Errors
/// What the work fails with, or a remote failure that names the limit.
pub(crate) async fn within<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    // Waits inside end at the limit and say what they waited for; this one is for what hangs.
    match tokio::time::timeout(limit + GRACE, work).await {
        Ok(result) => result,
        Err(_) => Err(Failure::message(
            Kind::Remote,
            format!("not done within {}", values::show_duration(limit)),
        )
        .hint("look at the last line of progress, or raise `timeout`")),
    }
}
