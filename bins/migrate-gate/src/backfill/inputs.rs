//! Inputs of `backfill`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use switchyard_runner::secret::SECRET;
use switchyard_runner::{Secret, values};

use crate::run::positive;

/// Inputs of `backfill`.
#[derive(Debug, Args)]
pub(crate) struct BackfillArgs {
    /// URL of the database
    #[arg(long, value_name = SECRET)]
    pub(crate) database_url: Secret,
    /// Table to change, as SQL names it: `public."User"`
    #[arg(long)]
    pub(crate) table: String,
    /// Column to go along, as SQL names it: not null, with a unique index of its own
    #[arg(long, default_value = "id")]
    pub(crate) key: String,
    /// What is set, as after SET: `slug = lower(name)`
    #[arg(long)]
    pub(crate) set: String,
    /// Which rows are left to do, as after WHERE: `slug IS NULL`; it must no longer hold for a row that is done
    #[arg(long)]
    pub(crate) r#where: String,
    /// Most rows looked at, and locked, by one transaction
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) batch_size: u32,
    /// Pause between two batches
    #[arg(long, default_value = "100ms", value_parser = values::duration)]
    pub(crate) pause: Duration,
    /// Most rows changed in a second; no limit when it is not given
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_rate: Option<u32>,
    /// Most WAL that a standby may be behind, such as `64MB`; not looked at when it is not given
    #[arg(long)]
    pub(crate) max_lag: Option<Bytes>,
    /// Longest wait for standbys, and for another backfill of the database, before it stops
    #[arg(long, default_value = "5m", value_parser = values::duration)]
    pub(crate) wait_limit: Duration,
    /// Longest wait of a statement for a lock
    #[arg(long, default_value = "2s", value_parser = positive)]
    pub(crate) lock_timeout: Duration,
    /// Longest statement
    #[arg(long, default_value = "15m", value_parser = positive)]
    pub(crate) statement_timeout: Duration,
    /// How often a batch whose locks did not come is tried in all, 1 to 100
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) batch_attempts: u32,
    /// Stop in order after this time, to go on later; no limit when it is not given
    #[arg(long, value_parser = positive)]
    pub(crate) stop_after: Option<Duration>,
    /// File that keeps how far it has come, so that the next run goes on there
    ///
    /// In `RUNNER_TEMP` when it is not given. A file that outlives the runner is better.
    #[arg(long)]
    pub(crate) position_file: Option<PathBuf>,
}

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Bytes(pub(crate) u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes if bytes >= 10 << 20 => write!(f, "{}MB", bytes >> 20),
            bytes if bytes >= 10 << 10 => write!(f, "{}kB", bytes >> 10),
            bytes => write!(f, "{bytes}B"),
        }
    }
}

impl FromStr for Bytes {
    type Err = String;

    /// Units are those of PostgreSQL's settings: multiples of 1024.
    fn from_str(text: &str) -> Result<Self, String> {
        let allowed = || "a size looks like `512kB`, `64MB` or `1GB`".to_owned();
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = text[..digits].parse().map_err(|_| allowed())?;
        let shift = match text[digits..].trim() {
            "B" => 0,
            "kB" => 10,
            "MB" => 20,
            "GB" => 30,
            _ => return Err(allowed()),
        };
        number
            .checked_mul(1 << shift)
            .filter(|bytes| *bytes <= i64::MAX.unsigned_abs())
            .map(Self)
            .ok_or_else(allowed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        assert_eq!("64MB".parse(), Ok(Bytes(64 << 20)));
        assert_eq!("512 kB".parse(), Ok(Bytes(512 << 10)));
        for nonsense in ["64", "64mb", "MB", "-1MB", "99999999999GB", ""] {
            assert!(nonsense.parse::<Bytes>().is_err(), "{nonsense}");
        }
    }
}
