//! The process environment as data, and what the runner says in it about the workflow run.
//!
//! Read once at start and passed in; nothing else in the workspace reads the process environment.

use std::collections::BTreeMap;
use std::fmt;

/// A snapshot of environment variables. Empty and blank values read as absent: an unset input of an
/// action arrives as the empty string.
#[derive(Clone, Default)]
pub struct Environment {
    variables: BTreeMap<String, String>,
}

impl fmt::Debug for Environment {
    /// Shows names only: values may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.variables.keys()).finish()
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        Self {
            variables: pairs
                .into_iter()
                .map(|(k, v)| (k.into(), v.into()))
                .collect(),
        }
    }
}

impl Environment {
    /// Reads the process environment. Variables that are not UTF-8 are left out.
    #[must_use]
    pub fn from_process() -> Self {
        std::env::vars_os()
            .filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)))
            .collect()
    }

    /// The value of `name`, trimmed; `None` when it is unset, empty or blank.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.variables
            .get(name)
            .map(|value| value.trim())
            .filter(|value| !value.is_empty())
    }

    /// All variables with their untrimmed values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.variables.iter().map(|(k, v)| (k.as_str(), v.as_str()))
    }

    /// Whether a GitHub Actions runner (or `act`) started this process.
    #[must_use]
    pub fn is_actions(&self) -> bool {
        self.get("GITHUB_ACTIONS") == Some("true")
    }

    /// Whether the run asked for debug lines (`RUNNER_DEBUG=1`).
    #[must_use]
    pub fn is_debug(&self) -> bool {
        self.get("RUNNER_DEBUG") == Some("1")
    }

    /// The workflow run this process belongs to.
    #[must_use]
    pub fn workflow_run(&self) -> WorkflowRun {
        let text = |name: &str| self.get(name).map(str::to_owned);
        WorkflowRun {
            server_url: text("GITHUB_SERVER_URL").unwrap_or_else(|| "https://github.com".into()),
            repository: text("GITHUB_REPOSITORY"),
            run_id: text("GITHUB_RUN_ID"),
            attempt: self
                .get("GITHUB_RUN_ATTEMPT")
                .and_then(|n| n.parse().ok())
                .unwrap_or(1),
            actor: text("GITHUB_ACTOR"),
            sha: text("GITHUB_SHA"),
            reference: text("GITHUB_REF"),
        }
    }
}

/// The workflow run as the runner describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkflowRun {
    /// `GITHUB_SERVER_URL`, `https://github.com` when unset.
    pub server_url: String,
    /// `owner/name`, absent outside Actions.
    pub repository: Option<String>,
    /// `GITHUB_RUN_ID`: the same over the re-runs of one run.
    pub run_id: Option<String>,
    /// `GITHUB_RUN_ATTEMPT`, from 1.
    pub attempt: u32,
    /// Who started the run.
    pub actor: Option<String>,
    /// The commit the run was started for.
    pub sha: Option<String>,
    /// The full ref, such as `refs/heads/main`.
    pub reference: Option<String>,
}

impl WorkflowRun {
    /// The run's page, when repository and run id are known.
    #[must_use]
    pub fn url(&self) -> Option<String> {
        let (repository, run_id) = (self.repository.as_ref()?, self.run_id.as_ref()?);
        Some(format!(
            "{}/{repository}/actions/runs/{run_id}",
            self.server_url
        ))
    }
}
