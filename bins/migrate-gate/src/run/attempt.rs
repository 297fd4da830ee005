//! What follows from one attempt of a tool: nothing more, another attempt, or an end that a person reads.
//! Pure: what was observed comes in, the next step goes out.

use std::time::Duration;

/// How the tool ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ToolEnd {
    /// With 0.
    Success,
    /// With another code.
    Code(i32),
    /// A signal that was not ours ended it.
    Killed,
    /// It took longer than it may.
    TimedOut,
}

/// One migration in the ledger, as far as an attempt changed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It is applied.
    Applied,
    /// It is still to be applied.
    Pending,
    /// The ledger has it begun and not ended.
    Failed,
}

/// What is known of one pending migration after the attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// Its name.
    pub(crate) name: String,
    /// Where it stands.
    pub(crate) standing: Standing,
    /// Whether rows may have changed although the catalog has not: it writes rows, or is not known.
    pub(crate) may_write_rows: bool,
}

/// How the catalog compares with what it was when a migration began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Catalog {
    /// Nothing is left of it.
    AsBefore,
    /// Something is.
    Changed,
    /// Other migrations were applied in the same attempt, so nobody knows what it was.
    NotComparable,
}

/// Everything that was observed of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Observed {
    /// How the tool ended.
    pub(crate) end: ToolEnd,
    /// Whether the server ended a statement because its lock did not come in time (SQLSTATE 55P03).
    pub(crate) lock_timed_out: bool,
    /// Each migration that was pending before, in order. `None` for tools whose ledger is not known.
    pub(crate) migrations: Option<Vec<Outcome>>,
    /// How the catalog compares with what it was when the first migration that is not applied began.
    pub(crate) catalog: Catalog,
    /// Indexes that became invalid.
    pub(crate) invalid_indexes: Vec<String>,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Next {
    /// Everything is applied: prove it.
    Verify,
    /// Nothing came of it: take the ledger's failed rows back and try again.
    Retry {
        /// Migrations that the ledger has as failed.
        failed: Vec<String>,
    },
    /// It stopped.
    Stop(Stopped),
}

/// Why it stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stopped {
    /// The lock did not come in any attempt.
    LockTimedOut {
        /// Migrations that the ledger has as failed, with nothing of them done.
        failed: Vec<String>,
    },
    /// The tool succeeded, and the ledger says otherwise.
    Incomplete {
        /// Migrations that are not applied.
        missing: Vec<String>,
    },
    /// A migration failed and left nothing behind but its row in the ledger.
    FailedCleanly {
        /// The migration.
        migration: Option<String>,
    },
    /// A migration failed half-way: the catalog is not what it was.
    FailedHalfWay {
        /// The migration.
        migration: Option<String>,
    },
    /// The catalog is as before, but rows may have been written.
    FailedPerhapsWithRows {
        /// The migration.
        migration: Option<String>,
    },
    /// A migration failed after others had been applied: what is left of it is not known.
    FailedUnproven {
        /// The migration.
        migration: Option<String>,
    },
    /// Indexes were left invalid.
    InvalidIndexes(Vec<String>),
}

impl Stopped {
    /// Whether nothing of the migration that stopped is left in the database.
    pub(crate) fn leaves_nothing(&self) -> bool {
        match self {
            Self::LockTimedOut { .. } | Self::FailedCleanly { .. } => true,
            Self::Incomplete { .. }
            | Self::FailedHalfWay { .. }
            | Self::FailedPerhapsWithRows { .. }
            | Self::FailedUnproven { .. }
            | Self::InvalidIndexes(_) => false,
        }
    }
}

/// How often, and how long between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Patience {
    /// Attempts in all; at least one.
    pub(crate) attempts: u32,
    /// Pause before the second one; doubled for each further one, up to a minute.
    pub(crate) pause: Duration,
}

impl Patience {
    /// The pause after an attempt, the first being 1.
    pub(crate) fn pause_after(&self, attempt: u32) -> Duration {
        let factor = 2_u32.saturating_pow(attempt.saturating_sub(1));
        self.pause
            .saturating_mul(factor)
            .min(Duration::from_secs(60))
    }
}

/// Decides what follows from attempt number `attempt`, the first being 1.
pub(crate) fn next(observed: &Observed, attempt: u32, patience: &Patience) -> Next {
    if !observed.invalid_indexes.is_empty() {
        return Next::Stop(Stopped::InvalidIndexes(observed.invalid_indexes.clone()));
    }
    let missing = names(observed, |standing| *standing != Standing::Applied);
    match observed.end {
        ToolEnd::Success if missing.is_empty() => Next::Verify,
        ToolEnd::Success => Next::Stop(Stopped::Incomplete { missing }),
        ToolEnd::Code(_) | ToolEnd::Killed | ToolEnd::TimedOut => {
            failed(observed, attempt, patience)
        }
    }
}

fn failed(observed: &Observed, attempt: u32, patience: &Patience) -> Next {
    let migration = names(observed, |standing| *standing != Standing::Applied)
        .into_iter()
        .next();
    match observed.catalog {
        Catalog::AsBefore => {}
        Catalog::Changed => return Next::Stop(Stopped::FailedHalfWay { migration }),
        Catalog::NotComparable => return Next::Stop(Stopped::FailedUnproven { migration }),
    }
    // Without a ledger nobody knows how far it came: only the catalog speaks.
    let stopped_at = observed.migrations.as_ref().and_then(|migrations| {
        let mut open = migrations.iter();
        open.find(|migration| migration.standing != Standing::Applied)
    });
    if stopped_at.is_none_or(|stopped_at| stopped_at.may_write_rows) {
        return Next::Stop(Stopped::FailedPerhapsWithRows { migration });
    }
    let failed = names(observed, |standing| *standing == Standing::Failed);
    match (observed.lock_timed_out, attempt < patience.attempts) {
        (true, true) => Next::Retry { failed },
        (true, false) => Next::Stop(Stopped::LockTimedOut { failed }),
        (false, _) => Next::Stop(Stopped::FailedCleanly { migration }),
    }
}

fn names(observed: &Observed, of: impl Fn(&Standing) -> bool) -> Vec<String> {
    let migrations = observed.migrations.iter().flatten();
    migrations
        .filter(|migration| of(&migration.standing))
        .map(|migration| migration.name.clone())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience {
        attempts: 3,
        pause: Duration::from_secs(5),
    };

    fn migration(name: &str, standing: Standing) -> Outcome {
        Outcome {
            name: name.to_owned(),
            standing,
            may_write_rows: false,
        }
    }

    fn observed(end: ToolEnd, standings: &[Standing]) -> Observed {
        let migrations = ["1", "2", "3"].iter().zip(standings);
        Observed {
            end,
            lock_timed_out: false,
            migrations: Some(
                migrations
                    .map(|(name, standing)| migration(name, standing.clone()))
                    .collect(),
            ),
            catalog: Catalog::AsBefore,
            invalid_indexes: Vec::new(),
        }
    }

    use Standing::{Applied, Failed, Pending};

    #[test]
    fn a_success_counts_when_the_ledger_agrees() {
        let all = observed(ToolEnd::Success, &[Applied, Applied]);
        assert_eq!(next(&all, 1, &PATIENCE), Next::Verify);
        let some = observed(ToolEnd::Success, &[Applied, Pending]);
        let missing = vec!["2".to_owned()];
        assert_eq!(
            next(&some, 1, &PATIENCE),
            Next::Stop(Stopped::Incomplete { missing })
        );
    }

    #[test]
    fn a_success_of_a_tool_without_a_known_ledger_is_to_be_proved_otherwise() {
        let mut unknown = observed(ToolEnd::Success, &[]);
        unknown.migrations = None;
        assert_eq!(next(&unknown, 1, &PATIENCE), Next::Verify);
    }

    #[test]
    fn a_lock_that_did_not_come_is_tried_again_and_then_given_up() {
        let mut timed_out = observed(ToolEnd::Code(1), &[Applied, Failed, Pending]);
        timed_out.lock_timed_out = true;
        let failed = vec!["2".to_owned()];
        let retry = Next::Retry {
            failed: failed.clone(),
        };
        assert_eq!(next(&timed_out, 1, &PATIENCE), retry);
        assert_eq!(next(&timed_out, 2, &PATIENCE), retry);
        let given_up = Next::Stop(Stopped::LockTimedOut { failed });
        assert_eq!(next(&timed_out, 3, &PATIENCE), given_up);
    }

    #[test]
    fn nothing_is_tried_again_over_a_changed_catalog_or_over_rows() {
        let mut timed_out = observed(ToolEnd::Code(1), &[Failed]);
        timed_out.lock_timed_out = true;
        let migration = Some("1".to_owned());
        let mut changed = timed_out.clone();
        changed.catalog = Catalog::Changed;
        assert_eq!(
            next(&changed, 1, &PATIENCE),
            Next::Stop(Stopped::FailedHalfWay {
                migration: migration.clone()
            })
        );
        let mut unproven = timed_out.clone();
        unproven.catalog = Catalog::NotComparable;
        assert_eq!(
            next(&unproven, 1, &PATIENCE),
            Next::Stop(Stopped::FailedUnproven {
                migration: migration.clone()
            })
        );
        let mut rows = timed_out.clone();
        rows.migrations.as_mut().unwrap()[0].may_write_rows = true;
        assert_eq!(
            next(&rows, 1, &PATIENCE),
            Next::Stop(Stopped::FailedPerhapsWithRows { migration })
        );
        let mut unknown = timed_out;
        unknown.migrations = None;
        assert_eq!(
            next(&unknown, 1, &PATIENCE),
            Next::Stop(Stopped::FailedPerhapsWithRows { migration: None })
        );
    }

    #[test]
    fn another_failure_is_not_tried_again() {
        let failed = observed(ToolEnd::Code(1), &[Applied, Failed]);
        assert_eq!(
            next(&failed, 1, &PATIENCE),
            Next::Stop(Stopped::FailedCleanly {
                migration: Some("2".to_owned())
            })
        );
    }

    #[test]
    fn an_invalid_index_stops_even_a_success() {
        let mut done = observed(ToolEnd::Success, &[Applied]);
        done.invalid_indexes = vec!["orders_at".to_owned()];
        let stopped = Stopped::InvalidIndexes(vec!["orders_at".to_owned()]);
        assert_eq!(next(&done, 1, &PATIENCE), Next::Stop(stopped));
    }

    #[test]
    fn pauses_grow_to_a_minute() {
        let pauses: Vec<u64> = (1..=5)
            .map(|attempt| PATIENCE.pause_after(attempt).as_secs())
            .collect();
        assert_eq!(pauses, [5, 10, 20, 40, 60]);
    }
}
