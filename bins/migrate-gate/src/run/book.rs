//! Where a run writes down what it does: its journal, and the record of the deployment that it belongs to, which
//! outlives the runner. It refuses to know servers.

use std::path::Path;

use futures::FutureExt as _;
use jiff::Timestamp;
use switchyard_deployment::{Recorder, connect};
use switchyard_record::{MigrationEntry, MigrationEvent as Event, Phase, open_migrations};
use switchyard_runner::{Context, DeploymentArgs, Failure};

use super::journal::Journal;

/// What happened, and what is about to.
#[derive(Debug)]
pub(super) struct Book {
    journal: Journal,
    recorder: Recorder,
}

impl Book {
    /// Opens the journal, and the record where an application is named.
    ///
    /// # Errors
    /// Kind input: the journal cannot be used; kind gate: another run's deployment is under way, or this one is past
    /// its migrations; kind remote: the record cannot be read.
    pub(super) async fn open(
        journal: &Path,
        deployment: &DeploymentArgs,
        context: &Context,
    ) -> Result<Self, Failure> {
        let journal = Journal::open(journal).map_err(super::unusable)?;
        let recorder = if deployment.application.is_none() && deployment.deployment_id.is_none() {
            Recorder::none()
        } else {
            let connection = connect(deployment, &context.environment).await?;
            Recorder::open(deployment, &connection, context).await?
        };
        if let Err(refused) = recorder.require_next(Phase::Migrated, context) {
            recorder.close().await;
            return Err(refused);
        }
        Ok(Self { journal, recorder })
    }

    /// Writes down what is about to happen, or has happened, in both places.
    ///
    /// # Errors
    /// It cannot be written, or, before something is changed, a rollback was ordered: then what would follow must not
    /// be done.
    pub(super) async fn write(
        &mut self,
        database: &str,
        event: Event,
        context: &Context,
    ) -> Result<(), Failure> {
        if is_before_a_change(&event)
            && let Some(order) = self.recorder.ordered_to_stop().now_or_never()
        {
            return Err(order);
        }
        let entry = MigrationEntry {
            at: Timestamp::now(),
            database: database.to_owned(),
            event,
        };
        self.journal.write(entry.clone()).map_err(super::unusable)?;
        self.recorder.migration(entry, context).await
    }

    /// Events of a database since it was last done with, oldest first, by whichever of the two knows the later one.
    pub(super) fn open_events(&self, database: &str) -> Vec<&Event> {
        let record = self.recorder.record();
        let recorded = record.map_or(&[][..], |record| &record.migrations);
        open_migrations(newer(self.journal.entries(), recorded, database), database)
    }

    /// Moves the deployment on when everything is applied and proved.
    ///
    /// # Errors
    /// The lease is lost, or the record cannot be written.
    pub(super) async fn conclude(&mut self, context: &Context) -> Result<(), Failure> {
        self.recorder.advance(Phase::Migrated, context).await
    }

    /// Lets the application go.
    pub(super) async fn close(self) {
        self.recorder.close().await;
    }
}

/// Whether something is changed once it is written down.
fn is_before_a_change(event: &Event) -> bool {
    match event {
        Event::Begun { .. }
        | Event::LimitsSet { .. }
        | Event::Attempt { .. }
        | Event::Resolving { .. } => true,
        Event::LimitsTakenBack
        | Event::Ended { .. }
        | Event::Verified { .. }
        | Event::Stopped { .. }
        | Event::Done => false,
    }
}

/// The entries that know what happened to a database last. A journal on another runner's disk may have stayed behind.
fn newer<'a>(
    local: &'a [MigrationEntry],
    recorded: &'a [MigrationEntry],
    database: &str,
) -> &'a [MigrationEntry] {
    let last = |entries: &[MigrationEntry]| {
        let of_database = entries.iter().filter(|entry| entry.database == database);
        of_database.map(|entry| entry.at).max()
    };
    if last(recorded) > last(local) {
        recorded
    } else {
        local
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(second: i64, event: Event) -> MigrationEntry {
        MigrationEntry {
            at: Timestamp::from_second(second).unwrap(),
            database: "shop on db:5432".to_owned(),
            event,
        }
    }

    #[test]
    fn whoever_knows_what_happened_last_is_believed() {
        let schema = || "main".to_owned();
        let stayed_behind = [entry(1, Event::Verified { schema: schema() })];
        let went_on = [entry(2, Event::Done)];
        let newer = |local, recorded| newer(local, recorded, "shop on db:5432");
        assert_eq!(newer(&stayed_behind, &went_on), went_on);
        assert_eq!(newer(&went_on, &stayed_behind), went_on);
        assert_eq!(newer(&[], &went_on), went_on);
        assert_eq!(newer(&went_on, &[]), went_on);
        // Of both the same: the journal has every event.
        let same = [entry(2, Event::Verified { schema: schema() })];
        assert_eq!(newer(&same, &went_on), same);
    }
}
