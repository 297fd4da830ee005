//! Requests to pods that get no traffic yet, so that the first user does not pay for cold caches.
//! It judges nothing: a slow or failed request here is what it is there for.

use std::time::{Duration, Instant};

use futures::{StreamExt, stream};
use switchyard_cluster::port_forward::PodPort;
use switchyard_cluster::{Cluster, Deadline};

use switchyard_health::checks::{Check, Checks, probe_pod};

/// Pods warmed up at the same time.
const CONCURRENCY: usize = 8;

/// Sends `requests` to each ready pod behind the checks that have a target in the cluster, to the
/// paths of those checks in turn. Returns one line for people, a pod each.
///
/// # Errors
/// Words for why the pods cannot be found.
pub(crate) async fn warm_up(
    cluster: &Cluster,
    checks: &Checks,
    requests: u32,
    deadline: Deadline,
) -> Result<Vec<String>, String> {
    let mut pods: Vec<(PodPort, Vec<&Check>)> = Vec::new();
    for check in checks.iter() {
        let Some((target, _)) = check.target.in_cluster() else {
            continue;
        };
        let found = cluster.pod_ports(target, deadline).await;
        for pod in found.map_err(|error| error.to_string())? {
            match pods.iter_mut().find(|(known, _)| *known == pod) {
                Some((_, checks)) => checks.push(check),
                None => pods.push((pod, vec![check])),
            }
        }
    }
    let each = pods
        .iter()
        .map(|(pod, checks)| warm_up_pod(cluster, pod, checks, requests, deadline));
    let each: Vec<_> = each.collect();
    Ok(stream::iter(each).buffered(CONCURRENCY).collect().await)
}

async fn warm_up_pod(
    cluster: &Cluster,
    pod: &PodPort,
    checks: &[&Check],
    requests: u32,
    deadline: Deadline,
) -> String {
    let (mut sent, mut failed) = (0_u32, 0_u32);
    let (mut slowest, mut last) = (Duration::ZERO, Duration::ZERO);
    for check in checks
        .iter()
        .cycle()
        .take(usize::try_from(requests).unwrap_or(0))
    {
        if deadline.has_passed() {
            break;
        }
        let started = Instant::now();
        let answer = probe_pod(cluster, check, pod).await;
        last = started.elapsed();
        slowest = slowest.max(last);
        sent += 1;
        failed += u32::from(answer.is_err());
    }
    format!(
        "{pod}: {sent} of {requests} requests, {failed} without an answer, slowest {} ms, last {} ms",
        slowest.as_millis(),
        last.as_millis()
    )
}
