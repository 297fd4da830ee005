//! The main workload's update: when it may begin, and what the record says of it.

use switchyard_manifest::ObjectName;
use switchyard_record::{DeploymentRecord, Phase, Promotion};
use switchyard_runner::{Failure, Kind as FailureKind};

use super::prepare::Plan;
use super::{Applying, image_digests, is_sized};
use crate::beside;
use crate::canary::{self, Takers};
use crate::ledger::Ledger;
use crate::survey::Survey;
use crate::waiting;

/// Refuses to update a main workload that takes traffic.
pub(super) fn refuse_in_traffic(ledger: &Ledger, survey: &Survey) -> Result<(), Failure> {
    let record = ledger
        .record()
        .ok_or_else(|| Failure::message(FailureKind::Bug, "the record is gone"))?;
    refuse_too_early(record)?;
    canary::refuse_main_in_traffic(&Takers::of(record, survey))
}

/// The record's part of it: the last stage gave the canary everything, and was confirmed.
fn refuse_too_early(record: &DeploymentRecord) -> Result<(), Failure> {
    let share = |index: u16| {
        let stage = record.stages.iter().find(|stage| stage.index == index);
        stage.map_or(0, |stage| stage.weight)
    };
    let is_whole = matches!(record.phase, Phase::Holding(index) if share(index) == 100);
    // Killed half-way, it goes on.
    if is_whole || record.phase == Phase::Promoting {
        return Ok(());
    }
    Err(Failure::message(
        FailureKind::Gate,
        format!(
            "the deployment is in phase `{}`: its canary does not take all of the traffic yet",
            record.phase
        ),
    )
    .hint("the main workload is updated after `traffic-switch switch` with `to: canary` and `weight: 100`"))
}

/// Refuses an update that could leave the canary without what it stands beside.
pub(super) fn refuse_gap(plan: &Plan, survey: &Survey) -> Result<(), Failure> {
    let sized = plan
        .objects
        .iter()
        .filter(|planned| is_sized(planned.object.kind()));
    let updates = sized.map(|planned| (planned.object.identity().short(), &planned.after));
    beside::refuse_gap(survey, updates)
}

/// Writes down that the main workload may change from here on.
pub(super) async fn begin(ledger: &mut Ledger) -> Result<(), Failure> {
    ledger
        .amend(|record| {
            record.promotion = record.promotion.max(Some(Promotion::Begun));
        })
        .await?;
    ledger.advance(Phase::Promoting).await
}

impl Applying<'_> {
    /// Waits until the main workload runs the new version everywhere, and writes that down.
    pub(super) async fn promoted(&self, ledger: &mut Ledger, plan: &Plan) -> Result<(), Failure> {
        let workloads: Vec<ObjectName> = plan
            .objects
            .iter()
            .filter(|planned| is_sized(planned.object.kind()))
            .map(|planned| planned.object.identity().short())
            .collect();
        let target = (&self.connection.cluster, self.objects.deadline());
        waiting::rollout(self.context, ledger, target, &workloads).await?;
        let digests = image_digests(&self.manifest);
        ledger
            .amend(|record| {
                record.promotion = record.promotion.max(Some(Promotion::Done));
                record.digests = digests;
            })
            .await?;
        self.context.console.info(
            "the main workload runs the new version; give it the traffic back with `traffic-switch switch` and `to: stable`",
        );
        Ok(())
    }
}
