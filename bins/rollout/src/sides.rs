//! Which workloads an input means: a side of the deployment, a slot, or workloads by name. Refuses to
//! know what is done with them.

use anyhow::anyhow;
use switchyard_cluster::workloads::WorkloadRef;
use switchyard_manifest::{Kind, ObjectName, Slot, names, object, pods};
use switchyard_record::{DeploymentRecord, Side, SideState};
use switchyard_runner::{Failure, Kind as FailureKind};

use crate::inputs::SideChoice;
use crate::plan::traffic::Entry;
use crate::survey::Survey;

/// Workloads, and the side that they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chosen {
    /// The side, when one was meant and not workloads by name.
    pub side: Option<Side>,
    /// The workloads.
    pub workloads: Vec<ObjectName>,
}

/// What tells which workloads are meant.
#[derive(Debug)]
pub(crate) struct Choosing<'a> {
    /// The side that the input names.
    pub side: Option<SideChoice>,
    /// The workloads that the input names.
    pub workloads: &'a [ObjectName],
    /// The application, where one is named.
    pub application: Option<&'a str>,
    /// The deployment's record, where one is open.
    pub record: Option<&'a DeploymentRecord>,
}

/// Finds the workloads that are meant.
///
/// # Errors
/// A failure of kind gate when the record or the cluster has none.
pub(crate) fn choose(choosing: &Choosing<'_>, survey: &Survey) -> Result<Chosen, Failure> {
    let Some(side) = choosing.side else {
        return Ok(Chosen {
            side: None,
            workloads: choosing.workloads.to_vec(),
        });
    };
    let (side, recorded) = match side {
        SideChoice::Blue => (Side::BLUE, None),
        SideChoice::Green => (Side::GREEN, None),
        SideChoice::Old => recorded(choosing.record, "old", |record| record.sides.from.as_ref())?,
        SideChoice::New => recorded(choosing.record, "new", |record| record.sides.to.as_ref())?,
    };
    let workloads = match side.slot() {
        Some(slot) => survey.workloads_in(slot, choosing.application),
        None => recorded.map(names_of).unwrap_or_default(),
    };
    if workloads.is_empty() {
        return Err(
            Failure::message(FailureKind::Gate, format!("side `{side}` has no workloads")).hint(
                format!(
                    "workloads of a slot carry the label `{}`; name others by `workloads`",
                    names::SLOT
                ),
            ),
        );
    }
    Ok(Chosen {
        side: Some(side),
        workloads,
    })
}

fn recorded<'a>(
    record: Option<&'a DeploymentRecord>,
    word: &str,
    side: impl Fn(&'a DeploymentRecord) -> Option<&'a SideState>,
) -> Result<(Side, Option<&'a SideState>), Failure> {
    let Some(record) = record else {
        return Err(Failure::input(anyhow!(
            "input `side` is `{word}`, which only a deployment's record can tell"
        ))
        .hint("give `application`, or name the slot or the workloads"));
    };
    match side(record) {
        Some(state) => Ok((state.side, Some(state))),
        None => Err(Failure::message(
            FailureKind::Gate,
            format!("the record of this deployment has no {word} side"),
        )
        .hint("run `rollout apply` first; a first deployment has no old side")),
    }
}

/// The workloads of a side as inputs name them.
pub(crate) fn names_of(side: &SideState) -> Vec<ObjectName> {
    side.workloads
        .iter()
        .map(|state| ObjectName {
            kind: state.workload.kind.to_lowercase(),
            name: state.workload.name.clone(),
        })
        .collect()
}

/// A workload as the cluster crate names it.
///
/// # Errors
/// A failure of kind input for kinds that are no workloads.
pub(crate) fn reference(name: &ObjectName) -> Result<WorkloadRef, Failure> {
    name.to_string().parse().map_err(Failure::input)
}

/// The kind of a workload as inputs name it.
pub(crate) fn kind_of(name: &ObjectName) -> Kind {
    match name.kind.as_str() {
        "deployment" => Kind::Deployment,
        "statefulset" => Kind::StatefulSet,
        "daemonset" => Kind::DaemonSet,
        "job" => Kind::Job,
        "cronjob" => Kind::CronJob,
        _ => Kind::Other,
    }
}

/// What sends live traffic to a workload, if anything does. Once the record names the objects that a
/// switch moves, only those count: a Service that was left behind sends nothing on its own.
pub(crate) fn traffic_to<'a>(
    survey: &'a Survey,
    workload: &ObjectName,
    record: Option<&DeploymentRecord>,
) -> Option<&'a Entry> {
    let live = survey.workload(kind_of(workload), &workload.name)?;
    let labels = pods::labels(kind_of(workload), live);
    let place = object::metadata_entry(live, "labels", names::SLOT);
    let targets: Vec<String> = record
        .map(|record| {
            let targets = record.targets.iter();
            targets
                .map(|target| {
                    format!(
                        "{}/{}",
                        target.object.kind.to_lowercase(),
                        target.object.name
                    )
                })
                .collect()
        })
        .unwrap_or_default();
    let counts = |entry: &&Entry| targets.is_empty() || targets.contains(&entry.decided_by);
    match place {
        Some(_) => survey.traffic.all_reaching(&labels).find(counts),
        None => survey.traffic.all_reaching_unslotted(&labels).find(counts),
    }
}

/// The word of a side in the output `slot`: its place, or `none` under the manifest's own names.
pub(crate) fn word_of(side: Side) -> &'static str {
    match side {
        Side::Slot(_) | Side::Canary => side.as_str(),
        Side::Stable | Side::Unslotted => "none",
    }
}

/// Whether two sides stand under the same names: the stable side of a canary is what stands in place.
pub(crate) fn is_same_place(one: Side, other: Side) -> bool {
    word_of(one) == word_of(other)
}

/// The record's word for the slot of a workload, for checks against the live side.
pub(crate) fn side_of_workload(survey: &Survey, workload: &ObjectName) -> Option<Side> {
    let live = survey.workload(kind_of(workload), &workload.name)?;
    let label = object::metadata_entry(live, "labels", names::SLOT);
    if label == Some(Side::Canary.as_str()) {
        return Some(Side::Canary);
    }
    let slot = label.and_then(Slot::from_label);
    Some(slot.map_or(Side::Unslotted, Side::Slot))
}
