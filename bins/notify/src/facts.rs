//! What is known of the deployment, as plain data for titles, tables and templates.

use std::collections::BTreeMap;

use minijinja::Value;

use crate::event::Event;

/// The facts a notice may tell; each is absent where nobody gave it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) application: Option<String>,
    pub(crate) environment: Option<String>,
    pub(crate) deployment_id: Option<String>,
    pub(crate) version: Option<String>,
    pub(crate) image: Option<String>,
    pub(crate) commit: Option<String>,
    pub(crate) commit_url: Option<String>,
    pub(crate) deployer: Option<String>,
    pub(crate) url: Option<String>,
    pub(crate) workflow_url: Option<String>,
    pub(crate) error: Option<String>,
    pub(crate) rollback_status: Option<String>,
    pub(crate) on_call: Option<String>,
    pub(crate) details: Option<String>,
    pub(crate) repository: Option<String>,
    pub(crate) run_id: Option<String>,
    pub(crate) attempt: u32,
}

/// A fact as a table shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) label: &'static str,
    pub(crate) text: String,
    /// Where the text leads to.
    pub(crate) link: Option<String>,
}

impl Facts {
    /// Characters of a commit's hash that people read.
    const SHORT: usize = 12;

    pub(crate) fn commit_short(&self) -> Option<String> {
        self.commit
            .as_ref()
            .map(|commit| commit.chars().take(Self::SHORT).collect())
    }

    /// The facts worth a table's row at this event, most wanted first.
    pub(crate) fn rows(&self, event: Event) -> Vec<Row> {
        let row = |label, text: &Option<String>, link: Option<&String>| {
            text.clone().map(|text| Row {
                label,
                text,
                link: link.cloned(),
            })
        };
        let run = self
            .workflow_url
            .as_ref()
            .map(|url| self.run_id.as_ref().unwrap_or(url).clone());
        let trouble = event.is_bad();
        [
            row("Application", &self.application, None),
            row("Environment", &self.environment, None),
            row("Version", &self.version, None),
            row("Image", &self.image, None),
            row("Commit", &self.commit_short(), self.commit_url.as_ref()),
            row("Deployed by", &self.deployer, None),
            row("URL", &self.url, self.url.as_ref()),
            row("Rollback", &self.rollback_status, None).filter(|_| trouble),
            row("On call", &self.on_call, None).filter(|_| trouble),
            row("Workflow run", &run, self.workflow_url.as_ref()),
            row("Deployment", &self.deployment_id, None),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// The variables of a template. A fact that nobody gave is empty, so that a template can ask for it.
    pub(crate) fn variables(&self, event: Event) -> BTreeMap<&'static str, Value> {
        let text = |fact: &Option<String>| Value::from(fact.clone().unwrap_or_default());
        BTreeMap::from([
            ("event", Value::from(event.name())),
            ("application", text(&self.application)),
            ("environment", text(&self.environment)),
            ("deployment_id", text(&self.deployment_id)),
            ("version", text(&self.version)),
            ("image", text(&self.image)),
            ("commit", text(&self.commit)),
            ("commit_short", text(&self.commit_short())),
            ("commit_url", text(&self.commit_url)),
            ("deployer", text(&self.deployer)),
            ("url", text(&self.url)),
            ("workflow_url", text(&self.workflow_url)),
            ("error", text(&self.error)),
            ("rollback_status", text(&self.rollback_status)),
            ("on_call", text(&self.on_call)),
            ("details", text(&self.details)),
            ("repository", text(&self.repository)),
            ("run_id", text(&self.run_id)),
            ("attempt", Value::from(self.attempt)),
        ])
    }
}
