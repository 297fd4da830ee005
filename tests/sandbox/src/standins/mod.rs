//! Stand-ins for services that need an account: Slack, GitHub's REST API and PagerDuty's Events API.
//! Each is as strict as the real service (wrong token, shape or size is refused with the real
//! service's own words), records what it got, and can be told to fail. They know nothing of switchyard.

mod all;
mod body;
pub mod github;
pub mod github_openapi;
pub mod pagerduty;
pub mod received;
pub mod server;
pub mod slack;
pub mod slack_blocks;

pub use all::StandIns;
pub use github::GitHub;
pub use pagerduty::PagerDuty;
pub use received::Received;
pub use server::{Answer, Exchange, Fault, FaultRule, Service, StandIn};
pub use slack::Slack;
