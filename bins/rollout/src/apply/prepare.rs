//! From the manifest and what is live to what will be sent: slotted, fronts kept, sizes set, checked,
//! and tried by a dry run of all objects. Nothing is written here.

use futures::{StreamExt, stream};
use serde_json::{Value, json};
use switchyard_cluster::DynamicKind;
use switchyard_deployment::cluster_failure;
use switchyard_manifest::slotting::Slotted;
use switchyard_manifest::{Identity, Object, ObjectName, Place, diff, names, order};
use switchyard_record::Side;
use switchyard_runner::{Failure, Kind as FailureKind};

use super::{Applying, fronts, is_sized, side_of, sizes};
use crate::canary;
use crate::inputs::StageChoice;
use crate::ledger::Ledger;
use crate::objects::{CONCURRENCY, Conflicts};
use crate::plan::ownership;
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
    /// The slot or the canary, or in place.
    pub place: Option<Place>,
    /// The side that is live now.
    pub previous: Option<Side>,
    /// Lines for people about what differs from the manifest.
    pub notes: Vec<String>,
}

impl Plan {
    /// The side that is written.
    pub(super) fn side(&self) -> Side {
        side_of(self.place)
    }

    /// The workloads of the side that is written, under their live names.
    pub(super) fn workloads(&self) -> Vec<ObjectName> {
        let is_of_side = |object: &Object| {
            is_sized(object.kind()) && (self.place.is_none() || object.label(names::SLOT).is_some())
        };
        self.objects
            .iter()
            .filter(|planned| is_of_side(&planned.object))
            .map(|planned| planned.object.identity().short())
            .collect()
    }
}

/// An object on its way to being planned.
pub(super) struct Draft {
    /// What is to be sent.
    pub object: Object,
    /// How the cluster serves it.
    pub kind: DynamicKind,
    /// What is there now.
    pub live: Option<Value>,
}

impl Applying<'_> {
    /// Decides what is sent, and has the API server try all of it.
    pub(super) async fn prepare(
        &self,
        ledger: &Ledger,
        place: Option<Place>,
        (survey, known): (&Survey, &KnownSides),
    ) -> Result<Plan, Failure> {
        let slotted = match place {
            Some(place) => Some(self.slot_manifest(place)?),
            None => None,
        };
        let mut drafts = self.drafts(slotted.as_ref()).await?;
        let mut notes = Vec::new();
        if place == Some(Place::Canary) {
            self.leave_live(&mut drafts, &mut notes);
        }
        self.refuse_not_ours(&drafts)?;
        match (&slotted, place, self.args.stage) {
            (Some(slotted), Some(Place::Slot(slot)), StageChoice::BeforeSwitch) => {
                self.keep_fronts(&mut drafts, slotted, slot, &mut notes)?;
                notes.extend(self.missing_front(slotted, survey));
                self.refuse_foreign_selectors(&drafts, Place::Slot(slot), survey)?;
            }
            (Some(_), Some(Place::Canary), StageChoice::BeforeSwitch) => {
                refuse_alone(&drafts, survey)?;
                canary::refuse_canary_in_traffic(survey)?;
                self.refuse_foreign_selectors(&drafts, Place::Canary, survey)?;
            }
            (Some(_), _, _) | (None, Some(_), _) => {}
            (None, None, _) => fronts::refuse_slotted_fronts(&drafts)?,
        }
        let previous = ledger
            .record()
            .and_then(|record| record.sides.from.as_ref())
            .map(|from| from.side)
            .or_else(|| match place {
                Some(Place::Slot(slot)) => live_side(known, Side::Slot(slot)),
                Some(Place::Canary) => Some(Side::Stable),
                None => known.recorded.or_else(|| has_live_workload(&drafts)),
            });
        match (place, self.args.stage) {
            (Some(Place::Canary), StageChoice::Promotion) => {
                let known = ledger
                    .record()
                    .and_then(|record| record.sides.from.as_ref());
                sizes::keep_sizes(&mut drafts, known, survey, &mut notes);
            }
            (Some(Place::Canary), _) => {
                sizes::set_canary_sizes(&mut drafts, self.args.canary_pods);
            }
            (Some(Place::Slot(_)) | None, _) => {
                sizes::set_sizes(&mut drafts, place.and(previous), survey, &mut notes);
            }
        }
        if let Some(rolling) = &self.args.rolling {
            self.shape(rolling, &mut drafts, &mut notes).await?;
        }
        let objects = self.dry_run(drafts, &mut notes).await?;
        Ok(Plan {
            objects,
            place,
            previous,
            notes,
        })
    }

    async fn drafts(&self, slotted: Option<&Slotted>) -> Result<Vec<Draft>, Failure> {
        let mut objects = match (slotted, self.args.stage) {
            (Some(slotted), StageChoice::BeforeSwitch) => slotted.objects.clone(),
            (Some(slotted), StageChoice::AfterSwitch) => slotted.after_switch.clone(),
            (Some(_), StageChoice::Promotion) | (None, _) => self.labelled_manifest(),
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
        if let Some(application) = &self.args.written.deployment.application {
            for object in &mut objects {
                object.set_label(names::APPLICATION, application);
            }
        }
        objects
    }

    /// Beside a canary, what stands once is left as it is live: it is changed with the main workload. Then
    /// routes are left too, because the manifest does not know where traffic goes.
    fn leave_live(&self, drafts: &mut Vec<Draft>, notes: &mut Vec<String>) {
        let is_left = |draft: &Draft| match self.args.stage {
            StageChoice::BeforeSwitch | StageChoice::AfterSwitch => {
                draft.live.is_some() && draft.object.label(names::SLOT).is_none()
            }
            StageChoice::Promotion => draft.live.is_some() && draft.object.kind().is_route(),
        };
        let left: Vec<String> = drafts
            .iter()
            .filter(|draft| is_left(draft))
            .map(|draft| draft.object.identity().short().to_string())
            .collect();
        drafts.retain(|draft| !is_left(draft));
        if left.is_empty() {
            return;
        }
        let left = left.join(", ");
        notes.push(match self.args.stage {
            StageChoice::BeforeSwitch | StageChoice::AfterSwitch => {
                format!("left as they are until the main workload is updated: {left}")
            }
            StageChoice::Promotion => format!(
                "left as they are, because they decide where traffic goes (apply changes of them after `rollout finish`): {left}"
            ),
        });
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
        let application = self.args.written.deployment.application.as_deref();
        let found: Vec<_> = drafts
            .iter()
            .filter_map(|draft| {
                let live = draft.live.as_ref()?;
                ownership::check(&draft.object.identity(), live, application)
            })
            .collect();
        let images: Vec<String> = self
            .args
            .written
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
        ownership::refuse(&found, &what)
    }
}

/// Without a main workload that is live a canary would be all there is.
fn refuse_alone(drafts: &[Draft], survey: &Survey) -> Result<(), Failure> {
    let mut workloads = drafts
        .iter()
        .map(|draft| &draft.object)
        .filter(|object| is_sized(object.kind()) && object.label(names::SLOT).is_some());
    let alone = workloads.find(|object| survey.ready(object.kind(), object.base_name()) == 0);
    let Some(alone) = alone else {
        return Ok(());
    };
    Err(Failure::message(
        FailureKind::Gate,
        format!(
            "{} would stand alone: `{}` is not live beside it with a ready pod",
            alone.identity(),
            alone.base_name()
        ),
    )
    .hint("deploy the application in place first (`rollout apply`); a canary is tried beside what is live"))
}

/// The live side when no record tells: the one that traffic reaches, a slot before an unslotted one.
fn live_side(known: &KnownSides, target: Side) -> Option<Side> {
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
