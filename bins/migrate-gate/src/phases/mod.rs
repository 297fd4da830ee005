//! `phases`: sorts the statements of pending migrations into expand, migrate and contract, and refuses a contract while
//! the old version still runs. It reads databases and changes nothing in them.

mod classify;
mod growth;
mod inputs;
mod observe;
mod report;

use std::collections::BTreeSet;

use switchyard_postgres::ServerVersion;
use switchyard_runner::{Context, Failure, Kind};
use switchyard_sql::ServerVersion as RulesVersion;

use crate::database::{self, DatabaseGroup, Located, read_ledger};
use crate::ledger::{standings, will_run};
use crate::project::SchemaMigrations;
use crate::shorten::first;
use crate::{project, report_file, trusted};
use classify::{ClassifiedStatement, classify};
use inputs::OldVersion;
pub(crate) use inputs::PhasesArgs;
use observe::{Observed, observe};
use report::{Judged, Phases, SchemaPhases, judge};

/// A schema with the statements that would run.
struct Classified {
    name: String,
    statements: Vec<ClassifiedStatement>,
}

/// Classifies, looks whether the old version runs where that matters, and fails when a statement is refused.
///
/// # Errors
/// Kind gate when one is refused or a ledger is broken; kind remote when a database does not answer.
pub(crate) async fn run(args: PhasesArgs, context: &mut Context) -> Result<(), Failure> {
    let schemas = project::read(&args.project)?;
    let mut judged = Vec::new();
    if args.database.is_given() {
        trusted::require(&context.environment, "phases")?;
        for group in database::locate(&args.database, schemas, &context.console)? {
            judged.extend(of_database(&args, &group, context).await?);
        }
    } else {
        for schema in &schemas {
            let all = schema
                .migrations
                .iter()
                .map(|one| one.name.clone())
                .collect();
            let classified = classified(schema, &all, "public", args.postgres_version);
            judged.push(judged_by(&args, classified, None));
        }
    }
    conclude(&args, &Phases::of(judged), context)
}

async fn of_database(
    args: &PhasesArgs,
    group: &DatabaseGroup,
    context: &Context,
) -> Result<Vec<SchemaPhases>, Failure> {
    let mut schemas = Vec::new();
    for located in &group.schemas {
        let (pending, server) = pending(located).await?;
        let version = database::rules_of(server);
        schemas.push(classified(
            &located.schema,
            &pending,
            located.namespace(),
            version,
        ));
    }
    let all = schemas.iter().flat_map(|schema| &schema.statements);
    let matters = all
        .into_iter()
        .any(ClassifiedStatement::needs_old_version_gone);
    let observed = match args.old_version {
        OldVersion::Observe if matters => Some(observed(args, group, context).await?),
        OldVersion::Observe | OldVersion::Gone | OldVersion::Runs => None,
    };
    let judged = schemas.into_iter();
    Ok(judged
        .map(|schema| judged_by(args, schema, observed.as_ref()))
        .collect())
}

async fn observed(
    args: &PhasesArgs,
    group: &DatabaseGroup,
    context: &Context,
) -> Result<Observed, Failure> {
    let session = database::open_for_reading(&group.url).await?;
    tokio::select! {
        observed = observe(&session, args.sample, &context.console) => observed.map_err(database::failure),
        signal = context.cancel.cancelled() => Err(Failure::message(
            Kind::Cancelled(signal),
            format!("{} ended the look at the statements; nothing was changed", signal.name()),
        )),
    }
}

/// Names of what the tool would run, and the version of the server where it would; all migrations where the tool alone
/// knows.
async fn pending(located: &Located) -> Result<(BTreeSet<String>, ServerVersion), Failure> {
    let session = database::open_for_reading(&located.url).await?;
    let ledger = read_ledger(&session, located)
        .await
        .map_err(database::failure)?;
    let standings = standings(&ledger, &located.schema.migrations);
    let names = will_run(&located.schema.schema.name, &standings)?;
    Ok((names, session.version()))
}

fn classified(
    schema: &SchemaMigrations,
    pending: &BTreeSet<String>,
    namespace: &str,
    version: RulesVersion,
) -> Classified {
    Classified {
        name: schema.schema.name.to_string(),
        statements: classify(&schema.migrations, pending, namespace, version),
    }
}

fn judged_by(args: &PhasesArgs, schema: Classified, observed: Option<&Observed>) -> SchemaPhases {
    let statements = schema.statements.into_iter();
    SchemaPhases {
        name: schema.name,
        statements: statements
            .map(|statement| Judged {
                verdict: judge(&statement, args.old_version, observed),
                statement,
            })
            .collect(),
    }
}

fn conclude(args: &PhasesArgs, phases: &Phases, context: &mut Context) -> Result<(), Failure> {
    let asked = args.report_file.as_deref();
    let file = report_file::path(asked, "migrate-gate-phases.json", context);
    let written = report_file::write(&file, phases);
    report::annotate(phases, &context.console);
    let markdown = report::markdown(phases);
    context.console.info(&markdown);
    context.summarize("migrate-gate", &markdown);
    context.outputs.set("phase", &phases.phase)?;
    context.outputs.set("safe", phases.safe)?;
    context.outputs.set("report", file.display())?;
    report_file::beside(written, verdict(phases), &context.console)
}

fn verdict(phases: &Phases) -> Result<(), Failure> {
    let Some(first) = first(&phases.refused()) else {
        return Ok(());
    };
    Err(Failure::message(Kind::Gate, first)
        .hint("deploy the version that does without it first, and run this migration in a later release")
        .hint("where the old version is gone and cannot be seen to be, say `old-version: gone`"))
}
