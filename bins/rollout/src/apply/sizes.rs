//! The sizes within a plan: workloads and the floors of their autoscalers.

use std::collections::{BTreeMap, BTreeSet};

use switchyard_manifest::{Kind, names, references};
use switchyard_record::{Side, SideState};

use super::prepare::Draft;
use crate::plan::capacity::{self, Sizing};
use crate::survey::Survey;

/// Gives every workload of a canary this many pods.
pub(super) fn set_canary_sizes(drafts: &mut [Draft], pods: u16) {
    for draft in drafts {
        if draft.object.kind().has_replicas() && draft.object.label(names::SLOT).is_some() {
            capacity::set(&mut draft.object, Some(u64::from(pods)));
        }
    }
}

/// Keeps workloads, and the floors of their autoscalers, at least at the sizes that they were found with:
/// a main workload is updated while it is idle, and takes all of the traffic afterwards.
pub(super) fn keep_sizes(
    drafts: &mut [Draft],
    found: Option<&SideState>,
    survey: &Survey,
    notes: &mut Vec<String>,
) {
    let size = |kind: Kind, name: &str| -> u64 {
        let workloads = found.map_or(&[][..], |found| &found.workloads);
        let of_name = workloads.iter().find(|state| {
            state.workload.name == name && Kind::of("apps/v1", &state.workload.kind) == kind
        });
        of_name
            .and_then(|state| state.replicas)
            .map_or(0, u64::from)
    };
    let planned: BTreeSet<(Kind, String)> = autoscaled(drafts);
    for draft in drafts.iter_mut() {
        let kind = draft.object.kind();
        let name = draft.object.name().to_owned();
        let floor = size(kind, &name);
        let sizing = Sizing {
            live: draft.live.clone(),
            is_autoscaled: planned.contains(&(kind, name.clone()))
                || survey.autoscaler_of(kind, &name).is_some(),
            is_new_side: false,
            old_ready: (floor > 0).then_some(floor),
        };
        notes.extend(capacity::size(&mut draft.object, &sizing));
        let target = references::scale_target(kind, draft.object.value());
        let floor = target.map_or(0, |(kind, name)| size(kind, &name));
        if floor > 0 {
            notes.extend(capacity::raise_floor(&mut draft.object, floor));
        }
    }
}

fn autoscaled(drafts: &[Draft]) -> BTreeSet<(Kind, String)> {
    let targets = drafts
        .iter()
        .filter_map(|draft| references::scale_target(draft.object.kind(), draft.object.value()));
    targets.collect()
}

/// Sets the size of every workload and the floor of every autoscaler.
pub(super) fn set_sizes(
    drafts: &mut [Draft],
    previous: Option<Side>,
    survey: &Survey,
    notes: &mut Vec<String>,
) {
    let autoscaled = autoscaled(drafts);
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
