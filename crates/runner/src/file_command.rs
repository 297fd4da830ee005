//! File commands: appending to `GITHUB_OUTPUT` so that the runner reads back exactly what was written.
//!
//! Rules: actions/runner `FileCommandManager.cs`; actions/toolkit `file-command.ts`.

use std::fs::OpenOptions;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

/// Renders `key=value` in heredoc form with the given delimiter.
///
/// # Errors
/// When key or value cannot be written without changing what the runner reads.
pub fn render(key: &str, value: &str, delimiter: &str) -> Result<String, String> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if key.is_empty() || !key.chars().all(is_name) {
        return Err(format!("`{key}` cannot be the name of an output"));
    }
    if value.contains(delimiter) {
        return Err(format!("the value of `{key}` holds the delimiter"));
    }
    Ok(format!("{key}<<{delimiter}\n{value}\n{delimiter}\n"))
}

/// A delimiter that nobody who chose the value can guess.
#[must_use]
pub fn delimiter() -> String {
    format!("ghadelimiter_{:032x}", rand::random::<u128>())
}

/// Appends text to a file that the runner made.
///
/// # Errors
/// When the file cannot be opened or written.
pub fn append(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .open(path)?;
    // Another program may have left its last line without an end; ours would become part of it.
    let mut last = [b'\n'];
    if file.seek(SeekFrom::End(0))? > 0 {
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
    }
    if last != *b"\n" {
        file.write_all(b"\n")?;
    }
    file.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The runner's own reading of a file command file (`FileCommandManager.cs`).
    fn runner_reads(text: &str) -> Vec<(String, String)> {
        let mut pairs = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let (line, after) = rest.split_once('\n').unwrap_or((rest, ""));
            let (key, delimiter) = line.split_once("<<").expect("a heredoc");
            let mut lines = Vec::new();
            let mut body = after;
            loop {
                let (line, after) = body.split_once('\n').expect("the delimiter's line");
                body = after;
                if line == delimiter {
                    break;
                }
                lines.push(line);
            }
            pairs.push((key.to_owned(), lines.join("\n")));
            rest = body;
        }
        pairs
    }

    proptest! {
        #[test]
        fn what_goes_in_is_what_the_runner_reads(values in prop::collection::vec("(?s).{0,200}", 1..4)) {
            let mut text = String::new();
            for value in &values {
                text.push_str(&render("report", value, &delimiter()).unwrap());
            }
            let read: Vec<String> = runner_reads(&text).into_iter().map(|(_, v)| v).collect();
            prop_assert_eq!(read, values);
        }
    }

    #[test]
    fn a_value_that_holds_the_delimiter_is_refused() {
        assert!(render("a", "x\nEOF\nevil=1", "EOF").is_err());
    }

    #[test]
    fn a_key_that_would_start_another_command_is_refused() {
        for key in ["", "a=b", "a<<b", "a\nb", "a b"] {
            assert!(render(key, "v", "D").is_err(), "{key:?}");
        }
    }
}
