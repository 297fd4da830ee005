//! Bringing a side to the size it had, and taking one to 0: journalled like every other mutation.

use std::time::Duration;

use switchyard_cluster::scale::{ScaleGoal, ScaleState};
use switchyard_cluster::workloads::WorkloadRef;
use switchyard_cluster::{Cluster, Deadline};
use switchyard_record::{ObjectRef, Resize, ResizeError, Session, Side, SideState, WorkloadState};

use super::{Engine, Stop};
use crate::engine::write::cluster_stop;
use crate::machine::{Direction, Trouble};
use crate::quiet::Quiet;

/// How long one read or write of a size may take.
const REQUEST_LIMIT: Duration = Duration::from_secs(20);
/// How often sizes are looked at while pods come up.
const LOOK_EVERY: Duration = Duration::from_millis(500);

impl Engine<'_> {
    /// Brings the taking side back to the size that the record has of it, and waits until its
    /// pods are ready.
    pub(crate) async fn scale_up(&mut self) -> Result<(), Stop> {
        self.guard_return()?;
        let mut waited_for = Vec::new();
        for (workload, wanted) in self.sizes_wanted()? {
            let Some(reference) = workload_ref(&workload.workload) else {
                continue;
            };
            let state = self.size_of(&reference).await?;
            // Also where nothing is left to do: a writer that died may have done it.
            self.session
                .settle_sizes(&workload.workload, &state)
                .await?;
            let wanted = within_ceiling(wanted, &state);
            if state.replicas < wanted {
                let goal = ScaleGoal::Size(wanted);
                self.resize(&workload.workload, goal).await?;
            }
            waited_for.push((reference, wanted));
        }
        self.wait_ready(&waited_for).await
    }

    /// Gives the floors of autoscalers back that were raised on the way, and takes the side that
    /// lost its traffic to 0 when that was asked for.
    ///
    /// What could not be scaled down costs money, not requests: it is said, and traffic stays
    /// where it is.
    pub(crate) async fn scale_down(&mut self) -> Result<(), Stop> {
        let mut goals = Vec::new();
        let taking = self.side_state(Turn::Taking)?;
        for workload in taking.map(|side| side.workloads).unwrap_or_default() {
            if let Some(Ok(floor)) = workload.hpa_min.map(i32::try_from) {
                goals.push((workload.workload, ScaleGoal::RestoreMinimum(floor)));
            }
        }
        let is_quiet = self
            .state
            .quiet
            .as_ref()
            .is_some_and(Quiet::allows_scaling_down);
        if self.settings.retires_new_side && !is_quiet {
            self.warn("the side that lost its traffic was left running: requests to it still end");
        }
        let needed = self.needed_without_traffic();
        if let (true, Some(reason)) = (self.settings.retires_new_side && is_quiet, &needed) {
            self.warn(format!(
                "the side that lost its traffic was left running: {reason}"
            ));
        }
        if self.settings.retires_new_side && is_quiet && needed.is_none() {
            let giving = self.side_state(Turn::Giving)?;
            let workloads = giving.map(|side| side.workloads).unwrap_or_default();
            let to_nothing = workloads
                .into_iter()
                .map(|one| (one.workload, ScaleGoal::Size(0)));
            goals.extend(to_nothing);
        }
        for (object, goal) in goals {
            if let Err(Stop::Trouble(trouble)) = self.resize(&object, goal).await {
                self.warn(format!("{object} was left as it is: {}", trouble.reason));
            }
        }
        Ok(())
    }

    /// Why the side that lost its traffic has to keep its pods, where a target needs them.
    fn needed_without_traffic(&self) -> Option<String> {
        self.own_fronts().find_map(|front| {
            let provider = front.target.provider.provider();
            let service = provider.needs_endpoints(&front.object, &front.roles)?;
            (service == front.roles.giving.service).then(|| {
                format!(
                    "{} stands beside `{service}`, and ingress-nginx answers 503 once that Service has no endpoints",
                    front.target
                )
            })
        })
    }

    /// The workloads of the taking side with the size that each had.
    fn sizes_wanted(&self) -> Result<Vec<(WorkloadState, i32)>, Stop> {
        let taking = self.side_state(Turn::Taking)?;
        let workloads = taking.map(|side| side.workloads).unwrap_or_default();
        let giving = self.side_state(Turn::Giving)?;
        Ok(workloads
            .into_iter()
            .map(|workload| {
                let wanted = full_size(&workload, giving.as_ref());
                (workload, i32::try_from(wanted).unwrap_or(i32::MAX))
            })
            .filter(|(_, size)| *size > 0)
            .collect())
    }

    fn side_state(&self, turn: Turn) -> Result<Option<SideState>, Stop> {
        let sides = &self.session.record()?.sides;
        let side = match turn {
            Turn::Taking => self.sides.taking,
            Turn::Giving => self.sides.giving,
        };
        let mut recorded = sides.from.iter().chain(&sides.to);
        Ok(recorded.find(|known| known.side == side).cloned())
    }

    async fn size_of(&self, workload: &WorkloadRef) -> Result<ScaleState, Stop> {
        size_of(&self.cluster, workload).await
    }

    async fn resize(&mut self, object: &ObjectRef, goal: ScaleGoal) -> Result<(), Stop> {
        match resize_one(self.session, &self.cluster, object, goal).await? {
            Some(line) => {
                self.state.has_changed = true;
                self.progress(line);
                Ok(())
            }
            None => Ok(()),
        }
    }

    async fn wait_ready(&mut self, workloads: &[(WorkloadRef, i32)]) -> Result<(), Stop> {
        let limit = self.limit(self.settings.wait);
        loop {
            let mut short = None;
            for (workload, wanted) in workloads {
                let state = self.size_of(workload).await?;
                if state.ready < *wanted {
                    short = Some(format!(
                        "{workload}: {} of {wanted} pods are ready",
                        state.ready
                    ));
                }
            }
            let Some(short) = short else { return Ok(()) };
            if self.has_nothing_to_lose() {
                self.warn(format!(
                    "going back at once, the other side has no endpoints left: {short}"
                ));
                return Ok(());
            }
            if limit.has_passed() {
                return Err(Stop::gate(
                    format!(
                        "the side that is to take the traffic did not come up within {}s: {short}",
                        limit.allowed().as_secs()
                    ),
                    Some(
                        "see why its pods are not ready (`kubectl describe pod`), then order the rollback again",
                    ),
                ));
            }
            self.guard_return()?;
            self.progress(short);
            self.tick().await?;
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// On the way back: the side that has the traffic cannot answer, and the other one can a
    /// little. Waiting for its full size would only cost requests.
    fn has_nothing_to_lose(&self) -> bool {
        if self.direction == Direction::Forward {
            return false;
        }
        let snapshot = self.scene.now();
        self.own_fronts().all(|front| {
            let is_dead = front.views.giving.pods(&snapshot).ready == 0;
            is_dead && front.views.taking.pods(&snapshot).ready > 0
        })
    }
}

/// Brings one workload to a size under the journal. Returns what was done, if anything had to be.
///
/// # Errors
/// The record or the workload cannot be written.
pub async fn resize(
    session: &mut Session,
    cluster: &Cluster,
    object: &ObjectRef,
    goal: ScaleGoal,
) -> Result<Option<String>, Trouble> {
    let done = resize_one(session, cluster, object, goal).await;
    done.map_err(super::resume::trouble_of)
}

async fn resize_one(
    session: &mut Session,
    cluster: &Cluster,
    object: &ObjectRef,
    goal: ScaleGoal,
) -> Result<Option<String>, Stop> {
    let Some(workload) = workload_ref(object) else {
        return Ok(None);
    };
    let order = Resize {
        workload: &workload,
        goal,
        own_size: None,
        deadline: Deadline::after(REQUEST_LIMIT),
    };
    let scaled = switchyard_record::resize(Some(session), cluster, order).await?;
    Ok((!scaled.writes.is_empty()).then(|| match goal {
        ScaleGoal::Size(wanted) => {
            let before = scaled.before.replicas;
            format!("{workload}: scaled from {before} to {wanted}")
        }
        ScaleGoal::RestoreMinimum(wanted) => {
            format!("{workload}: the autoscaler's floor is {wanted} again")
        }
    }))
}

impl From<ResizeError> for Stop {
    fn from(error: ResizeError) -> Self {
        match error {
            ResizeError::Record(error) => error.into(),
            ResizeError::Cluster(error) => cluster_stop(&error),
            ResizeError::Impossible { .. } => Self::gate(error.to_string(), None),
            ResizeError::Absent(_) => {
                Self::gate(error.to_string(), Some("deploy its version again"))
            }
        }
    }
}

async fn size_of(cluster: &Cluster, workload: &WorkloadRef) -> Result<ScaleState, Stop> {
    let read = cluster.scale_state(workload, Deadline::after(REQUEST_LIMIT));
    read.await.map_err(|error| cluster_stop(&error))
}

/// The pods that a workload is to have where all of the traffic goes to its side. Pure.
///
/// A canary was found with the few pods of its first share: all of it needs as many as the main
/// workload had, which it is named after.
fn full_size(workload: &WorkloadState, giving: Option<&SideState>) -> u32 {
    let main = giving.filter(|giving| giving.side == Side::Stable);
    let counterpart = main.and_then(|main| {
        let mut workloads = main.workloads.iter();
        workloads.find(|main| {
            main.workload.kind == workload.workload.kind
                && Side::Canary.object_name(&main.workload.name) == workload.workload.name
        })
    });
    recorded_size(workload).max(counterpart.map_or(0, recorded_size))
}

/// The pods that a workload was found with.
pub(crate) fn recorded_size(workload: &WorkloadState) -> u32 {
    let replicas = workload.replicas.unwrap_or(1);
    replicas.max(workload.hpa_min.unwrap_or(0))
}

/// An autoscaler's ceiling may have been lowered since the size was written down; more than it
/// allows cannot be had.
fn within_ceiling(wanted: i32, state: &ScaleState) -> i32 {
    let ceiling = state.autoscaler.as_ref().map(|autoscaler| autoscaler.max);
    wanted.min(ceiling.unwrap_or(i32::MAX))
}

/// Which side is meant, as traffic moves now.
#[derive(Clone, Copy, Debug)]
enum Turn {
    Taking,
    Giving,
}

/// A recorded workload as the cluster crate names it; kinds without a size are left alone.
pub(crate) fn workload_ref(object: &ObjectRef) -> Option<WorkloadRef> {
    use switchyard_cluster::workloads::WorkloadKind;
    let kind = WorkloadKind::parse(&object.kind)?;
    match kind {
        WorkloadKind::Deployment | WorkloadKind::StatefulSet => Some(WorkloadRef {
            kind,
            name: object.name.clone(),
        }),
        WorkloadKind::DaemonSet | WorkloadKind::Job => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn side(side: Side, name: &str, replicas: u32, hpa_min: Option<u32>) -> SideState {
        let workload = WorkloadState {
            workload: ObjectRef::namespaced("apps/v1", "Deployment", "shop", name),
            uid: None,
            revision: None,
            replicas: Some(replicas),
            hpa_min,
        };
        SideState {
            workloads: vec![workload],
            ..SideState::new(side)
        }
    }

    #[test]
    fn a_canary_that_is_to_take_everything_gets_the_size_of_the_main_workload() {
        let canary = side(Side::Canary, "web-canary", 1, None);
        let canary = &canary.workloads[0];
        let main = side(Side::Stable, "web", 3, Some(4));
        assert_eq!(full_size(canary, Some(&main)), 4);
        let other = side(Side::Stable, "api", 9, None);
        assert_eq!(full_size(canary, Some(&other)), 1);
        assert_eq!(full_size(canary, None), 1);
    }

    #[test]
    fn the_side_that_was_there_before_gets_the_size_that_it_had() {
        let main = side(Side::Stable, "web", 3, None);
        let canary = side(Side::Canary, "web-canary", 7, None);
        assert_eq!(full_size(&main.workloads[0], Some(&canary)), 3);
        let blue = side(Side::BLUE, "web-blue", 2, Some(3));
        let green = side(Side::GREEN, "web-green", 5, None);
        assert_eq!(full_size(&blue.workloads[0], Some(&green)), 3);
    }
}
