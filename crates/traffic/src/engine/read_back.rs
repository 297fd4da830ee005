//! What became of a write that was refused or whose answer was lost: what is live decides, now or
//! at a later look. Refuses to decide what is sent next.

use std::time::Duration;

use kube::api::DynamicObject;
use switchyard_cluster::{Deadline, Error as ClusterError, with_causes};
use switchyard_record::{Outcome, Settlement};

use super::doubt::{Doubt, Found, Sight, found};
use super::fronts::to_value;
use super::write::{READ_LIMIT, Sent, cluster_stop, foreign, named, read, version_of, writer_of};
use super::{Engine, Stop};

/// How long an answer is waited for after the process was told to end.
const GRACE: Duration = Duration::from_secs(3);

impl Engine<'_> {
    /// A write that was refused, or whose answer was lost: what is live decides.
    pub(crate) async fn settle_by_reading(
        &mut self,
        index: usize,
        doubt: Doubt,
        error: ClusterError,
    ) -> Result<Sent, Stop> {
        let deadline = Deadline::after(READ_LIMIT);
        let front = &mut self.fronts[index];
        let tested = version_of(front);
        // Whatever becomes of the record: when it shows later, it is ours.
        front.doubts.push(doubt.clone());
        let objects = self.cluster.dynamic_objects(&front.kind());
        let name = &self.fronts[index].target.name;
        let live = tokio::select! {
            biased;
            live = objects.get(name, deadline) => live,
            () = async { self.cancel.cancelled().await; tokio::time::sleep(GRACE).await } => return Err(Stop::Cancelled),
        };
        let live = match live {
            Ok(live) => live,
            Err(unread) => return Err(self.unread(index, &doubt, &unread).await?),
        };
        let object = to_value(&live);
        let owned = read(&self.fronts[index], &object)?;
        self.check_fence(index, &object)?;
        let front = &self.fronts[index];
        let sight = Sight {
            routing: owned.routing,
            version: live.metadata.resource_version.clone(),
        };
        let found = found(&sight, &front.routing, &front.doubts);
        self.fronts[index].object = object;
        self.settle_doubts(index, found).await?;
        if found.outcome(&doubt) == Outcome::Unknown {
            let unknown = Settlement::failed(Outcome::Unknown, &doubt.error);
            self.session.settle(doubt.seq, unknown).await?;
        }
        let front = &self.fronts[index];
        match found {
            Found::Arrived { .. } if front.routing == doubt.after => Ok(Sent::Done),
            Found::Arrived { .. } => Ok(Sent::Unanswered),
            Found::Open | Found::AsLeft => {
                match may_decide_anew(&error, tested.as_deref(), &live) {
                    Some(sent) => Ok(sent),
                    None => Err(cluster_stop(&error)),
                }
            }
            Found::Foreign => {
                let reason = format!(
                    "{} was changed between read and write by {}: it stands at `{}` and was to become `{}`",
                    front.target,
                    named(writer_of(&live, front.target.provider.provider()).as_deref()),
                    sight.routing.describe(),
                    doubt.after.describe()
                );
                Err(foreign(index, reason))
            }
        }
    }

    /// Writes down what is known of a write whose object cannot be read.
    async fn unread(
        &mut self,
        index: usize,
        doubt: &Doubt,
        unread: &ClusterError,
    ) -> Result<Stop, Stop> {
        let was_refused = doubt.condition.is_none();
        let (outcome, meaning) = if was_refused {
            self.fronts[index].doubts.retain(|one| one != doubt);
            (Outcome::NotApplied, "was not written")
        } else {
            (Outcome::Unknown, "may or may not have been written")
        };
        let settlement = Settlement::failed(outcome, &doubt.error);
        self.session.settle(doubt.seq, settlement).await?;
        let reason = format!(
            "{} {meaning}: {}; and it cannot be read: {}",
            self.fronts[index].target,
            doubt.error,
            with_causes(unread)
        );
        Ok(Stop::remote(reason, unread.hint()))
    }

    /// Takes in and writes down what a look at the object says of the writes in doubt.
    pub(crate) async fn settle_doubts(&mut self, index: usize, found: Found) -> Result<(), Stop> {
        let doubts = std::mem::take(&mut self.fronts[index].doubts);
        let (open, known): (Vec<_>, Vec<_>) = doubts
            .into_iter()
            .partition(|doubt| found.outcome(doubt) == Outcome::Unknown);
        self.fronts[index].doubts = open;
        let arrived = known
            .iter()
            .find(|doubt| found.outcome(doubt) == Outcome::Applied);
        if let Some(doubt) = arrived {
            // Known here whatever becomes of the record: else our own write counts as foreign.
            self.stands_as_written(index, doubt.aim, doubt.after.clone(), doubt.sent);
        }
        for doubt in &known {
            let settlement = Settlement::failed(found.outcome(doubt), &doubt.error);
            self.session.settle(doubt.seq, settlement).await?;
        }
        Ok(())
    }
}

/// Whether the object is as before although the write may be tried again: somebody else has
/// written fields of others in between, so that the precondition failed, or no answer came.
fn may_decide_anew(
    error: &ClusterError,
    tested: Option<&str>,
    live: &DynamicObject,
) -> Option<Sent> {
    // A failed `test` has no status code of its own, so the object's version tells.
    let has_moved = live.metadata.resource_version.as_deref() != tested;
    if has_moved {
        Some(Sent::Outrun)
    } else if error.is_transient() || error.leaves_outcome_unknown() {
        Some(Sent::Unanswered)
    } else {
        None
    }
}
