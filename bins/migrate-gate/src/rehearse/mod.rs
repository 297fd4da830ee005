//! `rehearse`: applies the pending migrations to a restored copy, measures whom they keep waiting, and proves that the
//! statements of the running version still work.
//!
//! It changes the copy and nothing else. It refuses to know how a copy is made.

mod apply;
mod conclude;
mod inputs;
mod locks;
mod measure;
mod pending;
mod probe;
mod proof;
pub(crate) mod report;
mod scratch;
mod show;
mod tables;
mod target;

use switchyard_postgres::{PostgresError, SchemaDescription, Session};
use switchyard_runner::{Context, Failure, Kind};

use crate::backup::{Scratch, ScratchError};
use crate::database;
use crate::project::{self, Migration};
use crate::trusted;
use apply::Limits;
use conclude::{Files, conclude};
pub(crate) use inputs::RehearseArgs;
use measure::{Measuring, Rows, milliseconds};
use proof::{Before, QueryProof, Statement};
use report::{
    DatabasePlace, DatabaseRehearsal, Evidence, MigrationRehearsal, Rehearsal, comparable,
    fingerprint,
};
use target::{Target, TargetSchema};

/// Rehearses, writes report, summary, annotations and outputs, and fails when something speaks against it.
///
/// # Errors
/// Kind gate when a migration fails, blocks for too long or breaks a statement, or when that could not be checked;
/// kind input for a scratch database that nothing may be let loose on; kind remote.
pub(crate) async fn run(args: RehearseArgs, context: &mut Context) -> Result<(), Failure> {
    trusted::require(&context.environment, "rehearse")?;
    let schemas = project::read(&args.project)?;
    let targets = target::targets(&args.scratch, &args.database, schemas, &context.console)?;
    let statements = args.queries.as_deref().map(proof::read_file).transpose()?;
    let files = Files::of(&args, context)?;
    let kept = kept(&targets).await?;
    let cancel = context.cancel.clone();
    let rehearsal = tokio::select! {
        rehearsal = all(&args, &targets, statements.as_deref(), context) => rehearsal,
        signal = cancel.cancelled() => {
            let text = format!("{} ended the rehearsal; the copy is changed in part", signal.name());
            Err(Failure::message(Kind::Cancelled(signal), text)
                .hint("restore it anew before the next rehearsal"))
        }
    };
    // Each is of use for one rehearsal. What cannot be taken away is swept by a later backup.
    for copy in kept {
        if let Err(cause) = copy.drop().await {
            context.console.warning("migrate-gate", cause);
        }
    }
    conclude(&args, &rehearsal?, &files, context)
}

/// The copies that were kept for this rehearsal, each looked at before anything is let loose on it.
async fn kept(targets: &[Target]) -> Result<Vec<Scratch>, Failure> {
    let mut kept = Vec::new();
    for target in targets {
        if let Some(beside) = &target.kept_beside {
            let copy = Scratch::kept(beside, target.copy.database()).await;
            kept.push(copy.map_err(ScratchError::failure)?);
        }
    }
    Ok(kept)
}

async fn all(
    args: &RehearseArgs,
    targets: &[Target],
    statements: Option<&[Statement]>,
    context: &Context,
) -> Result<Rehearsal, Failure> {
    // All copies are looked at before the first one is changed.
    let mut ready = Vec::new();
    for target in targets {
        ready.push(prepare(args, target, context).await?);
    }
    let mut databases = Vec::new();
    for prepared in ready {
        databases.push(rehearse(args, prepared, statements, context).await?);
    }
    let rehearsal = Rehearsal {
        form: report::FORM,
        safe: false,
        budget_milliseconds: milliseconds(args.budget),
        lock_timeout_milliseconds: milliseconds(args.lock_timeout),
        databases,
    };
    Ok(rehearsal.judged())
}

/// A copy that may be rehearsed on, with what is pending in it.
struct Prepared<'a> {
    target: &'a Target,
    looking: Session,
    production: Option<Session>,
    production_rows: Rows,
    likeness: Evidence,
    description: SchemaDescription,
    pending: Vec<(&'a TargetSchema, Vec<&'a Migration>)>,
}

async fn prepare<'a>(
    args: &RehearseArgs,
    target: &'a Target,
    context: &Context,
) -> Result<Prepared<'a>, Failure> {
    context
        .console
        .info(format!("looking at the copy {}", target.copy));
    let looking = database::open_for_reading(&target.copy).await?;
    let production = match &target.production {
        Some(url) => Some(database::open_for_reading(url).await?),
        None => None,
    };
    for schema in &target.schemas {
        // Each URL of a copy may log in as another role.
        let session = database::open_for_reading(&schema.copy).await?;
        let may_be = args.scratch.allow_privileged_scratch;
        scratch::require_harmless(&session, production.as_ref(), may_be).await?;
    }
    let description = looking.describe_schema().await.map_err(database::failure)?;
    if let Some(production) = &production {
        scratch::require_same_major(looking.version(), production.version())?;
    }
    let compared = compare(target, &description, production.as_ref()).await;
    let (likeness, production_rows) = compared?;
    let mut pending = Vec::new();
    for schema in &target.schemas {
        pending.push((schema, pending::pending(schema, &args.migrations).await?));
    }
    Ok(Prepared {
        target,
        looking,
        production,
        production_rows,
        likeness,
        description,
        pending,
    })
}

async fn compare(
    target: &Target,
    copy: &SchemaDescription,
    production: Option<&Session>,
) -> Result<(Evidence, Rows), Failure> {
    let Some(production) = production else {
        let reason = "production is not given, so it is not known whether the copy is like it";
        return Ok((Evidence::unless(vec![reason.to_owned()]), Rows::new()));
    };
    let described = production.describe_schema().await;
    let described = described.map_err(database::failure)?;
    let alike = |description| comparable(description, target.namespaces());
    let place = production.place().to_string();
    scratch::require_alike(&alike(copy), &alike(&described), &place)?;
    let tables = tables::Tables::read(production).await;
    Ok((
        Evidence::Verified,
        tables.map_err(database::failure)?.rows(),
    ))
}

async fn rehearse(
    args: &RehearseArgs,
    prepared: Prepared<'_>,
    statements: Option<&[Statement]>,
    context: &Context,
) -> Result<DatabaseRehearsal, Failure> {
    let target = prepared.target;
    let namespaces: Vec<&str> = target.namespaces().collect();
    let before = proof_before(&prepared, &namespaces, statements, context).await?;
    let migrations = migrate(args, &prepared, &namespaces, context).await?;
    let failed = migrations.iter().find(|one| one.error.is_some());
    let proof = match (before, failed) {
        (None, _) => QueryProof::of_nothing(),
        (Some(_), Some(failed)) => QueryProof::not_made(format!(
            "`{}` failed, so there is no state to prove",
            failed.name
        )),
        (Some(before), None) => {
            let after = before
                .after(&target.copy, &namespaces, args.min_coverage)
                .await;
            after.map_err(database::failure)?
        }
    };
    let place = |url: &switchyard_postgres::ConnectionUrl| DatabasePlace {
        server: url.server(),
        database: url.database().to_owned(),
    };
    Ok(DatabaseRehearsal {
        production: target.production.as_ref().map(place),
        copy: place(&target.copy),
        server_version: prepared.looking.version(),
        likeness: prepared.likeness,
        fingerprint: fingerprint(&prepared.description, namespaces),
        migrations,
        proof,
    })
}

/// Prepares the running version's statements on the copy; `None` where no migration is pending.
async fn proof_before(
    prepared: &Prepared<'_>,
    namespaces: &[&str],
    statements: Option<&[Statement]>,
    context: &Context,
) -> Result<Option<Before>, Failure> {
    let mut pending = prepared.pending.iter();
    if pending.all(|(_, migrations)| migrations.is_empty()) {
        return Ok(None);
    }
    let target = prepared.target;
    let name = target.production.as_ref().unwrap_or(&target.copy);
    let production = prepared.production.as_ref();
    let found = proof::statements(statements, name.database(), production).await;
    let found = found.map_err(database::failure)?;
    context
        .console
        .info("preparing the running version's statements on the copy");
    let before = proof::before(&target.copy, namespaces, found).await;
    Ok(Some(before.map_err(database::failure)?))
}

/// Runs the pending migrations of a copy one after the other, up to the first that fails.
async fn migrate(
    args: &RehearseArgs,
    prepared: &Prepared<'_>,
    namespaces: &[&str],
    context: &Context,
) -> Result<Vec<MigrationRehearsal>, Failure> {
    let measuring = Measuring {
        copy: &prepared.target.copy,
        looking: &prepared.looking,
        production_rows: &prepared.production_rows,
        limits: Limits {
            lock: args.lock_timeout,
            statement: args.statement_timeout,
        },
        most_tables: args.probed_tables.into(),
        console: &context.console,
    };
    let mut done = Vec::new();
    let mut before = fingerprint(&prepared.description, namespaces.iter().copied());
    for (schema, migrations) in &prepared.pending {
        for migration in migrations {
            context
                .console
                .info(format!("rehearsing `{}`", migration.name));
            let one = step(&measuring, schema, migration, namespaces, before.clone()).await;
            let one = one.map_err(database::failure)?;
            let after = one.after.clone();
            done.push(one);
            match after {
                Some(after) => before = after,
                None => return Ok(done),
            }
        }
    }
    Ok(done)
}

async fn step(
    measuring: &Measuring<'_>,
    schema: &TargetSchema,
    migration: &Migration,
    namespaces: &[&str],
    before: switchyard_postgres::SchemaFingerprint,
) -> Result<MigrationRehearsal, PostgresError> {
    let measured = measuring.run(schema, migration).await?;
    let after = match &measured.error {
        Some(_) => None,
        None => {
            let described = measuring.looking.describe_schema().await?;
            Some(fingerprint(&described, namespaces.iter().copied()))
        }
    };
    let invalid = measuring.looking.invalid_indexes().await?;
    Ok(MigrationRehearsal {
        schema: schema.schema.schema.name.to_string(),
        name: migration.name.clone(),
        checksum: migration.checksums()[0].clone(),
        file: migration.file.display().to_string(),
        before,
        after,
        milliseconds: measured.milliseconds,
        error: measured.error,
        tables: measured.tables,
        measured: measured.evidence,
        not_probed: measured.not_probed,
        invalid_indexes: invalid
            .iter()
            .map(|index| format!("{}.{}", index.schema, index.name))
            .collect(),
    })
}
