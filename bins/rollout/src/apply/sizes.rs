//! The sizes within a plan: workloads and the floors of their autoscalers.

use std::collections::{BTreeMap, BTreeSet};

use switchyard_manifest::{Kind, names, references};
use switchyard_record::Side;

use super::prepare::Draft;
use crate::plan::capacity::{self, Sizing};
use crate::survey::Survey;

/// Sets the size of every workload and the floor of every autoscaler.
pub(super) fn set_sizes(
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
