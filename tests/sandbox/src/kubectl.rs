//! Runs kubectl. Knows no object of its own.

use std::{
    io::Write as _,
    path::PathBuf,
    process::{Command, Stdio},
};

use crate::error::{Context as _, Result, SandboxError};

/// kubectl with the kubeconfig of one user.
#[derive(Debug, Clone)]
pub(crate) struct Kubectl {
    pub(crate) program: PathBuf,
    pub(crate) kubeconfig: PathBuf,
}

impl Kubectl {
    /// Runs kubectl with an input and returns what it printed.
    pub(crate) fn run(&self, arguments: &[&str], input: &str) -> Result<String> {
        let words = arguments.join(" ");
        let mut child = Command::new(&self.program)
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context(|| format!("cannot run {}", self.program.display()))?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin
                .write_all(input.as_bytes())
                .context(|| "cannot feed kubectl")?;
        }
        let output = child
            .wait_with_output()
            .context(|| "cannot wait for kubectl")?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(SandboxError::new(format!(
            "`kubectl {words}` failed: {message}"
        )))
    }

    /// Applies as the sandbox's own field manager, whoever wrote the fields before.
    pub(crate) fn apply(&self, arguments: &[&str], input: &str) -> Result<()> {
        let mut words = vec!["apply", "--server-side", "--force-conflicts"];
        words.extend(["--field-manager", "switchyard-sandbox"]);
        words.extend(arguments);
        self.run(&words, input).map(drop)
    }
}
