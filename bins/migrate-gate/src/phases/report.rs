//! The phases as data, as markdown and as annotations.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde::Serialize;
use switchyard_runner::Console;
use switchyard_runner::summary::cell;
use switchyard_sql::Phase;

use super::classify::{ClassifiedStatement, Concerns};
use super::growth::uses;
use super::inputs::OldVersion;
use super::observe::{Observed, Views};
use crate::queries::Statement;
use crate::shorten::few;

/// Version of the report's form.
const FORM: u32 = 1;

/// Most statements of the running version told for one contract.
const TOLD: usize = 3;

/// The phases of what would run.
#[derive(Debug, Serialize)]
pub(super) struct Phases {
    form: u32,
    /// Whether nothing is refused.
    pub(super) safe: bool,
    /// Latest phase; `none` where nothing would run.
    pub(super) phase: String,
    /// Each schema, in the order of the inputs.
    pub(super) schemas: Vec<SchemaPhases>,
}

/// The phases of one schema.
#[derive(Debug, Serialize)]
pub(super) struct SchemaPhases {
    /// Name in the inputs.
    pub(super) name: String,
    /// Its statements with what is decided about each.
    pub(super) statements: Vec<Judged>,
}

/// A statement and whether it may run.
#[derive(Debug, Serialize)]
pub(super) struct Judged {
    #[serde(flatten)]
    pub(super) statement: ClassifiedStatement,
    /// What is decided.
    #[serde(flatten)]
    pub(super) verdict: Verdict,
}

/// Whether a statement may run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "verdict", content = "reason")]
pub(super) enum Verdict {
    /// The old version does not notice.
    Harmless,
    /// Nothing of the old version was seen to use it, or the input says that it is gone.
    Allowed(String),
    /// The old version still uses it, or that is not known.
    Refused(String),
}

/// Decides about one statement. `observed` is `None` where nothing was looked at.
pub(super) fn judge(
    statement: &ClassifiedStatement,
    old_version: OldVersion,
    observed: Option<&Observed>,
) -> Verdict {
    if !statement.needs_old_version_gone() {
        return Verdict::Harmless;
    }
    match old_version {
        OldVersion::Gone => {
            return Verdict::Allowed("the old version is said to be gone".to_owned());
        }
        OldVersion::Runs => return Verdict::Refused("the old version is said to run".to_owned()),
        OldVersion::Observe => {}
    }
    match observed {
        Some(Observed::Sent { statements, views }) => by_traffic(statement, statements, views),
        Some(Observed::Unknown(reason)) => Verdict::Refused(format!(
            "whether the old version still runs is not known: {reason}"
        )),
        None => Verdict::Refused(
            "whether the old version still runs is not known: no database is given".to_owned(),
        ),
    }
}

fn by_traffic(contract: &ClassifiedStatement, sent: &[Statement], views: &Views) -> Verdict {
    let taken = match &contract.concerns {
        Concerns::These { uses } if !uses.is_empty() => uses,
        Concerns::These { .. } | Concerns::Unknown => {
            let reason = "which statements of the old version it concerns is not known";
            return Verdict::Refused(reason.to_owned());
        }
    };
    let none = BTreeSet::new();
    let needs = |statement: &&Statement| {
        taken.iter().any(|what| {
            let views = views.get(&what.table).unwrap_or(&none);
            uses(statement, what, views)
        })
    };
    let using: Vec<String> = sent
        .iter()
        .filter(needs)
        .map(|one| format!("{} calls of `{}`", one.calls, one.shown()))
        .collect();
    if using.is_empty() {
        let count = sent.len();
        return Verdict::Allowed(format!("none of {count} statements sent meanwhile uses it"));
    }
    Verdict::Refused(format!("it is still used: {}", few(&using, TOLD, ", ")))
}

impl Phases {
    /// The phases of these schemas.
    pub(super) fn of(schemas: Vec<SchemaPhases>) -> Self {
        let all = || schemas.iter().flat_map(|schema| &schema.statements);
        let latest = all().map(|one| one.statement.phase).max();
        Self {
            form: FORM,
            safe: !all().any(|one| matches!(one.verdict, Verdict::Refused(_))),
            phase: latest.map_or_else(|| "none".to_owned(), |phase: Phase| phase.to_string()),
            schemas,
        }
    }

    /// What is refused, a sentence each.
    pub(super) fn refused(&self) -> Vec<String> {
        let all = self.schemas.iter().flat_map(|schema| &schema.statements);
        all.filter_map(|one| match &one.verdict {
            Verdict::Refused(reason) => Some(format!(
                "{}:{}: {} ({}): {reason}",
                one.statement.file.display(),
                one.statement.line,
                one.statement.text,
                one.statement.phase
            )),
            Verdict::Harmless | Verdict::Allowed(_) => None,
        })
        .collect()
    }
}

/// Annotations: an error for each statement that is refused.
pub(super) fn annotate(phases: &Phases, console: &Console) {
    for text in phases.refused() {
        console.error("migrate-gate", text);
    }
}

/// The phases for people.
pub(super) fn markdown(phases: &Phases) -> String {
    let mut text = format!("### Phases: {}\n", phases.phase);
    for schema in &phases.schemas {
        // Writing to a `String` cannot fail.
        let _ = write!(
            text,
            "\n**{}**: {} statements pending\n",
            cell(&schema.name),
            schema.statements.len()
        );
        if schema.statements.is_empty() {
            continue;
        }
        text.push_str("\n| migration | line | statement | phase | may run |\n| --- | --- | --- | --- | --- |\n");
        for one in &schema.statements {
            let may_run = match &one.verdict {
                Verdict::Harmless => "yes".to_owned(),
                Verdict::Allowed(reason) => format!("yes: {}", cell(reason)),
                Verdict::Refused(reason) => format!("**no**: {}", cell(reason)),
            };
            let statement = &one.statement;
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} | {may_run} |",
                cell(&statement.migration),
                statement.line,
                cell(&statement.text),
                statement.phase
            );
        }
    }
    text.push_str("\nWhat functions and triggers of the database use is not seen here.\n");
    text
}
