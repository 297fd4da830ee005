//! What became of a write that was refused or whose answer was lost: what is live decides.
//! Refuses to send anything.

use std::time::Duration;

use kube::api::DynamicObject;
use switchyard_cluster::{Deadline, Error as ClusterError};
use switchyard_record::{Outcome, Settlement};
use tokio::time::Instant;

use super::fronts::{Doubt, to_value};
use super::write::{cluster_stop, foreign, read, version_of, writer_of};
use super::{Engine, Stop, with_causes};
use crate::machine::Aim;
use crate::provider::fence_of;
use crate::routing::Routing;

/// How long the object may take to be read.
const READ_LIMIT: Duration = Duration::from_secs(15);
/// How long an answer is waited for after the process was told to end.
const GRACE: Duration = Duration::from_secs(3);

/// What the live object says about a write whose answer was not a plain yes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReadBack {
    /// It is as it was to be.
    Applied,
    /// It is as it was.
    NotApplied,
    /// It is neither.
    Foreign,
    /// A newer process has put its fence on it.
    Replaced,
}

/// Decides by what is live. Pure.
pub(crate) fn read_back(
    live: &Routing,
    live_fence: u64,
    plan: &(Routing, Routing),
    fence: u64,
) -> ReadBack {
    let (before, after) = plan;
    if live_fence > fence {
        ReadBack::Replaced
    } else if live == after {
        ReadBack::Applied
    } else if live == before {
        ReadBack::NotApplied
    } else {
        ReadBack::Foreign
    }
}

impl Engine<'_> {
    /// A write that was refused, or whose answer was lost: what is live decides.
    pub(crate) async fn settle_by_reading(
        &mut self,
        index: usize,
        aim: Aim,
        seq: u32,
        plan: (Routing, Routing),
        error: ClusterError,
        started: Instant,
    ) -> Result<bool, Stop> {
        let deadline = Deadline::after(READ_LIMIT);
        let front = &self.fronts[index];
        let tested = version_of(front);
        let objects = self.cluster.dynamic_objects(&front.kind());
        let live = tokio::select! {
            biased;
            live = objects.get(&front.target.name, deadline) => live,
            () = async { self.cancel.cancelled().await; tokio::time::sleep(GRACE).await } => return Err(Stop::Cancelled),
        };
        let live = match live {
            Ok(live) => live,
            Err(unread) => {
                // Whatever becomes of the record: when it shows later, it is ours.
                self.fronts[index].doubt = Some(Doubt { seq, after: plan.1 });
                self.session
                    .settle(
                        seq,
                        Settlement::failed(Outcome::Unknown, &with_causes(&error)),
                    )
                    .await?;
                return Err(Stop::remote(
                    format!(
                        "whether {} was written is unknown: {}; and it cannot be read: {}",
                        self.fronts[index].target,
                        with_causes(&error),
                        with_causes(&unread)
                    ),
                    unread.hint(),
                ));
            }
        };
        let object = to_value(&live);
        let owned = read(&self.fronts[index], &object)?;
        let verdict = read_back(
            &owned.routing,
            fence_of(&object),
            &plan,
            self.session.fence(),
        );
        let outcome = match verdict {
            ReadBack::Applied => Outcome::Applied,
            ReadBack::NotApplied => Outcome::NotApplied,
            ReadBack::Foreign | ReadBack::Replaced => Outcome::Foreign,
        };
        if verdict == ReadBack::Replaced {
            self.check_fence(index, &object)?;
        }
        let read_back = match verdict {
            ReadBack::Applied => self.written(index, aim, plan.1.clone(), &live, started),
            ReadBack::NotApplied | ReadBack::Foreign | ReadBack::Replaced => Ok(()),
        };
        self.session
            .settle(seq, Settlement::failed(outcome, &with_causes(&error)))
            .await?;
        match verdict {
            ReadBack::Applied => read_back.map(|()| true),
            ReadBack::NotApplied if may_decide_anew(&error, tested.as_deref(), &live) => Ok(false),
            ReadBack::NotApplied => Err(cluster_stop(&error)),
            ReadBack::Foreign | ReadBack::Replaced => {
                let front = &self.fronts[index];
                let reason = format!(
                    "{} was changed between read and write by {}: it stands at `{}` and was to become `{}`",
                    front.target,
                    writer_of(&live, front.target.provider.provider()),
                    owned.routing.describe(),
                    plan.1.describe()
                );
                Err(foreign(index, reason))
            }
        }
    }
}

/// Whether the object is as before although the write may be tried again: somebody else has
/// written fields of others in between, so that the precondition failed, or no answer came.
fn may_decide_anew(error: &ClusterError, tested: Option<&str>, live: &DynamicObject) -> bool {
    // A failed `test` has no status code of its own, so the object's version tells.
    let has_moved = live.metadata.resource_version.as_deref() != tested;
    has_moved || error.is_transient() || error.leaves_outcome_unknown()
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

    #[test]
    fn what_is_live_decides_and_a_newer_fence_comes_first() {
        let plan = (selects("blue"), selects("green"));
        assert_eq!(read_back(&selects("green"), 3, &plan, 3), ReadBack::Applied);
        assert_eq!(
            read_back(&selects("blue"), 3, &plan, 3),
            ReadBack::NotApplied
        );
        assert_eq!(read_back(&selects("red"), 3, &plan, 3), ReadBack::Foreign);
        assert_eq!(
            read_back(&selects("green"), 4, &plan, 3),
            ReadBack::Replaced
        );
    }
}
