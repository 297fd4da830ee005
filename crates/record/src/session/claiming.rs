//! Claiming the application: the decision of `claim`, carried out.

use std::sync::{Mutex, PoisonError};

use super::Session;
use super::patience::Patience;
use super::writes::read_patiently;
use crate::application::LiveVersion;
use crate::claim::{Claim, ClaimRequest, Intent, Known, decide};
use crate::deployment::{
    Attempt, DeploymentRecord, DeploymentResult, Opening, PhaseEntry, Run, SCHEMA, Sides, Verdict,
};
use crate::error::{RecordError, Result};
use crate::identity::DeploymentId;
use crate::phase::Phase;
use crate::store::{Stored, Write};

/// What a claim that was not refused has led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claimed {
    /// A deployment was begun.
    New,
    /// This run's own deployment goes on.
    Resumed {
        /// Where it stands.
        phase: Phase,
    },
    /// The deployment of another run is taken back by this one.
    TakenOver {
        /// Where it stands.
        phase: Phase,
    },
    /// There is nothing to take back; nothing is claimed.
    NothingToDo {
        /// How this run's deployment ended, if there was one.
        verdict: Option<Verdict>,
    },
}

/// A deployment that is about to begin.
struct Beginning {
    id: DeploymentId,
    /// The deployment that it undoes.
    reverts: Option<DeploymentId>,
    /// What is live before it.
    previous: Option<LiveVersion>,
}

impl Session {
    /// Claims the application for what the request wants.
    ///
    /// # Errors
    /// The claim is refused, the lease is lost, or a record cannot be written.
    pub async fn claim(&mut self, request: ClaimRequest) -> Result<Claimed> {
        let known = Known {
            application: &self.application.record,
            active: self.active(),
        };
        match decide(known, &self.id, &request) {
            Claim::New { id, reverts } => {
                let beginning = Beginning {
                    id,
                    reverts,
                    previous: self.application.record.live.clone(),
                };
                self.begin(beginning, &request).await?;
                Ok(Claimed::New)
            }
            Claim::Resume { id, phase } => {
                self.resume(id, &request).await?;
                Ok(Claimed::Resumed { phase })
            }
            Claim::TakeOver { id, phase } => {
                self.resume(id, &request).await?;
                Ok(Claimed::TakenOver { phase })
            }
            Claim::Supersede { stuck, id, reverts } => {
                let previous = self.live_before(reverts.as_ref());
                self.supersede(&stuck, &id).await?;
                let beginning = Beginning {
                    id,
                    reverts,
                    previous,
                };
                self.begin(beginning, &request).await?;
                Ok(Claimed::New)
            }
            Claim::NothingToDo { verdict } => Ok(Claimed::NothingToDo { verdict }),
            Claim::Refuse(refusal) => Err(refusal.into()),
        }
    }

    /// Goes on with the active deployment.
    async fn resume(&mut self, id: DeploymentId, request: &ClaimRequest) -> Result<()> {
        let is_own_run = id.is_same_run(&self.id);
        self.id = id;
        self.is_claimed = true;
        let mut record = self.record()?.clone();
        let at = self.now();
        if is_own_run && record.attempt() < request.attempt {
            record.run.attempts.push(Attempt {
                number: request.attempt,
                actor: self.options.actor.clone(),
                at,
            });
        }
        if let Some(inputs) = &request.inputs {
            let entry = record.inputs_hash.entry(inputs.step.clone());
            entry.or_insert_with(|| inputs.hash.clone());
        }
        if record != *self.record()? {
            self.write_deployment(record).await?;
        }
        if matches!(request.intent, Intent::RollBack(_)) {
            self.take_order().await?;
        }
        Ok(())
    }

    /// Takes the order to stop out of the record: it is being carried out, by this process.
    async fn take_order(&mut self) -> Result<()> {
        let orders = Mutex::new(Vec::new());
        self.write_application(|application| {
            let order = application.preempt.take();
            let mut orders = orders.lock().unwrap_or_else(PoisonError::into_inner);
            orders.extend(order);
        })
        .await?;
        let orders = orders.into_inner().unwrap_or_else(PoisonError::into_inner);
        self.keeper.held().carries_out(orders);
        Ok(())
    }

    /// Begins a deployment: its record first, then the claim that points to it, so that a crash
    /// between leaves a record that nothing points to, never a claim without a record.
    async fn begin(&mut self, beginning: Beginning, request: &ClaimRequest) -> Result<()> {
        let opening = match &request.intent {
            Intent::Deploy(opening) | Intent::RollBack(opening) => opening.clone(),
            Intent::Continue | Intent::Rescue => return Err(RecordError::NotClaimed),
        };
        let id = beginning.id.clone();
        let record = self.opened(beginning, opening, request);
        let stored = self.create_deployment(record).await?;
        let record = stored.record.clone();
        let at = self.now();
        self.active = Some(stored);
        self.is_claimed = true;
        self.id = id;
        self.write_application(|application| application.claim(&record, at))
            .await
    }

    /// What counts as live before a deployment that takes the place of another one. A rollback that
    /// is ended may have written its own aim down as live, which is not reached.
    fn live_before(&self, reverts: Option<&DeploymentId>) -> Option<LiveVersion> {
        match (reverts, self.active()) {
            (Some(_), Some(stuck)) => stuck.previous.clone(),
            (None, _) | (_, None) => self.application.record.live.clone(),
        }
    }

    fn opened(
        &self,
        beginning: Beginning,
        opening: Opening,
        request: &ClaimRequest,
    ) -> DeploymentRecord {
        let at = self.now();
        let inputs = request.inputs.iter();
        let Beginning {
            id,
            reverts,
            previous,
        } = beginning;
        DeploymentRecord {
            schema: SCHEMA,
            id: id.clone(),
            kind: opening.kind,
            chain: opening.chain,
            reverts,
            run: Run {
                repository: id.repository().to_owned(),
                run_id: id.run_id().to_owned(),
                url: self.options.run_url.clone(),
                attempts: vec![Attempt {
                    number: request.attempt.max(1),
                    actor: self.options.actor.clone(),
                    at,
                }],
            },
            actor: self.options.actor.clone(),
            version: opening.version,
            commit: opening.commit,
            digests: opening.digests,
            inputs_hash: inputs
                .map(|inputs| (inputs.step.clone(), inputs.hash.clone()))
                .collect(),
            previous,
            sides: Sides::default(),
            targets: Vec::new(),
            stages: Vec::new(),
            phase: Phase::Claimed,
            phases: vec![PhaseEntry {
                name: Phase::Claimed,
                at,
                attempt: request.attempt.max(1),
                reason: None,
            }],
            journal: Vec::new(),
            migrations: Vec::new(),
            promotion: None,
            weights: Vec::new(),
            evidence: Vec::new(),
            checklist: Vec::new(),
            backup_ref: None,
            notify_keys: std::collections::BTreeMap::new(),
            result: None,
        }
    }

    /// Creates the record, or takes the place of one that a crash left without a claim.
    async fn create_deployment(
        &self,
        record: DeploymentRecord,
    ) -> Result<Stored<DeploymentRecord>> {
        let name = record.id.record_name();
        let patience = Patience::new(&self.options);
        loop {
            self.ensure_held()?;
            let left = read_patiently::<DeploymentRecord>(&self.store, &name, &patience).await?;
            let write = match left {
                None => self.store.create(&record, self.fence).await?,
                Some(orphan) if is_untouched(&orphan.record) => {
                    self.store.replace(&orphan, &record, self.fence).await?
                }
                Some(orphan) => {
                    return Err(RecordError::Changed {
                        object: self.store.describe(&name),
                        writer: orphan.writer.unwrap_or_else(|| "somebody".to_owned()),
                    });
                }
            };
            match write {
                Write::Done(stored) => return Ok(stored),
                Write::Conflict => {
                    let changed = || RecordError::Changed {
                        object: self.store.describe(&name),
                        writer: "another writer, again and again,".to_owned(),
                    };
                    patience.wait_for_turn(changed).await?;
                }
                Write::Unclear(error) => patience.wait(error).await?,
            }
        }
    }

    /// Ends a deployment that a person has settled, or that does not come back.
    async fn supersede(&mut self, stuck: &DeploymentId, by: &DeploymentId) -> Result<()> {
        let own = std::mem::replace(&mut self.id, stuck.clone());
        self.is_claimed = true;
        let ended = self.end_superseded(by).await;
        self.id = own;
        self.is_claimed = false;
        self.active = None;
        ended
    }

    async fn end_superseded(&mut self, by: &DeploymentId) -> Result<()> {
        let cause = format!("a new deployment was ordered: {by}");
        // Nothing leads from a way back to this end but the decision of a person.
        self.advance_because(Phase::NeedsPerson, &cause).await?;
        let result = DeploymentResult {
            verdict: Verdict::Superseded,
            cause: Some(cause),
            by: self.options.actor.clone(),
        };
        self.finish(result).await.map(drop)
    }
}

fn is_untouched(record: &DeploymentRecord) -> bool {
    record.phase == Phase::Claimed && record.journal.is_empty() && record.migrations.is_empty()
}
