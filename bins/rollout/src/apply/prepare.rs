//! From the manifest and what is live to what will be sent: slotted, fronts kept, sizes set, checked,
//! and tried by a dry run of all objects. Nothing is written here.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, stream};
use serde_json::{Value, json};
use switchyard_cluster::{DynamicKind, Error};
use switchyard_deployment::cluster_failure;
use switchyard_manifest::slotting::Slotted;
use switchyard_manifest::{
    Identity, Kind, Object, ObjectName, Origin, Slot, diff, front, names, order, pods, references,
};
use switchyard_record::Side;
use switchyard_runner::{Failure, Kind as FailureKind};

use super::{Applying, is_sized, side_of};
use crate::inputs::StageChoice;
use crate::ledger::Ledger;
use crate::objects::{CONCURRENCY, Conflicts, NotApplied, Sending};
use crate::plan::capacity::{self, Sizing};
use crate::plan::conflicts::{self, FieldConflict};
use crate::plan::ownership;
use crate::plan::selectors::{self, NewPods, Ours};
use crate::plan::slot_choice::KnownSides;
use crate::survey::Survey;

/// One object that will be sent.
#[derive(Clone, Debug)]
pub(super) struct Planned {
    /// What is sent.
    pub object: Object,
    /// How the cluster serves it.
    pub kind: DynamicKind,
    /// What is there now.
    pub live: Option<Value>,
    /// What the dry run made of it.
    pub after: Value,
    /// Whether fields are taken over from another manager (or from ourselves).
    pub conflicts: Conflicts,
}

impl Planned {
    /// `deployment/web-green`
    pub(super) fn title(&self) -> String {
        self.object.identity().to_string()
    }

    /// Whether sending it changes anything that somebody wanted.
    pub(super) fn is_change(&self) -> bool {
        self.live
            .as_ref()
            .is_none_or(|live| diff::differs(live, &self.after))
    }

    /// Whether nothing at all would happen: no change, and the fields are ours already.
    pub(super) fn is_settled(&self) -> bool {
        !self.is_change() && self.live.as_ref().is_some_and(is_applied_by_us)
    }
}

/// Everything that will be sent, in order.
#[derive(Debug)]
pub(super) struct Plan {
    /// The objects.
    pub objects: Vec<Planned>,
    /// The slot, or in place.
    pub slot: Option<Slot>,
    /// The side that is live now.
    pub previous: Option<Side>,
    /// Lines for people about what differs from the manifest.
    pub notes: Vec<String>,
}

impl Plan {
    /// The side that is written.
    pub(super) fn side(&self) -> Side {
        side_of(self.slot)
    }

    /// The workloads of the side that is written, under their live names.
    pub(super) fn workloads(&self) -> Vec<ObjectName> {
        let is_of_side = |object: &Object| {
            is_sized(object.kind()) && (self.slot.is_none() || object.label(names::SLOT).is_some())
        };
        self.objects
            .iter()
            .filter(|planned| is_of_side(&planned.object))
            .map(|planned| planned.object.identity().short())
            .collect()
    }
}

/// An object on its way to being planned.
struct Draft {
    object: Object,
    kind: DynamicKind,
    live: Option<Value>,
}

impl Applying<'_> {
    /// Decides what is sent, and has the API server try all of it.
    pub(super) async fn prepare(
        &self,
        ledger: &Ledger,
        slot: Option<Slot>,
        (survey, known): (&Survey, &KnownSides),
    ) -> Result<Plan, Failure> {
        let slotted = match slot {
            Some(slot) => Some(self.slot_manifest(slot)?),
            None => None,
        };
        let mut drafts = self.drafts(slotted.as_ref()).await?;
        self.refuse_not_ours(&drafts)?;
        let mut notes = Vec::new();
        match (&slotted, slot) {
            (Some(slotted), Some(slot)) if self.args.stage == StageChoice::BeforeSwitch => {
                self.keep_fronts(&mut drafts, slotted, slot, &mut notes)?;
                self.refuse_foreign_selectors(&drafts, slot, survey)?;
            }
            (Some(_), _) | (None, Some(_)) => {}
            (None, None) => refuse_slotted_fronts(&drafts)?,
        }
        let previous = ledger
            .record()
            .and_then(|record| record.sides.from.as_ref())
            .map(|from| from.side)
            .or_else(|| match slot {
                Some(slot) => live_side(known, slot),
                None => known.recorded.or_else(|| has_live_workload(&drafts)),
            });
        set_sizes(&mut drafts, slot.and(previous), survey, &mut notes);
        let objects = self.dry_run(drafts, &mut notes).await?;
        Ok(Plan {
            objects,
            slot,
            previous,
            notes,
        })
    }

    async fn drafts(&self, slotted: Option<&Slotted>) -> Result<Vec<Draft>, Failure> {
        let mut objects = match (slotted, self.args.stage) {
            (Some(slotted), StageChoice::BeforeSwitch) => slotted.objects.clone(),
            (Some(slotted), StageChoice::AfterSwitch) => slotted.after_switch.clone(),
            (None, _) => self.labelled_manifest(),
        };
        order::sort(&mut objects);
        let drafts: Vec<Result<Draft, Failure>> = stream::iter(objects)
            .map(|object| self.draft(object))
            .buffered(CONCURRENCY)
            .collect()
            .await;
        drafts.into_iter().collect()
    }

    fn labelled_manifest(&self) -> Vec<Object> {
        let mut objects = self.manifest.clone();
        if let Some(application) = &self.args.deployment.application {
            for object in &mut objects {
                object.set_label(names::APPLICATION, application);
            }
        }
        objects
    }

    async fn draft(&self, mut object: Object) -> Result<Draft, Failure> {
        let kind = self.kind_of(&object).await?;
        if kind.is_namespaced {
            object.set_namespace(self.connection.cluster.namespace());
        }
        let live = self
            .objects
            .find(&kind, object.name())
            .await
            .map_err(cluster_failure)?;
        Ok(Draft { object, kind, live })
    }

    fn refuse_not_ours(&self, drafts: &[Draft]) -> Result<(), Failure> {
        let application = self.args.deployment.application.as_deref();
        let found: Vec<_> = drafts
            .iter()
            .filter_map(|draft| {
                let live = draft.live.as_ref()?;
                ownership::check(&draft.object.identity(), live, application)
            })
            .collect();
        let images: Vec<String> = self
            .args
            .manifests
            .images
            .iter()
            .map(ToString::to_string)
            .collect();
        let what = if images.is_empty() {
            "these manifests".to_owned()
        } else {
            format!("the images {}", images.join(", "))
        };
        match ownership::refusal(&found, &what) {
            Some((text, hint)) => Err(Failure::message(FailureKind::Gate, text).hint(hint)),
            None => Ok(()),
        }
    }

    /// Puts the live traffic fields into fronts that are there, with their resourceVersion as the
    /// precondition, and points new ones at the slot.
    fn keep_fronts(
        &self,
        drafts: &mut [Draft],
        slotted: &Slotted,
        slot: Slot,
        notes: &mut Vec<String>,
    ) -> Result<(), Failure> {
        for draft in drafts {
            let name = draft.object.identity().short();
            if !slotted.fronts.contains(&name) {
                continue;
            }
            let Some(live) = &draft.live else {
                front::point_at(&mut draft.object, &slotted.slotted_services, slot);
                notes.push(format!("{name} is new and points at slot {slot}"));
                continue;
            };
            let kept = front::keep_live(&mut draft.object, live, &slotted.slotted_services, slot);
            if kept.selector_differs {
                notes.push(format!(
                    "{name}: the manifest's selector differs from the live one; the live one stays, as applying must not move traffic"
                ));
            }
            notes.extend(kept.new.iter().map(|base| {
                format!("{name}: service `{base}` is new there and points at slot {slot}")
            }));
        }
        Ok(())
    }

    fn refuse_foreign_selectors(
        &self,
        drafts: &[Draft],
        slot: Slot,
        survey: &Survey,
    ) -> Result<(), Failure> {
        let pods = new_pods(drafts);
        // A front that is there keeps its selector: whether that is safe is asked of the live object.
        let planned: BTreeSet<(Kind, String)> = drafts
            .iter()
            .filter(|draft| draft.live.is_none() || draft.object.label(names::SLOT).is_some())
            .map(|draft| (draft.object.kind(), draft.object.name().to_owned()))
            .collect();
        let ours = Ours {
            planned,
            application: self.args.deployment.application.as_deref(),
            slot,
        };
        let foreign = selectors::foreign(&pods, &survey.selectors, &ours);
        let Some(first) = foreign.first() else {
            return Ok(());
        };
        let lines: Vec<String> = foreign.iter().map(selectors::Foreign::describe).collect();
        Err(Failure::message(FailureKind::Gate, lines.join("; ")).hint(first.hint()))
    }

    /// Has the API server try every object, and reports everything that it refuses at once.
    async fn dry_run(
        &self,
        drafts: Vec<Draft>,
        notes: &mut Vec<String>,
    ) -> Result<Vec<Planned>, Failure> {
        let tried: Vec<_> = stream::iter(drafts)
            .map(|draft| async {
                let origin = draft.object.origin().clone();
                self.try_out(draft).await.map_err(|error| (origin, error))
            })
            .buffered(CONCURRENCY)
            .collect()
            .await;
        let mut planned = Vec::new();
        let mut in_the_way: Vec<FieldConflict> = Vec::new();
        let mut refused: Vec<(Origin, Error)> = Vec::new();
        for result in tried {
            match result {
                Ok((object, taken_over)) => {
                    notes.extend(taken_over.iter().map(|conflict| {
                        format!(
                            "{}: `{}` is taken over from `{}`",
                            conflict.object, conflict.field, conflict.manager
                        )
                    }));
                    planned.push(object);
                }
                Err((_, NotApplied::Conflicts(found))) => in_the_way.extend(found),
                Err((origin, NotApplied::Stale(error) | NotApplied::Other(error))) => {
                    refused.push((origin, error));
                }
            }
        }
        refuse_all(refused)?;
        if in_the_way.is_empty() {
            return Ok(planned);
        }
        let (text, hint) = conflicts::refusal(&in_the_way);
        Err(Failure::message(FailureKind::Gate, text).hint(hint))
    }

    async fn try_out(&self, draft: Draft) -> Result<(Planned, Vec<FieldConflict>), NotApplied> {
        let first = self
            .objects
            .apply(
                &draft.kind,
                &draft.object,
                Sending::DryRun,
                Conflicts::Refuse,
            )
            .await;
        let (after, conflicts, taken_over) = match first {
            Ok(after) => (after, Conflicts::Refuse, Vec::new()),
            Err(NotApplied::Conflicts(found)) => {
                let foreign: Vec<FieldConflict> = found
                    .into_iter()
                    .filter(|conflict| !conflict.is_with_ourselves())
                    .collect();
                if !foreign.is_empty() && !self.args.force_conflicts {
                    return Err(NotApplied::Conflicts(foreign));
                }
                let after = self
                    .objects
                    .apply(
                        &draft.kind,
                        &draft.object,
                        Sending::DryRun,
                        Conflicts::TakeOver,
                    )
                    .await?;
                (after, Conflicts::TakeOver, foreign)
            }
            Err(other) => return Err(other),
        };
        Ok((
            Planned {
                object: draft.object,
                kind: draft.kind,
                live: draft.live,
                after,
                conflicts,
            },
            taken_over,
        ))
    }
}

/// All refusals are shown, each with its place; the first decides over the kind and the hint.
fn refuse_all(refused: Vec<(Origin, Error)>) -> Result<(), Failure> {
    let lines: Vec<String> = refused
        .iter()
        .map(|(origin, error)| format!("{origin}: {error}"))
        .collect();
    let Some((_, first)) = refused.into_iter().next() else {
        return Ok(());
    };
    let text = match lines.as_slice() {
        [line] => line.clone(),
        several => format!(
            "{} objects are refused: {}",
            several.len(),
            several.join("; ")
        ),
    };
    let like = refusal_of_manifest(first);
    Err(Failure::message(like.kind(), text).maybe_hint(like.hints().first().cloned()))
}

/// An object that the API server calls invalid is bad input; one that its rules forbid is a gate's no.
fn refusal_of_manifest(error: Error) -> Failure {
    // A field of the wrong type is answered with 500 by server-side apply.
    const WRONG_TYPE: &str = "failed to create typed patch object";
    let is_invalid = if let Error::Refused {
        message, causes, ..
    } = &error
    {
        !causes.is_empty() || message.contains(WRONG_TYPE) || message.contains("strict decoding")
    } else {
        matches!(&error, Error::Server { message, .. } if message.contains(WRONG_TYPE))
    };
    if is_invalid {
        let hint = error.hint();
        Failure::input(error).maybe_hint(hint)
    } else {
        cluster_failure(error)
    }
}

fn new_pods(drafts: &[Draft]) -> Vec<NewPods> {
    drafts
        .iter()
        .filter(|draft| draft.object.kind().is_workload())
        .filter(|draft| draft.object.label(names::SLOT).is_some())
        .map(|draft| NewPods {
            workload: draft.object.identity().to_string(),
            labels: pods::labels(draft.object.kind(), draft.object.value()),
        })
        .collect()
}

/// In place, a front that sends traffic to a slot would be turned away from it by the manifest.
fn refuse_slotted_fronts(drafts: &[Draft]) -> Result<(), Failure> {
    let services: BTreeSet<&str> = drafts
        .iter()
        .filter(|draft| draft.object.kind() == Kind::Service)
        .map(|draft| draft.object.name())
        .collect();
    for draft in drafts {
        let Some(live) = &draft.live else { continue };
        let title = draft.object.identity();
        let selector = live.pointer("/spec/selector");
        let pinned = [names::SLOT, names::POD_TEMPLATE_HASH]
            .into_iter()
            .find(|key| selector.is_some_and(|selector| selector.get(*key).is_some()));
        let slotted = front::backends(draft.object.kind(), live)
            .into_iter()
            .find(|backend| {
                Slot::split(&backend.service).is_some_and(|(base, _)| services.contains(base))
            });
        let evidence = match (draft.object.kind(), pinned, slotted) {
            (Kind::Service, Some(key), _) => format!("its live selector asks for `{key}`"),
            (_, _, Some(backend)) => format!("it sends traffic to `{}`", backend.service),
            (_, _, None) => continue,
        };
        return Err(Failure::message(
            FailureKind::Gate,
            format!("{title} takes part in a blue-green application ({evidence}); applying it in place would move traffic"),
        )
        .hint("deploy with `slot: auto`"));
    }
    Ok(())
}

/// The live side when no record tells: the one that traffic reaches, a slot before an unslotted one.
fn live_side(known: &KnownSides, slot: Slot) -> Option<Side> {
    let target = Side::Slot(slot);
    known
        .recorded
        .or_else(|| known.seen.keys().copied().find(|side| *side != target))
}

/// In place, what is there now is the side that is replaced.
fn has_live_workload(drafts: &[Draft]) -> Option<Side> {
    drafts
        .iter()
        .any(|draft| draft.live.is_some() && is_sized(draft.object.kind()))
        .then_some(Side::Unslotted)
}

/// Sets the size of every workload and the floor of every autoscaler.
fn set_sizes(
    drafts: &mut [Draft],
    previous: Option<Side>,
    survey: &Survey,
    notes: &mut Vec<String>,
) {
    let autoscaled: BTreeSet<(Kind, String)> = drafts
        .iter()
        .filter_map(|draft| references::scale_target(draft.object.kind(), draft.object.value()))
        .collect();
    let mut old_sizes: BTreeMap<(Kind, String), u64> = BTreeMap::new();
    for draft in drafts.iter_mut() {
        let kind = draft.object.kind();
        let name = draft.object.name().to_owned();
        let is_new_side = draft.object.label(names::SLOT).is_some();
        let old_ready = previous
            .filter(|_| is_new_side && kind.has_replicas())
            .map(|side| survey.ready(kind, &side.object_name(draft.object.base_name())));
        old_sizes.extend(old_ready.map(|ready| ((kind, name.clone()), ready)));
        let sizing = Sizing {
            live: draft.live.clone(),
            is_autoscaled: autoscaled.contains(&(kind, name.clone()))
                || survey.autoscaler_of(kind, &name).is_some(),
            is_new_side,
            old_ready: old_ready.filter(|ready| *ready > 0),
        };
        notes.extend(capacity::size(&mut draft.object, &sizing));
    }
    for draft in drafts.iter_mut() {
        let target = references::scale_target(draft.object.kind(), draft.object.value());
        if let Some(ready) = target.and_then(|target| old_sizes.get(&target)) {
            notes.extend(capacity::raise_floor(&mut draft.object, *ready));
        }
    }
}

fn is_applied_by_us(live: &Value) -> bool {
    let entries = live
        .pointer("/metadata/managedFields")
        .and_then(Value::as_array);
    entries.into_iter().flatten().any(|entry| {
        entry.get("manager") == Some(&json!(switchyard_cluster::FIELD_MANAGER))
            && entry.get("operation") == Some(&json!("Apply"))
    })
}

/// The identity of a planned object as the record keeps it.
pub(super) fn record_ref(
    identity: &Identity,
    namespace: Option<&str>,
) -> switchyard_record::ObjectRef {
    switchyard_record::ObjectRef {
        api_version: identity.api_version.clone(),
        kind: identity.kind.clone(),
        namespace: namespace.map(str::to_owned),
        name: identity.name.clone(),
    }
}
