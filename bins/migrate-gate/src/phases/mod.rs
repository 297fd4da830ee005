//! `phases`: sorts the statements of pending migrations into expand, migrate and contract, and refuses a contract while
//! the old version still runs. It reads databases and changes nothing in them.

mod classify;
mod growth;
mod inputs;
mod observe;
mod report;

use std::collections::BTreeSet;

use switchyard_runner::{Context, Failure, Kind};

use crate::database::{self, DatabaseGroup, Located, read_ledger};
use crate::ledger::{standings, will_run};
use crate::project::SchemaMigrations;
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
    let has_database =
        args.database.database_url.is_some() || args.database.database_urls.is_some();
    let mut judged = Vec::new();
    if has_database {
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
            let classified = classified(&args, schema, &all, "public");
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
        let pending = pending(located).await?;
        schemas.push(classified(
            args,
            &located.schema,
            &pending,
            located.namespace(),
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

/// Names of what the tool would run; all migrations where the tool alone knows.
async fn pending(located: &Located) -> Result<BTreeSet<String>, Failure> {
    let session = database::open_for_reading(&located.url).await?;
    let ledger = read_ledger(&session, located)
        .await
        .map_err(database::failure)?;
    let standings = standings(&ledger, &located.schema.migrations);
    will_run(&located.schema.schema.name, &standings)
}

fn classified(
    args: &PhasesArgs,
    schema: &SchemaMigrations,
    pending: &BTreeSet<String>,
    namespace: &str,
) -> Classified {
    let version = args.postgres_version;
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
    let refused = phases.refused();
    let Some(first) = refused.first() else {
        return Ok(());
    };
    let more = match refused.len() {
        1 => String::new(),
        count => format!(" (and {} more, see the report)", count - 1),
    };
    Err(Failure::message(Kind::Gate, format!("{first}{more}"))
        .hint("deploy the version that does without it first, and run this migration in a later release")
        .hint("where the old version is gone and cannot be seen to be, say `old-version: gone`"))
}
