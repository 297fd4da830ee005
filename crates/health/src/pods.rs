//! Have pods been lost since the watch began? Pure.

use switchyard_cluster::rollout::Size;
use switchyard_cluster::workloads::WorkloadRef;

/// A workload and its pods at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SizeOf {
    /// The workload.
    pub workload: WorkloadRef,
    /// Its pods.
    pub size: Size,
}

/// The first workload that has fewer ready pods than it should: as many as it wanted when the
/// watch began, or as it wants now where an autoscaler has since taken some away. Pods that are
/// coming up on top are nobody's loss.
pub fn lost_pods(before: &[SizeOf], now: &[SizeOf]) -> Option<(WorkloadRef, String)> {
    before.iter().find_map(|start| {
        let current = now.iter().find(|one| one.workload == start.workload);
        let Some(current) = current else {
            return Some((start.workload.clone(), "it is gone".to_owned()));
        };
        let needed = start.size.wanted.min(current.size.wanted);
        (current.size.ready < needed).then(|| {
            let reason = format!("{} of {needed} pods are ready", current.size.ready);
            (start.workload.clone(), reason)
        })
    })
}

/// The first workload of a side that answers no more: it had ready pods when the watch began, is to have some
/// now, and none of them is ready. Where the side has no ready pod at all, whatever it is to have, too: an
/// autoscaler may idle one workload beside others, and not the whole of a side that has traffic.
pub fn gone_pods(before: &[SizeOf], now: &[SizeOf]) -> Option<(WorkloadRef, String)> {
    let all_are_gone = now.iter().all(|one| one.size.ready == 0);
    let gone = before.iter().find(|start| {
        let current = now.iter().find(|one| one.workload == start.workload);
        let has_ready = current.is_some_and(|one| one.size.ready > 0);
        let is_idle = current.is_some_and(|one| one.size.wanted == 0);
        !has_ready && (all_are_gone || (start.size.ready > 0 && !is_idle))
    })?;
    Some((
        gone.workload.clone(),
        "none of its pods is ready".to_owned(),
    ))
}

/// Why the workloads are nothing to watch: one that was named has no pods, or none of those that
/// a selector found has any. Beside others with pods a found one may well be at zero.
pub fn nothing_to_watch(start: &[SizeOf], named: &[WorkloadRef]) -> Option<(WorkloadRef, String)> {
    let is_empty = |one: &&SizeOf| one.size.wanted == 0;
    let mut of_named = start.iter().filter(|one| named.contains(&one.workload));
    let all_are_empty = start.iter().all(|one| is_empty(&one));
    let empty = of_named
        .find(is_empty)
        .or_else(|| start.first().filter(|_| all_are_empty))?;
    Some((
        empty.workload.clone(),
        "it has no pods, so there is nothing to watch".to_owned(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(wanted: usize, ready: usize) -> Vec<SizeOf> {
        vec![SizeOf {
            workload: "deployment/web".parse().unwrap(),
            size: Size { wanted, ready },
        }]
    }

    #[test]
    fn a_pod_that_is_no_longer_ready_is_a_loss() {
        let (_, reason) = lost_pods(&at(3, 3), &at(3, 2)).unwrap();
        assert_eq!(reason, "2 of 3 pods are ready");
        assert!(lost_pods(&at(3, 3), &[]).is_some());
        assert_eq!(lost_pods(&at(3, 3), &at(3, 3)), None);
    }

    #[test]
    fn a_side_is_gone_with_its_last_ready_pod() {
        assert_eq!(gone_pods(&at(3, 3), &at(3, 1)), None);
        assert!(gone_pods(&at(3, 3), &at(3, 0)).is_some());
        assert!(
            gone_pods(&at(3, 3), &at(0, 0)).is_some(),
            "scaled to nothing"
        );
        assert!(gone_pods(&at(3, 3), &[]).is_some(), "deleted");
        assert!(gone_pods(&at(0, 0), &at(0, 0)).is_some(), "never there");
        let beside = |ready: usize, wanted: usize| {
            let worker = SizeOf {
                workload: "deployment/worker".parse().unwrap(),
                size: Size { wanted, ready },
            };
            [at(3, 3), vec![worker]].concat()
        };
        assert_eq!(gone_pods(&beside(1, 1), &beside(0, 0)), None, "idled");
        let (gone, _) = gone_pods(&beside(1, 1), &beside(0, 1)).unwrap();
        assert_eq!(gone.name, "worker");
        let was_broken = gone_pods(&beside(0, 1), &beside(0, 1));
        assert_eq!(was_broken, None, "nobody broke it meanwhile");
    }

    #[test]
    fn an_autoscaler_at_work_is_no_loss() {
        assert_eq!(lost_pods(&at(3, 3), &at(5, 3)), None, "two are coming up");
        assert_eq!(lost_pods(&at(3, 3), &at(2, 2)), None, "one was taken away");
    }

    #[test]
    fn a_watch_of_nothing_cannot_pass() {
        let named = [at(0, 0)[0].workload.clone()];
        assert!(nothing_to_watch(&at(0, 0), &named).is_some());
        assert!(nothing_to_watch(&at(0, 0), &[]).is_some());
        assert!(nothing_to_watch(&at(1, 0), &named).is_none());
        assert!(
            nothing_to_watch(&[], &[]).is_none(),
            "only requests are watched"
        );
        let mut both = at(0, 0);
        both.push(SizeOf {
            workload: "deployment/api".parse().unwrap(),
            size: Size {
                wanted: 1,
                ready: 1,
            },
        });
        assert!(
            nothing_to_watch(&both, &[]).is_none(),
            "found beside another"
        );
        assert!(nothing_to_watch(&both, &named).is_some(), "named");
    }
}
