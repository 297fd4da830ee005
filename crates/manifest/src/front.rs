//! Fronts: the objects that decide where traffic goes. Reads what they send where, keeps the live
//! decision when a manifest is applied again, and points a new front at the slot that is deployed.
//!
//! Refuses to know whether a decision is a good one, and to move traffic.

mod canary_ingress;
mod layout;

use std::collections::BTreeSet;

use serde_json::Value;

use crate::kind::Kind;
use crate::names;
use crate::object::Object;
use crate::pods::text_map;
use crate::slot::Slot;

pub use canary_ingress::{CanaryIngress, is_beside};
use layout::Layout;

/// A Service that a route sends traffic to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Backend {
    /// The Service's name.
    pub service: String,
    /// Its weight; 1 when the route states none. In a canary Ingress all have the weight of the whole.
    pub weight: u64,
}

impl Backend {
    /// Whether any traffic goes there.
    #[must_use]
    pub const fn takes_traffic(&self) -> bool {
        self.weight > 0
    }
}

/// The Services that a route names, in order, with their weights. Empty for anything but a route.
#[must_use]
pub fn backends(kind: Kind, route: &Value) -> Vec<Backend> {
    let layout = Layout::of(kind);
    let canary = CanaryIngress::of(kind, route);
    let entries = layout
        .list_pointers(route)
        .into_iter()
        .filter_map(|pointer| route.pointer(&pointer)?.as_array())
        .flatten()
        .chain(
            layout
                .single_pointers(route)
                .into_iter()
                .filter_map(|pointer| route.pointer(&pointer)),
        );
    entries
        .filter_map(|entry| {
            Some(Backend {
                service: layout.service(entry)?,
                weight: canary.map_or_else(|| layout.weight(entry), |shares| shares.canary),
            })
        })
        .collect()
}

/// What became of a front's traffic fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Base names of Services whose live share was put into the manifest.
    pub from_live: BTreeSet<String>,
    /// Base names that the live front does not know; they were pointed at the deployed slot.
    pub new: BTreeSet<String>,
    /// The manifest's selector differs from the live one in more than the slot: the live one stays.
    pub selector_differs: bool,
}

/// Puts the live traffic fields into a front of a manifest, so that applying it moves nothing.
/// `bases` are the Services that stand once in each slot; entries for other Services stay as the
/// manifest has them. A base that the live front does not know is pointed at `slot`.
pub fn keep_live(front: &mut Object, live: &Value, bases: &BTreeSet<String>, slot: Slot) -> Kept {
    let kind = front.kind();
    if kind == Kind::Service {
        return keep_selector(front, live);
    }
    let layout = Layout::of(kind);
    let slot = slot_of(front, slot);
    canary_ingress::keep_weight(front, live);
    let mut kept = Kept::default();
    for pointer in layout.list_pointers(front.value()) {
        let live_entries = layout.live_entries(front.value(), &pointer, live);
        if let Some(Value::Array(list)) = front.value_mut().pointer_mut(&pointer) {
            *list = layout.with_live_entries(list, &live_entries, bases, slot, &mut kept);
        }
    }
    for pointer in layout.single_pointers(front.value()) {
        keep_single(front, live, bases, slot, (layout, &pointer, &mut kept));
    }
    kept
}

fn keep_single(
    front: &mut Object,
    live: &Value,
    bases: &BTreeSet<String>,
    slot: Slot,
    (layout, pointer, kept): (Layout, &str, &mut Kept),
) {
    let Some(base) = front
        .value()
        .pointer(pointer)
        .and_then(|entry| layout.base(entry, bases))
    else {
        return;
    };
    let same_place = live
        .pointer(pointer)
        .filter(|entry| layout.base(entry, bases).as_ref() == Some(&base));
    let service = same_place
        .or_else(|| {
            layout
                .single_pointers(live)
                .into_iter()
                .filter_map(|pointer| live.pointer(&pointer))
                .find(|entry| layout.base(entry, bases).as_ref() == Some(&base))
        })
        .and_then(|entry| layout.service(entry));
    let name = match service {
        Some(service) => {
            kept.from_live.insert(base);
            service
        }
        None => {
            kept.new.insert(base.clone());
            slot.name_of(&base)
        }
    };
    if let Some(entry) = front.value_mut().pointer_mut(pointer) {
        layout.set_service(entry, &name);
    }
}

fn keep_selector(front: &mut Object, live: &Value) -> Kept {
    let wanted = front.value().pointer("/spec/selector").map(text_map);
    let live_selector = live.pointer("/spec/selector").cloned();
    let without_ours = |selector: Option<&Value>| {
        let mut labels = selector.map(text_map).unwrap_or_default();
        labels.remove(names::SLOT);
        labels.remove(names::POD_TEMPLATE_HASH);
        labels
    };
    let selector_differs = without_ours(live_selector.as_ref()) != {
        let mut wanted = wanted.unwrap_or_default();
        wanted.remove(names::SLOT);
        wanted
    };
    let spec = crate::object::member(front.value_mut(), "spec");
    match live_selector {
        Some(selector) => spec.insert("selector".to_owned(), selector),
        None => spec.remove("selector"),
    };
    Kept {
        selector_differs,
        ..Kept::default()
    }
}

/// Points a front that does not exist yet at the slot that is deployed.
pub fn point_at(front: &mut Object, bases: &BTreeSet<String>, slot: Slot) {
    let kind = front.kind();
    if kind == Kind::Service {
        let spec = crate::object::member(front.value_mut(), "spec");
        let selector = crate::object::member_of(spec, "selector");
        crate::object::set_text(selector, names::SLOT, slot.as_str());
        return;
    }
    let layout = Layout::of(kind);
    let slot = slot_of(front, slot);
    let mut ignored = Kept::default();
    for pointer in layout.list_pointers(front.value()) {
        if let Some(Value::Array(list)) = front.value_mut().pointer_mut(&pointer) {
            *list = layout.with_live_entries(list, &[], bases, slot, &mut ignored);
        }
    }
    for pointer in layout.single_pointers(front.value()) {
        if let Some(entry) = front.value_mut().pointer_mut(&pointer)
            && let Some(base) = layout.base(entry, bases)
        {
            layout.set_service(entry, &slot.name_of(&base));
        }
    }
}

/// The slot that a new front names when this one is deployed. A canary Ingress names the one that its main
/// Ingress does not: their weight alone decides between them, however often it is switched.
fn slot_of(front: &Object, deployed: Slot) -> Slot {
    match CanaryIngress::of(front.kind(), front.value()) {
        Some(_) => deployed.other(),
        None => deployed,
    }
}

#[cfg(test)]
mod tests;
