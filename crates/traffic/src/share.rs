//! Percentages of traffic, and how a weight that others share is divided.
//! Knows numbers only: no object, no provider, no clock.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A share of traffic in whole percent, 0 to 100.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Percent(u8);

impl Percent {
    /// No traffic at all.
    pub const NONE: Self = Self(0);
    /// All of the traffic.
    pub const ALL: Self = Self(100);

    /// Takes a number between 0 and 100.
    pub fn new(value: u32) -> Result<Self, NotAPercent> {
        match u8::try_from(value) {
            Ok(small) if small <= 100 => Ok(Self(small)),
            Ok(_) | Err(_) => Err(NotAPercent {
                given: value.to_string(),
            }),
        }
    }

    /// The number, 0 to 100.
    pub fn get(self) -> u32 {
        u32::from(self.0)
    }

    /// What is left for the other side.
    pub fn rest(self) -> Self {
        Self(100 - self.0)
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} %", self.0)
    }
}

/// A number that is no share of traffic.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{given}` is not a whole percentage between 0 and 100")]
pub struct NotAPercent {
    given: String,
}

impl FromStr for Percent {
    type Err = NotAPercent;

    fn from_str(text: &str) -> Result<Self, NotAPercent> {
        let digits = text.trim().trim_end_matches('%').trim_end();
        digits
            .parse::<u32>()
            .map_err(|_| NotAPercent {
                given: text.to_owned(),
            })
            .and_then(|number| {
                Self::new(number).map_err(|_| NotAPercent {
                    given: text.to_owned(),
                })
            })
    }
}

impl TryFrom<u32> for Percent {
    type Error = NotAPercent;

    fn try_from(value: u32) -> Result<Self, NotAPercent> {
        Self::new(value)
    }
}

impl From<Percent> for u32 {
    fn from(value: Percent) -> Self {
        value.get()
    }
}

/// The rising shares that a switch goes through, ending at the share it leaves the new side with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Percent>", into = "Vec<Percent>")]
pub struct Steps(Vec<Percent>);

impl Steps {
    /// One step to `share`.
    pub fn single(share: Percent) -> Self {
        Self(vec![share])
    }

    /// Takes shares that rise strictly; none may be 0.
    pub fn new(shares: Vec<Percent>) -> Result<Self, BadSteps> {
        let mut previous = Percent::NONE;
        for share in &shares {
            if *share <= previous {
                return Err(BadSteps::NotRising {
                    previous,
                    next: *share,
                });
            }
            previous = *share;
        }
        if shares.is_empty() {
            Err(BadSteps::Empty)
        } else {
            Ok(Self(shares))
        }
    }

    /// The shares in order.
    pub fn as_slice(&self) -> &[Percent] {
        &self.0
    }

    /// The share that the last step leaves the new side with.
    pub fn last(&self) -> Percent {
        self.0.last().copied().unwrap_or(Percent::ALL)
    }
}

impl TryFrom<Vec<Percent>> for Steps {
    type Error = BadSteps;

    fn try_from(shares: Vec<Percent>) -> Result<Self, BadSteps> {
        Self::new(shares)
    }
}

impl From<Steps> for Vec<Percent> {
    fn from(steps: Steps) -> Self {
        steps.0
    }
}

/// A list of steps that cannot be walked.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BadSteps {
    /// There is no step.
    #[error("there is no step")]
    Empty,
    /// A step does not give the new side more than the one before it.
    #[error("steps must rise: {next} comes after {previous}")]
    NotRising {
        /// The step before, or 0 % for the first.
        previous: Percent,
        /// The step that does not rise.
        next: Percent,
    },
}

/// Weights of the two sides that divide `whole` as asked: (taking, giving).
///
/// `None` when whole numbers cannot say it, e.g. 10 % of a weight of 1. The caller owns only
/// `whole`: the weights of backends that belong to others stay as they are, so scaling up
/// everything is not an answer.
pub fn divide(whole: u32, taking: Percent) -> Option<(u32, u32)> {
    let product = u64::from(whole) * u64::from(taking.get());
    if product % 100 != 0 {
        return None;
    }
    let part = u32::try_from(product / 100).ok()?;
    Some((part, whole - part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_over_a_hundred_is_refused() {
        assert!(Percent::new(101).is_err());
        assert!("120".parse::<Percent>().is_err());
        assert!("-1".parse::<Percent>().is_err());
        assert!("".parse::<Percent>().is_err());
        assert_eq!("10%".parse::<Percent>(), Ok(Percent(10)));
    }

    #[test]
    fn steps_must_rise_from_more_than_nothing() {
        let percents = |list: &[u8]| list.iter().map(|value| Percent(*value)).collect::<Vec<_>>();
        assert!(Steps::new(percents(&[10, 50, 100])).is_ok());
        assert!(Steps::new(percents(&[0, 100])).is_err());
        assert!(Steps::new(percents(&[50, 50])).is_err());
        assert!(Steps::new(percents(&[50, 10])).is_err());
        assert_eq!(Steps::new(Vec::new()), Err(BadSteps::Empty));
    }

    #[test]
    fn a_weight_is_divided_exactly_or_not_at_all() {
        assert_eq!(divide(100, Percent(10)), Some((10, 90)));
        assert_eq!(divide(80, Percent(10)), Some((8, 72)));
        assert_eq!(divide(1, Percent::ALL), Some((1, 0)));
        assert_eq!(divide(1, Percent(10)), None);
    }
}
