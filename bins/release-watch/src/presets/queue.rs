//! Depth of a queue: RabbitMQ's metric unless another one is named.

use switchyard_verdict::Concern;
use switchyard_verdict::rule::Unit;

use super::{Names, Written, bounded, joined};

pub(super) fn checks(names: &Names) -> Vec<Written> {
    let queue = joined(&format!("queue=\"{}\"", names.canary.0), names);
    let query = format!("sum({}{{{queue}}})", names.queue_metric);
    #[expect(clippy::cast_precision_loss, reason = "no queue is that long")]
    let most = names.bounds.queue as f64;
    vec![bounded("queue", Concern::Queue, query, (most, Unit::Plain))]
}
