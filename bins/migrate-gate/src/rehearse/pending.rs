//! Which migrations are rehearsed: those that the ledger of the copy, and production's, call pending.

use std::collections::BTreeSet;

use switchyard_postgres::Session;
use switchyard_runner::{Failure, Kind};

use super::target::TargetSchema;
use crate::database::{self, read_ledger_in};
use crate::ledger::{self, Standing, State, standings};
use crate::project::{Migration, SchemaMigrations};

/// The migrations of a schema that would run, oldest first, as its files say.
///
/// `named` are those that the inputs name, where the tool alone knows which are pending.
///
/// # Errors
/// Kind gate when a ledger is broken, or the copy's says something else than production's; kind input when the tool
/// alone knows what is pending and nothing is named; kind remote.
pub(super) async fn pending<'a>(
    schema: &'a TargetSchema,
    named: &[String],
) -> Result<Vec<&'a Migration>, Failure> {
    let name = &schema.schema.schema.name;
    let of_copy = standings_at(&schema.copy, schema).await?;
    let will_run = ledger::will_run(name, &of_copy)?;
    if let Some(production) = &schema.production {
        let of_production = standings_at(production, schema).await?;
        let there = ledger::will_run(name, &of_production)?;
        if there != will_run {
            let only = |one: &BTreeSet<String>, other: &BTreeSet<String>| {
                one.difference(other)
                    .cloned()
                    .collect::<Vec<_>>()
                    .join(", ")
            };
            let text = format!(
                "schema `{name}`: the ledger of the copy is not production's: pending in production alone: [{}], in the copy alone: [{}]",
                only(&there, &will_run),
                only(&will_run, &there)
            );
            return Err(
                Failure::message(Kind::Gate, text).hint("restore the copy from a newer backup")
            );
        }
    }
    let untracked = of_copy.iter().any(|one| one.state == State::Untracked);
    let chosen = if untracked {
        chosen(&schema.schema, named)?
    } else {
        will_run
    };
    let migrations = schema.schema.migrations.iter();
    Ok(migrations
        .filter(|migration| chosen.contains(&migration.name))
        .collect())
}

/// The names that the inputs give, of a tool that keeps its ledger to itself.
fn chosen(schema: &SchemaMigrations, named: &[String]) -> Result<BTreeSet<String>, Failure> {
    let known = schema.migrations.iter().map(|one| &one.name);
    let chosen: BTreeSet<String> = known.filter(|name| named.contains(name)).cloned().collect();
    if chosen.is_empty() {
        let text = format!(
            "schema `{}`: its tool alone knows which migrations are pending, and input `migrations` names none of them",
            schema.schema.name
        );
        return Err(Failure::message(Kind::Input, text)
            .hint("name them as their files are called, without `.sql`"));
    }
    Ok(chosen)
}

async fn standings_at(
    url: &switchyard_postgres::ConnectionUrl,
    schema: &TargetSchema,
) -> Result<Vec<Standing>, Failure> {
    let session: Session = database::open_for_reading(url).await?;
    let tool = schema.schema.schema.tool;
    let read = read_ledger_in(&session, tool, &schema.namespace).await;
    let ledger = read.map_err(database::failure)?;
    Ok(standings(&ledger, &schema.schema.migrations))
}
