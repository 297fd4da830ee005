//! `plan`: what would run, whether the ledger is sound, what would be locked for how long, and the digest that an
//! approval is bound to. It reads databases and changes nothing in them.

mod cost;
mod digest;
mod report;
mod survey;
mod tool_version;

use std::path::{Path, PathBuf};

use clap::Args;
use switchyard_runner::{Context, Failure, Kind};

use crate::database::{self, DatabaseArgs, DatabaseGroup};
use crate::inputs::ProjectArgs;
use crate::{project, report_file, trusted};
pub(crate) use report::Plan;

/// Inputs of `plan`.
#[derive(Debug, Args)]
pub(crate) struct PlanArgs {
    #[command(flatten)]
    pub(crate) project: ProjectArgs,
    #[command(flatten)]
    pub(crate) database: DatabaseArgs,
    /// File for the report, JSON; one in RUNNER_TEMP when it is not given
    #[arg(long)]
    pub(crate) report_file: Option<PathBuf>,
}

/// Makes the plan, writes report, summary, annotations and outputs, and fails when nothing may run.
///
/// # Errors
/// Kind gate when a ledger is broken; kind remote when a database does not answer.
pub(crate) async fn run(args: PlanArgs, context: &mut Context) -> Result<(), Failure> {
    trusted::require(&context.environment, "plan")?;
    let schemas = project::read(&args.project)?;
    let groups = database::locate(&args.database, schemas, &context.console)?;
    let report_file = report_file(args.report_file.as_deref(), context)?;
    let plan = make(&groups.iter().collect::<Vec<_>>(), context).await?;
    conclude(&plan, &report_file, context)
}

/// Reads every database, one after the other: reading is quick, and the log stays in order.
///
/// # Errors
/// Kind remote, naming the database that does not answer.
pub(crate) async fn make(groups: &[&DatabaseGroup], context: &Context) -> Result<Plan, Failure> {
    let mut schemas = Vec::new();
    for group in groups {
        context.console.info(format!("reading {}", group.url));
        schemas.extend(survey::survey(group).await?);
    }
    Ok(Plan::of(schemas))
}

fn conclude(plan: &Plan, file: &Path, context: &mut Context) -> Result<(), Failure> {
    let written = report_file::write(file, plan);
    report::annotate(plan, &context.console);
    let markdown = report::markdown(plan);
    context.console.info(&markdown);
    context.summarize("migrate-gate", &markdown);
    context.outputs.set("pending", plan.pending)?;
    context.outputs.set("safe", plan.safe)?;
    context.outputs.set("digest", &plan.digest)?;
    context.outputs.set("report", file.display())?;
    report_file::beside(written, plan.require_sound(), &context.console)
}

/// Finds the file for the report before anything is read.
fn report_file(asked: Option<&Path>, context: &Context) -> Result<PathBuf, Failure> {
    let folder = report_file::folder(context);
    if asked.is_none() && !folder.is_dir() {
        let text = format!("RUNNER_TEMP: `{}` is not a folder", folder.display());
        return Err(Failure::message(Kind::Input, text));
    }
    Ok(report_file::path(asked, "migrate-gate-plan.json", context))
}
