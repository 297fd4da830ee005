//! Rewrites one object for a slot: name, labels, selectors, and what it refers to.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::{Part, SlottingError, SlottingOptions};
use crate::kind::Kind;
use crate::names;
use crate::object::{Object, member, member_of, set_text};
use crate::place::Place;
use crate::pods;
use crate::references::{self, ConfigKind};
use crate::selector::LabelSelector;
use crate::slot::Slot;

/// The longest value of a label, in bytes (Kubernetes: "Labels and Selectors", Syntax).
const MAX_LABEL_VALUE: usize = 63;

/// The names that slotted objects had and the ones that they get.
pub(super) struct Renames {
    by_kind: BTreeMap<(String, String), (Kind, BTreeMap<String, String>)>,
    /// Labels by which workloads select their pods, with the values that a canary's pods get instead.
    labels: BTreeMap<(String, String), String>,
}

impl Renames {
    /// Collects the new names and refuses those that another object has.
    pub(super) fn of(
        objects: &[Object],
        parts: &[Part],
        place: Place,
    ) -> Result<Self, SlottingError> {
        let mut by_kind: BTreeMap<_, (Kind, BTreeMap<String, String>)> = BTreeMap::new();
        for (object, _) in objects
            .iter()
            .zip(parts)
            .filter(|(_, part)| part.is_slotted())
        {
            let (name, new_name) = renamed(object, place)?;
            let identity = object.identity();
            let key = (identity.group().to_owned(), identity.kind.clone());
            if name != new_name
                && objects
                    .iter()
                    .any(|other| is_same(other, object, &new_name))
            {
                return Err(SlottingError::NameTaken {
                    object: identity.short(),
                    name: new_name,
                });
            }
            by_kind
                .entry(key)
                .or_insert_with(|| (object.kind(), BTreeMap::new()))
                .1
                .insert(name, new_name);
        }
        Ok(Self {
            by_kind,
            labels: match place {
                Place::Slot(_) => BTreeMap::new(),
                Place::Canary => labels_of_canary(objects, parts)?,
            },
        })
    }

    /// The new name of an object that others refer to by its old one.
    fn of_kind(&self, kind: Kind, name: &str) -> Option<&str> {
        self.by_kind
            .values()
            .find(|(known, names)| *known == kind && names.contains_key(name))
            .and_then(|(_, names)| names.get(name))
            .map(String::as_str)
    }

    /// Base names of the slotted Services.
    pub(super) fn services(&self) -> BTreeSet<String> {
        self.by_kind
            .values()
            .filter(|(kind, _)| *kind == Kind::Service)
            .flat_map(|(_, names)| names.iter())
            .map(|(name, new_name)| {
                let base = if name == new_name {
                    let canary = || name.strip_suffix("-canary");
                    let slotted = Slot::split(name).map(|(base, _)| base);
                    slotted.or_else(canary).unwrap_or(name)
                } else {
                    name
                };
                base.to_owned()
            })
            .collect()
    }
}

fn is_same(other: &Object, object: &Object, name: &str) -> bool {
    let (other, object) = (other.identity(), object.identity());
    other.group() == object.group() && other.kind == object.kind && other.name == name
}

/// The name of an object and the one that it gets. What is already slotted keeps its name.
fn renamed(object: &Object, place: Place) -> Result<(String, String), SlottingError> {
    let name = object.name().to_owned();
    match object.label(names::SLOT) {
        None => {
            let new_name = place.name_of(&name);
            Ok((name, new_name))
        }
        Some(label) if label == place.as_str() => Ok((name.clone(), name)),
        Some(label) => Err(SlottingError::OtherSlot {
            object: object.identity().short(),
            found: label.to_owned(),
            wanted: place,
        }),
    }
}

/// What the pods of a canary carry instead of the labels by which the main workloads select theirs.
fn labels_of_canary(
    objects: &[Object],
    parts: &[Part],
) -> Result<BTreeMap<(String, String), String>, SlottingError> {
    let mut labels = BTreeMap::new();
    let workloads = objects.iter().zip(parts).filter(|(object, part)| {
        // What was made for a canary before carries its values already.
        part.is_slotted() && object.kind().is_workload() && object.label(names::SLOT).is_none()
    });
    for (workload, _) in workloads {
        let own = workload.value().pointer("/spec/selector/matchLabels");
        for (key, value) in own.map(pods::text_map).unwrap_or_default() {
            let new = Place::Canary.name_of(&value);
            if new.len() > MAX_LABEL_VALUE {
                return Err(SlottingError::NotSlottable {
                    object: workload.identity().short(),
                    problem: "a value by which it selects its pods has no room for `-canary` (63 bytes)",
                });
            }
            labels.insert((key, value), new);
        }
    }
    Ok(labels)
}

/// The copy of an object for the place.
pub(super) fn for_slot(
    object: &Object,
    part: Part,
    renames: &Renames,
    options: &SlottingOptions,
) -> Object {
    let mut copy = object.clone();
    let kind = object.kind();
    let base = object.base_name().to_owned();
    if object.label(names::SLOT).is_none() {
        copy.set_name(&options.place.name_of(&base));
    }
    copy.set_label(names::SLOT, options.place.as_str());
    copy.set_annotation(names::BASE_NAME, &base);
    let is_front = matches!(part, Part::Front { .. });
    if kind == Kind::Service && (is_front || options.place == Place::Canary) {
        make_per_slot_service(&mut copy);
    }
    let rewriter = Rewriter { renames, options };
    if kind.is_workload() {
        rewriter.workload(kind, copy.value_mut());
    } else if kind == Kind::Service {
        let selector = member_of(member(copy.value_mut(), "spec"), "selector");
        rewriter.mark(selector);
    } else if kind == Kind::PodDisruptionBudget {
        let selector = member_of(member(copy.value_mut(), "spec"), "selector");
        rewriter.mark(member_of(selector, "matchLabels"));
    } else {
        rewriter.scale_target(kind, copy.value_mut());
    }
    copy
}

/// The Service through which tests reach one slot while the front still sends traffic elsewhere:
/// the front's ports, inside the cluster only, so that it asks for no second load balancer.
fn make_per_slot_service(service: &mut Object) {
    let value = service.value_mut();
    if let Some(annotations) = value
        .pointer_mut("/metadata/annotations")
        .and_then(Value::as_object_mut)
    {
        // Annotations of a front talk to load balancers and DNS.
        annotations.retain(|key, _| key == names::BASE_NAME);
    }
    let spec = member(value, "spec");
    let kept = ["ports", "selector", "ipFamilies", "ipFamilyPolicy"];
    spec.retain(|key, value| {
        kept.contains(&key.as_str()) || (key == "clusterIP" && value == "None")
    });
    for port in spec
        .get_mut("ports")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
        .filter_map(Value::as_object_mut)
    {
        port.remove("nodePort");
    }
}

struct Rewriter<'a> {
    renames: &'a Renames,
    options: &'a SlottingOptions,
}

impl Rewriter<'_> {
    fn mark(&self, labels: &mut Map<String, Value>) {
        for (key, value) in labels.iter_mut() {
            let Value::String(text) = value else { continue };
            if let Some(new) = self.renames.labels.get(&(key.clone(), text.clone())) {
                new.clone_into(text);
            }
        }
        set_text(labels, names::SLOT, self.options.place.as_str());
    }

    fn workload(&self, kind: Kind, workload: &mut Value) {
        let had_labels = pods::labels(kind, workload);
        if let Some(template) = pods::template_mut(kind, workload) {
            let labels = member_of(member(template, "metadata"), "labels");
            self.mark(labels);
            if let Some(application) = &self.options.application {
                set_text(labels, names::APPLICATION, application);
            }
            self.placement(template, &had_labels);
        }
        // Jobs get their selector from the controller.
        if !matches!(kind, Kind::Job | Kind::CronJob) {
            let selector = member_of(member(workload, "spec"), "selector");
            self.mark(member_of(selector, "matchLabels"));
        }
        if kind == Kind::StatefulSet {
            self.rename_at(workload, "/spec/serviceName", Kind::Service);
        }
        references::each_config_mut(kind, workload, &mut |config, name| {
            let kind = match config {
                ConfigKind::ConfigMap => Kind::ConfigMap,
                ConfigKind::Secret => Kind::Secret,
            };
            if let Some(new_name) = self.renames.of_kind(kind, name) {
                new_name.clone_into(name);
            }
        });
    }

    /// Rules that keep a workload's pods apart from each other must not keep them apart from the
    /// other slot's: with one node per pod the new side would never find room.
    fn placement(&self, template: &mut Value, own_labels: &BTreeMap<String, String>) {
        let mut pointers = Vec::new();
        let count = |template: &Value, pointer: &str| {
            template
                .pointer(pointer)
                .and_then(Value::as_array)
                .map_or(0, Vec::len)
        };
        let spread = "/spec/topologySpreadConstraints";
        pointers.extend((0..count(template, spread)).map(|at| format!("{spread}/{at}")));
        for affinity in ["podAffinity", "podAntiAffinity"] {
            let base = format!("/spec/affinity/{affinity}");
            let required = format!("{base}/requiredDuringSchedulingIgnoredDuringExecution");
            let preferred = format!("{base}/preferredDuringSchedulingIgnoredDuringExecution");
            pointers.extend((0..count(template, &required)).map(|at| format!("{required}/{at}")));
            pointers.extend(
                (0..count(template, &preferred))
                    .map(|at| format!("{preferred}/{at}/podAffinityTerm")),
            );
        }
        for pointer in pointers {
            let selector = template.pointer_mut(&format!("{pointer}/labelSelector"));
            if let Some(selector) = selector
                && LabelSelector::parse(selector).is_some_and(|own| own.matches(own_labels))
            {
                self.mark(member(selector, "matchLabels"));
            }
        }
    }

    fn scale_target(&self, kind: Kind, object: &mut Value) {
        let Some(pointer) = references::scale_target_pointer(kind, object) else {
            return;
        };
        let Some((target, _)) = references::scale_target(kind, object) else {
            return;
        };
        self.rename_at(object, &format!("{pointer}/name"), target);
    }

    fn rename_at(&self, object: &mut Value, pointer: &str, kind: Kind) {
        if let Some(Value::String(name)) = object.pointer_mut(pointer)
            && let Some(new_name) = self.renames.of_kind(kind, name)
        {
            new_name.clone_into(name);
        }
    }
}
