//! What `policy: restore` does with a database in which something stopped after something was changed.

use std::collections::BTreeMap;

use switchyard_runner::{Context, Failure, Kind};

use super::inputs::{Policy, RunArgs};
use super::report::Ending;
use crate::backup::{self, BackupReference, Restoring};
use crate::database::DatabaseGroup;

/// The backups to go back to, by server and database; none where the policy is to halt. Databases of two servers may
/// have one name, and one must not get the other's rows.
#[derive(Debug, Default)]
pub(super) struct Backups(BTreeMap<(String, String), BackupReference>);

impl Backups {
    /// Finds the backup of every database before anything is changed.
    ///
    /// # Errors
    /// Kind input when a database has none; kind gate when one has no manifest; kind remote when a store fails.
    pub(super) async fn find(
        args: &RunArgs,
        groups: &[DatabaseGroup],
        context: &Context,
    ) -> Result<Self, Failure> {
        match args.policy {
            Policy::Halt => return Ok(Self::default()),
            Policy::Restore => {}
        }
        let mut backups = BTreeMap::new();
        for reference in args.backups.clone().into_vec() {
            let origin = backup::origin_of(&reference, context).await?;
            backups.insert(origin, reference);
        }
        for group in groups {
            if !backups.contains_key(&origin(group)) {
                let text = format!("`policy: restore`, and there is no backup of {}", group.url);
                return Err(Failure::message(Kind::Input, text)
                    .hint("give the output `backup` of the command `backup`, made with the same URL, as `backups`"));
            }
        }
        Ok(Self(backups))
    }

    /// Goes back to the backup of a database where something was changed and something stopped.
    pub(super) async fn go_back(
        &self,
        args: &RunArgs,
        group: &DatabaseGroup,
        endings: &mut [Ending],
        context: &Context,
    ) {
        let Some(backup) = self.0.get(&origin(group)) else {
            return;
        };
        let is_good = |one: &Ending| one.conclusion.is_good();
        if endings.iter().all(is_good) || !endings.iter().any(Ending::has_changed_something) {
            return;
        }
        let restoring = Restoring {
            url: &group.url,
            backup,
            accept_lost_writes: args.accept_lost_writes,
            programs: &args.programs,
            context,
        };
        match restoring.restore().await {
            Ok(restored) => {
                for ending in endings {
                    ending.take_back(&restored);
                }
            }
            Err(failure) => {
                let text = format!("{}: not restored: {}", group.url, failure.chain());
                context.console.error("migrate-gate", &text);
                for ending in endings.iter_mut().filter(|one| !is_good(one)) {
                    ending.not_restored = Some(text.clone());
                    ending.hints.extend(failure.hints().iter().cloned());
                }
            }
        }
    }
}

fn origin(group: &DatabaseGroup) -> (String, String) {
    (group.url.server(), group.url.database().to_owned())
}
