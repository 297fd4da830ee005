//! Whether and when a request is sent again: a pure decision over what was seen. It owns the reading
//! of `Retry-After`; it refuses to sleep or to know the time by itself.

use std::time::Duration;

use http::{HeaderMap, StatusCode, header};
use jiff::Timestamp;

/// What may be repeated, decided by what a second delivery of the request would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeat {
    /// Sent once, whatever happens.
    Never,
    /// Sent again only where the service cannot have acted on it: no connection was made, or it
    /// answered 429 or 503, or refused for its rate limit.
    WhenRefused,
    /// A second delivery does no harm: also sent again after 502, 504, a cut connection, and a time-out.
    Idempotent,
    /// As [`Repeat::Idempotent`], and after every other 5xx, where the service's documentation asks for
    /// that.
    IdempotentAfterAnyServerError,
}

/// What came of one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// An answer, with the wait it asks for.
    Answered {
        status: StatusCode,
        retry_after: Option<Duration>,
    },
    /// No connection: nothing was sent.
    NotSent,
    /// Sent, and then no whole answer: the service may or may not have acted.
    Ambiguous,
}

/// What to do after an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// The outcome is final.
    Stop,
    /// Send again after this wait.
    After(Duration),
    /// Worth sending again, but the wait asked for is longer than the time left.
    TooLong(Duration),
}

/// Longest pause between two attempts where the service names none.
const LONGEST_PAUSE: Duration = Duration::from_secs(8);

/// Decides what follows attempt number `attempt` (from 0) when `left` is the time until the deadline.
pub(crate) fn next(
    repeat: Repeat,
    outcome: Outcome,
    attempt: u32,
    first_pause: Duration,
    left: Duration,
) -> Next {
    let pause = first_pause
        .saturating_mul(1 << attempt.min(16))
        .min(LONGEST_PAUSE);
    let wait = match (repeat, outcome) {
        (Repeat::Never, _) => return Next::Stop,
        (_, Outcome::NotSent) => pause,
        (Repeat::WhenRefused, Outcome::Ambiguous) => return Next::Stop,
        (Repeat::Idempotent | Repeat::IdempotentAfterAnyServerError, Outcome::Ambiguous) => pause,
        (
            _,
            Outcome::Answered {
                status,
                retry_after,
            },
        ) if is_worth_repeating(repeat, status, retry_after) => retry_after.unwrap_or(pause),
        (_, Outcome::Answered { .. }) => return Next::Stop,
    };
    match outcome {
        _ if wait < left => Next::After(wait),
        Outcome::Answered {
            retry_after: Some(_),
            ..
        } => Next::TooLong(wait),
        Outcome::Answered {
            retry_after: None, ..
        }
        | Outcome::NotSent
        | Outcome::Ambiguous => Next::Stop,
    }
}

fn is_worth_repeating(repeat: Repeat, status: StatusCode, retry_after: Option<Duration>) -> bool {
    let is_gateway = matches!(status.as_u16(), 502 | 504);
    match (status.as_u16(), repeat) {
        (_, Repeat::Never) => false,
        (429 | 503, _) => true,
        // GitHub answers 403 for its rate limits, then with a wait:
        // https://docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api
        (403, _) => retry_after.is_some(),
        (_, Repeat::WhenRefused) => false,
        (_, Repeat::Idempotent) => is_gateway,
        (_, Repeat::IdempotentAfterAnyServerError) => status.is_server_error(),
    }
}

/// The wait an answer asks for: `Retry-After` in seconds or as a date (RFC 9110, 10.2.3), else the
/// reset time of an exhausted `X-RateLimit`. A date in the past is no wait.
#[must_use]
pub fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    if let Some(value) = text(headers, header::RETRY_AFTER.as_str()) {
        if let Ok(seconds) = value.parse::<u64>() {
            return Some(Duration::from_secs(seconds));
        }
        let date = jiff::fmt::rfc2822::parse(value).ok()?.timestamp();
        return Some(until(date, now));
    }
    if text(headers, "x-ratelimit-remaining") != Some("0") {
        return None;
    }
    let reset = text(headers, "x-ratelimit-reset")?.parse().ok()?;
    Some(until(Timestamp::from_second(reset).ok()?, now))
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

fn until(time: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(time.duration_since(now)).unwrap_or(Duration::ZERO)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSE: Duration = Duration::from_millis(500);
    const LEFT: Duration = Duration::from_secs(30);

    fn answered(status: u16, retry_after: Option<u64>) -> Outcome {
        Outcome::Answered {
            status: StatusCode::from_u16(status).unwrap(),
            retry_after: retry_after.map(Duration::from_secs),
        }
    }

    #[test]
    fn what_may_be_repeated_follows_from_what_a_second_delivery_would_do() {
        use Repeat::{Idempotent, Never, WhenRefused};
        let again = Next::After(PAUSE);
        for (outcome, never, when_refused, idempotent) in [
            (Outcome::NotSent, Next::Stop, again, again),
            (Outcome::Ambiguous, Next::Stop, Next::Stop, again),
            (answered(429, None), Next::Stop, again, again),
            (answered(503, None), Next::Stop, again, again),
            (answered(502, None), Next::Stop, Next::Stop, again),
            (answered(504, None), Next::Stop, Next::Stop, again),
            (answered(500, None), Next::Stop, Next::Stop, Next::Stop),
            (answered(403, None), Next::Stop, Next::Stop, Next::Stop),
            (answered(200, None), Next::Stop, Next::Stop, Next::Stop),
            (answered(404, None), Next::Stop, Next::Stop, Next::Stop),
        ] {
            assert_eq!(next(Never, outcome, 0, PAUSE, LEFT), never, "{outcome:?}");
            assert_eq!(
                next(WhenRefused, outcome, 0, PAUSE, LEFT),
                when_refused,
                "{outcome:?}"
            );
            assert_eq!(
                next(Idempotent, outcome, 0, PAUSE, LEFT),
                idempotent,
                "{outcome:?}"
            );
        }
        let asked_for = Repeat::IdempotentAfterAnyServerError;
        assert_eq!(next(asked_for, answered(500, None), 0, PAUSE, LEFT), again);
        assert_eq!(
            next(asked_for, answered(400, None), 0, PAUSE, LEFT),
            Next::Stop
        );
    }

    #[test]
    fn pauses_double_up_to_a_limit() {
        let pauses: Vec<_> = (0..7)
            .map(|attempt| next(Repeat::Idempotent, Outcome::NotSent, attempt, PAUSE, LEFT))
            .collect();
        assert_eq!(pauses[1], Next::After(Duration::from_secs(1)));
        assert_eq!(pauses[6], Next::After(LONGEST_PAUSE));
        assert_eq!(
            next(Repeat::Idempotent, Outcome::NotSent, u32::MAX, PAUSE, LEFT),
            Next::After(LONGEST_PAUSE)
        );
    }

    #[test]
    fn the_wait_asked_for_is_kept_up_to_the_deadline() {
        let after = |seconds| {
            next(
                Repeat::WhenRefused,
                answered(429, Some(seconds)),
                0,
                PAUSE,
                LEFT,
            )
        };
        assert_eq!(after(29), Next::After(Duration::from_secs(29)));
        assert_eq!(after(30), Next::TooLong(Duration::from_secs(30)));
        assert_eq!(
            next(Repeat::WhenRefused, answered(503, None), 9, PAUSE, PAUSE),
            Next::Stop
        );
        assert_eq!(
            next(Repeat::WhenRefused, answered(403, Some(1)), 0, PAUSE, LEFT),
            Next::After(Duration::from_secs(1))
        );
    }

    #[test]
    fn the_wait_is_read_from_seconds_dates_and_rate_limits() {
        let now: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        let read = |pairs: &[(&'static str, &'static str)]| {
            let headers = pairs
                .iter()
                .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
                .collect();
            retry_after(&headers, now)
        };
        assert_eq!(read(&[("retry-after", "7")]), Some(Duration::from_secs(7)));
        assert_eq!(
            read(&[("retry-after", "Fri, 02 Jan 2026 03:04:35 GMT")]),
            Some(Duration::from_secs(30))
        );
        assert_eq!(
            read(&[("retry-after", "Fri, 02 Jan 2026 03:00:00 GMT")]),
            Some(Duration::ZERO)
        );
        assert_eq!(read(&[("retry-after", "soon")]), None);
        assert_eq!(
            read(&[
                ("x-ratelimit-remaining", "0"),
                ("x-ratelimit-reset", "1767323050")
            ]),
            Some(Duration::from_secs(5))
        );
        assert_eq!(
            read(&[
                ("x-ratelimit-remaining", "9"),
                ("x-ratelimit-reset", "1767323050")
            ]),
            None
        );
    }
}
