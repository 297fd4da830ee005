//! What the rehearsal says the schema becomes with each migration. A live database that becomes something else
//! did not run what was rehearsed.

use std::collections::BTreeMap;
use std::path::Path;

use switchyard_postgres::SchemaFingerprint;
use switchyard_runner::{Console, Failure, Kind};

use crate::database::DatabaseGroup;
use crate::ledger::{Standing, State};
use crate::plan::Plan;
use crate::rehearse::report::{FORM, MigrationRehearsal, Rehearsal};

/// Schema and migration.
type Name = (String, String);

/// The chain of fingerprints of a rehearsal.
#[derive(Debug, Default)]
pub(super) struct Rehearsed {
    steps: BTreeMap<Name, Step>,
}

#[derive(Debug)]
struct Step {
    before: SchemaFingerprint,
    after: SchemaFingerprint,
}

impl Rehearsed {
    /// Reads a rehearsal that nothing speaks against, of just these files.
    ///
    /// # Errors
    /// Kind input when it is no rehearsal; kind gate when something speaks against it, or a file is another one.
    pub(super) fn read(
        path: &Path,
        groups: &[DatabaseGroup],
        console: &Console,
    ) -> Result<Self, Failure> {
        let input = |cause: anyhow::Error| {
            Failure::input(cause.context(format!("input `rehearsal`: read `{}`", path.display())))
        };
        let text = std::fs::read_to_string(path).map_err(|cause| input(cause.into()))?;
        let rehearsal: Rehearsal =
            serde_json::from_str(&text).map_err(|cause| input(cause.into()))?;
        if rehearsal.form != FORM {
            let text = format!("it is of form {}, and {FORM} is known", rehearsal.form);
            return Err(input(anyhow::anyhow!(text)).hint("rehearse with this version of the gate"));
        }
        let objections = rehearsal.objections();
        if !objections.is_empty() {
            let text = format!("the rehearsal speaks against it: {}", objections.join("; "));
            return Err(Failure::message(Kind::Gate, text)
                .hint("correct the migrations, and rehearse again"));
        }
        for unverifiable in rehearsal.unverifiable() {
            let text = format!("the rehearsal could not check: {unverifiable}");
            console.warning("migrate-gate", text);
        }
        let databases = rehearsal.databases.into_iter();
        Self::of(databases.flat_map(|database| database.migrations), groups)
    }

    fn of(
        migrations: impl Iterator<Item = MigrationRehearsal>,
        groups: &[DatabaseGroup],
    ) -> Result<Self, Failure> {
        let checksums = checksums(groups);
        let mut steps = BTreeMap::new();
        for one in migrations {
            let name = (one.schema.clone(), one.name.clone());
            if checksums
                .get(&name)
                .is_some_and(|file| *file != one.checksum)
            {
                let text = format!(
                    "`{}` of schema `{}` was changed after its rehearsal",
                    one.name, one.schema
                );
                return Err(Failure::message(Kind::Gate, text).hint("rehearse again"));
            }
            if let Some(after) = one.after {
                let before = one.before;
                steps.insert(name, Step { before, after });
            }
        }
        Ok(Self { steps })
    }

    /// Refuses a plan with migrations that were not rehearsed. Of a tool that keeps its ledger to itself it is not known
    /// which are pending: those that were rehearsed are taken for all of them, and none is not enough.
    ///
    /// # Errors
    /// Kind gate, naming them.
    pub(super) fn require_all(&self, plan: &Plan, console: &Console) -> Result<(), Failure> {
        let mut missing = Vec::new();
        for schema in &plan.schemas {
            let unrehearsed: Vec<&Standing> = schema
                .pending()
                .filter(|one| {
                    !self
                        .steps
                        .contains_key(&(schema.name.clone(), one.name.clone()))
                })
                .collect();
            let is_untracked = schema.pending().all(|one| one.state == State::Untracked);
            if is_untracked && unrehearsed.len() < schema.pending().count() {
                if !unrehearsed.is_empty() {
                    console.info(format!(
                        "schema `{}`: {} of its files were not rehearsed, and its tool alone knows whether they have run",
                        schema.name,
                        unrehearsed.len()
                    ));
                }
                continue;
            }
            let named = unrehearsed.iter();
            missing.extend(named.map(|one| format!("`{}` of schema `{}`", one.name, schema.name)));
        }
        if missing.is_empty() {
            return Ok(());
        }
        let text = format!("not rehearsed: {}", missing.join(", "));
        Err(Failure::message(Kind::Gate, text)
            .hint("rehearse what is pending now; another migration may have been merged since"))
    }

    /// What is wrong with the schema that a migration is about to meet.
    pub(super) fn wrong_before(
        &self,
        schema: &str,
        migration: &str,
        now: &SchemaFingerprint,
    ) -> Option<String> {
        let step = self.steps.get(&(schema.to_owned(), migration.to_owned()))?;
        (step.before != *now).then(|| {
            format!("the database is not the one that `{migration}` was rehearsed on: its schema has changed since")
        })
    }

    /// What is wrong with the schema that a migration has left.
    pub(super) fn wrong_after(
        &self,
        schema: &str,
        migration: &str,
        now: &SchemaFingerprint,
    ) -> Option<String> {
        let step = self.steps.get(&(schema.to_owned(), migration.to_owned()))?;
        (step.after != *now)
            .then(|| format!("`{migration}` made another schema than in its rehearsal"))
    }
}

fn checksums(groups: &[DatabaseGroup]) -> BTreeMap<Name, String> {
    let schemas = groups.iter().flat_map(|group| &group.schemas);
    let named = schemas.flat_map(|located| {
        let schema = located.name();
        let migrations = located.schema.migrations.iter();
        migrations.map(move |one| {
            (
                (schema.clone(), one.name.clone()),
                one.checksums()[0].clone(),
            )
        })
    });
    named.collect()
}
