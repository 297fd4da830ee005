//! Front objects that a GitOps controller keeps: a switch of them would be reverted in a moment, with
//! traffic on a side that nobody proved. The way back refuses nothing: late is better than not at all.

use switchyard_manifest::gitops;
use switchyard_runner::{Failure, Kind};
use switchyard_traffic::engine::Front;

/// Refuses fronts that Argo CD or Flux keep in step with a repository.
///
/// # Errors
/// A gate failure naming each of them, who keeps it, and what to commit instead.
pub(crate) fn refuse(fronts: &[Front]) -> Result<(), Failure> {
    let kept: Vec<(String, gitops::Tracker)> = fronts
        .iter()
        .filter_map(|front| Some((front.target.to_string(), gitops::tracker(&front.object)?)))
        .collect();
    let Some((_, first)) = kept.first() else {
        return Ok(());
    };
    let lines: Vec<String> = kept
        .iter()
        .map(|(target, tracker)| {
            format!(
                "{target} is kept by {} ({})",
                tracker.controller, tracker.source
            )
        })
        .collect();
    Err(Failure::message(Kind::Gate, lines.join("; ")).hint(format!(
        "a switch made here would be reverted: commit the weights or the selector to the repository of {} instead, or take the object out of it",
        first.source
    )))
}
