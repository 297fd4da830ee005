//! Sends to every channel at once, each within its own time. One that fails stops no other.

use std::time::Duration;

use switchyard_runner::values::show_duration;

use crate::channel::{Channel, ChannelName, Delivered, Undelivered};
use crate::plan::Plan;

/// What came of a channel.
pub(crate) struct Report {
    pub(crate) channel: ChannelName,
    pub(crate) result: Result<Delivered, Undelivered>,
}

/// Sends everything the plan holds, in the order of the inputs' channels.
pub(crate) async fn deliver(plan: &Plan) -> Vec<Report> {
    let deliveries = plan
        .channels
        .iter()
        .map(|(name, channel)| one(*name, channel.as_ref(), plan.timeout));
    futures::future::join_all(deliveries).await
}

async fn one(channel: ChannelName, sender: &dyn Channel, timeout: Duration) -> Report {
    // A request ends at its own limit and says what it met; this bounds several requests together.
    let limit = timeout + Duration::from_millis(200);
    let result = match tokio::time::timeout(limit, sender.deliver()).await {
        Ok(result) => result,
        Err(_) => Err(Undelivered::Late(show_duration(timeout))),
    };
    Report { channel, result }
}
