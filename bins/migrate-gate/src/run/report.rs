//! How a run ended: each schema of each database, in the summary, in a file, and as the step's verdict.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;

use serde::Serialize;
use switchyard_runner::summary::cell;
use switchyard_runner::{Context, Failure, Kind};

use crate::backup::Restored;
use crate::report_file;

/// How it ended for one schema.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Ending {
    /// The schema.
    pub(crate) schema: String,
    /// Its database and server.
    pub(crate) database: String,
    /// Migrations that were applied, in order.
    pub(crate) applied: Vec<String>,
    /// Migrations that were not.
    pub(crate) left: Vec<String>,
    /// How often the tool was started.
    pub(crate) attempts: u32,
    /// How it ended.
    #[serde(flatten)]
    pub(crate) conclusion: Conclusion,
    /// What changed in the catalog where that is not what was meant, a line each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) differences: Vec<String>,
    /// File with what the tool wrote, when it was started.
    pub(crate) output: Option<PathBuf>,
    /// Why the backup was not restored, where it should have been.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) not_restored: Option<String>,
    /// What to do besides.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) hints: Vec<String>,
}

impl Ending {
    /// Whether the database may be another than before: then a backup is worth going back to.
    pub(super) fn has_changed_something(&self) -> bool {
        match &self.conclusion {
            Conclusion::Stopped {
                nothing_is_left, ..
            } => !nothing_is_left || !self.applied.is_empty(),
            Conclusion::Verified | Conclusion::Unproved { .. } | Conclusion::Failed { .. } => {
                self.attempts > 0
            }
            Conclusion::NothingPending | Conclusion::NotBegun | Conclusion::Restored { .. } => {
                false
            }
        }
    }

    /// The backup is in the place of the database: what was applied is not any more.
    pub(super) fn take_back(&mut self, restored: &Restored) {
        let taken_back = std::mem::take(&mut self.applied);
        let why = shown(&self.conclusion);
        self.left.splice(0..0, taken_back);
        self.left.dedup();
        self.conclusion = Conclusion::Restored {
            why,
            kept_as: restored.kept_as.clone(),
            lost: restored.lost.clone(),
        };
    }
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(
    tag = "result",
    rename_all = "kebab-case",
    rename_all_fields = "kebab-case"
)]
pub(crate) enum Conclusion {
    /// Everything is applied and proved.
    Verified,
    /// Nothing was pending, and what has to hold holds.
    NothingPending,
    /// The tool stopped.
    Stopped {
        /// What was seen.
        seen: String,
        /// How to go on.
        how_to_go_on: String,
        /// Whether nothing of the migration that stopped is left.
        nothing_is_left: bool,
    },
    /// Everything is applied, and a proof failed.
    Unproved {
        /// Which ones.
        failed: Vec<String>,
    },
    /// A server failed, the journal could not be written, or the run was cancelled.
    Failed {
        /// What failed.
        what: String,
        /// What to do.
        hints: Vec<String>,
        /// The kind of the failure, in a word.
        #[serde(skip)]
        kind: Kind,
    },
    /// It was not begun, because another one had stopped.
    NotBegun,
    /// The backup is in the place of its database.
    Restored {
        /// How it had ended before.
        why: String,
        /// Name of the database that was replaced.
        kept_as: String,
        /// What was written since the backup and is only there.
        lost: Vec<String>,
    },
}

impl Conclusion {
    /// Whether everything is as it was asked for.
    pub(super) fn is_good(&self) -> bool {
        match self {
            Self::Verified | Self::NothingPending => true,
            Self::Stopped { .. }
            | Self::Unproved { .. }
            | Self::Failed { .. }
            | Self::NotBegun
            | Self::Restored { .. } => false,
        }
    }
}

/// How a run ended.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    digest: String,
    schemas: Vec<Ending>,
}

impl Report {
    /// The report over all schemas.
    pub(crate) fn new(digest: String, schemas: Vec<Ending>) -> Self {
        Self { digest, schemas }
    }

    /// Writes the file, the summary and the outputs.
    ///
    /// # Errors
    /// When an output cannot be written.
    pub(crate) fn publish(&self, context: &Context) -> Result<(), Failure> {
        let markdown = self.markdown();
        context.summarize("migrate-gate", &markdown);
        // What ran is told in any case: a report that cannot be written hides no verdict.
        let path = report_file::folder(context).join("migrate-gate-run.json");
        match report_file::write(&path, self) {
            Ok(()) => context.outputs.set("report", path.display())?,
            Err(failure) => context.console.warning("migrate-gate", failure.chain()),
        }
        let applied: usize = self.schemas.iter().map(|one| one.applied.len()).sum();
        let left: usize = self.schemas.iter().map(|one| one.left.len()).sum();
        context.outputs.set("applied", applied)?;
        context.outputs.set("pending", left)?;
        context.outputs.set("digest", &self.digest)?;
        let verified = self.schemas.iter().all(|one| one.conclusion.is_good());
        let mut schemas = self.schemas.iter();
        let restored = schemas.any(|one| matches!(one.conclusion, Conclusion::Restored { .. }));
        context.outputs.set("restored", restored)?;
        context.outputs.set("verified", verified)
    }

    /// Whether the step succeeded.
    ///
    /// # Errors
    /// What stopped, over all schemas, with how to go on.
    pub(crate) fn verdict(&self) -> Result<(), Failure> {
        let mut told = Vec::new();
        let mut hints = Vec::new();
        let mut kind = None;
        for ending in &self.schemas {
            told.extend(ending.not_restored.clone());
            hints.extend(ending.hints.iter().cloned());
            match &ending.conclusion {
                Conclusion::Verified | Conclusion::NothingPending => {}
                Conclusion::Stopped {
                    seen, how_to_go_on, ..
                } => {
                    told.push(seen.clone());
                    hints.push(how_to_go_on.clone());
                    kind.get_or_insert(Kind::Gate);
                }
                Conclusion::Unproved { failed } => {
                    let failed = failed.join("; ");
                    told.push(format!("schema `{}`: {failed}", ending.schema));
                    hints.push(
                        "everything is applied: correct it with a new migration, or restore the backup"
                            .to_owned(),
                    );
                    kind.get_or_insert(Kind::Gate);
                }
                Conclusion::Failed {
                    what,
                    hints: more,
                    kind: of,
                } => {
                    told.push(what.clone());
                    hints.extend(more.iter().cloned());
                    // A cancelled run is that, whatever else went wrong.
                    if kind.is_none() || matches!(of, Kind::Cancelled(_)) {
                        kind = Some(*of);
                    }
                }
                Conclusion::Restored { why, kept_as, .. } => {
                    told.push(format!(
                        "schema `{}`: {why}; the backup is in place again",
                        ending.schema
                    ));
                    hints.push(format!(
                        "what it replaced is the database `{kept_as}`: look at it, then drop it"
                    ));
                    kind.get_or_insert(Kind::Gate);
                }
                Conclusion::NotBegun => {
                    told.push(format!("schema `{}` was not begun", ending.schema))
                }
            }
        }
        let Some(kind) = kind else {
            return Ok(());
        };
        let mut known = BTreeSet::new();
        hints.retain(|hint| known.insert(hint.clone()));
        told.dedup();
        let failure = Failure::message(kind, told.join("; "));
        Err(hints.into_iter().fold(failure, Failure::hint))
    }

    fn markdown(&self) -> String {
        let mut text = String::from(
            "### Migrations\n\n| schema | database | applied | left | result |\n|---|---|---|---|---|\n",
        );
        for ending in &self.schemas {
            // Writing to a `String` cannot fail.
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} | {} |",
                cell(&ending.schema),
                cell(&ending.database),
                cell(&listed(&ending.applied)),
                cell(&listed(&ending.left)),
                cell(&shown(&ending.conclusion)),
            );
        }
        for ending in &self.schemas {
            incident(&mut text, ending);
        }
        text
    }
}

/// What a person needs who takes over.
fn incident(text: &mut String, ending: &Ending) {
    let how = match &ending.conclusion {
        Conclusion::Verified | Conclusion::NothingPending | Conclusion::NotBegun => return,
        Conclusion::Stopped { how_to_go_on, .. } => how_to_go_on.clone(),
        Conclusion::Unproved { .. } => {
            "correct it with a new migration, or restore the backup".to_owned()
        }
        Conclusion::Failed { hints, .. } => hints.join("; "),
        Conclusion::Restored { lost, .. } if lost.is_empty() => {
            "nothing was written since the backup".to_owned()
        }
        Conclusion::Restored { lost, .. } => {
            format!(
                "written since the backup, and only in what was replaced: {}",
                lost.join("; ")
            )
        }
    };
    let _ = writeln!(
        text,
        "\n#### Schema {} stopped\n\n{}\n",
        cell(&ending.schema),
        shown(&ending.conclusion)
    );
    if !how.is_empty() {
        let _ = writeln!(text, "How to go on: {how}\n");
    }
    if !ending.differences.is_empty() {
        let _ = writeln!(
            text,
            "What is not as it was:\n\n```diff\n{}\n```",
            ending.differences.join("\n")
        );
    }
    if let Some(output) = &ending.output {
        let _ = writeln!(text, "\nWhat the tool wrote: `{}`", output.display());
    }
}

fn listed(names: &[String]) -> String {
    if names.is_empty() {
        "–".to_owned()
    } else {
        names.join(", ")
    }
}

fn shown(conclusion: &Conclusion) -> String {
    match conclusion {
        Conclusion::Verified => "applied and verified".to_owned(),
        Conclusion::NothingPending => "nothing was pending".to_owned(),
        Conclusion::Stopped { seen, .. } => seen.clone(),
        Conclusion::Unproved { failed } => format!("applied, not proved: {}", failed.join("; ")),
        Conclusion::Failed { what, .. } => what.clone(),
        Conclusion::NotBegun => "not begun: another schema stopped".to_owned(),
        Conclusion::Restored { why, kept_as, .. } => {
            format!("{why}; the backup is in place again, what it replaced is `{kept_as}`")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ending(schema: &str, conclusion: Conclusion) -> Ending {
        Ending {
            schema: schema.to_owned(),
            database: "shop on db:5432".to_owned(),
            applied: vec!["1_a".to_owned()],
            left: Vec::new(),
            attempts: 1,
            conclusion,
            differences: Vec::new(),
            output: None,
            not_restored: None,
            hints: Vec::new(),
        }
    }

    #[test]
    fn one_schema_that_stops_is_told_with_the_state_of_the_others() {
        let stopped = Conclusion::Stopped {
            seen: "schema `privacy`: migration `2` failed".to_owned(),
            how_to_go_on: "correct it".to_owned(),
            nothing_is_left: true,
        };
        let schemas = vec![
            ending("shop", Conclusion::Verified),
            ending("privacy", stopped),
            ending("organization", Conclusion::NotBegun),
        ];
        let report = Report::new("d".to_owned(), schemas);
        let failure = report.verdict().unwrap_err();
        assert_eq!(failure.kind(), Kind::Gate);
        assert_eq!(
            failure.chain(),
            "schema `privacy`: migration `2` failed; schema `organization` was not begun"
        );
        assert_eq!(failure.hints(), ["correct it"]);
        let markdown = report.markdown();
        assert!(
            markdown.contains("| shop | shop on db:5432 | 1\\_a | – | applied and verified |"),
            "{markdown}"
        );
        assert!(
            markdown.contains("#### Schema privacy stopped"),
            "{markdown}"
        );
    }

    #[test]
    fn nothing_that_failed_is_a_success() {
        let all = Report::new(
            "d".to_owned(),
            vec![
                ending("a", Conclusion::Verified),
                ending("b", Conclusion::NothingPending),
            ],
        );
        assert!(all.verdict().is_ok());
        let failed = vec!["assertion `x` does not hold".to_owned()];
        let unproved = Report::new(
            "d".to_owned(),
            vec![ending("a", Conclusion::Unproved { failed })],
        );
        assert!(unproved.verdict().is_err());
    }
}
