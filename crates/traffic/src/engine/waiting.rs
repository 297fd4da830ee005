//! What every wait has in common: it can be ended, it has a limit, and it notices when the side
//! that has the traffic loses its pods.

use std::time::Duration;

use switchyard_cluster::Deadline;
use tokio::time::Instant;

use super::{Engine, Stop};
use crate::machine::{Direction, TroubleKind};
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
        // On the way back the order is being carried out already.
        match (self.session.preempt_requested(), self.direction) {
            (Some(order), Direction::Forward) => {
                Err(Stop::Preempted(format!("{} ({})", order.by, order.reason)))
            }
            (Some(_), Direction::Back) | (None, _) => Ok(()),
        }
    }

    /// Waits for a change, at most a moment.
    pub(crate) async fn tick(&self) -> Result<(), Stop> {
        let lost = self.session.lost();
        let preempted = self.session.preempted();
        let is_forward = self.direction == Direction::Forward;
        tokio::select! {
            () = self.cancel.cancelled() => {}
            () = lost.cancelled() => {}
            () = preempted.cancelled(), if is_forward => {}
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
        for front in self.own_fronts() {
            let needed = self.needed(front, share);
            let answer = front.views.taking.routable(&snapshot, needed);
            let side = front.roles.taking.side;
            if answer.addresses.is_empty() {
                return Err(Stop::gate(
                    format!(
                        "{}: side `{side}` has traffic and lost all of its endpoints",
                        front.target
                    ),
                    Some("look at its pods: they stopped being ready after they got traffic"),
                ));
            }
            if answer.addresses.len() < needed {
                short = Some(format!(
                    "{}: side `{side}` has {} of {needed} needed pods",
                    front.target,
                    answer.addresses.len()
                ));
            }
        }
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
