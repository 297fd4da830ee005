//! What every wait has in common: it can be ended, it has a limit, and it notices when a side that
//! has traffic loses its pods.

use std::time::Duration;

use switchyard_cluster::Deadline;
use switchyard_record::{Kind, Side};
use tokio::time::Instant;

use super::{Engine, Front, Stop};
use crate::machine::{Aim, Direction, Trouble, TroubleKind};
use crate::provider::Capability;
use crate::scene::Snapshot;
use crate::share::Percent;

/// How often a wait looks again when nothing wakes it.
pub(crate) const POLL: Duration = Duration::from_millis(250);
/// How long the taking side may have fewer pods than it needs: one pod that restarts is normal.
const SHORTAGE: Duration = Duration::from_secs(10);

impl Engine<'_> {
    /// Whether somebody wants this process to stop. Asked at every safe point.
    pub(crate) fn interrupted(&self) -> Result<(), Stop> {
        self.session.ensure_held()?;
        if self.cancel.is_cancelled() {
            return Err(Stop::Cancelled);
        }
        match self.session.preempt_requested() {
            Some(order) if self.is_preemptible() => {
                Err(Stop::Preempted(format!("{} ({})", order.by, order.reason)))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// On the way back, and in a rollback, the order is being carried out already.
    fn is_preemptible(&self) -> bool {
        let is_rollback = self
            .session
            .record()
            .is_ok_and(|record| record.kind == Kind::Rollback);
        self.direction == Direction::Forward && !is_rollback
    }

    /// Waits for a change, at most a moment.
    pub(crate) async fn tick(&self) -> Result<(), Stop> {
        let lost = self.session.lost();
        let preempted = self.session.preempted();
        let is_preemptible = self.is_preemptible();
        tokio::select! {
            () = self.cancel.cancelled() => {}
            () = lost.cancelled() => {}
            () = preempted.cancelled(), if is_preemptible => {}
            () = self.scene.changed() => {}
            () = tokio::time::sleep(POLL) => {}
        }
        self.interrupted()
    }

    /// A deadline for one wait, within the whole.
    pub(crate) fn limit(&self, wanted: Duration) -> Deadline {
        match &self.overall {
            Some(overall) => overall.at_most(wanted),
            None => Deadline::after(wanted),
        }
    }

    /// Fails when the side that has the traffic cannot carry it any more.
    ///
    /// None at all is noticed at once, by the watch; too few only when that lasts.
    pub(crate) fn guard(&mut self, share: Percent) -> Result<(), Stop> {
        if let Some(failure) = self.scene.failure() {
            return Err(Stop::trouble(
                TroubleKind::Remote,
                format!("the endpoints can no longer be followed: {failure}"),
                None,
            ));
        }
        let snapshot = self.scene.now();
        let mut short = None;
        for index in self.own() {
            let front = &self.fronts[index];
            let needed = self.needed(front, share);
            let seen = front.views.taking.routable(&snapshot, needed);
            let seen = seen.addresses.len();
            let carries = carrying(seen, needed, front.awaits_endpoints);
            self.fronts[index].awaits_endpoints &= seen == 0;
            let front = &self.fronts[index];
            let side = front.roles.taking.side;
            match carries {
                Carrying::Enough | Carrying::NotYet => {}
                Carrying::Nothing => {
                    return Err(Stop::gate(
                        format!(
                            "{}: side `{side}` has traffic and lost all of its endpoints",
                            front.target
                        ),
                        Some("look at its pods: they stopped being ready after they got traffic"),
                    ));
                }
                Carrying::TooFew => {
                    short = Some(format!(
                        "{}: side `{side}` has {seen} of {needed} needed pods",
                        front.target
                    ));
                }
            }
        }
        self.guard_giving(&snapshot)?;
        let Some(short) = short else {
            self.state.short_since = None;
            return Ok(());
        };
        let since = *self.state.short_since.get_or_insert_with(Instant::now);
        if since.elapsed() >= SHORTAGE {
            return Err(Stop::gate(
                short,
                Some("look at its pods: some of them stopped being ready"),
            ));
        }
        Ok(())
    }
}

impl Engine<'_> {
    /// Fails when the side that gives its traffic away still has a part of it and has no endpoint left.
    ///
    /// On the way back that part is what is being taken away.
    fn guard_giving(&self, snapshot: &Snapshot) -> Result<(), Stop> {
        if self.direction == Direction::Back || snapshot.interrupted.is_some() {
            return Ok(());
        }
        let giving = self.sides.giving;
        let Some(what) = self.deserted(giving, snapshot) else {
            return Ok(());
        };
        // All targets move together, so every one of them has to be able to.
        let carried = self.own_fronts().map(|front| {
            let needed = self.needed(front, Percent::ALL);
            let seen = front.views.taking.routable(snapshot, needed);
            (seen.addresses.len(), needed)
        });
        match leaving(carried) {
            Leaving::Can => Err(deserted(what)),
            Leaving::TooFew { seen, needed } => Err(Stop::gate(
                format!(
                    "{what}, and side `{}` has {seen} of {needed} pods that all of it needs",
                    self.sides.taking
                ),
                Some(
                    "look at its pods; with `min-ready` you say how many pods all of the traffic needs",
                ),
            )),
        }
    }

    /// Fails, on the way back, when the side that traffic goes back to has a part of it and no endpoint, and
    /// the other one has the pods for everything. Where it has not, waiting is all that is left.
    pub(crate) fn guard_return(&self) -> Result<(), Stop> {
        let snapshot = self.scene.now();
        if self.direction == Direction::Forward
            || self.state.is_sheltered
            || snapshot.interrupted.is_some()
        {
            return Ok(());
        }
        let Some(what) = self.deserted(self.sides.taking, &snapshot) else {
            return Ok(());
        };
        let mut carried = Vec::new();
        for front in self.own_fronts() {
            let needed = self.found_before(front)?;
            let seen = front.views.giving.routable(&snapshot, needed);
            carried.push((seen.addresses.len(), needed));
        }
        match leaving(carried) {
            Leaving::Can => Err(deserted(what)),
            Leaving::TooFew { .. } => Ok(()),
        }
    }

    /// Says so where a side has a part of a target's traffic and no endpoint.
    fn deserted(&self, side: Side, snapshot: &Snapshot) -> Option<String> {
        let is_deserted = |front: &&Front| {
            let (service, view) = if front.roles.taking.side == side {
                (&front.roles.taking.service, &front.views.taking)
            } else {
                (&front.roles.giving.service, &front.views.giving)
            };
            let has_share = has_weights(front) && largest_share(front, service) > 0.0;
            has_share && view.routable(snapshot, 1).addresses.is_empty()
        };
        let front = self.own_fronts().find(is_deserted)?;
        Some(format!(
            "{}: side `{side}` has traffic and lost all of its endpoints",
            front.target
        ))
    }

    /// Gives all of the traffic to the side that it is taken from, which stands, while the one that it goes
    /// back to is dead. The dead one is not listed: that alone can break what is beside it.
    ///
    /// A write that fails is warned of: the way back mends more than this does. Returns whether all of them came
    /// about.
    pub(crate) async fn shelter(&mut self) -> Result<bool, Stop> {
        self.state.is_sheltered = true;
        self.warn(format!(
            "all of the traffic goes to side `{}` until side `{}` has pods again",
            self.sides.giving, self.sides.taking
        ));
        self.turn_round();
        let mut written = Ok(());
        for index in self.own() {
            if written.is_ok() {
                written = self.write(index, Aim::Settle(Percent::ALL)).await;
            }
        }
        self.turn_round();
        match written {
            Err(Stop::Trouble(Trouble {
                kind: TroubleKind::Gate | TroubleKind::Remote | TroubleKind::Deserted,
                reason,
                ..
            })) => {
                self.warn(format!("it stays where it is: {reason}"));
                Ok(false)
            }
            other => other.map(|()| true),
        }
    }
}

fn deserted(what: String) -> Stop {
    Stop::trouble(
        TroubleKind::Deserted,
        what,
        Some("look at its pods: nothing that the deployment changed is on this side"),
    )
}

pub(crate) fn has_weights(front: &Front) -> bool {
    match front.target.provider.provider().capability() {
        Capability::Weighted => true,
        Capability::Binary => false,
    }
}

/// The largest share, 0 to 1, that a side's Service has at one of the target's places.
pub(crate) fn largest_share(front: &Front, service: &str) -> f64 {
    let provider = front.target.provider.provider();
    let places = provider.shares(&front.routing, &front.roles);
    let shares = places.values().map(|place| place.get(service).copied());
    shares.flatten().fold(0.0, f64::max)
}

/// Whether all of the traffic may leave a side that has no endpoint any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaving {
    /// The other side has the pods that all of it needs.
    Can,
    /// It has not, and would fall as well.
    TooFew { seen: usize, needed: usize },
}

/// Judges by the endpoints of the other side on every target, each seen of needed. Pure.
fn leaving(carried: impl IntoIterator<Item = (usize, usize)>) -> Leaving {
    let mut short = carried.into_iter().filter(|(seen, needed)| seen < needed);
    short
        .next()
        .map_or(Leaving::Can, |(seen, needed)| Leaving::TooFew {
            seen,
            needed,
        })
}

/// Whether the side that has the traffic can carry it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Carrying {
    /// It can.
    Enough,
    /// Its endpoints have not shown up since the write; how long that may take is limited by the
    /// wait for the write to take effect.
    NotYet,
    /// It has some, and needs more.
    TooFew,
    /// It had endpoints and has none.
    Nothing,
}

/// Judges by the endpoints that are seen. Pure.
fn carrying(seen: usize, needed: usize, awaits_endpoints: bool) -> Carrying {
    if seen == 0 && awaits_endpoints {
        Carrying::NotYet
    } else if seen == 0 {
        Carrying::Nothing
    } else if seen < needed {
        Carrying::TooFew
    } else {
        Carrying::Enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_traffic_leaves_a_side_without_endpoints_only_where_every_target_can_carry_it() {
        assert_eq!(leaving([(3, 3), (5, 1)]), Leaving::Can);
        let too_few = Leaving::TooFew { seen: 1, needed: 3 };
        assert_eq!(leaving([(3, 3), (1, 3), (0, 1)]), too_few);
    }

    #[test]
    fn endpoints_that_have_not_shown_up_since_the_write_are_not_lost() {
        assert_eq!(carrying(0, 2, true), Carrying::NotYet);
        assert_eq!(carrying(0, 2, false), Carrying::Nothing);
        assert_eq!(carrying(1, 2, true), Carrying::TooFew);
        assert_eq!(carrying(2, 2, false), Carrying::Enough);
    }
}
