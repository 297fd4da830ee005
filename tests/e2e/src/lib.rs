//! The workflows as a stranger's repository calls them: a working copy of the consumer, the project as
//! a release would be fetched, and act to run the jobs.
//!
//! It knows how a caller uses our workflows; it refuses to know what our programs do, except through
//! what a user sees: exit codes, logs, summaries, and the traffic itself.

mod act;
pub mod composite_step;
mod consumer;
pub mod demo;
mod environments;
mod logins;
mod project;

pub use act::{Ended, Run, Running};
pub use composite_step::Death;
pub use consumer::{Consumer, Settings};
pub use logins::Logins;
pub use project::Project;

/// What every function here fails with: one sentence for the person who reads the test's output.
pub type Result<T> = std::result::Result<T, String>;

/// Adds what was being done to an error.
pub(crate) trait Doing<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: std::fmt::Display> Doing<T> for std::result::Result<T, E> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| format!("cannot {}: {error}", what()))
    }
}
