//! Writes the plan, object by object: fence, compare with what was planned on, write down, send, read
//! what came of it, settle.

use serde_json::{Value, json};
use switchyard_cluster::Error;
use switchyard_deployment::cluster_failure;
use switchyard_manifest::{ObjectName, clean, diff, object};
use switchyard_record::{Outcome, PlannedMutation, Settlement};
use switchyard_runner::{Failure, Kind as FailureKind};

use super::Applying;
use super::prepare::{Plan, Planned, record_ref};
use crate::inputs::StageChoice;
use crate::ledger::{Ledger, projection};
use crate::objects::{NotApplied, Sending};
use crate::plan::conflicts;
use crate::survey::{Survey, text};

/// The journal's word for what this module does.
const OPERATION: &str = "apply";
/// How often a write that met a newer object (its status moved) is sent again.
const ATTEMPTS: usize = 10;

/// What was written.
#[derive(Debug, Default)]
pub(super) struct Written {
    /// Objects that are in the cluster as planned.
    pub applied: usize,
    /// Objects that are different from before.
    pub changed: usize,
}

impl Applying<'_> {
    /// Writes into the record which side this deployment makes and which it replaces, before anything
    /// else is written.
    pub(super) async fn fix_sides(
        &self,
        ledger: &mut Ledger,
        plan: &Plan,
        survey: &Survey,
    ) -> Result<(), Failure> {
        let mutations = plan.objects.iter().filter(|planned| !planned.is_settled());
        ledger.reserve(mutations.count())?;
        match self.args.stage {
            StageChoice::BeforeSwitch => {}
            StageChoice::AfterSwitch | StageChoice::Promotion => return Ok(()),
        }
        let from = plan.previous.map(|side| {
            let workloads: Vec<ObjectName> = plan
                .objects
                .iter()
                .filter(|planned| super::is_sized(planned.object.kind()))
                .map(|planned| ObjectName {
                    name: side.object_name(planned.object.base_name()),
                    ..planned.object.identity().short()
                })
                .collect();
            survey.side(self.connection.cluster.namespace(), side, &workloads)
        });
        let to = switchyard_record::SideState {
            version: self.args.written.version.clone(),
            ..switchyard_record::SideState::new(plan.side())
        };
        ledger
            .amend(|record| {
                // In place, and on a resume, the state before the first write is what counts.
                if record.sides.from.is_none() {
                    record.sides.from = from;
                }
                if record.sides.to.is_none() {
                    record.sides.to = Some(to);
                }
                // The step that claimed may not have known what is deployed.
                if record.version.is_none() {
                    record.version.clone_from(&self.args.written.version);
                }
            })
            .await?;
        Ok(())
    }

    /// Writes all objects of the plan in their order.
    pub(super) async fn write(&self, ledger: &mut Ledger, plan: &Plan) -> Result<Written, Failure> {
        ledger.settle_open(OPERATION, &self.objects).await?;
        let mut written = Written::default();
        for planned in &plan.objects {
            let title = planned.title();
            ledger.safe_point(&format!("applying {title}"))?;
            if planned.is_settled() {
                self.context.console.info(format!("{title}: unchanged"));
            } else {
                self.write_one(ledger, planned).await?;
                let what = match (&planned.live, planned.is_change()) {
                    (None, _) => "created",
                    (Some(_), true) => "changed",
                    (Some(_), false) => "unchanged, its fields are ours now",
                };
                self.context.console.info(format!("{title}: {what}"));
            }
            written.applied += 1;
            written.changed += usize::from(planned.is_change());
        }
        Ok(written)
    }

    async fn write_one(&self, ledger: &mut Ledger, planned: &Planned) -> Result<(), Failure> {
        let namespace = planned
            .kind
            .is_namespaced
            .then(|| self.connection.cluster.namespace());
        let target = record_ref(&planned.object.identity(), namespace);
        let fenced = match &planned.live {
            Some(_) => ledger.raise_fence(&target).await?,
            None => None,
        };
        if let Some(now) = &fenced {
            refuse_newer(planned, now)?;
        }
        let live = fenced.as_ref().or(planned.live.as_ref());
        let kind = planned.object.kind();
        let ticket = ledger
            .plan(PlannedMutation {
                operation: OPERATION.to_owned(),
                target,
                target_uid: live.and_then(|live| text(live, "/metadata/uid")),
                precondition_resource_version: live
                    .and_then(|live| text(live, "/metadata/resourceVersion")),
                before: projection(kind, live),
                after: projection(kind, Some(&planned.after)),
            })
            .await?;
        match self.send(ledger, planned, live).await {
            Ok(after) => {
                ledger.settle(ticket, Outcome::Applied).await?;
                verify(planned, &after)
            }
            Err((failure, outcome)) => {
                ledger
                    .settle(ticket, Settlement::failed(outcome, &failure))
                    .await?;
                Err(failure)
            }
        }
    }

    /// Sends the object on exactly the state that was read. Controllers move the status of workloads all
    /// the time, so a newer object that differs in nothing else is taken as the new state.
    async fn send(
        &self,
        ledger: &Ledger,
        planned: &Planned,
        live: Option<&Value>,
    ) -> Result<Value, (Failure, Outcome)> {
        let mut live = live.cloned();
        let mut attempt = 1;
        loop {
            let object = with_precondition(planned, live.as_ref());
            let answer = self
                .objects
                .apply(&planned.kind, &object, Sending::Write, planned.conflicts)
                .await;
            match answer {
                Ok(after) => return Ok(after),
                Err(NotApplied::Stale(error)) if attempt < ATTEMPTS => {
                    attempt += 1;
                    let now = self.read_again(planned, error).await?;
                    refuse_fence(ledger, planned, &now)
                        .and_then(|()| refuse_newer(planned, &now))
                        .map_err(|failure| (failure, Outcome::NotApplied))?;
                    live = Some(now);
                }
                Err(NotApplied::Stale(error)) => {
                    return Err((cluster_failure(error), Outcome::NotApplied));
                }
                Err(NotApplied::Conflicts(found)) => {
                    let (text, hint) = conflicts::refusal(&found);
                    let failure = Failure::message(FailureKind::Gate, text).hint(hint);
                    return Err((failure, Outcome::NotApplied));
                }
                Err(NotApplied::Other(error)) if error.leaves_outcome_unknown() => {
                    return self.find_out(planned, live.as_ref(), error).await;
                }
                Err(NotApplied::Other(error)) => {
                    return Err((cluster_failure(error), Outcome::NotApplied));
                }
            }
        }
    }

    async fn read_again(
        &self,
        planned: &Planned,
        error: Error,
    ) -> Result<Value, (Failure, Outcome)> {
        let found = self
            .objects
            .find(&planned.kind, planned.object.name())
            .await;
        match found {
            Ok(Some(now)) => Ok(now),
            Ok(None) => Err((cluster_failure(error), Outcome::NotApplied)),
            Err(error) => Err((cluster_failure(error), Outcome::Unknown)),
        }
    }

    /// The answer was lost: whether the write was too is seen from the object, `live` being the state that
    /// it was conditional on.
    async fn find_out(
        &self,
        planned: &Planned,
        live: Option<&Value>,
        error: Error,
    ) -> Result<Value, (Failure, Outcome)> {
        let kind = planned.object.kind();
        let found = self
            .objects
            .find(&planned.kind, planned.object.name())
            .await;
        match found {
            Ok(now) => {
                let seen = projection(kind, now.as_ref());
                match now {
                    Some(now) if seen.agrees_with(&projection(kind, Some(&planned.after))) => {
                        Ok(now)
                    }
                    now => Err((cluster_failure(error), unseen(live, now.as_ref()))),
                }
            }
            Err(_) => Err((cluster_failure(error), Outcome::Unknown)),
        }
    }
}

/// What is known of a write that got no answer and does not show: it can still arrive for as long as the
/// object stands at the version that it is conditional on, or does not exist yet. Pure.
fn unseen(condition: Option<&Value>, now: Option<&Value>) -> Outcome {
    let version = |object: Option<&Value>| {
        object.and_then(|object| text(object, "/metadata/resourceVersion"))
    };
    if version(condition) == version(now) {
        Outcome::Unknown
    } else {
        Outcome::NotApplied
    }
}

/// The object with the state on which it may be applied: this object (uid), at this version.
fn with_precondition(planned: &Planned, live: Option<&Value>) -> switchyard_manifest::Object {
    let mut object = planned.object.clone();
    if let Some(live) = live
        && let Some(metadata) = object
            .value_mut()
            .get_mut("metadata")
            .and_then(Value::as_object_mut)
    {
        for key in ["uid", "resourceVersion"] {
            if let Some(value) = text(live, &format!("/metadata/{key}")) {
                metadata.insert(key.to_owned(), json!(value));
            }
        }
    }
    object
}

/// Refuses an object that somebody changed after the plan was made from it.
fn refuse_newer(planned: &Planned, now: &Value) -> Result<(), Failure> {
    let Some(live) = &planned.live else {
        return Ok(());
    };
    let kind = planned.object.kind();
    // The size of a workload is counted by others too, and this apply does not depend on it.
    let is_same = projection(kind, Some(live)).agrees_with(&projection(kind, Some(now)))
        || !diff::differs(live, now);
    if is_same {
        return Ok(());
    }
    let writer = switchyard_cluster::managers::last_writer(
        &serde_json::from_value(now["metadata"].clone()).unwrap_or_default(),
        switchyard_cluster::FIELD_MANAGER,
    );
    Err(Failure::message(
        FailureKind::Gate,
        format!(
            "{} was changed{} after the plan was made from it",
            planned.title(),
            writer.map_or_else(String::new, |writer| format!(" by `{writer}`"))
        ),
    )
    .hint("run the step again: it plans anew from what is there"))
}

/// Refuses an object that a newer process of this project has put its fence on.
fn refuse_fence(ledger: &Ledger, planned: &Planned, now: &Value) -> Result<(), Failure> {
    let seen = object::metadata_entry(now, "annotations", switchyard_manifest::names::FENCE)
        .and_then(|fence| fence.parse::<u64>().ok());
    match (seen, ledger.fence()) {
        (Some(seen), Some(ours)) if seen > ours => Err(Failure::message(
            FailureKind::Gate,
            format!(
                "{} has fence {seen}, this process has {ours}: a newer run works on it",
                planned.title()
            ),
        )
        .hint("nothing more was written by this one")),
        (Some(_), Some(_)) | (None, _) | (Some(_), None) => Ok(()),
    }
}

/// What the API server stored must be what it said it would store.
fn verify(planned: &Planned, after: &Value) -> Result<(), Failure> {
    let kind = planned.object.kind();
    let stored = projection(kind, Some(after));
    if stored.agrees_with(&projection(kind, Some(&planned.after))) {
        return Ok(());
    }
    let (expected, found) = (
        clean::for_backup(kind, &planned.after),
        clean::for_backup(kind, after),
    );
    // Defaults that depend on when they are made (a certificate, a generated name) are no fault.
    let is_only_generated = contains(&found, planned.object.value());
    if is_only_generated {
        return Ok(());
    }
    let keys: Vec<&String> = expected
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(key, value)| found.get(key.as_str()) != Some(*value))
        .map(|(key, _)| key)
        .collect();
    Err(Failure::message(
        FailureKind::Gate,
        format!(
            "{} was accepted, but reads back differently in {keys:?}",
            planned.title()
        ),
    )
    .hint("an admission webhook or another writer changes it: see its managedFields"))
}

/// Whether everything that was asked for is there; lists count as a whole unless their items are maps
/// to which defaults may have been added.
fn contains(found: &Value, wanted: &Value) -> bool {
    match (found, wanted) {
        (Value::Object(found), Value::Object(wanted)) => wanted.iter().all(|(key, value)| {
            value.is_null()
                || key == "namespace"
                || found.get(key).is_some_and(|found| contains(found, value))
        }),
        (Value::Array(found), Value::Array(wanted)) => {
            found.len() == wanted.len()
                && found
                    .iter()
                    .zip(wanted)
                    .all(|(found, wanted)| contains(found, wanted))
        }
        (found, wanted) => found == wanted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_without_an_answer_is_in_doubt_until_the_object_has_moved_on() {
        let at = |version: &str| json!({"metadata": {"resourceVersion": version}});
        assert_eq!(unseen(Some(&at("7")), Some(&at("7"))), Outcome::Unknown);
        assert_eq!(unseen(Some(&at("7")), Some(&at("8"))), Outcome::NotApplied);
        assert_eq!(unseen(None, None), Outcome::Unknown);
        assert_eq!(unseen(None, Some(&at("1"))), Outcome::NotApplied);
        assert_eq!(unseen(Some(&at("7")), None), Outcome::NotApplied);
    }
}
