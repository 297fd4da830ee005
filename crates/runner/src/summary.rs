//! The step summary (`GITHUB_STEP_SUMMARY`), kept under the size that the runner uploads.

use std::path::PathBuf;

use crate::{Environment, file_command};

/// A summary over 1 MiB is not uploaded at all (actions/runner `CreateStepSummaryCommand`).
pub const LIMIT: usize = 1024 * 1024;

/// Appends markdown sections to the step's summary; does nothing where the runner gives no file.
#[derive(Debug, Clone)]
pub struct Summary {
    file: Option<PathBuf>,
}

impl Summary {
    /// The summary of this step.
    #[must_use]
    pub fn new(environment: &Environment) -> Self {
        Self {
            file: environment.get("GITHUB_STEP_SUMMARY").map(PathBuf::from),
        }
    }

    /// Whether the runner gave a file: only then is it worth the work to write anything for it.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.file.is_some()
    }

    /// Appends a section, cut where the file would exceed [`LIMIT`]; the cut is said in the text.
    ///
    /// # Errors
    /// When the file cannot be written. A summary is never a reason to fail a deployment: callers warn.
    pub fn markdown(&self, text: &str) -> std::io::Result<()> {
        let Some(path) = &self.file else {
            return Ok(());
        };
        let used = match std::fs::metadata(path) {
            Ok(metadata) => usize::try_from(metadata.len()).unwrap_or(usize::MAX),
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => 0,
            Err(cause) => return Err(cause),
        };
        file_command::append(path, &fit(text, LIMIT.saturating_sub(used)))
    }
}

/// Cuts `text` at a line so that it and the sentence that says so fit into `room` bytes.
fn fit(text: &str, room: usize) -> String {
    let mut text = text.trim_end().to_owned();
    text.push_str("\n\n");
    if text.len() < room {
        return text;
    }
    let notice = format!(
        "\n\n_Cut here: {} bytes did not fit into the summary._\n\n",
        text.len()
    );
    let Some(mut end) = room.checked_sub(notice.len() + 1) else {
        return String::new();
    };
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let end = text[..end].rfind('\n').unwrap_or(0);
    text.truncate(end);
    text + &notice
}

/// Escapes text of unknown origin for a markdown table cell.
#[must_use]
pub fn cell(text: &str) -> String {
    let mut cell = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\r' => cell.push(' '),
            '&' => cell.push_str("&amp;"),
            '<' => cell.push_str("&lt;"),
            '>' => cell.push_str("&gt;"),
            '|' | '\\' | '`' | '*' | '_' | '[' | ']' | '@' | '#' | '!' => {
                cell.push('\\');
                cell.push(c);
            }
            _ => cell.push(c),
        }
    }
    cell
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_that_fits_is_kept_whole() {
        assert_eq!(fit("a\nb", 100), "a\nb\n\n");
    }

    #[test]
    fn a_section_that_does_not_fit_is_cut_at_a_line_and_says_so() {
        let text = "zeile\n".repeat(1000);
        let cut = fit(&text, 500);
        assert!(cut.len() < 500);
        assert!(cut.contains("6001 bytes did not fit"), "{cut}");
        assert!(cut.starts_with("zeile\nzeile\n"));
    }

    #[test]
    fn nothing_is_written_when_not_even_the_notice_fits() {
        assert_eq!(fit(&"x".repeat(100), 10), "");
    }

    #[test]
    fn a_cell_cannot_leave_its_cell_or_mention_anybody() {
        assert_eq!(cell("a|b\n@team <img>"), "a\\|b \\@team &lt;img&gt;");
    }
}
