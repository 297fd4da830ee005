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
use crate::ledger::Verdict;
use crate::{project, trusted};
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

fn conclude(plan: &Plan, report_file: &Path, context: &mut Context) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(plan)
        .map_err(|cause| Failure::bug(anyhow::Error::new(cause).context("write the report")))?;
    std::fs::write(report_file, text + "\n").map_err(|cause| {
        let text = format!("write the report `{}`", report_file.display());
        Failure::input(anyhow::Error::new(cause).context(text))
    })?;
    report::annotate(plan, &context.console);
    let markdown = report::markdown(plan);
    context.console.info(&markdown);
    if let Err(cause) = context.summary.markdown(&markdown) {
        context.console.warning(
            "migrate-gate",
            format!("the summary was not written: {cause}"),
        );
    }
    context.outputs.set("pending", plan.pending)?;
    context.outputs.set("safe", plan.safe)?;
    context.outputs.set("digest", &plan.digest)?;
    context.outputs.set("report", report_file.display())?;
    if plan.verdict() == Verdict::Broken {
        let broken = plan.broken().join("; ");
        let failure = Failure::message(Kind::Gate, format!("nothing may run: {broken}"));
        return Err(plan.hints().into_iter().fold(failure, Failure::hint));
    }
    Ok(())
}

fn report_file(asked: Option<&Path>, context: &Context) -> Result<PathBuf, Failure> {
    if let Some(asked) = asked {
        return Ok(asked.to_owned());
    }
    let folder = context.environment.get("RUNNER_TEMP").map(PathBuf::from);
    let folder = folder.unwrap_or_else(std::env::temp_dir);
    if !folder.is_dir() {
        let text = format!("RUNNER_TEMP: `{}` is not a folder", folder.display());
        return Err(Failure::message(Kind::Input, text));
    }
    Ok(folder.join("migrate-gate-plan.json"))
}
