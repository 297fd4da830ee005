//! What the choice of a slot depends on: which side was chosen before, which one the record calls
//! live, and which ones live traffic reaches.

use std::collections::BTreeMap;

use switchyard_manifest::slotting::{Part, SlottingOptions, classify};
use switchyard_manifest::{Object, Place, Slot, names, object, pods};
use switchyard_record::{Side, Store};
use switchyard_runner::Failure;

use super::{Applying, is_sized};
use crate::ledger::Ledger;
use crate::plan::slot_choice::KnownSides;
use crate::plan::traffic::labels_in_slot;
use crate::survey::Survey;

impl Applying<'_> {
    /// What is known of the sides.
    pub(super) async fn known_sides(
        &self,
        ledger: &Ledger,
        survey: &Survey,
    ) -> Result<KnownSides, Failure> {
        let is_slotted = self.first_candidate().is_some();
        if !survey.unreadable.is_empty() && is_slotted {
            self.context.console.info(format!(
                "routes of these kinds may not be read, so whether they send traffic to a slot is not known: {}",
                survey.unreadable.join(", ")
            ));
        }
        let mut known = KnownSides {
            has_front: !survey.routes.is_empty() || !self.args.front.is_empty(),
            fixed: ledger
                .record()
                .and_then(|record| record.sides.to.as_ref())
                .map(|to| to.side),
            recorded: self.recorded_side(ledger).await?,
            ..KnownSides::default()
        };
        if is_slotted {
            self.see_sides(survey, &mut known)?;
        }
        Ok(known)
    }

    /// The live side in the application's record; in a plan it is read without taking the lease.
    async fn recorded_side(&self, ledger: &Ledger) -> Result<Option<Side>, Failure> {
        let live = match (ledger.session(), &self.args.written.deployment.application) {
            (Some(session), _) => session.application().live.clone(),
            (None, Some(application)) => {
                let cluster = &self.connection.cluster;
                let store = Store::new(cluster.client(), cluster.namespace());
                let record = store.application(application).await.map_err(|error| {
                    switchyard_deployment::record_failure(error, self.context.cancel.requested())
                })?;
                record.and_then(|stored| stored.record.live)
            }
            (None, None) => None,
        };
        Ok(live.map(|live| live.side))
    }

    fn see_sides(&self, survey: &Survey, known: &mut KnownSides) -> Result<(), Failure> {
        let options: SlottingOptions =
            self.slotting_options(self.first_candidate().unwrap_or(Place::Slot(Slot::Blue)));
        let parts = classify(&self.manifest, &options).map_err(|error| {
            let hint = error.hint();
            Failure::input(error).maybe_hint(hint)
        })?;
        let slotted = self
            .manifest
            .iter()
            .zip(parts)
            .filter(|(object, part)| *part == Part::Slotted && object.kind().is_workload());
        for (workload, _) in slotted {
            see_workload(workload, survey, known);
        }
        Ok(())
    }
}

/// Notes which sides of one workload live traffic reaches.
fn see_workload(workload: &Object, survey: &Survey, known: &mut KnownSides) {
    let kind = workload.kind();
    let base = workload.base_name();
    let labels = pods::labels(kind, workload.value());
    let mut seen: BTreeMap<Side, String> = BTreeMap::new();
    for slot in Slot::ALL {
        let in_slot = labels_in_slot(&labels, slot);
        let is_running = survey.ready(kind, &slot.name_of(base)) > 0;
        known.are_slots_running |= is_running;
        // A Service that asks for no slot reaches both; it tells nothing of a slot without pods.
        let entry = survey
            .traffic
            .reaches(&in_slot)
            .filter(|entry| is_running || entry.asks_for_slot());
        if let Some(entry) = entry {
            seen.insert(Side::Slot(slot), entry.decided_by.clone());
        }
    }
    let unslotted = survey.workload(kind, base).filter(|live| {
        is_sized(kind) && object::metadata_entry(live, "labels", names::SLOT).is_none()
    });
    if let Some(live) = unslotted
        && let Some(entry) = survey.traffic.reaches_unslotted(&pods::labels(kind, live))
    {
        seen.insert(Side::Unslotted, entry.decided_by.clone());
    }
    known.seen.extend(seen);
}
