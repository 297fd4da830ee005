//! The files that commands leave in the runner's folder for temporary files.

use std::path::{Path, PathBuf};

use serde::Serialize;
use switchyard_runner::{Console, Context, Failure};

/// The runner's folder for temporary files; the machine's own outside of a job.
pub(crate) fn folder(context: &Context) -> PathBuf {
    let folder = context.environment.get("RUNNER_TEMP").map(PathBuf::from);
    folder.unwrap_or_else(std::env::temp_dir)
}

/// The file that was asked for, or one of this name in the runner's folder.
pub(crate) fn path(asked: Option<&Path>, name: &str, context: &Context) -> PathBuf {
    asked.map_or_else(|| folder(context).join(name), Path::to_owned)
}

/// What a command ends with: what it decided, and where that is good, whether its report could be written. A report
/// that could not be written is warned of beside a failure, and never told in its place.
///
/// # Errors
/// The first of the two.
pub(crate) fn beside(
    written: Result<(), Failure>,
    decided: Result<(), Failure>,
    console: &Console,
) -> Result<(), Failure> {
    match (decided, written) {
        (Ok(()), written) => written,
        (Err(failure), Ok(())) => Err(failure),
        (Err(failure), Err(unwritten)) => {
            console.warning("migrate-gate", unwritten.chain());
            Err(failure)
        }
    }
}

/// Writes a report as JSON.
///
/// # Errors
/// Kind input, naming the file.
pub(crate) fn write(path: &Path, report: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(report)
        .map_err(|cause| Failure::bug(anyhow::Error::new(cause).context("write the report")))?;
    std::fs::write(path, text + "\n").map_err(|cause| {
        let text = format!("write the report `{}`", path.display());
        Failure::input(anyhow::Error::new(cause).context(text))
    })
}
