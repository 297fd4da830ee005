//! Decides which part each object plays in a switch, from its kind, its declared role and who
//! refers to it.

use std::collections::BTreeMap;

use super::{SlottingError, SlottingOptions};
use crate::identity::ObjectName;
use crate::kind::Kind;
use crate::names;
use crate::object::Object;
use crate::place::Place;
use crate::pods;
use crate::references::{self, ConfigKind};
use crate::role::Role;
use crate::selector::LabelSelector;
use crate::suggestion::nearest;

/// The part of an object in a switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Stands once in each slot, under a suffixed name.
    Slotted,
    /// Decides where traffic goes. `is_derived`: a per-slot Service is made from it as well.
    Front {
        /// Whether a per-slot Service is made from this front Service.
        is_derived: bool,
    },
    /// Applied as it is, before the switch.
    Shared,
    /// Applied as it is, after the switch.
    AfterSwitch,
    /// Configuration that several parts read: one copy for each of them.
    Copies {
        /// A copy for the slot.
        slotted: bool,
        /// A copy under its own name before the switch.
        shared: bool,
        /// A copy under its own name after the switch.
        after_switch: bool,
    },
}

impl Part {
    pub(super) const fn is_slotted(self) -> bool {
        match self {
            Self::Slotted => true,
            Self::Front { is_derived } => is_derived,
            Self::Copies { slotted, .. } => slotted,
            Self::Shared | Self::AfterSwitch => false,
        }
    }

    pub(super) const fn is_shared(self) -> bool {
        match self {
            Self::Shared => true,
            Self::Copies { shared, .. } => shared,
            Self::Slotted | Self::Front { .. } | Self::AfterSwitch => false,
        }
    }

    pub(super) const fn is_after_switch(self) -> bool {
        match self {
            Self::AfterSwitch => true,
            Self::Copies { after_switch, .. } => after_switch,
            Self::Slotted | Self::Front { .. } | Self::Shared => false,
        }
    }
}

/// Decides the part of every object, in the manifest's order.
///
/// # Errors
/// A role that does not fit, an input that names nothing, or a workload that nothing declares.
pub fn classify(objects: &[Object], options: &SlottingOptions) -> Result<Vec<Part>, SlottingError> {
    refuse_unknown_names(objects, options)?;
    let roles = objects
        .iter()
        .map(|object| role_of(object, options))
        .collect::<Result<Vec<_>, _>>()?;
    let mut parts: Vec<Option<Part>> = vec![None; objects.len()];
    // Workloads first: what the rest does follows from theirs.
    for (index, object) in objects.iter().enumerate() {
        if object.kind().is_workload() {
            let part = match workload_part(object, roles[index], objects) {
                // Beside a canary nothing but what it tries is there twice.
                Err(SlottingError::Undeclared { .. }) if options.place == Place::Canary => {
                    Part::AfterSwitch
                }
                decided => decided?,
            };
            parts[index] = Some(part);
        }
    }
    for (index, object) in objects.iter().enumerate() {
        let kind = object.kind();
        if !kind.is_workload() && ConfigKind::of(kind).is_none() {
            let workloads = Workloads {
                objects,
                parts: &parts,
            };
            parts[index] = Some(other_part(object, roles[index], &workloads)?);
        }
    }
    let decided: Vec<Part> = objects
        .iter()
        .enumerate()
        .map(|(index, object)| {
            parts[index].unwrap_or_else(|| config_part(object, roles[index], objects, &parts))
        })
        .collect();
    Ok(match options.place {
        Place::Slot(_) => decided,
        Place::Canary => {
            let both = objects.iter().zip(decided);
            both.map(|(object, part)| beside_canary(object, part))
                .collect()
        }
    })
}

/// What a part is where a canary is tried: only it and what it reads get copies, and what decides over
/// traffic and sizes stays as it is until the main workload is updated.
fn beside_canary(object: &Object, part: Part) -> Part {
    let kind = object.kind();
    let decides = kind.is_route()
        || kind == Kind::PodDisruptionBudget
        || references::scale_target(kind, object.value()).is_some();
    match part {
        Part::Slotted | Part::Front { .. } if decides => Part::AfterSwitch,
        Part::Front { is_derived: true } => Part::Slotted,
        Part::Front { is_derived: false } => Part::AfterSwitch,
        Part::Copies {
            slotted,
            shared,
            after_switch,
        } => Part::Copies {
            slotted,
            shared: false,
            after_switch: shared || after_switch,
        },
        Part::Slotted | Part::Shared | Part::AfterSwitch => part,
    }
}

fn refuse_unknown_names(
    objects: &[Object],
    options: &SlottingOptions,
) -> Result<(), SlottingError> {
    let present: Vec<String> = objects
        .iter()
        .map(|object| object.identity().short().to_string())
        .collect();
    let given = [
        ("front", &options.front),
        ("after-switch", &options.after_switch),
        ("per-slot", &options.per_slot),
    ];
    for (input, names) in given {
        for object in names {
            if !objects.iter().any(|candidate| is_named(candidate, object)) {
                let text = object.to_string();
                return Err(SlottingError::NotThere {
                    input,
                    object: object.clone(),
                    suggestion: nearest(&text, present.iter().map(String::as_str))
                        .map(str::to_owned),
                });
            }
        }
    }
    Ok(())
}

fn is_named(object: &Object, name: &ObjectName) -> bool {
    let short = object.identity().short();
    short.kind == name.kind && (short.name == name.name || object.base_name() == name.name)
}

fn role_of(object: &Object, options: &SlottingOptions) -> Result<Option<Role>, SlottingError> {
    let listed = [
        (&options.front, Role::Front),
        (&options.after_switch, Role::AfterSwitch),
        (&options.per_slot, Role::PerSlot),
    ]
    .into_iter()
    .find(|(names, _)| names.iter().any(|name| is_named(object, name)))
    .map(|(_, role)| role);
    let role = match (listed, object.annotation(names::ROLE)) {
        (Some(role), _) => Some(role),
        (None, None) => None,
        (None, Some(text)) => Some(Role::parse(text).map_err(|source| SlottingError::Role {
            object: object.identity().short(),
            source,
        })?),
    };
    refuse_misfit(object, role)?;
    Ok(role)
}

fn refuse_misfit(object: &Object, role: Option<Role>) -> Result<(), SlottingError> {
    let kind = object.kind();
    let problem = match role {
        Some(Role::Front) if kind != Kind::Service && !kind.is_route() => {
            "only Services and routes can be fronts"
        }
        Some(Role::PerSlot) if kind.is_route() => {
            "a route decides between the slots, so it stands once"
        }
        Some(Role::PerSlot)
            if matches!(
                kind,
                Kind::Namespace | Kind::CustomResourceDefinition | Kind::PersistentVolumeClaim
            ) =>
        {
            "objects of this kind are shared by both slots"
        }
        Some(Role::Front | Role::PerSlot | Role::AfterSwitch) | None => return Ok(()),
    };
    Err(SlottingError::NotSlottable {
        object: object.identity().short(),
        problem,
    })
}

fn workload_part(
    object: &Object,
    role: Option<Role>,
    objects: &[Object],
) -> Result<Part, SlottingError> {
    let kind = object.kind();
    let name = || object.identity().short();
    if matches!(
        kind,
        Kind::Pod | Kind::ReplicaSet | Kind::ReplicationController
    ) {
        return match role {
            Some(Role::AfterSwitch) => Ok(Part::AfterSwitch),
            Some(Role::Front | Role::PerSlot) | None => Err(SlottingError::NotSlottable {
                object: name(),
                problem: "it is not replaced when its pods change",
            }),
        };
    }
    if let Some(role) = role {
        return Ok(match role {
            Role::AfterSwitch => Part::AfterSwitch,
            Role::PerSlot | Role::Front => Part::Slotted,
        });
    }
    let runs_to_completion = matches!(kind, Kind::Job | Kind::CronJob);
    let labels = pods::labels(kind, object.value());
    let is_served = objects.iter().any(|candidate| {
        candidate.kind() == Kind::Service
            && LabelSelector::of_service(candidate.value())
                .is_some_and(|selector| selector.matches(&labels))
    });
    if is_served && !runs_to_completion {
        Ok(Part::Slotted)
    } else {
        Err(SlottingError::Undeclared { object: name() })
    }
}

struct Workloads<'a> {
    objects: &'a [Object],
    parts: &'a [Option<Part>],
}

impl Workloads<'_> {
    /// The parts of the workloads that `is_meant` accepts.
    fn parts_of(&self, is_meant: impl Fn(&Object) -> bool) -> Vec<Part> {
        self.objects
            .iter()
            .zip(self.parts)
            .filter(|(object, _)| object.kind().is_workload() && is_meant(object))
            .filter_map(|(_, part)| *part)
            .collect()
    }

    fn selected_by(&self, selector: Option<&LabelSelector>) -> Vec<Part> {
        self.parts_of(|workload| {
            let labels = pods::labels(workload.kind(), workload.value());
            selector.is_some_and(|selector| selector.matches(&labels))
        })
    }
}

fn other_part(
    object: &Object,
    role: Option<Role>,
    workloads: &Workloads<'_>,
) -> Result<Part, SlottingError> {
    let kind = object.kind();
    if kind.is_route() {
        return Ok(match role {
            Some(Role::AfterSwitch) => Part::AfterSwitch,
            Some(Role::Front | Role::PerSlot) | None => Part::Front { is_derived: false },
        });
    }
    let followed = if kind == Kind::Service {
        workloads.selected_by(LabelSelector::of_service(object.value()).as_ref())
    } else if kind == Kind::PodDisruptionBudget {
        let selector = object.value().pointer("/spec/selector");
        workloads.selected_by(selector.and_then(LabelSelector::parse).as_ref())
    } else if let Some((target_kind, name)) = references::scale_target(kind, object.value()) {
        workloads.parts_of(|workload| {
            workload.kind() == target_kind
                && (workload.name() == name || workload.base_name() == name)
        })
    } else {
        Vec::new()
    };
    let follows_slot = followed.contains(&Part::Slotted);
    Ok(match role {
        Some(Role::AfterSwitch) => Part::AfterSwitch,
        Some(Role::PerSlot) => Part::Slotted,
        Some(Role::Front) => Part::Front {
            is_derived: follows_slot && !has_per_slot_service(object, workloads.objects),
        },
        None if follows_slot => Part::Slotted,
        // A Service of a worker moves no work, so it may stand before the worker changes.
        None if kind != Kind::Service && followed.contains(&Part::AfterSwitch) => Part::AfterSwitch,
        None => Part::Shared,
    })
}

/// Whether a manifest that was slotted before already holds the per-slot Service of a front.
fn has_per_slot_service(front: &Object, objects: &[Object]) -> bool {
    objects.iter().any(|candidate| {
        candidate.kind() == Kind::Service
            && candidate.label(names::SLOT).is_some()
            && candidate.base_name() == front.name()
    })
}

fn config_part(
    object: &Object,
    role: Option<Role>,
    objects: &[Object],
    parts: &[Option<Part>],
) -> Part {
    let Some(config) = ConfigKind::of(object.kind()) else {
        return Part::Shared;
    };
    match role {
        Some(Role::PerSlot) => return Part::Slotted,
        Some(Role::AfterSwitch) => return Part::AfterSwitch,
        Some(Role::Front) | None => {}
    }
    let mut readers: BTreeMap<&str, bool> = BTreeMap::new();
    for (reader, part) in objects.iter().zip(parts) {
        let key = match part {
            Some(Part::Slotted) => "slotted",
            Some(Part::AfterSwitch) => "after-switch",
            Some(Part::Front { .. } | Part::Shared | Part::Copies { .. }) | None => "shared",
        };
        let reads = if reader.kind().is_workload() {
            references::configs(reader.kind(), reader.value())
                .iter()
                .any(|(kind, name)| {
                    *kind == config && (name == object.name() || name == object.base_name())
                })
        } else {
            ConfigKind::of(reader.kind()).is_none()
                && references::mentions_config(reader.value(), object.name())
        };
        if reads {
            readers.insert(key, true);
        }
    }
    let read_by = |key: &str| readers.contains_key(key);
    match (
        read_by("slotted"),
        read_by("shared"),
        read_by("after-switch"),
    ) {
        (true, false, false) => Part::Slotted,
        (false, false, true) => Part::AfterSwitch,
        (false, _, false) => Part::Shared,
        (slotted, shared, after_switch) => Part::Copies {
            slotted,
            shared,
            after_switch,
        },
    }
}
