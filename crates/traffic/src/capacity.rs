//! How many ready pods a side needs before it may get a share of the traffic.
//! Pure: it refuses to count pods itself.

use crate::share::Percent;

/// The side that has carried the traffic so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Baseline {
    /// Pods that it is meant to have; the greater of desired and ready.
    pub pods: u32,
    /// The share that those pods carried.
    pub share: Percent,
}

/// What a share of the traffic asks of the side that is to get it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Demand {
    /// Who carried the traffic so far; `None` when nobody did.
    pub baseline: Option<Baseline>,
    /// The share that the taking side is to get.
    pub share: Percent,
    /// The user's own number for all of the traffic, in place of the baseline's.
    pub min_ready: Option<u32>,
}

/// The ready pods needed, at least one: no pod may get more than one took before.
///
/// With `min-ready` the user says what all of the traffic needs, and a smaller share needs that
/// much less.
pub fn pods_needed(demand: &Demand) -> u32 {
    let share = u64::from(demand.share.get());
    let needed = match (demand.min_ready, demand.baseline) {
        (Some(all), _) => (u64::from(all) * share).div_ceil(100),
        (
            None,
            Some(Baseline {
                pods,
                share: carried,
            }),
        ) if carried.get() > 0 => (u64::from(pods) * share).div_ceil(u64::from(carried.get())),
        (None, _) => 1,
    };
    u32::try_from(needed.max(1)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn needed(pods: u32, carried: u32, share: u32) -> u32 {
        let baseline = Some(Baseline {
            pods,
            share: Percent::new(carried).unwrap(),
        });
        pods_needed(&Demand {
            baseline,
            share: Percent::new(share).unwrap(),
            min_ready: None,
        })
    }

    #[test]
    fn one_pod_is_enough_for_a_tenth_and_all_of_it_needs_the_old_size() {
        assert_eq!(needed(3, 100, 10), 1);
        assert_eq!(needed(3, 100, 50), 2);
        assert_eq!(needed(3, 100, 100), 3);
        assert_eq!(needed(20, 100, 10), 2);
    }

    #[test]
    fn pods_that_carried_half_are_needed_twice_for_all() {
        assert_eq!(needed(3, 50, 100), 6);
    }

    #[test]
    fn never_none_even_when_the_old_side_is_dead() {
        assert_eq!(needed(0, 100, 100), 1);
        assert_eq!(
            pods_needed(&Demand {
                baseline: None,
                share: Percent::ALL,
                min_ready: None
            }),
            1
        );
    }

    #[test]
    fn the_users_number_wins_and_scales_with_the_share() {
        let baseline = Some(Baseline {
            pods: 10,
            share: Percent::ALL,
        });
        let demand = |share| Demand {
            baseline,
            share: Percent::new(share).unwrap(),
            min_ready: Some(4),
        };
        assert_eq!(pods_needed(&demand(100)), 4);
        assert_eq!(pods_needed(&demand(10)), 1);
    }
}
