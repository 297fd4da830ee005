//! Inputs of `rehearse`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{ArgAction, Args, ValueEnum};
use switchyard_runner::secret::SECRET;
use switchyard_runner::{List, Secret, values};

use crate::database::DatabaseArgs;
use crate::inputs::ProjectArgs;
use crate::run::positive;

/// Inputs of `rehearse`.
#[derive(Debug, Args)]
pub(crate) struct RehearseArgs {
    #[command(flatten)]
    pub(crate) project: ProjectArgs,
    /// Where production is; its schema, ledger, sizes and statements are read, nothing is changed.
    #[command(flatten)]
    pub(crate) database: DatabaseArgs,
    #[command(flatten)]
    pub(crate) scratch: ScratchArgs,
    /// Names of the migrations to rehearse, where the tool alone knows which are pending (`tool: command`)
    #[arg(long, default_value = "")]
    pub(crate) migrations: List<String>,
    /// Longest time that a migration may keep readers or writers of a table waiting
    #[arg(long, default_value = "500ms", value_parser = values::duration)]
    pub(crate) budget: Duration,
    /// Longest wait of a statement for a lock
    #[arg(long, default_value = "2s", value_parser = positive)]
    pub(crate) lock_timeout: Duration,
    /// Longest statement
    #[arg(long, default_value = "15m", value_parser = positive)]
    pub(crate) statement_timeout: Duration,
    /// Most tables that one migration is probed on; each takes two sessions
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u16).range(1..=200))]
    pub(crate) probed_tables: u16,
    /// File with the statements of the running version, where production has no `pg_stat_statements`
    ///
    /// Either SQL, one statement per `;`, or JSON lines `{"text": "…", "calls": 12, "database": "shop"}`; `calls` is
    /// 1 and `database` every one when it is not given. Parameters are `$1`, `$2`, …
    #[arg(long)]
    pub(crate) queries: Option<PathBuf>,
    /// Smallest share of the calls whose statements have to be checked, in percent
    #[arg(long, default_value_t = Percent(80))]
    pub(crate) min_coverage: Percent,
    /// What is done when something could not be checked
    #[arg(long, value_enum, default_value = "fail")]
    pub(crate) unverifiable: UnverifiableChoice,
    /// File for the rehearsal, JSON, which `run` compares with; one in RUNNER_TEMP when it is not given
    #[arg(long)]
    pub(crate) rehearsal_file: Option<PathBuf>,
}

/// Where the copies are.
#[derive(Debug, Args)]
pub(crate) struct ScratchArgs {
    /// URL of a restored copy of the database, on another server or for a role that may do nothing else
    ///
    /// The pending migrations are applied to it, so it is of use for one rehearsal.
    #[arg(long, value_name = SECRET)]
    pub(crate) scratch_url: Option<Secret>,
    /// URLs of several copies, one `KEY=URL` a line; the keys are those of `url-env` of the schemas
    #[arg(long, value_name = SECRET)]
    pub(crate) scratch_urls: Option<Secret>,
    /// Copies that `backup` kept, as its output `copies` names them: `DATABASE=COPY`, one a line
    ///
    /// `scratch-url` is then the URL of any other database of the server that they are on, for the role that restored
    /// them (its CREATEDB is all that it may have). They are taken away when the rehearsal is over.
    #[arg(long, default_value = "")]
    pub(crate) copies: List<KeptCopy>,
    /// Take a role that could reach more than the copy: rehearsed SQL can do whatever the role may do
    #[arg(long, value_parser = values::boolean, default_value = "false", num_args = 0..=1, default_missing_value = "true", action = ArgAction::Set)]
    pub(crate) allow_privileged_scratch: bool,
}

/// A copy that an earlier step restored and kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeptCopy {
    /// Name of the original.
    pub(crate) database: String,
    /// Name of the copy.
    pub(crate) copy: String,
}

impl FromStr for KeptCopy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // The name of a copy has no `=`; a database's may have one.
        match text.rsplit_once('=') {
            Some((database, copy)) if !database.is_empty() && !copy.is_empty() => Ok(Self {
                database: database.to_owned(),
                copy: copy.to_owned(),
            }),
            Some(_) | None => Err(format!("`{text}` is not `DATABASE=COPY`")),
        }
    }
}

/// What is done when something could not be checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum UnverifiableChoice {
    /// The gate says no
    Fail,
    /// It is said, and output `safe` is `false`
    Warn,
}

/// A share: 0 to 100.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Percent(u8);

impl Percent {
    /// Whether `part` of `whole` is at least this share. Nothing of nothing is not.
    pub(crate) fn is_reached(self, part: u64, whole: u64) -> bool {
        whole > 0 && u128::from(part) * 100 >= u128::from(whole) * u128::from(self.0)
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl FromStr for Percent {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim_end_matches('%').parse() {
            Ok(percent @ 0..=100) => Ok(Self(percent)),
            Ok(_) | Err(_) => Err("a share is a whole number from 0 to 100".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_copy_is_read_as_the_backup_names_it() {
        let copy: KeptCopy = "a=b=switchyard_a_b_1".parse().unwrap();
        assert_eq!((&*copy.database, &*copy.copy), ("a=b", "switchyard_a_b_1"));
        assert!("shop".parse::<KeptCopy>().is_err());
        assert!("=x".parse::<KeptCopy>().is_err());
    }

    #[test]
    fn nothing_of_nothing_is_no_share() {
        assert!(!Percent(0).is_reached(0, 0));
        assert!(Percent(80).is_reached(80, 100));
        assert!(!Percent(80).is_reached(79, 100));
        assert!("101".parse::<Percent>().is_err());
    }
}
