//! Fault injection: where a process is to die, for tests of crash recovery.
//!
//! Never set in production. A binary hands over what the environment variable
//! `SWITCHYARD_FAULT_ABORT_AFTER` says; this module reads no environment itself.

use std::str::FromStr;

use thiserror::Error;

use crate::phase::Phase;

/// Where the process aborts, without unwinding and without releasing anything, as after
/// `kill -9`.
///
/// | text | the process aborts |
/// |---|---|
/// | `N` | after the Nth write to the journal, of either kind |
/// | `plan:N` | after the Nth entry was written as pending: its mutation was not made |
/// | `mutation:N` | when the Nth outcome is to be written: its mutation was made |
/// | `settle:N` | after the Nth outcome was written |
/// | `phase:NAME` | after this phase was entered |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultPoint {
    /// After the Nth write to the journal, planned or settled.
    JournalWrite(u32),
    /// After the Nth planned entry, before its mutation.
    Planned(u32),
    /// After the Nth mutation, before its outcome is written.
    Mutated(u32),
    /// After the Nth outcome.
    Settled(u32),
    /// After a phase was entered.
    Entered(Phase),
}

/// A text that names no fault point.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "`{given}` is not a fault point, allowed are `N`, `plan:N`, `mutation:N`, `settle:N` (N from 1) and `phase:NAME`"
)]
pub struct UnknownFaultPoint {
    /// What was given.
    pub given: String,
}

impl FromStr for FaultPoint {
    type Err = UnknownFaultPoint;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let unknown = || UnknownFaultPoint {
            given: text.to_owned(),
        };
        let number = |digits: &str| match digits.parse() {
            Ok(number) if number > 0 => Ok(number),
            Ok(_) | Err(_) => Err(unknown()),
        };
        match text.split_once(':') {
            None => number(text).map(Self::JournalWrite),
            Some(("plan", digits)) => number(digits).map(Self::Planned),
            Some(("mutation", digits)) => number(digits).map(Self::Mutated),
            Some(("settle", digits)) => number(digits).map(Self::Settled),
            Some(("phase", name)) => name.parse().map(Self::Entered).map_err(|_| unknown()),
            Some(_) => Err(unknown()),
        }
    }
}

/// Counts what happened and aborts at the fault point.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct FaultInjection {
    point: Option<FaultPoint>,
    writes: u32,
    planned: u32,
    mutated: u32,
    settled: u32,
}

/// Something that a fault point can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Happening {
    /// A pending entry was written.
    Planned,
    /// A mutation was made, its outcome is not written yet.
    Mutated,
    /// An outcome was written.
    Settled,
    /// A phase was entered.
    Entered(Phase),
}

impl FaultInjection {
    pub(crate) fn new(point: Option<FaultPoint>) -> Self {
        Self {
            point,
            ..Self::default()
        }
    }

    /// Counts, and ends the process here when this is the fault point.
    pub(crate) fn happened(&mut self, happening: Happening) {
        if self.is_reached(happening) {
            // As abrupt as SIGKILL: no destructor runs, no lease is released.
            std::process::abort();
        }
    }

    fn is_reached(&mut self, happening: Happening) -> bool {
        match happening {
            Happening::Planned => {
                self.writes += 1;
                self.planned += 1;
            }
            Happening::Mutated => self.mutated += 1,
            Happening::Settled => {
                self.writes += 1;
                self.settled += 1;
            }
            Happening::Entered(_) => {}
        }
        match (self.point, happening) {
            (Some(FaultPoint::JournalWrite(n)), Happening::Planned | Happening::Settled) => {
                n == self.writes
            }
            (Some(FaultPoint::Planned(n)), Happening::Planned) => n == self.planned,
            (Some(FaultPoint::Mutated(n)), Happening::Mutated) => n == self.mutated,
            (Some(FaultPoint::Settled(n)), Happening::Settled) => n == self.settled,
            (Some(FaultPoint::Entered(phase)), Happening::Entered(entered)) => phase == entered,
            (
                None
                | Some(
                    FaultPoint::JournalWrite(_)
                    | FaultPoint::Planned(_)
                    | FaultPoint::Mutated(_)
                    | FaultPoint::Settled(_)
                    | FaultPoint::Entered(_),
                ),
                Happening::Planned
                | Happening::Mutated
                | Happening::Settled
                | Happening::Entered(_),
            ) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read() {
        assert_eq!("3".parse(), Ok(FaultPoint::JournalWrite(3)));
        assert_eq!("plan:1".parse(), Ok(FaultPoint::Planned(1)));
        assert_eq!("mutation:2".parse(), Ok(FaultPoint::Mutated(2)));
        assert_eq!("settle:2".parse(), Ok(FaultPoint::Settled(2)));
        assert_eq!(
            "phase:switching(1)".parse(),
            Ok(FaultPoint::Entered(Phase::Switching(1)))
        );
        for nonsense in ["", "0", "x", "plan:0", "plan:", "phase:gone", "read:1"] {
            assert!(nonsense.parse::<FaultPoint>().is_err(), "{nonsense}");
        }
    }

    #[test]
    fn a_point_is_reached_once_at_its_number() {
        let mut second_write = FaultInjection::new(Some(FaultPoint::JournalWrite(2)));
        assert!(!second_write.is_reached(Happening::Planned));
        assert!(!second_write.is_reached(Happening::Mutated));
        assert!(second_write.is_reached(Happening::Settled));
        assert!(!second_write.is_reached(Happening::Planned));
    }

    #[test]
    fn without_a_point_nothing_is_reached() {
        let mut none = FaultInjection::new(None);
        assert!(!none.is_reached(Happening::Planned));
        assert!(!none.is_reached(Happening::Entered(Phase::Soaking)));
    }
}
