//! One migration: its name, its file, its text, its checksums.

use std::ops::Range;
use std::path::PathBuf;

use crate::sha256::sha256;

/// A migration as its file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Migration {
    /// Name as the tool's ledger has it: the folder's for Prisma, the file's without `.sql` otherwise.
    pub(crate) name: String,
    /// The file, relative to where the program runs, as it was reached.
    pub(crate) file: PathBuf,
    /// The whole text.
    pub(crate) text: String,
    /// The part that runs forward: everything but a section that undoes it.
    pub(crate) forward: Range<usize>,
    /// How the tool runs the statements.
    pub(crate) wrapping: Wrapping,
}

/// How a tool hands the statements of a file to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wrapping {
    /// As one string of the simple protocol: several statements are one implicit transaction, a lone one
    /// is not in a block (Prisma).
    OneString,
    /// Between a `BEGIN` and a `COMMIT` of the tool.
    Transaction,
    /// One by one.
    None,
}

impl Migration {
    /// The text that runs forward.
    pub(crate) fn script(&self) -> &str {
        &self.text[self.forward.clone()]
    }

    /// Lowercase hex SHA-256 of the file with LF and with CRLF line ends: a ledger holds the one that the
    /// file had where it was applied, and git may have changed it since.
    pub(crate) fn checksums(&self) -> [String; 2] {
        let unix = self.text.replace("\r\n", "\n");
        let windows = unix.replace('\n', "\r\n");
        [sha256(&unix), sha256(&windows)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_line_ends_have_their_checksum_whichever_the_file_has() {
        let migration = |text: &str| Migration {
            name: "a".into(),
            file: "a.sql".into(),
            text: text.into(),
            forward: 0..text.len(),
            wrapping: Wrapping::None,
        };
        let unix = migration("SELECT 1;\n");
        assert_eq!(unix.checksums(), migration("SELECT 1;\r\n").checksums());
        // printf 'SELECT 1;\n' | sha256sum; printf 'SELECT 1;\r\n' | sha256sum
        assert_eq!(
            unix.checksums(),
            [
                "b4e0497804e46e0a0b0b8c31975b062152d551bac49c3c2e80932567b4085dcd",
                "d3cd5042f97738960d802ad6b3a548dfa18152215118ba18f04493bc6944b0e4"
            ]
            .map(str::to_owned)
        );
    }
}
