//! Fronts within a plan: those that are there keep their traffic, new ones point at the slot, and nothing
//! that is live may select the new pods.

use std::collections::BTreeSet;

use switchyard_manifest::slotting::Slotted;
use switchyard_manifest::{Kind, Place, Slot, front, names, pods};
use switchyard_runner::{Failure, Kind as FailureKind};

use super::Applying;
use super::prepare::Draft;
use crate::plan::selectors::{self, NewPods, Ours};
use crate::survey::Survey;

impl Applying<'_> {
    /// Puts the live traffic fields into fronts that are there, with their resourceVersion as the
    /// precondition, and points new ones at the slot.
    pub(super) fn keep_fronts(
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

    /// Says when nothing decides which slot takes traffic: a switch would have nothing to switch.
    pub(super) fn missing_front(&self, slotted: &Slotted, survey: &Survey) -> Option<String> {
        let is_routed = !slotted.fronts.is_empty() || !survey.routes.is_empty();
        let hint = slotted.slotted_services.iter().next()?;
        (!is_routed).then(|| {
            format!(
                "no front is declared, so nothing decides which slot takes traffic; a Service becomes one by `front: service/{hint}`"
            )
        })
    }

    pub(super) fn refuse_foreign_selectors(
        &self,
        drafts: &[Draft],
        place: Place,
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
            application: self.args.written.deployment.application.as_deref(),
            place,
        };
        let foreign = selectors::foreign(&pods, &survey.selectors, &ours);
        let Some(first) = foreign.first() else {
            return Ok(());
        };
        let lines: Vec<String> = foreign.iter().map(selectors::Foreign::describe).collect();
        Err(Failure::message(FailureKind::Gate, lines.join("; ")).hint(first.hint()))
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
pub(super) fn refuse_slotted_fronts(drafts: &[Draft]) -> Result<(), Failure> {
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
