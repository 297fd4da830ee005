//! What a channel is: a name that a workflow writes, and the promise to take one notice.

use std::pin::Pin;
use std::str::FromStr;

use clap::ValueEnum;

use crate::cut::Cut;

/// A channel as workflows name it; each has a file of that name in `channels`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ChannelName {
    SlackWebhook,
    Slack,
    GithubIssue,
    Pagerduty,
    Summary,
}

impl ChannelName {
    /// As workflows write it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::SlackWebhook => "slack-webhook",
            Self::Slack => "slack",
            Self::GithubIssue => "github-issue",
            Self::Pagerduty => "pagerduty",
            Self::Summary => "summary",
        }
    }
}

impl std::fmt::Display for ChannelName {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.name())
    }
}

impl FromStr for ChannelName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = Self::value_variants().iter().copied();
        known
            .clone()
            .find(|channel| channel.name() == text)
            .ok_or_else(|| {
                let names: Vec<&str> = known.map(Self::name).collect();
                format!("a channel is one of {}", names.join(", "))
            })
    }
}

/// What a channel did with a notice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Delivered {
    /// It took the notice.
    Sent(Receipt),
    /// There was nothing to do, for this reason.
    Skipped(&'static str),
}

/// What is known of a notice that was taken.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Receipt {
    /// What was done, for the log: `posted into C0DEPLOYS01`.
    pub(crate) done: String,
    /// Outputs to set.
    pub(crate) outputs: Vec<(&'static str, String)>,
    /// What was left out.
    pub(crate) cuts: Vec<Cut>,
    /// What the reader of the log should know besides.
    pub(crate) remarks: Vec<String>,
}

/// Why a channel did not take a notice.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Undelivered {
    /// The service could not be asked, or answered with an HTTP error.
    #[error(transparent)]
    Http(#[from] switchyard_http::Error),
    /// The service said no in its own words.
    #[error("{service} refused: {answer}")]
    Refused {
        service: &'static str,
        /// The service's words: printable and without secrets.
        answer: String,
        hint: Option<&'static str>,
    },
    /// The service may have taken it; whether it did could not be found out.
    #[error("{service} may or may not have taken it")]
    Unknown {
        service: &'static str,
        hint: &'static str,
        #[source]
        source: switchyard_http::Error,
    },
    /// The time of this channel ran out.
    #[error("not done within {0}; it may have arrived all the same")]
    Late(String),
    /// A file of the step's own.
    #[error("cannot write the step summary")]
    File(#[from] std::io::Error),
}

impl Undelivered {
    /// What to do about it.
    pub(crate) fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Refused { hint, .. } => *hint,
            Self::Unknown { hint, .. } => Some(hint),
            Self::Http(error) => match error.status()?.as_u16() {
                401 | 403 => Some("check the token and what it is allowed to do"),
                404 => Some("check the URL; the service says that there is nothing"),
                429 => Some(
                    "the service limits how often it may be called; a longer `timeout` lets it recover",
                ),
                _ => None,
            },
            Self::Late(_) | Self::File(_) => None,
        }
    }
}

/// A delivery under way.
pub(crate) type Delivery<'a> =
    Pin<Box<dyn Future<Output = Result<Delivered, Undelivered>> + Send + 'a>>;

/// One place where a notice can go, with everything it needs already in it.
pub(crate) trait Channel: Send + Sync {
    /// What would be sent, as text without secrets.
    fn preview(&self) -> String;

    /// Sends it.
    fn deliver(&self) -> Delivery<'_>;
}
