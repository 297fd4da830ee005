//! The deployment record, for steps that belong to a deployment: claimed while the step runs and
//! moved on when it has passed. It refuses to decide whether it has.

use std::sync::Arc;

use switchyard_cluster::Cluster;
use switchyard_record::{
    ClaimRequest, Claimed, DeploymentId, DeploymentIdParts, ErrorClass, Evidence, Freshness,
    Intent, Phase, RecordError, Session, SessionOptions,
};
use switchyard_runner::{Context, DeploymentArgs, Failure, Kind, Signal};

/// The record of the deployment that this step belongs to, or nothing when it belongs to none.
pub(crate) struct Recorder {
    session: Option<Session>,
}

impl Recorder {
    /// Claims this run's own deployment when an application is named.
    ///
    /// # Errors
    /// There is no such deployment under way, somebody else holds the application, or the records
    /// cannot be read or written.
    pub(crate) async fn open(
        inputs: &DeploymentArgs,
        cluster: &Cluster,
        context: &Context,
    ) -> Result<Self, Failure> {
        let Some(application) = &inputs.application else {
            return Ok(Self { session: None });
        };
        let run = context.environment.workflow_run();
        let id = identity(inputs, application, cluster, context)?;
        let mut options = SessionOptions::new(run.actor.as_deref().unwrap_or("local"));
        options.run_url = run.url();
        options.cancel = context.cancel.token();
        let console = context.console.clone();
        options.progress = Arc::new(move |line| console.progress(line));
        let mut session = Session::open(cluster.client(), id, options)
            .await
            .map_err(|error| failure(error, context))?;
        let request = ClaimRequest {
            intent: Intent::Continue,
            attempt: run.attempt,
            inputs: None,
            freshness: Freshness::OncePerRun,
        };
        match session.claim(request).await {
            Ok(Claimed::New | Claimed::Resumed { .. } | Claimed::TakenOver { .. }) => {}
            Ok(Claimed::NothingToDo { .. }) => {
                session.close().await;
                let text = format!("application `{application}` has no deployment of this run");
                return Err(Failure::message(Kind::Gate, text)
                    .hint("run `rollout apply` with the same `application` first"));
            }
            Err(error) => {
                session.close().await;
                return Err(failure(error, context));
            }
        }
        context
            .console
            .info(format_args!("deployment {}", session.id()));
        Ok(Self {
            session: Some(session),
        })
    }

    /// Whether an earlier attempt of this run completed `phase` already.
    pub(crate) fn has_passed(&self, phase: Phase) -> bool {
        let standing = self.session.as_ref().and_then(|open| open.phase().ok());
        standing.is_some_and(|standing| standing.has_passed(phase))
    }

    /// Moves the deployment to `phase`.
    ///
    /// # Errors
    /// The phase may not follow, the lease is lost, or the record cannot be written.
    pub(crate) async fn advance(&mut self, phase: Phase, context: &Context) -> Result<(), Failure> {
        if let Some(session) = &mut self.session {
            let advanced = session.advance(phase).await;
            advanced.map_err(|error| failure(error, context))?;
        }
        Ok(())
    }

    /// Writes down what was seen; `make` gets the time of the session.
    ///
    /// # Errors
    /// The lease is lost, or the record cannot be written.
    pub(crate) async fn evidence(
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

    /// Waits until this step must stop: a rollback was ordered, or the lease is somebody else's.
    /// Without a record, for ever.
    pub(crate) fn ordered_to_stop(&self) -> impl Future<Output = Failure> + Send + use<> {
        let tokens = self
            .session
            .as_ref()
            .map(|session| (session.preempted(), session.lost()));
        async move {
            let Some((preempted, lost)) = tokens else {
                return std::future::pending().await;
            };
            let text = tokio::select! {
                () = preempted.cancelled() => "a rollback of this deployment was ordered",
                () = lost.cancelled() => "the application's lease was taken over by another run",
            };
            Failure::message(Kind::Gate, text)
                .hint("this step stopped and wrote nothing more; see the run that took over")
        }
    }

    /// Releases the application's lease.
    pub(crate) async fn close(self) {
        if let Some(session) = self.session {
            session.close().await;
        }
    }
}

fn identity(
    inputs: &DeploymentArgs,
    application: &str,
    cluster: &Cluster,
    context: &Context,
) -> Result<DeploymentId, Failure> {
    if let Some(given) = &inputs.deployment_id {
        let id: DeploymentId = given.parse().map_err(Failure::input)?;
        if id.application() != application || id.namespace() != cluster.namespace() {
            let text = format!(
                "input `deployment-id` is `{given}`, which is not one of application \
                 `{application}` in namespace `{}`",
                cluster.namespace()
            );
            return Err(Failure::message(Kind::Input, text));
        }
        return Ok(id);
    }
    let Some(environment) = &inputs.environment else {
        let text = "input `environment` is required with `application`";
        return Err(Failure::message(Kind::Input, text)
            .hint("give the same name to every step of the deployment, or give `deployment-id`"));
    };
    let run = context.environment.workflow_run();
    let of_context = || cluster.context().unwrap_or("in-cluster").to_owned();
    let parts = DeploymentIdParts {
        repository: run.repository.unwrap_or_else(|| "local".to_owned()),
        run_id: run.run_id.unwrap_or_else(|| "local".to_owned()),
        environment: environment.clone(),
        cluster: inputs.cluster.clone().unwrap_or_else(of_context),
        namespace: cluster.namespace().to_owned(),
        application: application.to_owned(),
    };
    DeploymentId::new(parts).map_err(Failure::input)
}

fn failure(error: RecordError, context: &Context) -> Failure {
    let hint = error.hint();
    let failure = match error.class() {
        ErrorClass::Gate => Failure::gate(error),
        ErrorClass::Input => Failure::input(error),
        ErrorClass::Remote => Failure::remote(error),
        ErrorClass::Bug => Failure::bug(error),
        ErrorClass::Cancelled => {
            let signal = context.cancel.requested().unwrap_or(Signal::Interrupt);
            Failure::cancelled(signal, error)
        }
    };
    failure.maybe_hint(hint)
}
