//! What is seen while a demonstration runs: lines that stay, and one at the bottom that is rewritten in
//! place. Where nobody looks at a terminal, that one is repeated now and then. Knows no words of its own.

use std::cell::RefCell;
use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

/// How long the rewritten line may be silent where it cannot be rewritten.
const REPEATED: Duration = Duration::from_secs(5);
/// To the line's begin, and away with what is there.
const CLEARED: &str = "\r\x1b[K";

/// How a standing line is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Terminal,
    Lines,
}

/// Standard output.
#[derive(Debug)]
pub(super) struct Screen {
    kind: Kind,
    standing: RefCell<Standing>,
}

/// The line at the bottom.
#[derive(Debug, Default)]
struct Standing {
    text: String,
    /// What it is about: a change of it is worth a line of its own.
    subject: String,
    told: Option<Instant>,
}

impl Screen {
    pub(super) fn of_stdout() -> Self {
        let kind = if std::io::stdout().is_terminal() {
            Kind::Terminal
        } else {
            Kind::Lines
        };
        Self {
            kind,
            standing: RefCell::default(),
        }
    }

    /// Shows a line that stays.
    pub(super) fn tell(&self, text: &str) {
        match self.kind {
            Kind::Lines => put(&format!("{text}\n")),
            Kind::Terminal => {
                let standing = &self.standing.borrow().text;
                put(&format!("{CLEARED}{text}\n{standing}"));
            }
        }
    }

    /// Shows how things stand. A change of `subject` is seen on a terminal and elsewhere.
    pub(super) fn stand(&self, subject: &str, text: &str) {
        let mut standing = self.standing.borrow_mut();
        match self.kind {
            Kind::Terminal if standing.text != text => put(&format!("{CLEARED}{text}")),
            Kind::Terminal => {}
            Kind::Lines => {
                let silent = standing.told.map(|told| told.elapsed());
                if is_due(standing.subject != subject, silent) {
                    put(&format!("{text}\n"));
                    standing.told = Some(Instant::now());
                }
            }
        }
        text.clone_into(&mut standing.text);
        subject.clone_into(&mut standing.subject);
    }

    /// Leaves the last standing line as one that stays.
    pub(super) fn settle(&self) {
        let standing = std::mem::take(&mut *self.standing.borrow_mut());
        if self.kind == Kind::Terminal && !standing.text.is_empty() {
            put("\n");
        }
    }
}

fn is_due(is_about_something_else: bool, silent: Option<Duration>) -> bool {
    is_about_something_else || silent.is_none_or(|silent| silent >= REPEATED)
}

fn put(text: &str) {
    let mut output = std::io::stdout().lock();
    // Somebody who looks away is no reason to end.
    let _ = output
        .write_all(text.as_bytes())
        .and_then(|()| output.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_repeated_when_it_is_about_something_else_or_was_not_seen_for_long() {
        let moment = Some(Duration::from_millis(100));
        assert!(is_due(true, moment));
        assert!(is_due(false, None));
        assert!(is_due(false, Some(REPEATED)));
        assert!(!is_due(false, moment));
    }
}
