//! Reads with retries inside the caller's deadline.
//! It refuses to know mutations: those are sent once, and what became of them is read back.

use std::{future::Future, time::Duration};

use tokio::time::Instant;

use crate::{
    error::{Error, Result},
    operation::Operation,
};

const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// A point in time on the monotonic clock until which reads may be repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline {
    at: Instant,
    allowed: Duration,
}

impl Deadline {
    /// A deadline `allowed` from now.
    pub fn after(allowed: Duration) -> Self {
        Self {
            at: Instant::now() + allowed,
            allowed,
        }
    }

    /// Time left; zero when it has passed.
    pub fn remaining(&self) -> Duration {
        self.at.saturating_duration_since(Instant::now())
    }

    /// Whether it has passed.
    pub fn has_passed(&self) -> bool {
        self.remaining().is_zero()
    }

    /// How long was allowed in all.
    pub fn allowed(&self) -> Duration {
        self.allowed
    }

    /// How long it has been running.
    pub fn elapsed(&self) -> Duration {
        self.allowed.saturating_sub(self.remaining())
    }

    /// The instant itself, for `tokio::time::sleep_until`.
    pub fn instant(&self) -> Instant {
        self.at
    }

    /// The earlier of this one and one `limit` from now.
    #[must_use]
    pub fn at_most(&self, limit: Duration) -> Self {
        let limited = Self::after(limit);
        if limited.at < self.at { limited } else { *self }
    }
}

/// How long to wait before a failed read is repeated: what the server asked for, else doubling.
///
/// `attempt` counts from 0. Pure, so that the schedule can be tested without a clock.
pub(crate) fn pause_before(attempt: u32, error: &Error) -> Duration {
    let doubled = FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(attempt.min(16)));
    let own = doubled.min(LONGEST_PAUSE);
    error.retry_after().map_or(own, |asked| own.max(asked))
}

/// Runs `request` until it succeeds, fails for good, or `deadline` passes.
///
/// Repeats on 429 (after what the server asked for), 5xx, time-outs and lost connections only.
///
/// # Errors
/// The last error seen; [`Error::TimedOut`] when an attempt was still under way at the deadline.
pub(crate) async fn with_retries<T, F, Fut>(
    operation: &Operation,
    deadline: Deadline,
    mut request: F,
) -> Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = kube::Result<T>>,
{
    debug_assert!(!operation.verb.is_mutation(), "mutations are sent once");
    let mut attempt = 0;
    loop {
        let answer = tokio::time::timeout_at(deadline.instant(), request()).await;
        let error = match answer {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => Error::from_kube(error, operation),
            Err(_) => {
                return Err(Error::TimedOut {
                    what: operation.to_string(),
                    after: deadline.allowed(),
                });
            }
        };
        let pause = pause_before(attempt, &error);
        if !error.is_transient() || pause >= deadline.remaining() {
            return Err(error);
        }
        tokio::time::sleep(pause).await;
        attempt += 1;
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;

    use super::*;
    use crate::operation::Verb;

    fn shed(retry_after: Option<u64>) -> Error {
        Error::TooManyRequests {
            operation: Box::new(Operation::on::<Pod>(Verb::List, "shop")),
            retry_after: retry_after.map(Duration::from_secs),
        }
    }

    #[test]
    fn pauses_double_up_to_a_limit() {
        let pauses: Vec<_> = (0..8)
            .map(|attempt| pause_before(attempt, &shed(None)).as_millis())
            .collect();
        assert_eq!(pauses, [200, 400, 800, 1600, 3200, 5000, 5000, 5000]);
    }

    #[test]
    fn the_server_decides_how_long_to_wait_at_least() {
        assert_eq!(pause_before(0, &shed(Some(3))), Duration::from_secs(3));
        assert_eq!(pause_before(5, &shed(Some(3))), Duration::from_secs(5));
    }
}
