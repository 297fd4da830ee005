//! The inputs of `notify`, and nothing but their declaration; `plan` gives them their meaning.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use switchyard_runner::secret::SECRET;
use switchyard_runner::{List, Secret, values};

use crate::channel::ChannelName;
use crate::event::Event;
use crate::mention::{GitHubMention, SlackMention};

/// Tells people how a deployment goes: Slack, GitHub issue, PagerDuty, step summary
#[derive(Debug, Parser)]
// `version` is an input here: the version that is deployed.
#[command(disable_version_flag = true)]
pub struct Notify {
    /// Channels to use: `slack-webhook`, `slack`, `github-issue`, `pagerduty`, `summary`
    #[arg(long)]
    pub(crate) channels: List<ChannelName>,
    /// What happened
    #[arg(long, value_enum)]
    pub(crate) event: Event,
    /// Channels that decide the step's result; the others only warn when they fail
    #[arg(long, default_value = "")]
    pub(crate) required: List<ChannelName>,

    /// Name of the application
    #[arg(long)]
    pub(crate) application: Option<String>,
    /// Name of the environment, such as `production`
    #[arg(long)]
    pub(crate) environment: Option<String>,
    /// Identity of the deployment, the same in every notice about it
    ///
    /// `REPOSITORY/RUN_ID/ENVIRONMENT/APPLICATION` of this run when it is not given. GitHub issues and
    /// PagerDuty alerts are found again by it.
    #[arg(long)]
    pub(crate) deployment_id: Option<String>,
    /// Version that is deployed
    #[arg(long)]
    pub(crate) version: Option<String>,
    /// Image with its tag or digest
    #[arg(long)]
    pub(crate) image: Option<String>,
    /// Who deploys; the run's actor when it is not given
    #[arg(long)]
    pub(crate) deployer: Option<String>,
    /// Where the application can be looked at
    #[arg(long)]
    pub(crate) url: Option<String>,
    /// Commit that is deployed; the run's commit when it is not given
    #[arg(long)]
    pub(crate) commit: Option<String>,
    /// What went wrong
    #[arg(long)]
    pub(crate) error: Option<String>,
    /// Page of the workflow run; this run's own when it is not given
    #[arg(long)]
    pub(crate) workflow_url: Option<String>,
    /// How the way back went, such as `done, verified at the data plane`
    #[arg(long)]
    pub(crate) rollback_status: Option<String>,
    /// Who is on call, as text; it mentions nobody
    #[arg(long)]
    pub(crate) on_call: Option<String>,
    /// File whose text is added in a code block, such as a report
    ///
    /// Nothing of the kind is sent otherwise: no pod logs, no SQL.
    #[arg(long)]
    pub(crate) details_file: Option<PathBuf>,

    /// Title instead of the built-in one; a Jinja2 template of one line
    #[arg(long)]
    pub(crate) title: Option<String>,
    /// Message instead of the built-in one; a Jinja2 template
    ///
    /// Variables: `title`, `event`, `application`, `environment`, `deployment_id`, `version`, `image`,
    /// `commit`, `commit_short`, `commit_url`, `deployer`, `url`, `workflow_url`, `error`,
    /// `rollback_status`, `on_call`, `details`, `repository`, `run_id`, `attempt`. Functions:
    /// `table()`, `link(url, text)`, `bold(text)`, `code(text)`, `block(text)`. Values are escaped for
    /// each channel; an unknown variable is an error.
    #[arg(long)]
    pub(crate) template: Option<String>,
    /// File with the message's template, instead of `template`
    #[arg(long)]
    pub(crate) template_file: Option<PathBuf>,

    /// Most time a channel may take, repeats and waits included
    #[arg(long, default_value = "30s", value_parser = values::duration)]
    pub(crate) timeout: Duration,
    /// Show what would be sent and send nothing
    #[arg(long, value_parser = values::boolean, default_value = "false", num_args = 0..=1, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub(crate) dry_run: bool,
    /// PEM file of certificate authorities to trust besides the system's own
    #[arg(long)]
    pub(crate) extra_ca: Option<PathBuf>,

    /// URL of the Slack incoming webhook (channel `slack-webhook`)
    #[arg(long, value_name = SECRET)]
    pub(crate) slack_webhook_url: Option<Secret>,
    /// Token of the Slack bot, `xoxb-…`, with the scope `chat:write` (channel `slack`)
    #[arg(long, value_name = SECRET)]
    pub(crate) slack_token: Option<Secret>,
    /// Slack channel to post into, by identifier or name (channel `slack`)
    #[arg(long)]
    pub(crate) slack_channel: Option<String>,
    /// Slack message to bring up to date instead of posting a new one: the output `slack-ts` of the notice before
    #[arg(long)]
    pub(crate) slack_ts: Option<String>,
    /// Also answer in the message's thread on failure and rolled-back: an edited message notifies nobody
    #[arg(long, value_parser = values::boolean, default_value = "true", num_args = 0..=1, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub(crate) slack_reply: bool,
    /// Slack users and groups to call on failure and rolled-back, as `@U012AB3CD`, `!subteam^S012AB3CD`, `!here`
    #[arg(long, default_value = "")]
    pub(crate) slack_mention: List<SlackMention>,
    /// Base URL of Slack's Web API
    #[arg(long, default_value = "https://slack.com/api")]
    pub(crate) slack_api_url: String,

    /// GitHub token that may write issues (channel `github-issue`)
    #[arg(long, value_name = SECRET)]
    pub(crate) github_token: Option<Secret>,
    /// Repository of the issue, `owner/name`; this run's own when it is not given
    #[arg(long)]
    pub(crate) repository: Option<String>,
    /// Label of the issue, by which it is found again
    #[arg(long, default_value = "deployment-failure")]
    pub(crate) issue_label: String,
    /// What to do with the issue; `auto` follows the event
    ///
    /// `auto`: failure and rolled-back open an issue, or comment on the one that is there; success
    /// comments on it and closes it; started comments on it. An issue is found by its label and a
    /// hidden marker, so that a re-run comments instead of opening a second.
    #[arg(long, value_enum, default_value = "auto")]
    pub(crate) issue_action: IssueAction,
    /// Key of the issue instead of the deployment's identity, such as `production`: one open issue for all its deployments
    #[arg(long)]
    pub(crate) issue_key: Option<String>,
    /// GitHub users and teams to mention on failure and rolled-back, as `@user`, `@organisation/team`
    #[arg(long, default_value = "")]
    pub(crate) github_mention: List<GitHubMention>,
    /// Base URL of GitHub's REST API; `GITHUB_API_URL` when it is not given
    #[arg(long)]
    pub(crate) github_api_url: Option<String>,

    /// Integration key of a PagerDuty service, Events API v2 (channel `pagerduty`)
    #[arg(long, value_name = SECRET)]
    pub(crate) pagerduty_routing_key: Option<Secret>,
    /// What to do with the alert; `auto` follows the event
    ///
    /// `auto`: failure triggers; success and rolled-back resolve; started does nothing.
    #[arg(long, value_enum, default_value = "auto")]
    pub(crate) pagerduty_action: PagerdutyAction,
    /// Severity of the alert
    #[arg(long, value_enum, default_value = "error")]
    pub(crate) pagerduty_severity: Severity,
    /// Key under which PagerDuty knows the alert; the deployment's identity when it is not given
    #[arg(long)]
    pub(crate) dedup_key: Option<String>,
    /// Where the PagerDuty account lives
    #[arg(long, value_enum, default_value = "us")]
    pub(crate) pagerduty_region: Region,
    /// Base URL of PagerDuty's Events API instead of the region's
    #[arg(long)]
    pub(crate) pagerduty_url: Option<String>,
}

/// What to do with a GitHub issue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum IssueAction {
    /// What the event asks for
    Auto,
    /// Open one, or comment on the one that is there
    Create,
    /// Comment on the one that is there
    Comment,
    /// Comment on the one that is there and close it
    Close,
}

/// What to do with a PagerDuty alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PagerdutyAction {
    /// What the event asks for
    Auto,
    /// Open the alert
    Trigger,
    /// Say that somebody works on it
    Acknowledge,
    /// Close the alert
    Resolve,
}

/// Severity of a PagerDuty alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Severity {
    /// critical
    Critical,
    /// error
    Error,
    /// warning
    Warning,
    /// info
    Info,
}

/// PagerDuty's service regions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Region {
    /// `events.pagerduty.com`
    Us,
    /// `events.eu.pagerduty.com`
    Eu,
}
