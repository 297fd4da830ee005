//! How fast a backfill goes: pauses, rate, estimate. Pure.

use std::time::Duration;

/// The pause after a batch: as asked for, and long enough for the rate.
pub(super) fn pause_after(
    rows: u64,
    took: Duration,
    pause: Duration,
    max_rate: Option<u32>,
) -> Duration {
    let Some(max_rate) = max_rate else {
        return pause;
    };
    // A batch has at most a million rows.
    let rows = u32::try_from(rows).unwrap_or(u32::MAX);
    let whole = Duration::from_secs_f64(f64::from(rows) / f64::from(max_rate));
    whole.saturating_sub(took).max(pause)
}

/// Rows in a second; `None` before a second has passed.
pub(super) fn rate(rows: u64, since: Duration) -> Option<u64> {
    let milliseconds = u64::try_from(since.as_millis())
        .ok()
        .filter(|ms| *ms >= 1000)?;
    Some(rows.saturating_mul(1000) / milliseconds)
}

/// Time that the rest takes at a rate; `None` where nothing is known.
pub(super) fn left(seen: u64, total: Option<u64>, rate: Option<u64>) -> Option<Duration> {
    let rate = rate.filter(|rate| *rate > 0)?;
    Some(Duration::from_secs(total?.saturating_sub(seen) / rate))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_makes_a_pause_longer_and_never_shorter() {
        let (pause, took) = (Duration::from_millis(100), Duration::from_millis(200));
        assert_eq!(pause_after(1000, took, pause, None), pause);
        assert_eq!(
            pause_after(1000, took, pause, Some(1000)),
            Duration::from_millis(800)
        );
        assert_eq!(pause_after(10, took, pause, Some(1000)), pause);
    }

    #[test]
    fn an_estimate_needs_a_rate_and_a_total() {
        assert_eq!(rate(500, Duration::from_millis(999)), None);
        assert_eq!(rate(500, Duration::from_secs(2)), Some(250));
        assert_eq!(
            left(500, Some(1000), Some(250)),
            Some(Duration::from_secs(2))
        );
        assert_eq!(left(500, None, Some(250)), None);
        assert_eq!(left(500, Some(1000), Some(0)), None);
        assert_eq!(left(2000, Some(1000), Some(250)), Some(Duration::ZERO));
    }
}
