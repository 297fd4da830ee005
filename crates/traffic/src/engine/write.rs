//! Writing one route: planned, journalled, conditional on what was read, and read back.
//! Refuses to repeat a write blindly: what is live decides.

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{DynamicObject, Patch, PatchParams};
use serde_json::Value;
use switchyard_cluster::managers::{FieldStep, last_writer, manager_of};
use switchyard_cluster::{Error as ClusterError, FIELD_MANAGER, with_causes};
use switchyard_record::{Outcome, PlannedMutation};
use tokio::time::Instant;

use super::doubt::{Doubt, Found, Sight, found};
use super::fronts::to_value;
use super::{Engine, Front, Stop};
use crate::machine::{Aim, TroubleKind};
use crate::provider::service::overlap_selector;
use crate::provider::{Goal, Marks, Owned, Provider, fence_of};
use crate::routing::Routing;
use crate::scene::carries;

/// How often a write is decided anew when somebody touched other fields in between.
const ATTEMPTS: u32 = 4;
/// How long the object may take to be read: as long as the record is patient with an API server that
/// restarts. Without one there is no way back either.
pub(crate) const READ_LIMIT: Duration = Duration::from_secs(30);
/// How long a write that is under way is waited for after the process was told to end.
const GRACE: Duration = Duration::from_secs(3);

/// How a write went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// The object is as it was to be.
    Done,
    /// It was not carried out: somebody else has changed other fields in between.
    Outrun,
    /// No answer came, and the object is not as it was to be.
    Unanswered,
}

impl Engine<'_> {
    /// Writes one target, and leaves it only once no write of ours can change it any more.
    pub(crate) async fn write(&mut self, index: usize, aim: Aim) -> Result<(), Stop> {
        let owned = self.read_front(index).await?;
        self.write_over(index, aim, owned).await
    }

    /// As [`Engine::write`], over the state in which the target was taken up: the write is conditional on it, so it is
    /// not looked at again before.
    pub(crate) async fn write_as_taken_up(&mut self, index: usize, aim: Aim) -> Result<(), Stop> {
        let front = &self.fronts[index];
        let owned = read(front, &front.object)?;
        self.write_over(index, aim, owned).await
    }

    async fn write_over(&mut self, index: usize, aim: Aim, mut owned: Owned) -> Result<(), Stop> {
        let mut sent = Sent::Outrun;
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                owned = self.read_front(index).await?;
            }
            let Some(after) = self.aimed(index, aim, &owned)? else {
                if self.fronts[index].doubts.is_empty() {
                    return Ok(());
                }
                self.seal(index).await?;
                sent = Sent::Unanswered;
                continue;
            };
            self.check_overlap(index, aim, &after)?;
            self.remember_before(index).await;
            sent = self.write_once(index, aim, after).await?;
            let why = match sent {
                Sent::Done => return Ok(()),
                Sent::Outrun => "somebody changed other fields in between",
                Sent::Unanswered => "a write got no answer",
            };
            let target = &self.fronts[index].target;
            self.progress(format!("{target}: {why}, deciding anew"));
        }
        let target = &self.fronts[index].target;
        Err(match sent {
            Sent::Done | Sent::Outrun => Stop::gate(
                format!("{target} was changed by somebody else again and again"),
                Some("stop the other writer, then run the step again"),
            ),
            Sent::Unanswered => Stop::remote(
                format!("{target} could not be written: {ATTEMPTS} times no answer came"),
                Some("check that the API server is reachable from this runner".to_owned()),
            ),
        })
    }

    /// Makes writes impossible that may still be on their way: the object leaves the version that
    /// they are conditional on. The next look at it then says what became of them.
    async fn seal(&mut self, index: usize) -> Result<(), Stop> {
        let front = &self.fronts[index];
        let latest = front.doubts.iter().map(|doubt| doubt.seq).max();
        let seal = format!("{}.{}", self.session.fence(), latest.unwrap_or(0));
        let provider = front.target.provider.provider();
        let patch = provider.seal(&front.object, &self.marks(), &seal);
        let line = format!(
            "{}: a write that got no answer may still arrive, making that impossible",
            front.target
        );
        self.progress(line);
        match self.send(index, &patch).await {
            None => Err(Stop::Cancelled),
            Some(Ok(_)) => Ok(()),
            Some(Err(error)) => {
                // A `test` that failed says that the object has left the version by itself.
                let has_moved = matches!(
                    error,
                    ClusterError::Refused { .. } | ClusterError::Conflict { .. }
                );
                let is_passing = error.is_transient() || error.leaves_outcome_unknown();
                if has_moved || is_passing {
                    Ok(())
                } else {
                    Err(cluster_stop(&error))
                }
            }
        }
    }

    fn marks(&self) -> Marks {
        Marks {
            fence: self.session.fence(),
            deployment: self.session.id().to_string(),
        }
    }

    /// Reads the object, and refuses it when it is not as this process knows it.
    pub(crate) async fn read_front(&mut self, index: usize) -> Result<Owned, Stop> {
        let deadline = self.limit(READ_LIMIT);
        let front = &self.fronts[index];
        let objects = self.cluster.dynamic_objects(&front.kind());
        let live = tokio::select! {
            biased;
            live = objects.get(&front.target.name, deadline) => live,
            () = async { self.cancel.cancelled().await; tokio::time::sleep(GRACE).await } => return Err(Stop::Cancelled),
        };
        let live = live.map_err(|error| cluster_stop(&error))?;
        let object = to_value(&live);
        self.check_fence(index, &object)?;
        let owned = read(&self.fronts[index], &object)?;
        let front = &self.fronts[index];
        if live.metadata.uid.as_deref() != Some(front.uid.as_str()) {
            return Err(foreign(
                index,
                format!(
                    "{} was replaced by another object of this name",
                    front.target
                ),
            ));
        }
        let sight = Sight {
            routing: owned.routing.clone(),
            version: live.metadata.resource_version.clone(),
        };
        let found = found(&sight, &front.routing, &front.doubts);
        if found == Found::Foreign {
            let reason = format!(
                "{} stands at `{}` and was left at `{}`: it was changed by {}",
                front.target,
                owned.routing.describe(),
                front.routing.describe(),
                named(writer_of(&live, front.target.provider.provider()).as_deref())
            );
            self.settle_doubts(index, found).await?;
            return Err(foreign(index, reason));
        }
        self.fronts[index].object = object;
        self.settle_doubts(index, found).await?;
        Ok(owned)
    }

    pub(crate) fn check_fence(&self, index: usize, object: &Value) -> Result<(), Stop> {
        let (seen, ours) = (fence_of(object), self.session.fence());
        if seen <= ours {
            return Ok(());
        }
        Err(Stop::trouble(
            TroubleKind::Replaced,
            format!(
                "{} has fence {seen}, this process has {ours}: a newer process has taken over",
                self.fronts[index].target
            ),
            Some("a newer run works on this application; nothing more was written by this one"),
        ))
    }

    /// What the target is to be; nothing when it is so already, or when preparing has no point.
    fn aimed(&mut self, index: usize, aim: Aim, owned: &Owned) -> Result<Option<Routing>, Stop> {
        let snapshot = self.scene.now();
        let front = &mut self.fronts[index];
        // A giving side without endpoints has nothing to lose, and listing it may break the route.
        let is_giving_dead = front
            .views
            .giving
            .routable(&snapshot, 1)
            .addresses
            .is_empty();
        let goal = match (aim, is_giving_dead) {
            (Aim::Prepare, true) => {
                front.is_unprepared = true;
                return Ok(None);
            }
            (Aim::Prepare, false) => {
                front.is_unprepared = false;
                Goal::Prepare
            }
            (Aim::Share(share), true) | (Aim::Settle(share), _) => Goal::Settle(share),
            (Aim::Share(share), false) => Goal::Share(share),
            (Aim::Return, false) => Goal::Return(front.prior.clone()),
            (Aim::Return, true) | (Aim::Restore, _) => Goal::Restore(front.prior.clone()),
        };
        let provider = front.target.provider.provider();
        let after = provider
            .aim(owned, &goal, &front.roles)
            .map_err(|refusal| Stop::gate(refusal.to_string(), Some(&refusal.hint())))?;
        Ok((after != owned.routing).then_some(after))
    }

    /// An overlap must select the pods of both sides and nobody else's.
    fn check_overlap(&self, index: usize, aim: Aim, after: &Routing) -> Result<(), Stop> {
        let front = &self.fronts[index];
        let is_overlap = matches!(after, Routing::Selector { keys } if keys.is_empty());
        if !front.is_service() || aim != Aim::Prepare || !is_overlap {
            return Ok(());
        }
        let refusal = |refusal: crate::provider::Refusal| {
            Stop::gate(refusal.to_string(), Some(&refusal.hint()))
        };
        let labels = overlap_selector(&front.object).map_err(refusal)?;
        let snapshot = self.scene.now();
        let is_stranger = |pod: &&Pod| {
            carries(pod, &labels)
                && !carries(pod, &front.views.taking.labels)
                && !carries(pod, &front.views.giving.labels)
        };
        match snapshot.pods.iter().find(is_stranger) {
            None => Ok(()),
            Some(pod) => Err(Stop::gate(
                format!(
                    "{}: selecting both sides would also select pod `{}`, which belongs to neither",
                    front.target,
                    pod.metadata.name.as_deref().unwrap_or_default()
                ),
                Some("give the Service's selector a label that only this application's pods carry"),
            )),
        }
    }

    /// Takes what a later judgement compares with.
    async fn remember_before(&mut self, index: usize) {
        if !self.fronts[index].is_service() {
            return;
        }
        let samples = self.proxies.kube_proxy_samples().await;
        let snapshot = self.scene.now();
        let front = &mut self.fronts[index];
        front.kube_before = samples
            .into_iter()
            .filter_map(|(name, sample)| Some((name, sample.ok()?)))
            .collect();
        front.servers_before = front_servers(front, &snapshot);
    }

    /// Sends one write.
    async fn write_once(&mut self, index: usize, aim: Aim, after: Routing) -> Result<Sent, Stop> {
        let front = &self.fronts[index];
        let provider = front.target.provider.provider();
        let patch = provider
            .patch(&front.object, &after, &front.roles, &self.marks())
            .map_err(|refusal| Stop::gate(refusal.to_string(), Some(&refusal.hint())))?;
        let version = version_of(front);
        let planned = PlannedMutation {
            operation: format!("{OPERATION} {}", aim.word()),
            target: front.reference.clone(),
            target_uid: Some(front.uid.clone()),
            precondition_resource_version: version.clone(),
            before: front.routing.projection(),
            after: after.projection(),
        };
        let seq = self.plan(planned).await?;
        let sent = Instant::now();
        match self.send(index, &patch).await {
            None => Err(Stop::Cancelled),
            Some(Ok(live)) => {
                // Known here whatever becomes of the record: else our own write counts as foreign.
                let read_back = self.written(index, aim, after, &live, sent);
                self.session.settle(seq, Outcome::Applied).await?;
                // It met the version that the ones before it are conditional on.
                self.settle_doubts(index, Found::AsLeft).await?;
                read_back.map(|()| Sent::Done)
            }
            Some(Err(error)) => {
                let doubt = Doubt {
                    seq,
                    aim,
                    sent,
                    after,
                    condition: version.filter(|_| error.leaves_outcome_unknown()),
                    error: with_causes(&error),
                };
                self.settle_by_reading(index, doubt, error).await
            }
        }
    }

    /// Writes down what is about to be written, together with the phase that it enters, where it enters one.
    async fn plan(&mut self, planned: PlannedMutation) -> Result<u32, Stop> {
        let Some(phase) = self.state.entering.take() else {
            return Ok(self.session.plan_mutation(planned).await?);
        };
        let reason = self.reason();
        let seq = self
            .session
            .advance_planning(phase, &reason, planned)
            .await?;
        self.progress(format!("phase {phase}"));
        Ok(seq)
    }

    /// Sends the patch once. Nothing when the process was told to end and no answer came: the
    /// journal's entry stays pending, which is the truth.
    async fn send(
        &self,
        index: usize,
        patch: &json_patch::Patch,
    ) -> Option<Result<DynamicObject, ClusterError>> {
        let front = &self.fronts[index];
        let objects = self.cluster.dynamic_objects(&front.kind());
        let params = PatchParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let patch: Patch<()> = Patch::Json(patch.clone());
        let told_to_end = async {
            self.cancel.cancelled().await;
            tokio::time::sleep(GRACE).await;
        };
        tokio::select! {
            biased;
            answer = objects.patch(&front.target.name, &patch, &params) => Some(answer),
            () = told_to_end => None,
        }
    }

    fn written(
        &mut self,
        index: usize,
        aim: Aim,
        after: Routing,
        live: &DynamicObject,
        sent: Instant,
    ) -> Result<(), Stop> {
        let object = to_value(live);
        let owned = read(&self.fronts[index], &object)?;
        let front = &mut self.fronts[index];
        if owned.routing != after {
            return Err(foreign(
                index,
                format!(
                    "{} was accepted and reads back as `{}`",
                    front.target,
                    owned.routing.describe()
                ),
            ));
        }
        front.object = object;
        self.stands_as_written(index, aim, after, sent);
        Ok(())
    }

    /// Takes in that a target stands as we have written it.
    pub(crate) fn stands_as_written(
        &mut self,
        index: usize,
        aim: Aim,
        after: Routing,
        sent: Instant,
    ) {
        let front = &mut self.fronts[index];
        front.routing = after;
        front.awaits_endpoints = front.is_service() && aim.share().is_some();
        self.state.has_changed = true;
        if aim.share().is_some() && self.state.share_written.is_none() {
            self.state.share_written = Some(sent);
        }
        let front = &self.fronts[index];
        let line = format!(
            "{}: {} ({})",
            front.target,
            front.routing.describe(),
            aim.word()
        );
        self.progress(line);
    }
}

/// The version on which a write of this target is conditional.
pub(crate) fn version_of(front: &Front) -> Option<String> {
    let version = front.object.pointer("/metadata/resourceVersion");
    version.and_then(Value::as_str).map(str::to_owned)
}

/// First word of the journal's operations that write routes.
pub(crate) const OPERATION: &str = "route";

pub(crate) fn read(front: &Front, object: &Value) -> Result<Owned, Stop> {
    let provider = front.target.provider.provider();
    provider
        .read(object, &front.roles)
        .map_err(|refusal| Stop::gate(refusal.to_string(), Some(&refusal.hint())))
}

/// Who wrote the owned fields last, as far as the object tells.
pub(crate) fn writer_of(live: &DynamicObject, provider: &dyn Provider) -> Option<String> {
    let path = FieldStep::fields(provider.owned_path().iter().copied());
    let of_fields = manager_of(&live.metadata, &path).filter(|manager| manager != FIELD_MANAGER);
    of_fields.or_else(|| last_writer(&live.metadata, FIELD_MANAGER))
}

/// Who it was, for people.
pub(crate) fn named(writer: Option<&str>) -> String {
    writer.map_or_else(
        || "somebody unknown".to_owned(),
        |writer| format!("`{writer}`"),
    )
}

pub(crate) fn foreign(target: usize, reason: String) -> Stop {
    Stop::trouble(
        TroubleKind::Foreign { target },
        reason,
        Some(
            "agree on one writer of this object's traffic, put it right, then order `traffic-switch rollback` or start a new deployment",
        ),
    )
}

pub(crate) fn cluster_stop(error: &ClusterError) -> Stop {
    Stop::remote(with_causes(error), error.hint())
}

/// The servers behind the front Service, whoever's they are.
pub(crate) fn front_servers(front: &Front, snapshot: &crate::scene::Snapshot) -> BTreeSet<String> {
    let view = &front.views.taking;
    let own = view.routable(snapshot, 1);
    let all: Vec<_> = own
        .addresses
        .iter()
        .chain(own.others.iter().filter(|address| address.is_routable()))
        .cloned()
        .collect();
    view.servers_of(&all)
}
