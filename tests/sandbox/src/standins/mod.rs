//! Stand-ins for services that need an account: Slack, GitHub's REST API and token service, PagerDuty's
//! Events API, and what a workflow logs in to at Azure and AWS.
//! Each is as strict as the real service (wrong token, shape or size is refused with the real
//! service's own words), records what it got, and can be told to fail. They know nothing of switchyard.

mod all;
pub mod arm;
pub mod aws;
mod behind;
mod body;
pub mod clock;
pub mod entra;
pub mod github;
pub mod github_openapi;
pub mod job;
pub mod jwt;
mod logins;
pub mod oci;
pub mod pagerduty;
pub mod proxy;
mod random;
pub mod received;
pub mod server;
pub mod slack;
pub mod slack_blocks;
pub mod token_service;

pub use all::StandIns;
pub use arm::ResourceManager;
pub use clock::Clock;
pub use entra::Entra;
pub use github::GitHub;
pub use job::{Job, SubjectFormat};
pub use jwt::KeyRing;
pub use logins::{Logins, Surroundings};
pub use pagerduty::PagerDuty;
pub use proxy::{Proxy, ProxySeen};
pub use received::Received;
pub use server::{Answer, Exchange, Fault, FaultRule, Service, StandIn};
pub use slack::Slack;
pub use token_service::{GITHUB_ISSUER, TokenService};
