//! A token for a cluster and its times. Times are those of this machine: how long a token lives is
//! counted from when it came, so that a clock that is wrong does not matter as long as it runs on.

use std::time::Duration;

use jiff::Timestamp;
use switchyard_runner::Secret;

/// A token for a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) secret: Secret,
    /// When it came.
    pub(crate) since: Timestamp,
    /// When nobody takes it any more.
    pub(crate) until: Timestamp,
}

/// How long before its end a token is not given out any more.
const MARGIN: Duration = Duration::from_secs(300);

impl Token {
    pub(crate) fn new(secret: Secret, since: Timestamp, life: Duration) -> Self {
        // Longer than jiff can count is as good as its last moment.
        let until = since.checked_add(life).unwrap_or(Timestamp::MAX);
        Self {
            secret,
            since,
            until,
        }
    }

    /// When a client shall ask for another one: five minutes before the end, or after three quarters of
    /// the life of one that is short, as GitHub's own five minutes are.
    pub(crate) fn ask_again(&self) -> Timestamp {
        self.until_margin(MARGIN)
    }

    fn until_margin(&self, margin: Duration) -> Timestamp {
        let life = Duration::try_from(self.until.duration_since(self.since)).unwrap_or_default();
        let margin = margin.min(life / 4);
        self.until.checked_sub(margin).unwrap_or(self.until)
    }

    /// Whether so much of its life is left at `now`, or three quarters of it are not over.
    pub(crate) fn lasts(&self, now: Timestamp, margin: Duration) -> bool {
        self.since <= now && now < self.until_margin(margin)
    }

    /// Whether it can be given out at `now`.
    pub(crate) fn is_fresh(&self, now: Timestamp) -> bool {
        self.lasts(now, MARGIN)
    }

    /// Whether it still opens anything at `now`.
    pub(crate) fn is_alive(&self, now: Timestamp) -> bool {
        self.since <= now && now < self.until
    }
}

/// Without fractions of a second: for clients they would only be noise.
pub(crate) fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn token(life: u64) -> Token {
        Token::new(Secret::new("t"), at(1000), Duration::from_secs(life))
    }

    #[test]
    fn a_token_is_replaced_five_minutes_before_its_end() {
        assert_eq!(token(3600).ask_again(), at(1000 + 3300));
        assert!(token(3600).is_fresh(at(1000 + 3299)));
        assert!(!token(3600).is_fresh(at(1000 + 3300)));
        assert!(token(3600).is_alive(at(1000 + 3599)) && !token(3600).is_alive(at(4600)));
    }

    #[test]
    fn a_short_lived_token_is_given_out_for_most_of_its_life() {
        assert_eq!(token(300).ask_again(), at(1000 + 225));
        assert!(!token(0).is_fresh(at(1000)));
    }

    #[test]
    fn a_token_from_the_future_is_not_trusted() {
        assert!(!token(3600).is_fresh(at(999)) && !token(3600).is_alive(at(999)));
    }
}
