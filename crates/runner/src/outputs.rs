//! The outputs of a step.

use std::io::Write;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use crate::{Environment, Failure, file_command};

/// The declaration of one output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Output {
    /// Name as workflows use it, kebab-case.
    pub name: &'static str,
    /// One line for `action.yml` and the reference page.
    pub description: &'static str,
}

/// Writes outputs to `GITHUB_OUTPUT`, or as `key=value` to standard output where that is unset.
///
/// Each output is written when it is set, so that a step that fails later still has it.
#[derive(Debug, Clone)]
pub struct Outputs {
    declared: &'static [Output],
    file: Option<PathBuf>,
    written: Arc<Mutex<Vec<(String, String)>>>,
}

impl Outputs {
    /// Outputs of an action that declares `declared`.
    #[must_use]
    pub fn new(declared: &'static [Output], environment: &Environment) -> Self {
        Self {
            declared,
            file: environment.get("GITHUB_OUTPUT").map(PathBuf::from),
            written: Arc::default(),
        }
    }

    /// Sets an output. The last value of a name counts.
    ///
    /// # Errors
    /// When the output file cannot be written.
    ///
    /// # Panics
    /// When the action does not declare `name`: the value would be lost silently on GitHub.
    pub fn set(&self, name: &str, value: impl ToString) -> Result<(), Failure> {
        assert!(
            self.declared.iter().any(|output| output.name == name),
            "output `{name}` is not declared"
        );
        let value = value.to_string();
        let written = match &self.file {
            Some(path) => file_command::render(name, &value, &file_command::delimiter())
                .map_err(|cause| Failure::bug(anyhow::anyhow!(cause)))
                .map(|text| file_command::append(path, &text))?,
            None => print(name, &value),
        };
        written.map_err(|cause| {
            Failure::bug(anyhow::Error::new(cause).context(format!("write output `{name}`")))
        })?;
        self.lock().push((name.to_owned(), value));
        Ok(())
    }

    /// The last value set for `name` by this process.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<String> {
        let written = self.lock();
        let last = written.iter().rev().find(|(key, _)| key == name);
        last.map(|(_, value)| value.clone())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(String, String)>> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// On a laptop a value of several lines is shown as JSON text: one line for one output.
fn print(name: &str, value: &str) -> std::io::Result<()> {
    let mut stdout = std::io::stdout().lock();
    if value.contains(['\n', '\r']) {
        writeln!(stdout, "{name}={}", serde_json::Value::from(value))?;
    } else {
        writeln!(stdout, "{name}={value}")?;
    }
    stdout.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DECLARED: &[Output] = &[Output {
        name: "slot",
        description: "",
    }];

    #[test]
    #[should_panic(expected = "output `slto` is not declared")]
    fn an_undeclared_output_is_our_bug() {
        let _ = Outputs::new(DECLARED, &Environment::default()).set("slto", "green");
    }
}
