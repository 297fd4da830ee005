//! What a rehearsal leaves: its files, the summary, annotations, outputs, and the verdict.

use std::path::{Path, PathBuf};

use switchyard_runner::{Context, Failure, Kind};

use super::inputs::{RehearseArgs, UnverifiableChoice};
use super::report::Rehearsal;
use super::show;
use crate::report_file;
use crate::shorten::first;

/// Where the rehearsal and its report are written.
pub(super) struct Files {
    rehearsal: PathBuf,
    report: PathBuf,
}

impl Files {
    /// Finds them, and makes sure that they can be written.
    ///
    /// # Errors
    /// Kind input, naming the file.
    pub(super) fn of(args: &RehearseArgs, context: &Context) -> Result<Self, Failure> {
        let asked = args.rehearsal_file.as_deref();
        let rehearsal = report_file::path(asked, "migrate-gate-rehearsal.json", context);
        // Beside a file of the user's, one of the same name would be the user's too.
        let report = report_file::path(None, "migrate-gate-rehearsal.md", context);
        for file in [&rehearsal, &report] {
            // Refused before an hour of work, not after it.
            std::fs::write(file, "").map_err(|cause| unwritable(file, cause))?;
        }
        Ok(Self { rehearsal, report })
    }

    fn write(&self, json: &str, markdown: &str) -> Result<(), Failure> {
        for (file, text) in [(&self.rehearsal, json), (&self.report, markdown)] {
            std::fs::write(file, format!("{text}\n")).map_err(|cause| unwritable(file, cause))?;
        }
        Ok(())
    }
}

fn unwritable(file: &Path, cause: std::io::Error) -> Failure {
    let text = format!("write `{}`", file.display());
    Failure::input(anyhow::Error::new(cause).context(text))
}

/// Writes everything, and says no where something speaks against it.
///
/// # Errors
/// Kind gate, with the first objection or what could not be checked.
pub(super) fn conclude(
    args: &RehearseArgs,
    rehearsal: &Rehearsal,
    files: &Files,
    context: &Context,
) -> Result<(), Failure> {
    let json = serde_json::to_string_pretty(rehearsal)
        .map_err(|cause| Failure::bug(anyhow::Error::new(cause).context("write the rehearsal")))?;
    let markdown = show::markdown(rehearsal);
    let written = files.write(&json, &markdown);
    show::annotate(rehearsal, args.unverifiable, &context.console);
    context.console.info(&markdown);
    context.summarize("migrate-gate", &markdown);
    context.outputs.set("safe", rehearsal.safe)?;
    context.outputs.set("report", files.report.display())?;
    context
        .outputs
        .set("rehearsal", files.rehearsal.display())?;
    let verdict = verdict(rehearsal, args.unverifiable);
    report_file::beside(written, verdict, &context.console)
}

fn verdict(rehearsal: &Rehearsal, unverifiable: UnverifiableChoice) -> Result<(), Failure> {
    if let Some(first) = first(&rehearsal.objections()) {
        return Err(Failure::message(Kind::Gate, first));
    }
    let reasons = rehearsal.unverifiable();
    match (unverifiable, reasons.is_empty()) {
        (UnverifiableChoice::Fail, false) => Err(Failure::message(
            Kind::Gate,
            format!("not everything could be checked: {}", reasons.join("; ")),
        )
        .hint("give what is missing, or `unverifiable: warn` to go on without it")),
        (UnverifiableChoice::Warn, _) | (UnverifiableChoice::Fail, true) => Ok(()),
    }
}
