//! May we do all of this? Asked in one go, before the lease is taken and anything is read.

use switchyard_cluster::{DynamicKind, Verb};
use switchyard_deployment::cluster_failure;
use switchyard_manifest::slotting::{self, SlottingOptions};
use switchyard_manifest::{Object, Place};
use switchyard_runner::{Failure, Kind as FailureKind};

use super::Applying;
use crate::inputs::StageChoice;
use crate::permissions;

impl Applying<'_> {
    /// Refuses a plan of which a part is not allowed, with all gaps in one report.
    pub(super) async fn check_permissions(&self, place: Option<Place>) -> Result<(), Failure> {
        let mut wanted = Vec::new();
        for object in &self.slotted_for(place)? {
            let kind = self.kind_of(object).await?;
            // The API server asks for `create` too, where an applied object is not there.
            let verbs = [Verb::Get, Verb::Patch, Verb::Create];
            let place = (self.connection.cluster.namespace(), object.name());
            wanted.extend(permissions::on(&kind, place, &verbs));
        }
        if place.is_some() {
            let namespace = self.connection.cluster.namespace();
            wanted.extend(permissions::to_survey(namespace));
        }
        if self.args.rolling.is_some() && !self.args.plan {
            wanted.extend(permissions::to_roll(self.connection.cluster.namespace()));
        }
        if !self.args.plan && self.args.written.deployment.application.is_some() {
            wanted.extend(permissions::to_record(self.connection.cluster.namespace()));
        }
        permissions::check(&self.connection.cluster, wanted, self.objects.deadline()).await
    }

    pub(super) async fn kind_of(&self, object: &Object) -> Result<DynamicKind, Failure> {
        self.objects
            .kind_of(&object.identity())
            .await
            .map_err(|error| {
                let hint = error.hint();
                let text = format!("{} ({})", object.identity(), object.origin());
                if matches!(&error, switchyard_cluster::Error::UnknownKind { .. }) {
                    Failure::input(anyhow::Error::new(error).context(text)).maybe_hint(hint)
                } else {
                    cluster_failure(error)
                }
            })
    }

    /// The objects of this stage as they are named in their place, before live state has any part in them.
    pub(super) fn slotted_for(&self, place: Option<Place>) -> Result<Vec<Object>, Failure> {
        let Some(place) = place else {
            return Ok(self.manifest.clone());
        };
        let slotted = self.slot_manifest(place)?;
        Ok(match self.args.stage {
            StageChoice::BeforeSwitch => slotted.objects,
            StageChoice::AfterSwitch => slotted.after_switch,
            StageChoice::Promotion => self.manifest.clone(),
        })
    }

    pub(super) fn slotting_options(&self, place: Place) -> SlottingOptions {
        SlottingOptions {
            place,
            application: self.args.written.deployment.application.clone(),
            front: self.args.front.iter().cloned().collect(),
            after_switch: self.args.after_switch.iter().cloned().collect(),
            per_slot: self.args.per_slot.iter().cloned().collect(),
        }
    }

    pub(super) fn slot_manifest(&self, place: Place) -> Result<slotting::Slotted, Failure> {
        let slotted =
            slotting::slot(&self.manifest, &self.slotting_options(place)).map_err(|error| {
                let hint = error.hint();
                Failure::input(error).maybe_hint(hint)
            })?;
        if self.args.stage == StageChoice::AfterSwitch && slotted.after_switch.is_empty() {
            return Err(Failure::message(
                FailureKind::Input,
                "input `stage` is `after-switch`, but no object is declared so",
            ));
        }
        Ok(slotted)
    }
}
