//! What happened to a deployment, and how it is said in one line. Pure wording.

use clap::ValueEnum;

use crate::facts::Facts;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Event {
    /// The deployment began.
    Started,
    /// It is live and verified.
    Success,
    /// It failed.
    Failure,
    /// It failed, and the version before it is live again.
    RolledBack,
}

impl Event {
    /// The event as workflows and templates write it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Success => "success",
            Self::Failure => "failure",
            Self::RolledBack => "rolled-back",
        }
    }

    /// Whether somebody has to look at it.
    pub(crate) fn is_bad(self) -> bool {
        match self {
            Self::Started | Self::Success => false,
            Self::Failure | Self::RolledBack => true,
        }
    }

    /// A sign in front of the title, for channels that people skim.
    pub(crate) fn sign(self) -> &'static str {
        match self {
            Self::Started => "🚀",
            Self::Success => "✅",
            Self::Failure => "❌",
            Self::RolledBack => "↩️",
        }
    }

    /// The built-in title: plain text in one line.
    pub(crate) fn title(self, facts: &Facts) -> String {
        let what = match (&facts.application, &facts.version) {
            (Some(application), Some(version)) => format!("{application} {version}"),
            (Some(application), None) => application.clone(),
            (None, Some(version)) => version.clone(),
            (None, None) => facts
                .repository
                .clone()
                .unwrap_or_else(|| "the application".to_owned()),
        };
        let to = facts
            .environment
            .as_ref()
            .map(|name| format!(" to {name}"))
            .unwrap_or_default();
        match self {
            Self::Started => format!("Deploying {what}{to}"),
            Self::Success => format!("Deployed {what}{to}"),
            Self::Failure => format!("Deployment of {what}{to} failed"),
            Self::RolledBack => format!("Deployment of {what}{to} was rolled back"),
        }
    }

    /// The built-in template of the body.
    pub(crate) fn template(self) -> &'static str {
        match self {
            Self::Started => include_str!("../templates/started.jinja"),
            Self::Success => include_str!("../templates/success.jinja"),
            Self::Failure => include_str!("../templates/failure.jinja"),
            Self::RolledBack => include_str!("../templates/rolled-back.jinja"),
        }
    }
}
