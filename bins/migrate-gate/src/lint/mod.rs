//! `lint`: judges migrations by their files alone. It refuses to know servers.

mod allow;
mod baseline;
mod finding;
mod judge;
mod moment;
mod pages;
mod report;
mod rules;
mod select;

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args};
use switchyard_runner::{Context, Failure, Kind, values};
use switchyard_sql::ServerVersion;

use crate::inputs::ProjectArgs;
use crate::project::{self, SchemaMigrations};
use baseline::Baseline;
use finding::{Finding, Severity};
use judge::Settings;
use moment::LockTimeout;
pub use pages::{Page, pages};
use report::Counts;

/// Inputs of `lint`.
#[derive(Debug, Args)]
pub(crate) struct LintArgs {
    #[command(flatten)]
    pub(crate) project: ProjectArgs,
    /// Major version of the server that the migrations are for, 11 to 18
    #[arg(long, default_value_t = ServerVersion::DEFAULT)]
    pub(crate) postgres_version: ServerVersion,
    /// Judge only migrations that are new or changed since the branch left this one, such as `origin/main`
    ///
    /// The others are read all the same, because they say which tables, types and indexes there are.
    #[arg(long)]
    pub(crate) base: Option<String>,
    /// Judge only migrations whose names come after this one
    #[arg(long)]
    pub(crate) after: Option<String>,
    /// Time-out for locks that the connection has, such as `2s`; without it, migrations must set their own
    #[arg(long, value_parser = values::duration)]
    pub(crate) lock_timeout: Option<Duration>,
    /// File of findings to leave alone, one a line
    #[arg(long)]
    pub(crate) baseline: Option<PathBuf>,
    /// Write what is found into `baseline` instead of judging it
    #[arg(long, value_parser = values::boolean, default_value = "false", num_args = 0..=1, default_missing_value = "true", action = ArgAction::Set)]
    pub(crate) write_baseline: bool,
    /// Least severity for which the gate says no
    #[arg(long, value_enum, default_value = "error")]
    pub(crate) fail_on: Severity,
}

/// Judges the migrations and fails when the gate says no.
///
/// # Errors
/// Kind gate when a statement is not known or a finding is grave enough; kind input for bad inputs.
pub(crate) async fn run(args: LintArgs, context: &mut Context) -> Result<(), Failure> {
    if args.write_baseline && args.baseline.is_none() {
        return Err(
            Failure::message(Kind::Input, "`write-baseline` needs `baseline`")
                .hint("give the path of the file to write"),
        );
    }
    let known = match &args.baseline {
        Some(path) if !args.write_baseline => Baseline::read(path)?,
        Some(_) | None => Baseline::default(),
    };
    let schemas = project::read(&args.project)?;
    let selection = select::select(
        args.base.as_deref(),
        args.after.as_deref(),
        &schemas,
        context,
    )
    .await?;
    let settings = Settings {
        version: args.postgres_version,
        lock_timeout: match args.lock_timeout {
            Some(Duration::ZERO) | None => LockTimeout::Unset,
            Some(_) => LockTimeout::Set,
        },
    };
    let judged = schemas
        .iter()
        .flat_map(|schema: &SchemaMigrations| &schema.migrations);
    let judged = judged.filter(|migration| selection.has(migration)).count();
    let findings: Vec<Finding> = schemas
        .iter()
        .flat_map(|schema| judge::judge(schema, &selection, settings))
        .collect();
    if args.write_baseline
        && let Some(path) = &args.baseline
    {
        baseline::write(path, &findings)?;
        let count = findings.len();
        context.console.info(format!(
            "{count} findings written into `{}`",
            path.display()
        ));
    }
    let known = match &args.baseline {
        Some(path) if args.write_baseline => Baseline::read(path)?,
        Some(_) | None => known,
    };
    let (findings, gone) = known.split(findings);
    for line in gone {
        context.console.notice(
            "lint",
            format!("the baseline still has `{line}`, which is found no more"),
        );
    }
    conclude(&findings, judged, args.fail_on, context)
}

fn conclude(
    findings: &[Finding],
    judged: usize,
    fail_on: Severity,
    context: &mut Context,
) -> Result<(), Failure> {
    let counts = Counts::of(findings, judged);
    report::annotate(findings, context);
    if context.summary.is_kept() {
        context.summarize("migrate-gate", &report::markdown(findings, counts));
    }
    let is_safe = counts.errors == 0 && counts.unknown == 0;
    context.outputs.set("findings", counts.all())?;
    context.outputs.set("safe", is_safe)?;
    let is_refused = findings
        .iter()
        .any(|finding| finding.severity >= fail_on || finding.is_unknown);
    if is_refused {
        return Err(Failure::message(Kind::Gate, counts.words()).hint(
            "each rule has a page in docs/lint; `-- switchyard:allow RULE reason` above a statement takes a finding back",
        ));
    }
    context.console.info(counts.words());
    Ok(())
}
