//! Which part of a file runs forward, and whether the file asks for no transaction, by the marks that
//! tools read from comments.

use std::ops::Range;

/// Lines that begin a section which undoes the migration: dbmate, goose, sql-migrate, MyBatis.
const UNDO: [&str; 4] = [
    "-- migrate:down",
    "-- +goose down",
    "-- +migrate down",
    "-- @undo",
];

/// Lines that begin the section which runs forward.
const FORWARD: [&str; 3] = ["-- migrate:up", "-- +goose up", "-- +migrate up"];

/// Lines that ask the tool for no transaction: dbmate, goose, sql-migrate, sqlx.
const NO_TRANSACTION: [&str; 4] = [
    "-- migrate:up transaction:false",
    "-- +goose no transaction",
    "-- +migrate up notransaction",
    "-- no-transaction",
];

/// The bytes of `text` that run forward: up to the first line that begins an undoing section, or from
/// the line behind it on where that comes first.
pub(crate) fn forward(text: &str) -> Range<usize> {
    let undo = mark(text, &UNDO);
    match (undo, mark(text, &FORWARD)) {
        (Some(undo), Some(forward)) if undo < forward => forward..text.len(),
        (Some(undo), _) => 0..undo,
        (None, _) => 0..text.len(),
    }
}

/// Whether the file asks the tool to run it without a transaction.
pub(crate) fn asks_for_no_transaction(text: &str) -> bool {
    mark(text, &NO_TRANSACTION).is_some()
}

fn mark(text: &str, marks: &[&str]) -> Option<usize> {
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let line_as_read = words.join(" ").to_lowercase();
        if marks.iter().any(|mark| line_as_read.starts_with(mark)) {
            return Some(at);
        }
        at += line.len();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_that_undoes_is_left_out() {
        for text in [
            "-- migrate:up\nA;\n-- migrate:down\nB;\n",
            "-- +goose Up\nA;\n-- +goose Down\nB;\n",
            "--  +migrate Up\nA;\n--  +migrate Down\nB;\n",
        ] {
            let script = &text[forward(text)];
            assert!(script.contains("A;") && !script.contains("B;"), "{script}");
        }
        let undo_first = "-- migrate:down\nB;\n-- migrate:up\nA;\n";
        assert_eq!(&undo_first[forward(undo_first)], "-- migrate:up\nA;\n");
        assert_eq!(forward("A; -- migrate:down\n"), 0..19);
    }

    #[test]
    fn a_file_may_ask_for_no_transaction() {
        assert!(asks_for_no_transaction("-- +goose NO TRANSACTION\nA;"));
        assert!(asks_for_no_transaction("-- migrate:up transaction:false\n"));
        assert!(!asks_for_no_transaction(
            "-- migrate:up\nA; -- no-transaction"
        ));
    }
}
