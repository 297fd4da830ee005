//! Keeping a lease: renewals in the background, and what they find out.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Api, PostParams};
use switchyard_cluster::FIELD_MANAGER;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::acquire::get;
use super::{Claimant, holder_of, released};
use crate::application::Preempt;
use crate::clock::Clock;
use crate::error::{RecordError, Result};
use crate::journal::one_line;
use crate::session::Progress;
use crate::store::Store;

/// How often the record is looked at for an order to stop.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How long such a look may take: it must not hold up a renewal.
const LOOK_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a release may take: a cancelled process has seven seconds for everything.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a renewal may take.
const RENEW_TIMEOUT: Duration = Duration::from_secs(5);

/// What the background task needs.
pub(crate) struct KeeperParts {
    pub(crate) api: Api<Lease>,
    pub(crate) store: Store,
    pub(crate) application: String,
    pub(crate) name: String,
    pub(crate) claimant: Claimant,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) progress: Progress,
}

/// What the background task has found out.
#[derive(Clone, Debug, Default)]
struct Findings {
    lost: Option<String>,
    preempt: Option<Preempt>,
    /// Cancelled when `preempt` is found.
    preempted: CancellationToken,
    /// Orders that this very session carries out: they do not stop it.
    carried_out: Vec<Preempt>,
}

/// What a session sees of its lease.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    name: String,
    findings: Arc<Mutex<Findings>>,
    lost: CancellationToken,
}

impl Held {
    fn new(name: String) -> Self {
        Self {
            name,
            findings: Arc::default(),
            lost: CancellationToken::new(),
        }
    }

    /// Cancelled when the lease is somebody else's.
    pub(crate) fn lost(&self) -> CancellationToken {
        self.lost.clone()
    }

    /// Cancelled when somebody orders this process to stop. Ask anew after a claim: a session
    /// that carries an order out is not stopped by it.
    pub(crate) fn preempted(&self) -> CancellationToken {
        self.read().preempted
    }

    /// The order to stop, if there is one.
    pub(crate) fn preempt(&self) -> Option<Preempt> {
        self.read().preempt
    }

    /// Fails once the lease is lost.
    pub(crate) fn check(&self) -> Result<()> {
        match self.read().lost {
            Some(reason) => Err(RecordError::LeaseLost {
                lease: self.name.clone(),
                reason,
            }),
            None => Ok(()),
        }
    }

    fn read(&self) -> Findings {
        let findings = self.findings.lock().unwrap_or_else(PoisonError::into_inner);
        findings.clone()
    }

    fn lose(&self, reason: String) {
        let mut findings = self.findings.lock().unwrap_or_else(PoisonError::into_inner);
        findings.lost.get_or_insert(reason);
        drop(findings);
        self.lost.cancel();
    }

    fn told_to_stop(&self, preempt: Preempt) {
        let mut findings = self.findings.lock().unwrap_or_else(PoisonError::into_inner);
        // A look that began before the order was taken out of the record ends after that.
        if findings.carried_out.contains(&preempt) {
            return;
        }
        findings.preempt = Some(preempt);
        findings.preempted.cancel();
    }

    /// Forgets orders that this session has taken out of the record to carry them out.
    pub(crate) fn carries_out(&self, orders: Vec<Preempt>) {
        let mut findings = self.findings.lock().unwrap_or_else(PoisonError::into_inner);
        findings.carried_out.extend(orders);
        let found = findings.preempt.take();
        findings.preempt = found.filter(|found| !findings.carried_out.contains(found));
        if findings.preempt.is_none() {
            findings.preempted = CancellationToken::new();
        }
    }
}

/// A lease in our hands. Dropping it releases the lease in the background; [`Keeper::release`]
/// waits for that.
pub(crate) struct Keeper {
    held: Held,
    release: CancellationToken,
    task: Option<JoinHandle<()>>,
}

impl Keeper {
    /// Starts to renew a lease that was just taken at `taken_at` of our monotonic clock.
    pub(crate) fn start(parts: KeeperParts, lease: Lease, taken_at: Duration) -> Self {
        let held = Held::new(parts.name.clone());
        let release = CancellationToken::new();
        let state = Keeping {
            parts,
            lease,
            renewed_at: taken_at,
            held: held.clone(),
        };
        let task = tokio::spawn(state.keep(release.clone()));
        Self {
            held,
            release,
            task: Some(task),
        }
    }

    pub(crate) fn held(&self) -> &Held {
        &self.held
    }

    /// Releases the lease and waits until that is done.
    pub(crate) async fn release(mut self) {
        self.release.cancel();
        if let Some(task) = self.task.take() {
            // A panic of the task is reported by the runtime; the lease then runs out by itself.
            let _ = task.await;
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.release.cancel();
    }
}

/// The background task's own state.
struct Keeping {
    parts: KeeperParts,
    lease: Lease,
    renewed_at: Duration,
    held: Held,
}

impl Keeping {
    async fn keep(mut self, release: CancellationToken) {
        let mut renew = tokio::time::interval(self.parts.claimant.times.renew_every);
        let mut look = tokio::time::interval(LOOK_EVERY);
        renew.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        renew.tick().await;
        while self.held.check().is_ok() {
            tokio::select! {
                () = release.cancelled() => break,
                _tick = renew.tick() => tokio::select! {
                    () = release.cancelled() => break,
                    () = self.renew() => {}
                },
                _tick = look.tick() => tokio::select! {
                    () = release.cancelled() => break,
                    () = self.look_for_orders() => {}
                },
            }
        }
        if self.held.check().is_ok() {
            let released = tokio::time::timeout(RELEASE_TIMEOUT, self.release()).await;
            if !released.unwrap_or(false) {
                let name = &self.parts.name;
                (self.parts.progress)(&format!(
                    "lease `{name}` was not released; it runs out by itself"
                ));
            }
        } else {
            release.cancelled().await;
        }
    }

    /// Renews the lease until that has an answer, or this renewal's time is over.
    async fn renew(&mut self) {
        let started = self.parts.clock.monotonic();
        let lease =
            self.parts
                .claimant
                .lease(&self.parts.name, Some(&self.lease), self.parts.clock.now());
        match tokio::time::timeout(RENEW_TIMEOUT, self.put(&lease)).await {
            Ok(Ok(lease)) => {
                self.lease = lease;
                self.renewed_at = started;
            }
            Ok(Err(kube::Error::Api(status))) if status.code == 409 || status.code == 404 => {
                self.look_who_holds_it().await;
            }
            Ok(Err(error)) => self.judge_contact(&error.to_string()),
            Err(_elapsed) => self.judge_contact("no answer"),
        }
    }

    async fn put(&self, lease: &Lease) -> kube::Result<Lease> {
        let params = PostParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PostParams::default()
        };
        self.parts
            .api
            .replace(&self.parts.name, &params, lease)
            .await
    }

    /// After a conflict: somebody else's lease is lost; our own, written by an answer that was
    /// lost or touched by somebody's labels, is taken as it is.
    async fn look_who_holds_it(&mut self) {
        match get(&self.parts.api, &self.parts.name).await {
            Ok(Some(lease)) => match holder_of(&lease) {
                Some(holder) if holder.identity == self.parts.claimant.holder.identity => {
                    self.lease = lease;
                }
                Some(holder) => self.held.lose(format!("{holder} has taken it over")),
                None => self.held.lose("somebody has released it".to_owned()),
            },
            Ok(None) => self.held.lose("somebody has deleted it".to_owned()),
            Err(error) => self.judge_contact(&error.to_string()),
        }
    }

    fn judge_contact(&self, problem: &str) {
        let problem = one_line(problem);
        let now = self.parts.clock.monotonic();
        let silent = now.saturating_sub(self.renewed_at);
        let name = &self.parts.name;
        if silent >= self.parts.claimant.times.contact_limit {
            let silent = silent.as_secs();
            self.held
                .lose(format!("it could not be renewed for {silent}s: {problem}"));
        } else {
            (self.parts.progress)(&format!("lease `{name}` was not renewed: {problem}"));
        }
    }

    /// Looks whether somebody rolls back. A read that fails says nothing: the renewal judges
    /// contact.
    async fn look_for_orders(&self) {
        let read = self.parts.store.application(&self.parts.application);
        if let Ok(Ok(Some(stored))) = tokio::time::timeout(LOOK_TIMEOUT, read).await
            && let Some(preempt) = stored.record.preempt
        {
            self.held.told_to_stop(preempt);
        }
    }

    /// Releases the lease; tells whether it is free of us.
    async fn release(&mut self) -> bool {
        for _attempt in 0..3 {
            let lease = released(&self.parts.name, &self.lease, self.parts.clock.now());
            match self.put(&lease).await {
                Ok(_) => return true,
                Err(kube::Error::Api(status)) if status.code == 409 => {
                    self.look_who_holds_it().await;
                    if self.held.check().is_err() {
                        return true;
                    }
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::at;

    fn order(by: &str) -> Preempt {
        Preempt {
            by: by.to_owned(),
            run_url: None,
            reason: "errors rise".to_owned(),
            at: at(5),
        }
    }

    #[test]
    fn an_order_that_the_session_carries_out_does_not_stop_it() {
        let held = Held::new("switchyard-web".to_owned());
        held.told_to_stop(order("bob"));
        assert!(held.preempted().is_cancelled());
        held.carries_out(vec![order("bob")]);
        // A look that was under way meanwhile still reports it.
        held.told_to_stop(order("bob"));
        assert_eq!(held.preempt(), None);
        assert!(!held.preempted().is_cancelled());
    }

    #[test]
    fn an_order_that_comes_later_stops_a_session_that_carries_out_another() {
        let held = Held::new("switchyard-web".to_owned());
        held.told_to_stop(order("eve"));
        held.carries_out(vec![order("bob")]);
        assert_eq!(held.preempt(), Some(order("eve")));
        assert!(held.preempted().is_cancelled());
        let held = Held::new("switchyard-web".to_owned());
        held.carries_out(vec![order("bob")]);
        held.told_to_stop(order("eve"));
        assert!(held.preempted().is_cancelled());
    }
}
