//! What is still learnt of a deployment after its end, kept in its record. It refuses to change what the deployment did.

use switchyard_record::{ChecklistEntry, DeploymentRecord, Phase, Store};
use switchyard_runner::{Context, DeploymentArgs, Failure, Kind};

use crate::connection::Connection;
use crate::failure::record_failure;
use crate::identity::deployment_id;

/// The record of the deployment that made live what is live, while nothing is under way.
#[derive(Debug)]
pub struct Aftermath {
    store: Store,
    record: DeploymentRecord,
}

impl Aftermath {
    /// Finds it: the deployment of the given identity, else the one that the application's record names for what is
    /// live. Nothing where it is unknown, or has not succeeded.
    ///
    /// # Errors
    /// `version` is watched and it made another one live, or the records cannot be read.
    pub async fn find(
        inputs: &DeploymentArgs,
        version: Option<&str>,
        connection: &Connection,
        context: &Context,
    ) -> Result<Option<Self>, Failure> {
        if inputs.application.is_none() && inputs.deployment_id.is_none() {
            return Ok(None);
        }
        let failed = |error| record_failure(error, context.cancel.requested());
        let id = deployment_id(inputs, &context.environment, connection)?;
        let store = Store::new(connection.cluster.client(), connection.cluster.namespace());
        let application = store.application(id.application()).await.map_err(failed)?;
        let live = application.and_then(|stored| stored.record.live?.deployment);
        let Some(live) = live.filter(|live| inputs.deployment_id.is_none() || *live == id) else {
            return Ok(None);
        };
        let stored = store.deployment(&live).await.map_err(failed)?;
        let ended = stored.filter(|stored| stored.record.phase == Phase::Succeeded);
        let Some(record) = ended.map(|stored| stored.record) else {
            return Ok(None);
        };
        if let (Some(watched), Some(live)) = (version, record.version.as_deref())
            && watched != live
        {
            let text = format!(
                "version `{watched}` is watched, and deployment `{}` made `{live}` live",
                record.id
            );
            return Err(Failure::message(Kind::Gate, text)
                .hint("a checklist goes on for the version that is live: give that one as `expect-version`"));
        }
        Ok(Some(Self { store, record }))
    }

    /// The record as it was found.
    #[must_use]
    pub fn record(&self) -> &DeploymentRecord {
        &self.record
    }

    /// Takes down where items of the checklist stand.
    ///
    /// # Errors
    /// The record is gone, or cannot be written.
    pub async fn checklist(
        &self,
        entries: &[ChecklistEntry],
        context: &Context,
    ) -> Result<(), Failure> {
        let written = self.store.continue_checklist(&self.record.id, entries);
        let written = written.await;
        written.map_err(|error| record_failure(error, context.cancel.requested()))
    }
}
