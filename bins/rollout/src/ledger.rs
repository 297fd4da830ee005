//! Work on an application, with or without its record: claims, the journal around every mutation, and
//! the points at which a command may stop. Refuses to know what is mutated.

use std::time::Duration;

use serde_json::Value;
use switchyard_cluster::Cluster;
use switchyard_cluster::scale::Scaled;
use switchyard_deployment::{
    Connection, deployment_id, open_session, record_failure, resize_failure,
};
use switchyard_manifest::{Kind, clean};
use switchyard_record::{
    ClaimRequest, Claimed, DeploymentId, DeploymentRecord, Freshness, Intent, LiveTarget,
    ObjectRef, Outcome, Phase, PlannedMutation, Projection, Raised, Resize, Resume, Session,
    Settlement, StepInputs,
};
use switchyard_runner::{Cancel, Context, DeploymentArgs, Failure, Kind as FailureKind};

use crate::objects::AnyObjects;

/// How long a session's end may take: the lease runs out by itself afterwards.
const CLOSE_LIMIT: Duration = Duration::from_secs(3);

/// The record of the application that is worked on, if one is kept.
#[derive(Debug)]
pub(crate) struct Ledger {
    session: Option<Session>,
    cancel: Cancel,
}

/// A mutation that was written down.
#[derive(Debug)]
#[must_use = "what became of the mutation has to be settled"]
pub(crate) struct Ticket(Option<u32>);

impl Ledger {
    /// Opens the application's record and claims it, where the inputs name an application.
    pub(crate) async fn open(
        context: &Context,
        args: &DeploymentArgs,
        connection: &Connection,
        request: ClaimRequest,
    ) -> Result<(Self, Option<Claimed>), Failure> {
        if args.application.is_none() && args.deployment_id.is_none() {
            return Ok((Self::without_record(context), None));
        }
        let id = deployment_id(args, &context.environment, connection)?;
        let session = open_session(context, connection, id).await?;
        let mut ledger = Self {
            session: Some(session),
            cancel: context.cancel.clone(),
        };
        match ledger.claim(request).await {
            Ok(claimed) => Ok((ledger, Some(claimed))),
            Err(failure) => {
                ledger.close().await;
                Err(failure)
            }
        }
    }

    /// Goes on with this run's deployment, where one is active. Where an application is named and none
    /// is active, the work is done under its lease alone; another run's deployment is in the way.
    pub(crate) async fn go_on(
        context: &Context,
        args: &DeploymentArgs,
        connection: &Connection,
    ) -> Result<Self, Failure> {
        if args.application.is_none() && args.deployment_id.is_none() {
            return Ok(Self::without_record(context));
        }
        let id = deployment_id(args, &context.environment, connection)?;
        let session = open_session(context, connection, id).await?;
        let is_active = session.active().is_some();
        let mut ledger = Self {
            session: Some(session),
            cancel: context.cancel.clone(),
        };
        if !is_active {
            return Ok(ledger);
        }
        let request = claim_request(context, args, Intent::Continue, None);
        match ledger.claim(request).await {
            Ok(_) => Ok(ledger),
            Err(failure) => {
                ledger.close().await;
                Err(failure)
            }
        }
    }

    /// Goes on with this run's deployment, also backwards, where one is active; else begins one.
    pub(crate) async fn open_any(
        context: &Context,
        args: &DeploymentArgs,
        connection: &Connection,
        request: ClaimRequest,
    ) -> Result<(Self, Option<Claimed>), Failure> {
        if args.application.is_none() && args.deployment_id.is_none() {
            return Ok((Self::without_record(context), None));
        }
        let id = deployment_id(args, &context.environment, connection)?;
        let session = open_session(context, connection, id).await?;
        let active = session
            .active()
            .map(|active| (active.id.clone(), active.actor.clone()));
        let request = match &active {
            Some(_) => ClaimRequest {
                intent: Intent::Rescue,
                ..request
            },
            None => request,
        };
        let mut ledger = Self {
            session: Some(session),
            cancel: context.cancel.clone(),
        };
        let claimed = match (ledger.claim(request).await, active) {
            (Ok(Claimed::NothingToDo { .. }), Some((id, by))) => Err(Failure::message(
                FailureKind::Gate,
                format!("the application is claimed by deployment `{id}` of {by}"),
            )
            .hint("wait until it has ended, or take it back with `traffic-switch rescue` and its `deployment-id`")),
            (claimed, _) => claimed,
        };
        match claimed {
            Ok(claimed) => Ok((ledger, Some(claimed))),
            Err(failure) => {
                ledger.close().await;
                Err(failure)
            }
        }
    }

    /// Works under a lease that was taken for an order of its own.
    pub(crate) fn over(context: &Context, session: Session) -> Self {
        Self {
            session: Some(session),
            cancel: context.cancel.clone(),
        }
    }

    /// Works without a record.
    pub(crate) fn without_record(context: &Context) -> Self {
        Self {
            session: None,
            cancel: context.cancel.clone(),
        }
    }

    async fn claim(&mut self, request: ClaimRequest) -> Result<Claimed, Failure> {
        let cancel = self.cancel.clone();
        match &mut self.session {
            Some(session) => session
                .claim(request)
                .await
                .map_err(|error| record_failure(error, cancel.requested())),
            None => Ok(Claimed::New),
        }
    }

    /// The session, when it has claimed a deployment: only then is there a journal to write to.
    fn claimed_mut(&mut self) -> Option<&mut Session> {
        self.session
            .as_mut()
            .filter(|session| session.record().is_ok())
    }

    /// The record of the claimed deployment.
    pub(crate) fn record(&self) -> Option<&DeploymentRecord> {
        self.session.as_ref()?.record().ok()
    }

    /// The session itself, for what only one command does.
    pub(crate) fn session_mut(&mut self) -> Option<&mut Session> {
        self.session.as_mut()
    }

    /// The session itself, for reading.
    pub(crate) fn session(&self) -> Option<&Session> {
        self.session.as_ref()
    }

    /// The identity of the deployment.
    pub(crate) fn id(&self) -> Option<&DeploymentId> {
        self.session.as_ref().map(Session::id)
    }

    /// A point at which nothing is half-done: stops here when the run was cancelled, the lease lost or
    /// a rollback ordered.
    pub(crate) fn safe_point(&self, next: &str) -> Result<(), Failure> {
        if let Some(signal) = self.cancel.requested() {
            let text = format!("{} came before: {next}", signal.name());
            return Err(Failure::message(FailureKind::Cancelled(signal), text));
        }
        let Some(session) = &self.session else {
            return Ok(());
        };
        session.ensure_held().map_err(|error| self.failure(error))?;
        match session.preempt_requested() {
            Some(order) => Err(Failure::message(
                FailureKind::Gate,
                format!("{order}; stopped before: {next}"),
            )
            .maybe_hint(order.run_url)),
            None => Ok(()),
        }
    }

    fn failure(&self, error: switchyard_record::RecordError) -> Failure {
        record_failure(error, self.cancel.requested())
    }

    /// Refuses a plan whose journal would not fit into the record.
    pub(crate) fn reserve(&self, mutations: usize) -> Result<(), Failure> {
        match &self.session {
            Some(session) => session
                .reserve(mutations)
                .map_err(|error| self.failure(error)),
            None => Ok(()),
        }
    }

    /// Puts our fence on an object that may be mutated, and gives it as it is from then on; `None` when
    /// there is no record or no such object.
    pub(crate) async fn raise_fence(&self, object: &ObjectRef) -> Result<Option<Value>, Failure> {
        let Some(session) = &self.session else {
            return Ok(None);
        };
        match session.raise_fence(object).await {
            Ok(Raised::Under(live)) => crate::objects::to_value(&*live)
                .map(Some)
                .map_err(switchyard_deployment::cluster_failure),
            Ok(Raised::Absent) => Ok(None),
            Err(error) => Err(self.failure(error)),
        }
    }

    /// The fence of this process.
    pub(crate) fn fence(&self) -> Option<u64> {
        self.session.as_ref().map(Session::fence)
    }

    /// Writes down a mutation that is about to be made.
    pub(crate) async fn plan(&mut self, planned: PlannedMutation) -> Result<Ticket, Failure> {
        self.safe_point(&format!("{} {}", planned.operation, planned.target))?;
        let cancel = self.cancel.clone();
        match self.claimed_mut() {
            Some(session) => session
                .plan_mutation(planned)
                .await
                .map(|seq| Ticket(Some(seq)))
                .map_err(|error| record_failure(error, cancel.requested())),
            None => Ok(Ticket(None)),
        }
    }

    /// Writes down what became of a mutation.
    pub(crate) async fn settle(
        &mut self,
        ticket: Ticket,
        settlement: impl Into<Settlement>,
    ) -> Result<(), Failure> {
        let cancel = self.cancel.clone();
        match (&mut self.session, ticket.0) {
            (Some(session), Some(seq)) => session
                .settle(seq, settlement)
                .await
                .map_err(|error| record_failure(error, cancel.requested())),
            (Some(_), None) | (None, _) => Ok(()),
        }
    }

    /// Brings a workload to a size: under our fence and in the journal, as far as there are any.
    pub(crate) async fn resize(
        &mut self,
        cluster: &Cluster,
        order: Resize<'_>,
    ) -> Result<Scaled, Failure> {
        self.safe_point(&format!("a new size of {}", order.workload))?;
        let resized = switchyard_record::resize(self.session.as_mut(), cluster, order).await;
        resized.map_err(|error| resize_failure(error, self.cancel.requested()))
    }

    /// Settles entries of this operation that a killed attempt left open, from what is live now.
    ///
    /// An object that agrees with neither side was written by somebody else in between. Applying is
    /// guarded by field ownership, so that is no reason to stop here: the next apply names the writer.
    pub(crate) async fn settle_open(
        &mut self,
        operation: &str,
        objects: &AnyObjects,
    ) -> Result<(), Failure> {
        let open: Vec<_> = self
            .record()
            .map(|record| {
                record
                    .open_entries()
                    .filter(|entry| entry.operation == operation)
                    .cloned()
                    .collect()
            })
            .unwrap_or_default();
        for entry in open {
            let live = objects.find_recorded(&entry.target).await?;
            let target = LiveTarget {
                uid: live
                    .as_ref()
                    .and_then(|live| live.pointer("/metadata/uid"))
                    .and_then(Value::as_str)
                    .map(str::to_owned),
                projection: projection_of(&entry.target, live.as_ref()),
            };
            let settlement = match switchyard_record::resume(&target, &entry) {
                Resume::Do => Settlement::from(Outcome::NotApplied),
                Resume::MarkApplied => Settlement::from(Outcome::Applied),
                Resume::NeedsPerson { disagreement } => {
                    Settlement::failed(Outcome::Foreign, &disagreement)
                }
            };
            self.settle(Ticket(Some(entry.seq)), settlement).await?;
        }
        Ok(())
    }

    /// Moves the deployment to a phase; a completed phase is a no-op.
    pub(crate) async fn advance(&mut self, to: Phase) -> Result<(), Failure> {
        let cancel = self.cancel.clone();
        match self.claimed_mut() {
            Some(session) => session
                .advance(to)
                .await
                .map(drop)
                .map_err(|error| record_failure(error, cancel.requested())),
            None => Ok(()),
        }
    }

    /// Moves the deployment to a phase that is not the next one of its chain, and says why.
    pub(crate) async fn advance_because(&mut self, to: Phase, why: &str) -> Result<(), Failure> {
        let cancel = self.cancel.clone();
        match self.claimed_mut() {
            Some(session) => session
                .advance_because(to, why)
                .await
                .map(drop)
                .map_err(|error| record_failure(error, cancel.requested())),
            None => Ok(()),
        }
    }

    /// Changes what the record says besides phases and journal.
    pub(crate) async fn amend(
        &mut self,
        change: impl FnOnce(&mut DeploymentRecord),
    ) -> Result<(), Failure> {
        let cancel = self.cancel.clone();
        match self.claimed_mut() {
            Some(session) => session
                .amend(change)
                .await
                .map_err(|error| record_failure(error, cancel.requested())),
            None => Ok(()),
        }
    }

    /// Releases the lease.
    pub(crate) async fn close(self) {
        if let Some(session) = self.session {
            // When it takes longer the lease runs out by itself.
            let _ = tokio::time::timeout(CLOSE_LIMIT, session.close()).await;
        }
    }
}

/// A claim of this run for what `intent` wants.
pub(crate) fn claim_request(
    context: &Context,
    args: &DeploymentArgs,
    intent: Intent,
    inputs: Option<StepInputs>,
) -> ClaimRequest {
    ClaimRequest {
        intent,
        attempt: context.environment.workflow_run().attempt,
        inputs,
        freshness: if args.new_deployment {
            Freshness::NewDeployment
        } else {
            Freshness::OncePerRun
        },
    }
}

/// The part of an object that an apply decides, as a hash: what the server hands out or a controller
/// counts is no part of it, and no value of it is kept.
pub(crate) fn projection(kind: Kind, live: Option<&Value>) -> Projection {
    let Some(live) = live else {
        return Projection::absent();
    };
    let mut value = clean::for_backup(kind, live);
    if kind.has_replicas()
        && let Some(spec) = value.get_mut("spec").and_then(Value::as_object_mut)
    {
        spec.remove("replicas");
    }
    Projection::hidden(&value)
}

fn projection_of(target: &ObjectRef, live: Option<&Value>) -> Projection {
    projection(Kind::of(&target.api_version, &target.kind), live)
}
