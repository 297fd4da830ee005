//! The deployment record, for steps that belong to a deployment that an earlier step began: claimed while the step
//! runs and moved on when it has passed. It refuses to decide whether it has.

use std::time::Duration;

use switchyard_cluster::scale::{ScaleGoal, ScaleState, Scaled};
use switchyard_cluster::{Cluster, Deadline};
use switchyard_record::{
    Chain, ChecklistEntry, ClaimRequest, DeploymentRecord, Evidence, Freshness, Intent,
    MigrationEntry, Phase, RecordError, Resize, Session, advance,
};
use switchyard_runner::{Context, DeploymentArgs, Failure, Kind};

use crate::connection::Connection;
use crate::failure::{record_failure, resize_failure};
use crate::identity::deployment_id;
use crate::session::open_session;

/// How long a session's end may take: the lease runs out by itself afterwards.
const CLOSE_LIMIT: Duration = Duration::from_secs(3);

/// The record of the deployment that this step belongs to, or nothing when it belongs to none.
#[derive(Debug)]
pub struct Recorder {
    session: Option<Session>,
}

impl Recorder {
    /// Claims this run's own deployment when an application is named and a deployment of it is
    /// under way. Looking at an application that nobody deploys needs no record.
    ///
    /// # Errors
    /// Another run's deployment is under way, somebody else holds the application, or the records
    /// cannot be read or written.
    pub async fn open(
        inputs: &DeploymentArgs,
        connection: &Connection,
        context: &Context,
    ) -> Result<Self, Failure> {
        if inputs.application.is_none() && inputs.deployment_id.is_none() {
            return Ok(Self { session: None });
        }
        let id = deployment_id(inputs, &context.environment, connection)?;
        let mut session = open_session(context, connection, id).await?;
        if session.active().is_none() {
            context.console.info(format_args!(
                "no deployment of `{}` is under way, so nothing is recorded",
                session.id().application()
            ));
            close(session).await;
            return Ok(Self { session: None });
        }
        let request = ClaimRequest {
            intent: Intent::Continue,
            attempt: context.environment.workflow_run().attempt,
            inputs: None,
            freshness: Freshness::OncePerRun,
        };
        if let Err(error) = session.claim(request).await {
            close(session).await;
            return Err(failure(error, context));
        }
        context
            .console
            .info(format_args!("deployment {}", session.id()));
        Ok(Self {
            session: Some(session),
        })
    }

    /// The record of no deployment: nothing is written.
    #[must_use]
    pub fn none() -> Self {
        Self { session: None }
    }

    /// Refuses a step that may not be taken now, before it begins. One that was completed may be taken again.
    ///
    /// # Errors
    /// `phase` may not follow the present one.
    pub fn require_next(&self, phase: Phase, context: &Context) -> Result<(), Failure> {
        let Some(record) = self.record() else {
            return Ok(());
        };
        match advance(record.chain, record.phase, phase) {
            Ok(_) => Ok(()),
            Err(refused) => Err(failure(refused.into(), context)),
        }
    }

    /// Whether an earlier attempt of this run completed `phase` already.
    #[must_use]
    pub fn has_passed(&self, phase: Phase) -> bool {
        let standing = self.session.as_ref().and_then(|open| open.phase().ok());
        standing.is_some_and(|standing| standing.has_passed(phase))
    }

    /// Moves the deployment to `phase`.
    ///
    /// # Errors
    /// The phase may not follow, the lease is lost, or the record cannot be written.
    pub async fn advance(&mut self, phase: Phase, context: &Context) -> Result<(), Failure> {
        if let Some(session) = &mut self.session {
            let advanced = session.advance(phase).await;
            advanced.map_err(|error| failure(error, context))?;
        }
        Ok(())
    }

    /// Moves the deployment to the watch of its whole traffic. A canary is watched stage by stage
    /// while it holds one, and stays there.
    ///
    /// # Errors
    /// As [`Recorder::advance`].
    pub async fn soak(&mut self, context: &Context) -> Result<(), Failure> {
        let record = self.session.as_ref().and_then(|open| open.record().ok());
        let holds_a_stage = record.is_some_and(|record| {
            record.chain == Chain::Canary
                && matches!(record.phase, Phase::Switching(_) | Phase::Holding(_))
        });
        if holds_a_stage {
            return Ok(());
        }
        self.advance(Phase::Soaking, context).await
    }

    /// Writes down what was seen; `make` gets the time of the session.
    ///
    /// # Errors
    /// The lease is lost, or the record cannot be written.
    pub async fn evidence(
        &mut self,
        make: impl FnOnce(jiff::Timestamp) -> Evidence,
        context: &Context,
    ) -> Result<(), Failure> {
        if let Some(session) = &mut self.session {
            let evidence = make(session.now());
            let written = session.evidence(evidence).await;
            written.map_err(|error| failure(error, context))?;
        }
        Ok(())
    }

    /// Takes down where items of the checklist stand; `make` gets the time of the session.
    ///
    /// # Errors
    /// The lease is lost, or the record cannot be written.
    pub async fn checklist(
        &mut self,
        make: impl FnOnce(jiff::Timestamp) -> Vec<ChecklistEntry>,
        context: &Context,
    ) -> Result<(), Failure> {
        if let Some(session) = &mut self.session {
            let entries = make(session.now());
            let written = session.checklist(entries).await;
            written.map_err(|error| failure(error, context))?;
        }
        Ok(())
    }

    /// Writes down what is about to be done to a database, or was done.
    ///
    /// # Errors
    /// The lease is lost, or the record cannot be written: then the change must not be made.
    pub async fn migration(
        &mut self,
        entry: MigrationEntry,
        context: &Context,
    ) -> Result<(), Failure> {
        if let Some(session) = &mut self.session {
            let written = session.migration(entry).await;
            written.map_err(|error| failure(error, context))?;
        }
        Ok(())
    }

    /// Brings a workload from the size that was found to another one: fenced and journalled where a deployment is under
    /// way, and in any case only while it has that size and no autoscaler.
    ///
    /// # Errors
    /// Somebody else has changed it, the lease is lost, or the cluster or the record cannot be written.
    pub async fn resize(
        &mut self,
        found: &ScaleState,
        size: i32,
        (cluster, deadline): (&Cluster, Deadline),
        context: &Context,
    ) -> Result<Scaled, Failure> {
        let order = Resize {
            workload: &found.workload,
            goal: ScaleGoal::Size(size),
            own_size: Some(found.replicas),
            deadline,
        };
        let resized = switchyard_record::resize(self.session.as_mut(), cluster, order).await;
        resized.map_err(|error| resize_failure(error, context.cancel.requested()))
    }

    /// The session itself, for what only one step does.
    pub fn session_mut(&mut self) -> Option<&mut Session> {
        self.session.as_mut()
    }

    /// The record as it is known here.
    #[must_use]
    pub fn record(&self) -> Option<&DeploymentRecord> {
        self.session.as_ref()?.record().ok()
    }

    /// Waits until this step must stop: a rollback was ordered, or the lease is somebody else's.
    /// Without a record, for ever.
    pub fn ordered_to_stop(&self) -> impl Future<Output = Failure> + Send + use<> {
        let tokens = self
            .session
            .as_ref()
            .map(|session| (session.told_to_stop(), session.lost()));
        async move {
            let Some((told, lost)) = tokens else {
                return std::future::pending().await;
            };
            let (text, link) = tokio::select! {
                order = told => (order.to_string(), order.run_url),
                () = lost.cancelled() => {
                    let text = "the application's lease was taken over by another run";
                    (text.to_owned(), None)
                }
            };
            let run = link.unwrap_or_else(|| "the run that took over".to_owned());
            Failure::message(Kind::Gate, text).hint(format!(
                "this step stopped and wrote nothing more; see {run}"
            ))
        }
    }

    /// Releases the application's lease.
    pub async fn close(self) {
        if let Some(session) = self.session {
            close(session).await;
        }
    }
}

async fn close(session: Session) {
    // A lease that could not be released in time runs out by itself.
    let _ = tokio::time::timeout(CLOSE_LIMIT, session.close()).await;
}

fn failure(error: RecordError, context: &Context) -> Failure {
    record_failure(error, context.cancel.requested())
}
