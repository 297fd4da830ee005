//! Writes of ours that got no plain yes, and what a look at the object says of them.
//! Pure; refuses to read or to send anything.
//!
//! Each write is conditional on the version that was read. However late it arrives, it can be carried
//! out for as long as the object stands at that version, and never once it stands at another.

use switchyard_record::Outcome;
use tokio::time::Instant;

use crate::machine::Aim;
use crate::routing::Routing;

/// A write of ours whose outcome is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Doubt {
    /// Its entry in the journal.
    pub seq: u32,
    /// What it was for.
    pub aim: Aim,
    /// When it was sent.
    pub sent: Instant,
    /// What the object is like once it is carried out.
    pub after: Routing,
    /// The version at which it can still be carried out; nothing when it was refused.
    pub condition: Option<String>,
    /// What came instead of an answer.
    pub error: String,
}

/// What a look at an object is compared by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sight {
    pub(crate) routing: Routing,
    pub(crate) version: Option<String>,
}

/// What a live target is, to the process that wrote it last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// As it was left, and a write in doubt can still arrive.
    Open,
    /// As it was left, and no write in doubt can arrive any more.
    AsLeft,
    /// As this write was to leave it.
    Arrived {
        /// Its entry in the journal.
        seq: u32,
    },
    /// None of these: somebody else has written it.
    Foreign,
}

impl Found {
    /// What is known of a write in doubt after this look.
    pub(crate) fn outcome(self, doubt: &Doubt) -> Outcome {
        match self {
            Self::Open if doubt.condition.is_some() => Outcome::Unknown,
            Self::Open | Self::AsLeft => Outcome::NotApplied,
            Self::Arrived { seq } if seq == doubt.seq => Outcome::Applied,
            Self::Arrived { .. } => Outcome::NotApplied,
            Self::Foreign => Outcome::Foreign,
        }
    }
}

/// Decides by what is live. Pure.
pub(crate) fn found(live: &Sight, left_at: &Routing, doubts: &[Doubt]) -> Found {
    if live.routing == *left_at {
        let is_open = doubts
            .iter()
            .any(|doubt| doubt.condition.is_some() && doubt.condition == live.version);
        return if is_open { Found::Open } else { Found::AsLeft };
    }
    // One that was refused comes last: then somebody else has made the same of it.
    let mut own: Vec<&Doubt> = doubts.iter().rev().collect();
    own.sort_by_key(|doubt| doubt.condition.is_none());
    match own.into_iter().find(|doubt| doubt.after == live.routing) {
        Some(doubt) => Found::Arrived { seq: doubt.seq },
        None => Found::Foreign,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn selects(slot: &str) -> Routing {
        Routing::Selector {
            keys: BTreeMap::from([("slot".to_owned(), slot.to_owned())]),
        }
    }

    fn sight(slot: &str, version: &str) -> Sight {
        Sight {
            routing: selects(slot),
            version: Some(version.to_owned()),
        }
    }

    fn doubt(seq: u32, after: &str, condition: Option<&str>) -> Doubt {
        Doubt {
            seq,
            aim: Aim::Prepare,
            sent: Instant::now(),
            after: selects(after),
            condition: condition.map(str::to_owned),
            error: "no answer".to_owned(),
        }
    }

    fn look(live: &Sight, doubts: &[Doubt]) -> (Found, Vec<Outcome>) {
        let found = found(live, &selects("blue"), doubts);
        let outcomes = doubts.iter().map(|doubt| found.outcome(doubt));
        (found, outcomes.collect())
    }

    #[test]
    fn a_write_without_an_answer_stays_in_doubt_while_the_object_has_the_version_it_needs() {
        let doubts = [doubt(3, "green", Some("7"))];
        let (found, outcomes) = look(&sight("blue", "7"), &doubts);
        assert_eq!(
            (found, &outcomes[..]),
            (Found::Open, &[Outcome::Unknown][..])
        );
        let (found, outcomes) = look(&sight("blue", "8"), &doubts);
        assert_eq!(
            (found, &outcomes[..]),
            (Found::AsLeft, &[Outcome::NotApplied][..])
        );
    }

    #[test]
    fn a_write_that_arrives_late_is_ours_and_no_other_one_can_have_been_it() {
        let doubts = [doubt(3, "green", Some("7")), doubt(4, "red", Some("7"))];
        let (found, outcomes) = look(&sight("green", "8"), &doubts);
        assert_eq!(found, Found::Arrived { seq: 3 });
        assert_eq!(outcomes, [Outcome::Applied, Outcome::NotApplied]);
    }

    #[test]
    fn what_no_write_of_ours_makes_is_foreign() {
        let doubts = [doubt(3, "green", Some("7"))];
        assert_eq!(look(&sight("red", "8"), &doubts).0, Found::Foreign);
        assert_eq!(look(&sight("green", "8"), &[]).0, Found::Foreign);
    }

    #[test]
    fn a_refused_write_is_never_waited_for_and_yields_to_the_one_in_doubt() {
        let refused = [doubt(3, "green", None)];
        assert_eq!(look(&sight("blue", "7"), &refused).0, Found::AsLeft);
        assert_eq!(
            look(&sight("green", "8"), &refused).0,
            Found::Arrived { seq: 3 }
        );
        let both = [doubt(3, "green", Some("7")), doubt(4, "green", None)];
        let (found, outcomes) = look(&sight("green", "8"), &both);
        assert_eq!(found, Found::Arrived { seq: 3 });
        assert_eq!(outcomes, [Outcome::Applied, Outcome::NotApplied]);
        let (found, outcomes) = look(&sight("blue", "7"), &both);
        assert_eq!(found, Found::Open);
        assert_eq!(outcomes, [Outcome::Unknown, Outcome::NotApplied]);
    }
}
