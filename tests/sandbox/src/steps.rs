//! Progress for people: one line a step, with the time since the start.

use std::{
    fmt::Display,
    io::{Write as _, stderr},
    time::Instant,
};

/// The clock of one command.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Steps {
    started: Instant,
}

impl Steps {
    pub(crate) fn begin() -> Self {
        Self {
            started: Instant::now(),
        }
    }

    /// Prints a finished step. A closed terminal is no reason to stop.
    pub(crate) fn done(self, what: impl Display) {
        let seconds = self.started.elapsed().as_secs_f64();
        let _ = writeln!(stderr(), "{seconds:6.1} s  {what}");
    }
}
