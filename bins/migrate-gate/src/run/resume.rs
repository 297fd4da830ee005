//! What a killed run left, and whether this one may go on: the plan that was approved, and failed rows of a
//! ledger with nothing behind them.

use switchyard_record::MigrationEvent as Event;
use switchyard_runner::{Failure, Kind};

use super::journal;
use super::start::read_standings;
use super::{Locked, Run, catalog};
use crate::database::{self, DatabaseGroup, Located};
use crate::ledger::State;
use crate::plan::Plan;
use crate::sha256::sha256;

/// What a run that was killed says in the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Earlier {
    /// Digest that was approved, and of the files.
    begun: Option<(String, String)>,
    /// Its last attempt, where it was not proved: schema, fingerprint before it, what was pending.
    attempt: Option<(String, String, Vec<String>)>,
}

impl Earlier {
    fn of(open: &[&Event]) -> Self {
        let begun = open.iter().rev().find_map(|event| match event {
            Event::Begun { digest, files } => Some((digest.clone(), files.clone())),
            Event::LimitsSet { .. }
            | Event::LimitsTakenBack
            | Event::Attempt { .. }
            | Event::Ended { .. }
            | Event::Resolving { .. }
            | Event::Verified { .. }
            | Event::Stopped { .. }
            | Event::Done => None,
        });
        let attempt = journal::unfinished_attempt(open);
        Self { begun, attempt }
    }
}

/// Digest of the names and texts of all migrations.
pub(super) fn files_digest<'a>(groups: impl Iterator<Item = &'a DatabaseGroup>) -> String {
    let mut lines: Vec<String> = groups
        .flat_map(|group| &group.schemas)
        .flat_map(|located| {
            let name = located.name();
            let migrations = located.schema.migrations.iter();
            migrations.map(move |one| format!("{name} {} {}\n", one.name, one.checksums()[0]))
        })
        .collect();
    lines.sort();
    sha256(lines.concat())
}

impl Run<'_> {
    pub(super) async fn earlier(&self, database: &Locked) -> Earlier {
        let book = self.book.lock().await;
        Earlier::of(&book.open_events(&database.place()))
    }

    /// Takes failed rows back that a killed run left with nothing behind them.
    pub(super) async fn settle_failed(&self, database: &Locked) -> Result<(), Failure> {
        let Some((schema, fingerprint, pending)) = self.earlier(database).await.attempt else {
            return Ok(());
        };
        let located = database
            .group
            .schemas
            .iter()
            .find(|one| one.name() == schema);
        let Some(located) = located else {
            return Ok(());
        };
        self.context.console.info(format!(
            "{}: an earlier run was killed or stopped in schema `{schema}`, with {} to apply",
            database.place(),
            pending.join(", ")
        ));
        let failed = self.failed_of(database, located, &pending).await?;
        if failed.is_empty() {
            return Ok(());
        }
        let now = catalog::read(&database.session, &database.group)
            .await
            .map_err(database::failure)?;
        let is_as_before = now.fingerprint().as_str() == fingerprint;
        let migrations = located.schema.migrations.iter();
        let wrote_rows = migrations
            .filter(|one| failed.contains(&one.name))
            .any(catalog::may_write_rows);
        if !is_as_before || wrote_rows {
            // The plan says that it failed, and what to do.
            return Ok(());
        }
        self.context.console.info(format!(
            "schema `{schema}`: the catalog is as it was before {}: nothing of it is left, so it is marked as rolled back",
            failed.join(", ")
        ));
        self.mark_rolled_back(database, located, &failed).await
    }

    async fn failed_of(
        &self,
        database: &Locked,
        located: &Located,
        pending: &[String],
    ) -> Result<Vec<String>, Failure> {
        let standings = read_standings(database, located).await?;
        let failed = standings
            .into_iter()
            .filter(|one| matches!(one.state, State::Failed { .. }) && pending.contains(&one.name));
        Ok(failed.map(|one| one.name).collect())
    }

    /// Refuses another plan than the approved one. A run that goes on after a killed one has another digest,
    /// because part of the plan is applied: then the files have to be the ones that were approved.
    pub(super) async fn refuse_unapproved(
        &self,
        plan: &Plan,
        databases: &[Locked],
        files: &str,
    ) -> Result<(), Failure> {
        let Some(approved) = &self.args.approved_digest else {
            return Ok(());
        };
        let digest = plan.digest.to_string();
        if *approved == digest {
            return Ok(());
        }
        let mut goes_on = false;
        for database in databases {
            let begun = self.earlier(database).await.begun;
            goes_on |=
                begun.is_some_and(|(of_plan, of_files)| of_plan == *approved && of_files == files);
        }
        if goes_on {
            self.context
                .console
                .info("goes on with the plan that was approved and begun");
            return Ok(());
        }
        let text = format!(
            "the plan is not the approved one: its digest is {digest}, approved was {approved}"
        );
        Err(Failure::message(Kind::Gate, text)
            .hint("the migrations, the schema of a database or the tool changed since: plan again, and have that approved"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_begin_and_the_unproved_attempt_count() {
        let begun = |digest: &str| Event::Begun {
            digest: digest.to_owned(),
            files: "f".to_owned(),
        };
        let attempt = Event::Attempt {
            schema: "shop".to_owned(),
            number: 1,
            fingerprint: "x".to_owned(),
            pending: vec!["1".to_owned()],
        };
        let (first, second) = (begun("a"), begun("b"));
        let earlier = Earlier::of(&[&first, &second, &attempt]);
        assert_eq!(earlier.begun, Some(("b".to_owned(), "f".to_owned())));
        let expected = ("shop".to_owned(), "x".to_owned(), vec!["1".to_owned()]);
        assert_eq!(earlier.attempt, Some(expected));
        let schema = "shop".to_owned();
        let verified = Event::Verified { schema };
        assert_eq!(Earlier::of(&[&first, &attempt, &verified]).attempt, None);
    }
}
