//! Prisma's ledger, `_prisma_migrations`: the state of each migration from its rows and its folder.
//!
//! A migration may have several rows: one for each time that it was begun. Rows that were rolled back count for
//! nothing. Source: `diagnose_migration_history` of prisma-engines, and what Prisma 6 wrote into real ledgers.

use std::collections::BTreeMap;

use super::{Standing, State};
use crate::project::Migration;

/// A row of the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PrismaRow {
    /// `migration_name`.
    pub(crate) name: String,
    /// `checksum`: lowercase hexadecimal SHA-256 of the file.
    pub(crate) checksum: String,
    /// Whether `finished_at` is set.
    pub(crate) is_finished: bool,
    /// Whether `rolled_back_at` is set.
    pub(crate) is_rolled_back: bool,
    /// `logs`: what went wrong.
    pub(crate) logs: Option<String>,
}

/// Says the state of every migration, by name.
pub(super) fn standings(rows: &[PrismaRow], migrations: &[Migration]) -> Vec<Standing> {
    let mut known: BTreeMap<&str, (Option<&Migration>, Vec<&PrismaRow>)> = BTreeMap::new();
    for migration in migrations {
        known.entry(&migration.name).or_default().0 = Some(migration);
    }
    for row in rows {
        known.entry(&row.name).or_default().1.push(row);
    }
    let latest = latest_that_ran(rows);
    let mut standings = Vec::new();
    for (name, (migration, rows)) in known {
        let Some(state) = state(migration, &rows) else {
            continue;
        };
        let state = match latest {
            Some(latest) if state == State::Pending && name < latest => State::OutOfOrder {
                after: latest.to_owned(),
            },
            _ => state,
        };
        standings.push(Standing {
            name: name.to_owned(),
            state,
        });
    }
    standings
}

fn latest_that_ran(rows: &[PrismaRow]) -> Option<&str> {
    let ran = rows
        .iter()
        .filter(|row| row.is_finished && !row.is_rolled_back);
    ran.map(|row| row.name.as_str()).max()
}

/// The state by the rows of one migration; `None` for one that was rolled back and taken out of the folder.
fn state(migration: Option<&Migration>, rows: &[&PrismaRow]) -> Option<State> {
    let counting: Vec<_> = rows.iter().filter(|row| !row.is_rolled_back).collect();
    match (counting.as_slice(), migration) {
        ([], None) => None,
        ([], Some(_)) if rows.is_empty() => Some(State::Pending),
        ([], Some(_)) => Some(State::WillRerun),
        ([row], _) if !row.is_finished => Some(State::Failed {
            reason: first_line(row.logs.as_deref()),
        }),
        ([_], None) => Some(State::Missing),
        ([row], Some(migration)) => Some(compared(row, migration)),
        (several, _) if several.iter().any(|row| !row.is_finished) => Some(State::Failed {
            reason: Some("begun again after it was applied".to_owned()),
        }),
        (several, _) => Some(State::Unknown {
            reason: format!("applied {} times", several.len()),
        }),
    }
}

fn compared(row: &PrismaRow, migration: &Migration) -> State {
    let is_checksum = row.checksum.len() == 64
        && row
            .checksum
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if !is_checksum {
        return State::Unknown {
            reason: "the ledger holds no SHA-256 of what ran".to_owned(),
        };
    }
    let [unix, windows] = migration.checksums();
    if row.checksum == unix || row.checksum == windows {
        State::Applied
    } else {
        State::Edited {
            applied: row.checksum.clone(),
            file: unix,
        }
    }
}

/// The first line that says something; a stack follows.
fn first_line(logs: Option<&str>) -> Option<String> {
    let mut lines = logs?.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.next().map(|line| line.chars().take(200).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::project::Wrapping;

    fn migration(name: &str, text: &str) -> Migration {
        Migration {
            name: name.into(),
            file: "migration.sql".into(),
            text: text.into(),
            forward: 0..text.len(),
            wrapping: Wrapping::OneString,
        }
    }

    fn applied(name: &str, text: &str) -> PrismaRow {
        PrismaRow {
            name: name.into(),
            checksum: migration(name, text).checksums()[0].clone(),
            is_finished: true,
            is_rolled_back: false,
            logs: None,
        }
    }

    fn failed(name: &str, text: &str) -> PrismaRow {
        PrismaRow {
            is_finished: false,
            logs: Some("\n  Database error code: 55P03\n  at x".into()),
            ..applied(name, text)
        }
    }

    fn rolled_back(row: PrismaRow) -> PrismaRow {
        PrismaRow {
            is_rolled_back: true,
            ..row
        }
    }

    fn told(rows: &[PrismaRow], migrations: &[Migration]) -> Vec<String> {
        let standings = standings(rows, migrations);
        let line = |one: &Standing| format!("{} {}", one.name, one.state);
        standings.iter().map(line).collect()
    }

    #[test]
    fn what_ran_is_applied_and_the_rest_is_pending() {
        let migrations = [migration("1", "A"), migration("2", "B")];
        assert_eq!(
            told(&[applied("1", "A")], &migrations),
            ["1 applied", "2 pending"]
        );
        assert_eq!(told(&[], &migrations), ["1 pending", "2 pending"]);
    }

    #[test]
    fn line_ends_are_no_edit() {
        let windows = migration("1", "A\r\nB\r\n");
        let unix = migration("1", "A\nB\n");
        let mut row = applied("1", "A\nB\n");
        assert_eq!(
            told(std::slice::from_ref(&row), std::slice::from_ref(&windows)),
            ["1 applied"]
        );
        row.checksum = windows.checksums()[1].clone();
        assert_eq!(told(&[row], &[unix]), ["1 applied"]);
    }

    #[test]
    fn an_edit_after_the_fact_is_seen_with_both_checksums() {
        let standings = standings(&[applied("1", "A")], &[migration("1", "B")]);
        let State::Edited { applied, file } = &standings[0].state else {
            panic!("{standings:?}");
        };
        assert_ne!(applied, file);
    }

    #[test]
    fn what_is_not_in_the_folder_is_missing() {
        assert_eq!(
            told(
                &[applied("1", "A"), applied("2", "B")],
                &[migration("2", "B")]
            ),
            ["1 applied, and its folder is missing", "2 applied"]
        );
    }

    #[test]
    fn what_was_merged_late_is_out_of_order() {
        let migrations = [
            migration("1", "A"),
            migration("2", "B"),
            migration("3", "C"),
        ];
        assert_eq!(
            told(&[applied("2", "B")], &migrations),
            [
                "1 pending, although `2` ran already",
                "2 applied",
                "3 pending"
            ]
        );
    }

    #[test]
    fn a_failed_one_says_why_and_one_that_was_rolled_back_runs_again() {
        let migrations = [migration("1", "A")];
        assert_eq!(
            told(&[failed("1", "A")], &migrations),
            ["1 failed: Database error code: 55P03"]
        );
        assert_eq!(
            told(&[rolled_back(failed("1", "A"))], &migrations),
            ["1 rolled back, will run again"]
        );
        assert_eq!(
            told(
                &[rolled_back(failed("1", "A")), applied("1", "A")],
                &migrations
            ),
            ["1 applied"]
        );
        assert_eq!(
            told(&[failed("1", "A")], &[]),
            ["1 failed: Database error code: 55P03"],
            "Prisma refuses with P3009 whether or not its folder is there"
        );
        assert!(told(&[rolled_back(failed("1", "A"))], &[]).is_empty());
    }

    #[test]
    fn a_ledger_that_contradicts_itself_is_never_sound() {
        let migrations = [migration("1", "A")];
        let twice = told(&[applied("1", "A"), applied("1", "A")], &migrations);
        assert_eq!(twice, ["1 unknown: applied 2 times"]);
        let both = told(&[applied("1", "A"), failed("1", "A")], &migrations);
        assert_eq!(both, ["1 failed: begun again after it was applied"]);
        let mut row = applied("1", "A");
        row.checksum = String::new();
        assert_eq!(
            told(&[row], &migrations),
            ["1 unknown: the ledger holds no SHA-256 of what ran"]
        );
    }
}
