//! The lock modes of tables, and what each keeps others from.

use std::fmt;

/// A lock mode of a table, weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LockMode {
    /// Reading
    AccessShare,
    /// `SELECT FOR UPDATE` and its kin
    RowShare,
    /// Writing
    RowExclusive,
    /// `VACUUM`, `CREATE INDEX CONCURRENTLY`: keeps other maintenance out
    ShareUpdateExclusive,
    /// `CREATE INDEX`: keeps writers out
    Share,
    /// Foreign keys and triggers: keeps writers out
    ShareRowExclusive,
    /// `REFRESH MATERIALIZED VIEW CONCURRENTLY`: keeps all but readers out
    Exclusive,
    /// Most of `ALTER TABLE`: keeps everybody out
    AccessExclusive,
}

impl LockMode {
    /// Every mode, weakest first.
    pub const ALL: [Self; 8] = [
        Self::AccessShare,
        Self::RowShare,
        Self::RowExclusive,
        Self::ShareUpdateExclusive,
        Self::Share,
        Self::ShareRowExclusive,
        Self::Exclusive,
        Self::AccessExclusive,
    ];

    /// Whether an ordinary `SELECT` has to wait.
    #[must_use]
    pub fn blocks_reads(self) -> bool {
        self == Self::AccessExclusive
    }

    /// Whether `INSERT`, `UPDATE` and `DELETE` have to wait.
    #[must_use]
    pub fn blocks_writes(self) -> bool {
        self >= Self::Share
    }

    /// As `pg_locks.mode` has it, such as `AccessExclusiveLock`.
    #[must_use]
    pub fn catalog_name(self) -> &'static str {
        match self {
            Self::AccessShare => "AccessShareLock",
            Self::RowShare => "RowShareLock",
            Self::RowExclusive => "RowExclusiveLock",
            Self::ShareUpdateExclusive => "ShareUpdateExclusiveLock",
            Self::Share => "ShareLock",
            Self::ShareRowExclusive => "ShareRowExclusiveLock",
            Self::Exclusive => "ExclusiveLock",
            Self::AccessExclusive => "AccessExclusiveLock",
        }
    }

    /// Whom it keeps out, as the end of a sentence: `which blocks reads and writes`.
    #[must_use]
    pub fn blocking(self) -> &'static str {
        if self.blocks_reads() {
            "which blocks reads and writes"
        } else if self.blocks_writes() {
            "which blocks writes"
        } else {
            "which blocks other changes of the schema"
        }
    }
}

impl fmt::Display for LockMode {
    /// In the words of PostgreSQL's documentation.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AccessShare => "ACCESS SHARE",
            Self::RowShare => "ROW SHARE",
            Self::RowExclusive => "ROW EXCLUSIVE",
            Self::ShareUpdateExclusive => "SHARE UPDATE EXCLUSIVE",
            Self::Share => "SHARE",
            Self::ShareRowExclusive => "SHARE ROW EXCLUSIVE",
            Self::Exclusive => "EXCLUSIVE",
            Self::AccessExclusive => "ACCESS EXCLUSIVE",
        })
    }
}
