//! Conditional writes of the two records, and what a conflict means.
//!
//! A write that was refused or whose answer was lost is never blindly repeated: the record is
//! read again and compared with what was known and what was to be.

use super::Session;
use super::patience::Patience;
use crate::application::ApplicationRecord;
use crate::deployment::DeploymentRecord;
use crate::error::{RecordError, Result};
use crate::fence::StaleHolder;
use crate::store::{MAX_RECORD_BYTES, Record, Store, Stored, Write, size_of};

impl Session {
    /// Writes the claimed deployment's record over the state of it that is known.
    pub(super) async fn write_deployment(&mut self, mut next: DeploymentRecord) -> Result<()> {
        if size_of(&next) > MAX_RECORD_BYTES {
            next.compact();
        }
        let mut known = self.claimed()?.clone();
        let options = self.options.clone();
        let patience = Patience::new(&options);
        loop {
            self.ensure_held()?;
            match self.store.replace(&known, &next, self.fence).await? {
                Write::Done(stored) => {
                    self.stands(stored);
                    return Ok(());
                }
                Write::Conflict => {}
                Write::Unclear(error) => {
                    self.doubt(&next);
                    patience.wait(error).await?;
                }
            }
            let live: Stored<DeploymentRecord> =
                read_again(&self.store, &known.name, &patience).await?;
            if let Some(seen) = live.fence.filter(|seen| *seen > self.fence) {
                return Err(self.stale(&live.name, seen));
            }
            if live.record == next && live.fence == Some(self.fence) {
                // The answer was lost, the write was not.
                self.stands(live);
                return Ok(());
            }
            take_in_notices(&known.record, &live.record, &mut next);
            if !self.is_in_doubt(&live) && !is_same_but_notices(&live.record, &known.record) {
                return Err(self.changed(&live));
            }
            // Somebody touched labels, annotations or keys of notices only; or a write that this
            // process has given up, and told its caller so, has arrived after all.
            known = live;
        }
    }

    /// Takes in what the record is now: no write that came before can arrive any more.
    fn stands(&mut self, stored: Stored<DeploymentRecord>) {
        self.active = Some(stored);
        self.doubts.clear();
    }

    /// Keeps a write of which it is not known whether it still arrives.
    fn doubt(&mut self, next: &DeploymentRecord) {
        if !self.doubts.contains(next) {
            self.doubts.push(next.clone());
        }
    }

    /// Whether the record is as a write of this process was to leave it that got no answer.
    fn is_in_doubt(&self, live: &Stored<DeploymentRecord>) -> bool {
        let mut doubts = self.doubts.iter();
        live.fence == Some(self.fence)
            && doubts.any(|doubt| is_same_but_notices(&live.record, doubt))
    }

    /// Changes the application's record. Others may write it too (an order to stop), so the
    /// change is made on whatever is there, as long as the fence and the claim are ours.
    pub(super) async fn write_application(
        &mut self,
        change: impl Fn(&mut ApplicationRecord),
    ) -> Result<()> {
        let active = self.application.record.active.clone();
        let mut known = self.application.clone();
        let options = self.options.clone();
        let patience = Patience::new(&options);
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
                Write::Unclear(error) => patience.wait(error).await?,
            }
            known = read_again(&self.store, &known.name, &patience).await?;
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

/// Reads a record that must be there.
pub(super) async fn read_again<T: Record>(
    store: &Store,
    name: &str,
    patience: &Patience<'_>,
) -> Result<Stored<T>> {
    read_patiently(store, name, patience)
        .await?
        .ok_or_else(|| RecordError::Missing {
            object: store.describe(name),
        })
}

/// Reads a record, with further attempts while that fails in passing.
pub(super) async fn read_patiently<T: Record>(
    store: &Store,
    name: &str,
    patience: &Patience<'_>,
) -> Result<Option<Stored<T>>> {
    loop {
        match store.read(name).await {
            Ok(stored) => return Ok(stored),
            Err(error) => patience.wait(error).await?,
        }
    }
}

/// Whether two states differ in nothing but the keys of notices, which are written without the
/// lease.
fn is_same_but_notices(live: &DeploymentRecord, known: &DeploymentRecord) -> bool {
    let mut live = live.clone();
    live.notify_keys.clone_from(&known.notify_keys);
    live == *known
}

/// Keeps the keys of notices that somebody has written since.
fn take_in_notices(known: &DeploymentRecord, live: &DeploymentRecord, next: &mut DeploymentRecord) {
    for (channel, key) in &live.notify_keys {
        if known.notify_keys.get(channel) != Some(key) {
            next.notify_keys.insert(channel.clone(), key.clone());
        }
    }
}
