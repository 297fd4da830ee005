//! The ledger of a migration tool, and what it says about the migrations of a folder.
//!
//! Pure: rows and files in, the state of each migration out. It refuses to know connections. A state that is
//! not known is never taken for a good one.

mod prisma;

use std::collections::BTreeSet;
use std::fmt;

use serde::Serialize;
use switchyard_runner::{Failure, Kind};

pub(crate) use prisma::PrismaRow;

use crate::project::{Migration, SchemaName};

/// What was read of a tool's ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ledger {
    /// `_prisma_migrations`, in no particular order.
    Prisma(Vec<PrismaRow>),
    /// The tool's table is not there.
    NoTable(Tables),
    /// The tool is any command: which of its migrations ran is its own knowledge.
    Untracked,
}

/// Whether a schema without a ledger holds anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tables {
    /// Nothing: the first migration can run.
    None,
    /// Something: Prisma refuses it with P3005.
    Some,
}

/// The state of one migration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub(crate) enum State {
    /// It ran, and its file is the one that ran.
    Applied,
    /// It will run.
    Pending,
    /// It will run although a later one ran already.
    OutOfOrder {
        /// The latest one that ran.
        after: String,
    },
    /// It was rolled back, and will run again.
    WillRerun,
    /// It ran, and its file was changed afterwards.
    Edited {
        /// Checksum of what ran.
        applied: String,
        /// Checksum of the file, with LF.
        file: String,
    },
    /// It ran, and there is no file of it.
    Missing,
    /// It began and did not end.
    Failed {
        /// First line of what the tool wrote about it.
        reason: Option<String>,
    },
    /// The tool alone knows whether it ran.
    Untracked,
    /// The ledger contradicts itself.
    Unknown {
        /// How.
        reason: String,
    },
}

impl State {
    /// Whether the tool would run it.
    pub(crate) fn will_run(&self) -> bool {
        match self {
            Self::Pending | Self::OutOfOrder { .. } | Self::WillRerun | Self::Untracked => true,
            Self::Applied
            | Self::Edited { .. }
            | Self::Missing
            | Self::Failed { .. }
            | Self::Unknown { .. } => false,
        }
    }

    /// What is to be thought of it.
    pub(crate) fn verdict(&self) -> Verdict {
        match self {
            Self::Applied | Self::Pending => Verdict::Sound,
            Self::OutOfOrder { .. } | Self::WillRerun | Self::Untracked => Verdict::Doubtful,
            Self::Edited { .. } | Self::Missing | Self::Failed { .. } | Self::Unknown { .. } => {
                Verdict::Broken
            }
        }
    }

    /// What to do about it.
    pub(crate) fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Applied | Self::Pending | Self::Untracked => None,
            Self::OutOfOrder { .. } => Some(
                "it was merged late: make sure that it does not depend on what ran before it, or give it a later name",
            ),
            Self::WillRerun => Some("make sure that nothing of its first run is left"),
            Self::Edited { .. } => Some(
                "take the edit back and put it into a new migration: databases that applied the old file never see it",
            ),
            Self::Missing => {
                Some("bring its folder back from the history, or deploy the commit that has it")
            }
            Self::Failed { .. } => Some(
                "repair the database, then `prisma migrate resolve --rolled-back NAME` or `--applied NAME`",
            ),
            Self::Unknown { .. } => Some("look at the ledger's rows of this migration"),
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Applied => f.write_str("applied"),
            Self::Pending => f.write_str("pending"),
            Self::OutOfOrder { after } => write!(f, "pending, although `{after}` ran already"),
            Self::WillRerun => f.write_str("rolled back, will run again"),
            Self::Edited { .. } => f.write_str("edited after it was applied"),
            Self::Missing => f.write_str("applied, and its folder is missing"),
            Self::Failed { reason: None } => f.write_str("failed"),
            Self::Failed {
                reason: Some(reason),
            } => write!(f, "failed: {reason}"),
            Self::Untracked => f.write_str("known to its tool alone"),
            Self::Unknown { reason } => write!(f, "unknown: {reason}"),
        }
    }
}

/// How good a state is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Verdict {
    /// As it should be.
    Sound,
    /// A person should look.
    Doubtful,
    /// Nothing may run.
    Broken,
}

/// A migration with its state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Standing {
    /// Its name.
    pub(crate) name: String,
    /// Its state.
    #[serde(flatten)]
    pub(crate) state: State,
}

/// The names of the migrations of a schema that its tool would run.
///
/// # Errors
/// Kind gate when the ledger is broken, naming the first migration that is.
pub(crate) fn will_run(
    schema: &SchemaName,
    standings: &[Standing],
) -> Result<BTreeSet<String>, Failure> {
    let mut all = standings.iter();
    let broken = all.find(|one| one.state.verdict() == Verdict::Broken);
    if let Some(broken) = broken {
        let text = format!(
            "nothing may run: schema `{schema}`: `{}` is {}",
            broken.name, broken.state
        );
        return Err(Failure::message(Kind::Gate, text).maybe_hint(broken.state.hint()));
    }
    let names = standings.iter().filter(|one| one.state.will_run());
    Ok(names.map(|one| one.name.clone()).collect())
}

/// Says the state of every migration that a folder or a ledger knows, by name.
pub(crate) fn standings(ledger: &Ledger, migrations: &[Migration]) -> Vec<Standing> {
    match ledger {
        Ledger::Prisma(rows) => prisma::standings(rows, migrations),
        Ledger::NoTable(Tables::None) => all(migrations, &State::Pending),
        Ledger::NoTable(Tables::Some) => all(
            migrations,
            &State::Unknown {
                reason: "the schema has tables and no ledger (P3005)".to_owned(),
            },
        ),
        Ledger::Untracked => all(migrations, &State::Untracked),
    }
}

fn all(migrations: &[Migration], state: &State) -> Vec<Standing> {
    let standing = |migration: &Migration| Standing {
        name: migration.name.clone(),
        state: state.clone(),
    };
    migrations.iter().map(standing).collect()
}
