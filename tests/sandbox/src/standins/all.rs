//! The stand-ins that speak plain HTTP at once, for a program that runs beside the workflow under test.

use std::net::{IpAddr, SocketAddr};

use super::{GitHub, PagerDuty, Slack, StandIn};

/// The stand-ins, running until this is dropped.
pub struct StandIns {
    /// Slack.
    pub slack: StandIn<Slack>,
    /// GitHub's REST API.
    pub github: StandIn<GitHub>,
    /// PagerDuty's Events API.
    pub pagerduty: StandIn<PagerDuty>,
}

impl StandIns {
    /// Starts them all on free ports of an address.
    ///
    /// # Errors
    /// When no socket or thread can be had.
    pub fn start(address: IpAddr) -> std::io::Result<Self> {
        let free = SocketAddr::new(address, 0);
        Ok(Self {
            slack: StandIn::start_at(Slack::default(), free)?,
            github: StandIn::start_at(GitHub::default(), free)?,
            pagerduty: StandIn::start_at(PagerDuty::default(), free)?,
        })
    }

    /// What a workflow needs to reach them: secrets and base URLs by the names workflows use.
    #[must_use]
    pub fn settings(&self) -> Vec<(&'static str, String)> {
        let (slack, github, pagerduty) = (&self.slack, &self.github, &self.pagerduty);
        let webhook = format!("{}{}", slack.base_url(), slack.service().webhook_path);
        vec![
            ("SLACK_WEBHOOK_URL", webhook),
            ("SLACK_API_URL", format!("{}/api", slack.base_url())),
            ("SLACK_TOKEN", slack.service().bot_token.to_owned()),
            ("SLACK_CHANNEL", slack.service().channels[0].id.to_owned()),
            ("GITHUB_API_URL", github.base_url().to_owned()),
            ("GITHUB_TOKEN", github.service().token.to_owned()),
            ("PAGERDUTY_URL", pagerduty.base_url().to_owned()),
            (
                "PAGERDUTY_ROUTING_KEY",
                pagerduty.service().routing_key.to_owned(),
            ),
        ]
    }
}
