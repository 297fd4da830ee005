//! Conditional writes of the two records, and what a conflict means.
//!
//! A write that was refused or whose answer was lost is never blindly repeated: the record is
//! read again and compared with what was known and what was to be.

use std::time::Duration;

use super::Session;
use super::open::pause;
use crate::application::ApplicationRecord;
use crate::deployment::DeploymentRecord;
use crate::error::{RecordError, Result};
use crate::fence::StaleHolder;
use crate::store::{MAX_RECORD_BYTES, Record, Stored, Write, size_of};

/// How long a write is tried while the API server cannot be reached or is overloaded.
const WRITE_LIMIT: Duration = Duration::from_secs(30);

impl Session {
    /// Writes the claimed deployment's record over the state of it that is known.
    pub(super) async fn write_deployment(&mut self, mut next: DeploymentRecord) -> Result<()> {
        if size_of(&next) > MAX_RECORD_BYTES {
            next.compact();
        }
        let mut known = self.claimed()?.clone();
        let started = self.options.clock.monotonic();
        loop {
            self.ensure_held()?;
            match self.store.replace(&known, &next, self.fence).await? {
                Write::Done(stored) => {
                    self.active = Some(stored);
                    return Ok(());
                }
                Write::Conflict => {}
                Write::Unclear { error, retry_after } => {
                    self.pause_within(started, error, retry_after).await?;
                }
            }
            let live: Stored<DeploymentRecord> = self.read_again(&known.name, started).await?;
            self.check_fence_of(&live)?;
            if live.record == next && live.fence == Some(self.fence) {
                // The answer was lost, the write was not.
                self.active = Some(live);
                return Ok(());
            }
            if live.record != known.record {
                return Err(self.changed(&live));
            }
            // Somebody touched labels or annotations only.
            known = live;
        }
    }

    /// Changes the application's record. Others may write it too (an order to stop), so the
    /// change is made on whatever is there, as long as the fence and the claim are ours.
    pub(super) async fn write_application(
        &mut self,
        change: impl Fn(&mut ApplicationRecord),
    ) -> Result<()> {
        let active = self.application.record.active.clone();
        let mut known = self.application.clone();
        let started = self.options.clock.monotonic();
        loop {
            self.ensure_held()?;
            let mut next = known.record.clone();
            change(&mut next);
            if next == known.record {
                self.application = known;
                return Ok(());
            }
            match self.store.replace(&known, &next, self.fence).await? {
                Write::Done(stored) => {
                    self.application = stored;
                    return Ok(());
                }
                Write::Conflict => {}
                Write::Unclear { error, retry_after } => {
                    self.pause_within(started, error, retry_after).await?;
                }
            }
            known = self.read_again(&known.name, started).await?;
            if known.record.fence > self.fence {
                return Err(self.stale(&known.name, known.record.fence));
            }
            let is_ours = known.record.active == active || known.record == next;
            if known.record.fence < self.fence || !is_ours {
                return Err(self.changed(&known));
            }
        }
    }

    /// Brings the application's record into agreement with the active deployment's.
    pub(super) async fn follow(&mut self) -> Result<()> {
        let record = self.record()?.clone();
        self.write_application(move |application| {
            application.follow(&record);
        })
        .await
    }

    /// Deletes records that are too old, after the index has let go of them.
    pub(super) async fn prune(&mut self) -> Result<()> {
        let deleted = self.application.record.clone().prune();
        if deleted.is_empty() {
            return Ok(());
        }
        self.write_application(|application| {
            application.prune();
        })
        .await?;
        for name in deleted {
            if let Err(error) = self.store.delete(&name).await {
                (self.options.progress)(&format!("an old record is left behind: {error}"));
            }
        }
        Ok(())
    }

    async fn read_again<T: Record>(&self, name: &str, started: Duration) -> Result<Stored<T>> {
        loop {
            match self.store.read(name).await {
                Ok(Some(stored)) => return Ok(stored),
                Ok(None) => {
                    return Err(RecordError::Missing {
                        object: self.store.describe(name),
                    });
                }
                Err(error) if error.is_passing() => self.pause_within(started, error, None).await?,
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits before another attempt, unless the time for attempts is over.
    async fn pause_within(
        &self,
        started: Duration,
        error: RecordError,
        retry_after: Option<Duration>,
    ) -> Result<()> {
        let tried = self.options.clock.monotonic().saturating_sub(started);
        if tried >= WRITE_LIMIT {
            return Err(error);
        }
        pause(&self.options, error, retry_after).await
    }

    fn check_fence_of<T>(&self, live: &Stored<T>) -> Result<()> {
        match live.fence {
            Some(seen) if seen > self.fence => Err(self.stale(&live.name, seen)),
            Some(_) | None => Ok(()),
        }
    }

    fn stale(&self, name: &str, seen: u64) -> RecordError {
        RecordError::Stale(StaleHolder {
            object: self.store.describe(name),
            seen,
            ours: self.fence,
        })
    }

    fn changed<T>(&self, live: &Stored<T>) -> RecordError {
        let writer = live.writer.as_deref();
        RecordError::Changed {
            object: self.store.describe(&live.name),
            writer: writer.map_or_else(|| "somebody".to_owned(), |writer| format!("`{writer}`")),
        }
    }
}
