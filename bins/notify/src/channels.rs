//! The channels, one file each, named as workflows name them.

pub(crate) mod github_issue;
mod github_transport;
pub(crate) mod pagerduty;
pub(crate) mod slack;
mod slack_message;
pub(crate) mod slack_webhook;
pub(crate) mod summary;
