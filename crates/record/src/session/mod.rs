//! A session: one process working on one application under its lease and fence.
//!
//! Owns the order of things: lease, fence, record, then work. Every change of a record goes
//! through here; it refuses to know the objects that are mutated.

mod amend;
mod claiming;
mod open;
mod patience;
mod preempt;
mod sizes;
mod writes;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::application::{ApplicationRecord, Preempt};
use crate::clock::{Clock, SystemClock};
use crate::deployment::{
    ChecklistEntry, DeploymentRecord, DeploymentResult, Evidence, PhaseStep, WeightsEntry,
};
use crate::error::{RecordError, Result};
use crate::fault::{FaultInjection, FaultPoint, Happening};
use crate::fence::{Raised, raise_fence};
use crate::identity::DeploymentId;
use crate::journal::{ObjectRef, PlannedMutation, Settlement};
use crate::lease::{Keeper, LeaseTimes};
use crate::migration::MigrationEntry;
use crate::phase::{Advance, Phase};
use patience::Patience;

use crate::store::{Store, Stored};

pub use claiming::Claimed;
pub use preempt::{PreemptAnswer, PreemptOrder, request_preempt};
pub use sizes::{Resize, ResizeError, resize};

/// Takes one line of progress for people.
pub type Progress = Arc<dyn Fn(&str) + Send + Sync>;

/// How a session is opened.
#[derive(Clone)]
pub struct SessionOptions {
    /// Who started the run.
    pub actor: String,
    /// Link to the run.
    pub run_url: Option<String>,
    /// How long to wait for a live holder of the lease.
    pub wait: Duration,
    /// Times of the lease.
    pub times: LeaseTimes,
    /// Cancelled by the caller: ends the wait for the lease.
    pub cancel: CancellationToken,
    /// Takes lines of progress.
    pub progress: Progress,
    /// Fault injection; see [`FaultPoint`].
    pub fault: Option<FaultPoint>,
    /// The clocks.
    pub clock: Arc<dyn Clock>,
}

impl SessionOptions {
    /// Options of a run: waits two minutes for a live holder, says nothing, has no faults.
    #[must_use]
    pub fn new(actor: &str) -> Self {
        Self {
            actor: actor.to_owned(),
            run_url: None,
            wait: Duration::from_secs(120),
            times: LeaseTimes::default(),
            cancel: CancellationToken::new(),
            progress: Arc::new(|_line| {}),
            fault: None,
            clock: Arc::new(SystemClock::default()),
        }
    }
}

impl fmt::Debug for SessionOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionOptions")
            .field("actor", &self.actor)
            .field("run_url", &self.run_url)
            .field("wait", &self.wait)
            .field("times", &self.times)
            .field("fault", &self.fault)
            .finish_non_exhaustive()
    }
}

/// One process working on one application. Dropping it releases the lease in the background;
/// [`Session::close`] waits for that.
pub struct Session {
    client: kube::Client,
    store: Store,
    id: DeploymentId,
    options: SessionOptions,
    keeper: Keeper,
    fence: u64,
    application: Stored<ApplicationRecord>,
    /// The deployment that the application names as active.
    active: Option<Stored<DeploymentRecord>>,
    /// Whether `active` is the one that this session claimed.
    is_claimed: bool,
    /// Writes of the claimed record that got no answer and may still arrive.
    doubts: Vec<DeploymentRecord>,
    fault: FaultInjection,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("id", &self.id)
            .field("fence", &self.fence)
            .field("is_claimed", &self.is_claimed)
            .finish_non_exhaustive()
    }
}

impl Session {
    /// The identity of the deployment: after a claim the claimed one's.
    #[must_use]
    pub fn id(&self) -> &DeploymentId {
        &self.id
    }

    /// The fence of this process.
    #[must_use]
    pub fn fence(&self) -> u64 {
        self.fence
    }

    /// The application's record as last read or written.
    #[must_use]
    pub fn application(&self) -> &ApplicationRecord {
        &self.application.record
    }

    /// The active deployment, whoever's it is.
    #[must_use]
    pub fn active(&self) -> Option<&DeploymentRecord> {
        self.active.as_ref().map(|stored| &stored.record)
    }

    /// The record of the claimed deployment.
    ///
    /// # Errors
    /// Nothing is claimed.
    pub fn record(&self) -> Result<&DeploymentRecord> {
        self.claimed().map(|stored| &stored.record)
    }

    /// Where the claimed deployment stands.
    ///
    /// # Errors
    /// Nothing is claimed.
    pub fn phase(&self) -> Result<Phase> {
        self.record().map(|record| record.phase)
    }

    /// The records of the namespace, for reading.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Wall-clock time of this session.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.options.clock.now()
    }

    /// Cancelled when the lease is somebody else's: stop at once and write nothing more.
    #[must_use]
    pub fn lost(&self) -> CancellationToken {
        self.keeper.held().lost()
    }

    /// Cancelled when somebody orders this process to stop: stop at the next safe point and
    /// close the session.
    #[must_use]
    pub fn preempted(&self) -> CancellationToken {
        self.keeper.held().preempted()
    }

    /// Waits for an order to stop, also while something else has the session.
    pub fn told_to_stop(&self) -> impl Future<Output = Preempt> + Send + use<> {
        let held = self.keeper.held().clone();
        async move {
            loop {
                held.preempted().cancelled().await;
                // An order that this session carries out itself is none.
                if let Some(order) = held.preempt() {
                    return order;
                }
            }
        }
    }

    /// The order to stop, if there is one. Looked for in the background every two seconds.
    #[must_use]
    pub fn preempt_requested(&self) -> Option<Preempt> {
        self.keeper.held().preempt()
    }

    /// Fails once the lease is lost. Writes check it by themselves.
    ///
    /// # Errors
    /// [`RecordError::LeaseLost`].
    pub fn ensure_held(&self) -> Result<()> {
        self.keeper.held().check()
    }

    /// Moves the claimed deployment to a phase; a completed phase is a no-op.
    ///
    /// # Errors
    /// The phase may not follow, the lease is lost, or the record cannot be written.
    pub async fn advance(&mut self, to: Phase) -> Result<Advance> {
        self.advance_with(to, None).await
    }

    /// Moves the claimed deployment to a phase that is not the next one of its chain, and says
    /// why: `reverting`, `abandoning`, `needs_person`.
    ///
    /// # Errors
    /// As [`Session::advance`].
    pub async fn advance_because(&mut self, to: Phase, reason: &str) -> Result<Advance> {
        self.advance_with(to, Some(reason.to_owned())).await
    }

    async fn advance_with(&mut self, to: Phase, reason: Option<String>) -> Result<Advance> {
        let at = self.now();
        let mut record = self.claimed()?.record.clone();
        let moved = record.advance(PhaseStep { to, at, reason })?;
        if let Advance::Enter(phase) = moved {
            self.write_deployment(record).await?;
            self.entered(phase).await?;
        }
        Ok(moved)
    }

    /// What follows from a phase that the deployment's record has entered.
    async fn entered(&mut self, phase: Phase) -> Result<()> {
        self.follow().await?;
        self.fault.happened(Happening::Entered(phase));
        Ok(())
    }

    /// Writes down a mutation that is about to be made. Make it only after this has returned.
    ///
    /// # Errors
    /// The lease is lost, or the record cannot be written: then the mutation must not be made.
    pub async fn plan_mutation(&mut self, planned: PlannedMutation) -> Result<u32> {
        self.plan(planned, None).await
    }

    /// Moves the claimed deployment to a phase that is not the next one of its chain, and writes down the mutation that
    /// is about to be made in it, in one write: for a mutation that must not wait for two.
    ///
    /// # Errors
    /// As [`Session::advance`] and [`Session::plan_mutation`]: then the mutation must not be made.
    pub async fn advance_planning(
        &mut self,
        to: Phase,
        reason: &str,
        planned: PlannedMutation,
    ) -> Result<u32> {
        let step = PhaseStep {
            to,
            at: self.now(),
            reason: Some(reason.to_owned()),
        };
        self.plan(planned, Some(step)).await
    }

    /// Writes down a mutation, in the phase that it enters, where it enters one.
    async fn plan(&mut self, planned: PlannedMutation, step: Option<PhaseStep>) -> Result<u32> {
        let at = self.now();
        let fence = self.fence;
        let mut record = self.claimed()?.record.clone();
        let moved = step.map(|step| record.advance(step)).transpose()?;
        let seq = record.plan_mutation(fence, planned, at);
        self.write_deployment(record).await?;
        if let Some(Advance::Enter(phase)) = moved {
            self.entered(phase).await?;
        }
        self.fault.happened(Happening::Planned);
        Ok(seq)
    }

    /// Writes down what became of a mutation.
    ///
    /// # Errors
    /// There is no such entry, the lease is lost, or the record cannot be written.
    pub async fn settle(&mut self, seq: u32, settlement: impl Into<Settlement>) -> Result<()> {
        self.fault.happened(Happening::Mutated);
        let at = self.now();
        let mut record = self.claimed()?.record.clone();
        record
            .settle(seq, settlement.into(), at)
            .ok_or(RecordError::NoSuchEntry { seq })?;
        self.write_deployment(record).await?;
        self.fault.happened(Happening::Settled);
        Ok(())
    }

    /// Writes down what a step has seen.
    ///
    /// # Errors
    /// The lease is lost, or the record cannot be written.
    pub async fn evidence(&mut self, evidence: Evidence) -> Result<()> {
        let mut record = self.claimed()?.record.clone();
        record.add_evidence(evidence);
        self.write_deployment(record).await
    }

    /// Takes down where items of the checklist stand.
    ///
    /// # Errors
    /// The lease is lost, or the record cannot be written.
    pub async fn checklist(&mut self, entries: Vec<ChecklistEntry>) -> Result<()> {
        let mut record = self.claimed()?.record.clone();
        record.update_checklist(entries);
        self.write_deployment(record).await
    }

    /// Writes down what is about to be done to a database, or was done. What changes one must follow only after
    /// this has returned.
    ///
    /// # Errors
    /// The lease is lost, or the record cannot be written: then the change must not be made.
    pub async fn migration(&mut self, entry: MigrationEntry) -> Result<()> {
        let mut record = self.claimed()?.record.clone();
        record.add_migration(entry);
        self.write_deployment(record).await
    }

    /// Writes down confirmed shares.
    ///
    /// # Errors
    /// The lease is lost, or the record cannot be written.
    pub async fn weights(&mut self, entry: WeightsEntry) -> Result<()> {
        let mut record = self.claimed()?.record.clone();
        record.add_weights(entry);
        self.write_deployment(record).await
    }

    /// Puts this process's fence on an object and returns it as it is from then on. For every
    /// object that may be mutated, before it is read for a decision.
    ///
    /// # Errors
    /// The object belongs to a newer process, the lease is lost, or the API server fails.
    pub async fn raise_fence(&self, object: &ObjectRef) -> Result<Raised> {
        let patience = Patience::new(&self.options);
        loop {
            self.ensure_held()?;
            match raise_fence(&self.client, object, self.fence).await {
                Ok(raised) => return Ok(raised),
                Err(error) => patience.wait(error).await?,
            }
        }
    }

    /// Ends the claimed deployment, frees the application and deletes records that are too old.
    /// A record that could not be deleted is said, not an error.
    ///
    /// # Errors
    /// The verdict's phase may not follow, the lease is lost, or a record cannot be written.
    pub async fn finish(&mut self, result: DeploymentResult) -> Result<Advance> {
        let at = self.now();
        let mut record = self.claimed()?.record.clone();
        let moved = record.finish(result, at)?;
        if let Advance::Enter(phase) = moved {
            self.write_deployment(record).await?;
            self.fault.happened(Happening::Entered(phase));
        }
        self.follow().await?;
        self.prune().await?;
        Ok(moved)
    }

    /// Does some work and closes the session whatever comes of it. The work must come to its end
    /// by itself when the caller cancels: a future that is dropped in the middle cannot wait for
    /// the release.
    ///
    /// # Errors
    /// Those of the work.
    pub async fn scope<T, E>(
        mut self,
        work: impl AsyncFnOnce(&mut Self) -> std::result::Result<T, E>,
    ) -> std::result::Result<T, E> {
        let done = work(&mut self).await;
        self.close().await;
        done
    }

    /// Releases the lease. Never fails: a lease that could not be released runs out by itself.
    pub async fn close(self) {
        self.keeper.release().await;
    }

    fn claimed(&self) -> Result<&Stored<DeploymentRecord>> {
        match &self.active {
            Some(stored) if self.is_claimed => Ok(stored),
            Some(_) | None => Err(RecordError::NotClaimed),
        }
    }
}
