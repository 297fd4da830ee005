//! The update of all servers, batch after batch, up to the first failure: it keeps the journal and the
//! report, and looks before each batch whether enough servers are up.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use switchyard_http::Client;
use switchyard_runner::{Context, Failure, Kind};
use switchyard_servers::fleet::Whole;
use switchyard_servers::journal::Stage;
use switchyard_servers::plan::{Plan, Task, require_capacity};
use switchyard_servers::{Admin, Fleet};
use tokio::time::Instant;

use super::inputs::ServersInputs;
use super::observe::Quiet;
use super::report::{Fate, Report};
use super::state_file::StateFile;
use super::update::Update;
use super::{fleet_failure, refusal_failure};
use crate::run::{TITLE, client};

/// Time between two looks at a load balancer that does not answer.
const POLL: Duration = Duration::from_millis(500);

/// An update that is going on.
pub(super) struct Roll<'run> {
    pub(super) context: &'run Context,
    pub(super) inputs: &'run ServersInputs,
    pub(super) update: &'run Update,
    pub(super) fleet: &'run Fleet,
    pub(super) client: Client,
    state: Mutex<StateFile>,
    report: Mutex<Report>,
}

impl<'run> Roll<'run> {
    pub(super) fn new(
        context: &'run Context,
        inputs: &'run ServersInputs,
        update: &'run Update,
        fleet: &'run Fleet,
        state: StateFile,
        report: Report,
    ) -> Result<Self, Failure> {
        Ok(Self {
            context,
            inputs,
            update,
            fleet,
            client: client(context)?,
            state: Mutex::new(state),
            report: Mutex::new(report),
        })
    }

    /// Does what is planned, and tells what became of it.
    ///
    /// # Errors
    /// The first failure.
    pub(super) async fn run(&self, plan: &Plan) -> Result<(), Failure> {
        let mut ended = locked(&self.state).begin(plan.up_at_start);
        for batch in &plan.batches {
            if ended.is_err() {
                break;
            }
            ended = self.batch(batch, plan.floor).await;
        }
        let look = tokio::time::timeout(self.haste(Duration::from_secs(2)), self.fleet.look());
        let whole = look.await.ok().and_then(|seen| Whole::of(seen).ok());
        let mut report = locked(&self.report);
        report.look(whole.as_ref());
        if ended.is_ok() {
            ended = locked(&self.state).finish();
        }
        self.context.console.info(report.table());
        let told = report.tell(
            self.context,
            if ended.is_ok() { "updated" } else { "failed" },
        );
        let failure = match (ended, told) {
            (Err(failure), _) => failure,
            (Ok(()), told) => return told,
        };
        Err(failure.hint(report.standing()))
    }

    async fn batch(&self, batch: &[Task], floor: usize) -> Result<(), Failure> {
        let whole = self.look().await?;
        let batch = self.without_foreign(&whole, batch);
        require_capacity(&whole.servers, &batch, floor).map_err(refusal_failure)?;
        if let Some(signal) = self.context.cancel.requested() {
            let text = format!("{} came between two servers", signal.name());
            return Err(Failure::message(Kind::Cancelled(signal), text));
        }
        let renewed = batch
            .iter()
            .map(|task| super::renew::renew(self, task, whole.processes.clone()));
        let mut first = Ok(());
        for ended in futures::future::join_all(renewed).await {
            match (ended, &first) {
                (Err(failure), Ok(())) => first = Err(failure),
                (Err(failure), Err(_)) => self.context.console.error(TITLE, &failure),
                (Ok(()), _) => {}
            }
        }
        first
    }

    /// Servers that somebody has taken out since the plan was made are left to them.
    fn without_foreign(&self, whole: &Whole, batch: &[Task]) -> Vec<Task> {
        let is_ours = |task: &&Task| {
            let server = whole.server(&task.name);
            let is_out =
                server.is_some_and(|server| server.at.iter().any(|one| one.admin != Admin::Ready));
            let is_foreign = is_out && task.left_at.is_none();
            if is_foreign {
                self.fate(&task.name, Fate::LeftOut);
                self.warn(format_args!(
                    "{}: somebody took it out of the traffic meanwhile: it is left as it is",
                    task.name
                ));
            }
            !is_foreign
        };
        batch.iter().filter(is_ours).cloned().collect()
    }

    /// What every process says, once all of them answer.
    async fn look(&self) -> Result<Whole, Failure> {
        let deadline = Instant::now() + self.inputs.timeout;
        loop {
            let seen = self.fleet.look().await;
            let is_silent = seen
                .iter()
                .any(|seen| seen.look.as_ref().is_err_and(|error| error.may_pass()));
            if !is_silent || Instant::now() >= deadline {
                return Whole::of(seen).map_err(fleet_failure);
            }
            tokio::select! {
                () = tokio::time::sleep(POLL) => {}
                signal = self.context.cancel.cancelled() => {
                    let text = format!("{} came between two servers", signal.name());
                    return Err(Failure::message(Kind::Cancelled(signal), text));
                }
            }
        }
    }

    /// How long something may take that is done although the step has to end, or without haste.
    pub(super) fn haste(&self, haste: Duration) -> Duration {
        match self.context.cancel.requested() {
            Some(_) => haste,
            None => self.inputs.timeout,
        }
    }

    /// Notes on the disk how far a server has come, before it is done.
    pub(super) fn note(&self, server: &str, stage: Stage) -> Result<(), Failure> {
        locked(&self.report).has_changed = true;
        locked(&self.state).set(server, stage)
    }

    /// Notes that a server is as it was.
    pub(super) fn forget(&self, server: &str) -> Result<(), Failure> {
        locked(&self.state).forget(server)
    }

    pub(super) fn fate(&self, server: &str, fate: Fate) {
        locked(&self.report).fate(server, fate);
    }

    pub(super) fn quiet(&self, server: &str, quiet: Quiet) {
        locked(&self.report).quiet(server, quiet);
    }

    pub(super) fn warn(&self, text: impl std::fmt::Display) {
        self.context.console.warning(TITLE, text);
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
