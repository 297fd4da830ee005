//! Turns a plain manifest into the objects of one slot, or of a canary: names suffixed, labels and
//! selectors marked, references followed, so that what is written there never touches what is live.
//!
//! A canary stands beside a main workload without slots, whose Service selects by labels that its own pods
//! would carry too: values of labels by which workloads select their pods get the canary's suffix as well.
//! Autoscalers, budgets, routes and workloads without a Service get no copy: they are what they were until
//! the main workload is updated.
//!
//! Owns which objects are slotted, shared, fronts or left until after the switch. Refuses to know
//! what is live; routes keep the names that the manifest gave ([`crate::front`] points them).

mod parts;
mod rewrite;

use std::collections::{BTreeMap, BTreeSet};

use crate::identity::ObjectName;
use crate::kind::Kind;
use crate::names;
use crate::object::Object;
use crate::place::Place;
use crate::role::UnknownRole;

pub use parts::{Part, classify};

/// How a manifest is slotted.
#[derive(Clone, Debug)]
pub struct SlottingOptions {
    /// The place that the objects are for.
    pub place: Place,
    /// The application's name, written as a label on every object.
    pub application: Option<String>,
    /// Objects declared as fronts by an input.
    pub front: BTreeSet<ObjectName>,
    /// Objects declared by an input to be changed in place after the switch.
    pub after_switch: BTreeSet<ObjectName>,
    /// Objects declared by an input to stand once in each slot.
    pub per_slot: BTreeSet<ObjectName>,
}

/// A manifest made ready for one place.
#[derive(Clone, Debug, PartialEq)]
pub struct Slotted {
    /// What is applied before the switch: the slot's objects, shared ones and fronts.
    pub objects: Vec<Object>,
    /// What is applied after the switch, in place and under the manifest's names.
    pub after_switch: Vec<Object>,
    /// Names of objects of `objects` that are fronts: as the manifest has them.
    pub fronts: BTreeSet<ObjectName>,
    /// Base names of the Services that stand once in each slot.
    pub slotted_services: BTreeSet<String>,
    /// Base names of the workloads that stand once in each slot.
    pub slotted_workloads: BTreeSet<ObjectName>,
    /// Base names of per-slot Services made from a front Service, so that tests reach the slot.
    pub derived_services: BTreeSet<String>,
}

/// Why a manifest cannot be slotted.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SlottingError {
    /// The role annotation holds something else.
    #[error("{object} has a bad `{}` annotation", names::ROLE)]
    Role {
        /// The object.
        object: ObjectName,
        /// What is wrong.
        #[source]
        source: UnknownRole,
    },
    /// An input names an object that the manifest does not have.
    #[error("input `{input}` names {object}, which the manifests do not have")]
    NotThere {
        /// The input.
        input: &'static str,
        /// What it names.
        object: ObjectName,
        /// What was probably meant.
        suggestion: Option<String>,
    },
    /// Nothing tells whether a workload may run in both slots at once.
    #[error(
        "{object} has no Service, so it would start to work as soon as it is applied, next to the one that works now"
    )]
    Undeclared {
        /// The workload.
        object: ObjectName,
    },
    /// A kind that cannot stand once in each slot.
    #[error("{object} cannot stand in a slot: {problem}")]
    NotSlottable {
        /// The object.
        object: ObjectName,
        /// Why.
        problem: &'static str,
    },
    /// The manifest was already made for the other slot.
    #[error("{object} is already labelled for slot `{found}`, but {wanted} is deployed")]
    OtherSlot {
        /// The object.
        object: ObjectName,
        /// The slot in the manifest.
        found: String,
        /// The place that is deployed.
        wanted: Place,
    },
    /// The suffixed name is taken by another object of the manifest.
    #[error("{object} would be named `{name}`, which the manifests use for another object")]
    NameTaken {
        /// The object.
        object: ObjectName,
        /// The name.
        name: String,
    },
}

impl SlottingError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Undeclared { object } => Some(format!(
                "say when it may run: `after-switch: {object}` (stands once, changed in place after the switch) or `per-slot: {object}` (runs in both slots at once); or the annotation `{}`",
                names::ROLE
            )),
            Self::NotThere { suggestion, .. } => suggestion
                .as_ref()
                .map(|name| format!("did you mean `{name}`?")),
            Self::NotSlottable { object, .. } => matches!(
                object.kind.as_str(),
                "pod" | "replicaset" | "replicationcontroller"
            )
            .then(|| "make it part of a Deployment, or deploy with `slot: none`".to_owned()),
            Self::OtherSlot { .. } => Some(
                "give manifests without slots; rollout adds names, labels and selectors".to_owned(),
            ),
            Self::Role { .. } | Self::NameTaken { .. } => None,
        }
    }
}

/// Makes a manifest ready for one place.
///
/// Slotting what was already slotted for the same place changes nothing.
///
/// # Errors
/// See [`SlottingError`]; the manifest is refused as a whole.
pub fn slot(objects: &[Object], options: &SlottingOptions) -> Result<Slotted, SlottingError> {
    let parts = classify(objects, options)?;
    let renames = rewrite::Renames::of(objects, &parts, options.place)?;
    let mut slotted = Slotted {
        objects: Vec::new(),
        after_switch: Vec::new(),
        fronts: BTreeSet::new(),
        slotted_services: renames.services(),
        slotted_workloads: BTreeSet::new(),
        derived_services: BTreeSet::new(),
    };
    for (object, part) in objects.iter().zip(&parts) {
        place(object, *part, &renames, options, &mut slotted);
    }
    add_config_digests(&mut slotted.objects);
    Ok(slotted)
}

fn place(
    object: &Object,
    part: Part,
    renames: &rewrite::Renames,
    options: &SlottingOptions,
    slotted: &mut Slotted,
) {
    let labelled = |mut object: Object| {
        if let Some(application) = &options.application {
            object.set_label(names::APPLICATION, application);
        }
        object
    };
    if part.is_slotted() {
        let copy = rewrite::for_slot(object, part, renames, options);
        if object.kind().is_workload() {
            slotted.slotted_workloads.insert(ObjectName {
                name: object.base_name().to_owned(),
                ..object.identity().short()
            });
        }
        if part == (Part::Front { is_derived: true }) {
            slotted
                .derived_services
                .insert(object.base_name().to_owned());
        }
        slotted.objects.push(labelled(copy));
    }
    if part.is_shared() {
        slotted.objects.push(labelled(object.clone()));
    }
    if let Part::Front { .. } = part {
        slotted.fronts.insert(object.identity().short());
        slotted.objects.push(labelled(object.clone()));
    }
    if part.is_after_switch() {
        slotted.after_switch.push(labelled(object.clone()));
    }
}

/// Pods do not notice that a ConfigMap changed. Slotted pods get its digest as an annotation, so
/// that deploying into a slot whose pods still run replaces them.
fn add_config_digests(objects: &mut [Object]) {
    let config_maps: BTreeMap<String, serde_json::Value> = objects
        .iter()
        .filter(|object| object.kind() == Kind::ConfigMap && object.label(names::SLOT).is_some())
        .map(|object| (object.name().to_owned(), object.value().clone()))
        .collect();
    for object in objects {
        let kind = object.kind();
        if object.label(names::SLOT).is_none() {
            continue;
        }
        let digest = crate::config_digest::of_workload(kind, object.value(), &config_maps);
        if let Some(digest) = digest
            && let Some(template) = crate::pods::template_mut(kind, object.value_mut())
        {
            let metadata = crate::object::member(template, "metadata");
            let annotations = crate::object::member_of(metadata, "annotations");
            crate::object::set_text(annotations, names::CONFIG_DIGEST, &digest);
        }
    }
}
