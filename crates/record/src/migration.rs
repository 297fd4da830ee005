//! The journal of the migrations that belong to a deployment: what was about to be done to which database, so that
//! another runner knows it when this one is gone. Names, numbers and digests; no SQL, no rows, no URL.
//!
//! Pure. What a later event makes needless goes, so that the record stays small however many migrations there are.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// One line of the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MigrationEntry {
    /// When it was written.
    pub at: Timestamp,
    /// Database and server, such as `shop on db.example:5432`.
    pub database: String,
    /// What happened.
    #[serde(flatten)]
    pub event: MigrationEvent,
}

/// What happens when migrations are run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    tag = "event",
    rename_all = "kebab-case",
    rename_all_fields = "kebab-case"
)]
pub enum MigrationEvent {
    /// The run has the database's lock and is about to change it.
    Begun {
        /// Digest of what was approved.
        digest: String,
        /// Digest of the migrations' files alone.
        files: String,
    },
    /// The time limits of a role in the database are about to be changed.
    LimitsSet {
        /// The role.
        role: String,
        /// The limits that it had.
        before: BTreeMap<String, String>,
    },
    /// They are as they were.
    LimitsTakenBack,
    /// A tool is about to be started.
    Attempt {
        /// The schema.
        schema: String,
        /// Number of the attempt, the first being 1.
        number: u32,
        /// The catalog's fingerprint before it.
        fingerprint: String,
        /// Migrations that are pending, in order.
        pending: Vec<String>,
    },
    /// The tool has ended.
    Ended {
        /// The schema.
        schema: String,
        /// How, in words.
        end: String,
    },
    /// A failed row of the ledger is about to be marked as rolled back.
    Resolving {
        /// The schema.
        schema: String,
        /// The migration.
        migration: String,
    },
    /// Everything pending of the schema is applied and proved.
    Verified {
        /// The schema.
        schema: String,
    },
    /// The schema stopped.
    Stopped {
        /// The schema.
        schema: String,
        /// Why, in words.
        why: String,
    },
    /// Nothing is left to do in the database.
    Done,
}

impl MigrationEvent {
    /// Whether an earlier event of the same database tells nothing any more once this one has happened.
    fn makes_needless(&self, earlier: &Self) -> bool {
        match self {
            // What is left to undo outlives the run that left it.
            Self::Begun { .. } => !matches!(
                earlier,
                Self::LimitsSet { .. } | Self::LimitsTakenBack | Self::Attempt { .. }
            ),
            Self::LimitsSet { role, .. } => {
                matches!(earlier, Self::LimitsSet { role: of, .. } if of == role)
            }
            Self::LimitsTakenBack => matches!(earlier, Self::LimitsSet { .. }),
            Self::Attempt { .. } => earlier.is_of_an_attempt(),
            Self::Ended { .. } | Self::Resolving { .. } => {
                matches!(earlier, Self::Ended { .. } | Self::Resolving { .. })
            }
            Self::Verified { .. } => {
                earlier.is_of_an_attempt() || matches!(earlier, Self::Stopped { .. })
            }
            Self::Stopped { .. } => matches!(earlier, Self::Stopped { .. }),
            Self::Done => !matches!(earlier, Self::Begun { .. } | Self::Verified { .. }),
        }
    }

    fn is_of_an_attempt(&self) -> bool {
        matches!(
            self,
            Self::Attempt { .. } | Self::Ended { .. } | Self::Resolving { .. }
        )
    }
}

/// Adds an entry, and lets go what it makes needless. What `open` gives is the same as if nothing had gone.
pub(crate) fn add(entries: &mut Vec<MigrationEntry>, entry: MigrationEntry) {
    entries.retain(|earlier| {
        earlier.database != entry.database || !entry.event.makes_needless(&earlier.event)
    });
    entries.push(entry);
}

/// Events of a database since it was last done with, oldest first: empty when nothing was left open.
#[must_use]
pub fn open_migrations<'a>(
    entries: &'a [MigrationEntry],
    database: &str,
) -> Vec<&'a MigrationEvent> {
    let of_database = entries.iter().filter(|entry| entry.database == database);
    let events: Vec<&MigrationEvent> = of_database.map(|entry| &entry.event).collect();
    let done = events
        .iter()
        .rposition(|event| matches!(event, MigrationEvent::Done));
    events[done.map_or(0, |at| at + 1)..].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHOP: &str = "shop on db:5432";

    fn begun(digest: &str) -> MigrationEvent {
        MigrationEvent::Begun {
            digest: digest.to_owned(),
            files: "f".to_owned(),
        }
    }

    fn attempt(number: u32) -> MigrationEvent {
        MigrationEvent::Attempt {
            schema: "main".to_owned(),
            number,
            fingerprint: "f".to_owned(),
            pending: vec!["1_a".to_owned()],
        }
    }

    fn limits(role: &str) -> MigrationEvent {
        MigrationEvent::LimitsSet {
            role: role.to_owned(),
            before: BTreeMap::new(),
        }
    }

    fn schema() -> String {
        "main".to_owned()
    }

    fn journal(events: &[MigrationEvent]) -> Vec<MigrationEntry> {
        let mut entries = Vec::new();
        for event in events {
            let entry = MigrationEntry {
                at: Timestamp::UNIX_EPOCH,
                database: SHOP.to_owned(),
                event: event.clone(),
            };
            add(&mut entries, entry);
        }
        entries
    }

    #[test]
    fn a_hundred_migrations_leave_as_little_as_one() {
        let mut events = vec![begun("d")];
        for number in 1..=100 {
            let (schema, end) = (schema(), "success".to_owned());
            events.extend([attempt(number), MigrationEvent::Ended { schema, end }]);
        }
        let entries = journal(&events);
        assert_eq!(entries.len(), 3, "{entries:?}");
        let open = open_migrations(&entries, SHOP);
        assert_eq!(open[..2], [&begun("d"), &attempt(100)]);
    }

    #[test]
    fn what_a_killed_run_left_to_undo_outlives_the_next_begin() {
        let entries = journal(&[begun("a"), limits("app"), attempt(1), begun("b")]);
        let expected = [limits("app"), attempt(1), begun("b")];
        assert_eq!(
            open_migrations(&entries, SHOP),
            expected.iter().collect::<Vec<_>>()
        );
        let taken_back = [
            limits("app"),
            limits("job"),
            MigrationEvent::LimitsTakenBack,
        ];
        assert_eq!(journal(&taken_back).len(), 1);
    }

    #[test]
    fn the_end_leaves_what_was_applied_and_nothing_open() {
        let entries = journal(&[
            begun("a"),
            limits("app"),
            attempt(1),
            MigrationEvent::Verified { schema: schema() },
            MigrationEvent::LimitsTakenBack,
            MigrationEvent::Done,
        ]);
        assert!(open_migrations(&entries, SHOP).is_empty());
        let left: Vec<&MigrationEvent> = entries.iter().map(|entry| &entry.event).collect();
        let verified = MigrationEvent::Verified { schema: schema() };
        assert_eq!(left, [&begun("a"), &verified, &MigrationEvent::Done]);
        assert!(open_migrations(&entries, "other on db:5432").is_empty());
    }
}
