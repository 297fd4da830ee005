//! Whether a side still holds what the record says of it, before traffic goes back to it.
//! Refuses to bring anything back: a side that was overwritten is a case for a backup.

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use switchyard_cluster::workloads::WorkloadKind;
use switchyard_cluster::{Cluster, Deadline, names};
use switchyard_deployment::cluster_failure;
use switchyard_record::{SideState, WorkloadState};
use switchyard_runner::{Failure, Kind};

use crate::sides::READ_LIMIT;

/// The annotation by which the Deployment controller numbers revisions.
const REVISION: &str = "deployment.kubernetes.io/revision";

/// A workload as it is now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Live {
    uid: Option<String>,
    revision: Option<String>,
    version: Option<String>,
}

impl Live {
    fn new(meta: &ObjectMeta, revision: Option<String>) -> Self {
        let annotation = |key| {
            let annotations = meta.annotations.as_ref();
            annotations.and_then(|map| map.get(key)).cloned()
        };
        Self {
            uid: meta.uid.clone(),
            revision: annotation(REVISION).or(revision),
            version: annotation(names::VERSION),
        }
    }
}

/// Sees that every workload of a side is the one that the record knows.
///
/// # Errors
/// A gate failure naming the workload that is gone or holds something else; a remote one when it
/// cannot be read.
pub(crate) async fn require(cluster: &Cluster, side: &SideState) -> Result<(), Failure> {
    for workload in &side.workloads {
        let Some(kind) = WorkloadKind::parse(&workload.workload.kind) else {
            continue;
        };
        let live = match kind {
            WorkloadKind::Deployment => deployment(cluster, &workload.workload.name).await?,
            WorkloadKind::StatefulSet => stateful_set(cluster, &workload.workload.name).await?,
            WorkloadKind::DaemonSet | WorkloadKind::Job => continue,
        };
        if let Some(problem) = problem(workload, side.version.as_deref(), live.as_ref()) {
            let text = format!(
                "side `{}` does not hold the version any more that the record has of it: {} {problem}",
                side.side, workload.workload
            );
            return Err(Failure::message(Kind::Gate, text).hint(
                "traffic stays where it is; bring the version back with `rollout restore`, or deploy it anew",
            ));
        }
    }
    Ok(())
}

/// Sees that the canary still stands, which is to carry all of the traffic while its main workload
/// is undone. It may have been taken to 0: it is brought to size.
///
/// # Errors
/// A gate failure naming the workload that is gone; a remote one when it cannot be read.
pub(crate) async fn require_present(cluster: &Cluster, canary: &SideState) -> Result<(), Failure> {
    for workload in &canary.workloads {
        let name = &workload.workload.name;
        let live = match WorkloadKind::parse(&workload.workload.kind) {
            Some(WorkloadKind::Deployment) => deployment(cluster, name).await?,
            Some(WorkloadKind::StatefulSet) => stateful_set(cluster, name).await?,
            Some(WorkloadKind::DaemonSet | WorkloadKind::Job) | None => continue,
        };
        if live.is_none() {
            return Err(Failure::message(
                Kind::Gate,
                format!(
                    "{} is gone, and the main workload runs the new version: nothing can carry the traffic while it is undone; traffic stays where it is",
                    workload.workload
                ),
            )
            .hint("bring the version before back in place with `rollout restore`, or deploy it anew"));
        }
    }
    Ok(())
}

async fn deployment(cluster: &Cluster, name: &str) -> Result<Option<Live>, Failure> {
    let objects = cluster.objects::<Deployment>();
    let found = objects.find(name, Deadline::after(READ_LIMIT)).await;
    let found = found.map_err(cluster_failure)?;
    Ok(found.map(|object| Live::new(&object.metadata, None)))
}

async fn stateful_set(cluster: &Cluster, name: &str) -> Result<Option<Live>, Failure> {
    let objects = cluster.objects::<StatefulSet>();
    let found = objects.find(name, Deadline::after(READ_LIMIT)).await;
    let found = found.map_err(cluster_failure)?;
    Ok(found.map(|object| {
        let revision = object.status.and_then(|status| status.update_revision);
        Live::new(&object.metadata, revision)
    }))
}

/// What is wrong with a workload, as the rest of a sentence. Pure.
///
/// The revision is that of the template; an equal version says as much, so that a mere restart
/// does not stand in the way.
fn problem(recorded: &WorkloadState, version: Option<&str>, live: Option<&Live>) -> Option<String> {
    let Some(live) = live else {
        return Some("does not exist any more".to_owned());
    };
    if recorded.uid.is_some() && recorded.uid != live.uid {
        return Some("was replaced by another object of this name".to_owned());
    }
    if let (Some(known), Some(seen)) = (&recorded.revision, &live.revision)
        && known == seen
    {
        return None;
    }
    if let (Some(known), Some(seen)) = (version, live.version.as_deref()) {
        return (known != seen).then(|| format!("holds version `{seen}` instead of `{known}`"));
    }
    match (&recorded.revision, &live.revision) {
        (Some(known), Some(seen)) => Some(format!("stands at revision {seen} instead of {known}")),
        (Some(_) | None, None) | (None, Some(_)) => None,
    }
}

#[cfg(test)]
mod tests {
    use switchyard_record::ObjectRef;

    use super::*;

    fn recorded(revision: Option<&str>) -> WorkloadState {
        WorkloadState {
            workload: ObjectRef::namespaced("apps/v1", "Deployment", "shop", "web-blue"),
            uid: Some("u1".to_owned()),
            revision: revision.map(str::to_owned),
            replicas: Some(2),
            hpa_min: None,
        }
    }

    fn live(uid: &str, revision: &str, version: Option<&str>) -> Live {
        Live {
            uid: Some(uid.to_owned()),
            revision: Some(revision.to_owned()),
            version: version.map(str::to_owned),
        }
    }

    #[test]
    fn a_slot_that_was_deployed_over_is_not_gone_back_to() {
        let of = |live: Option<Live>| problem(&recorded(Some("3")), Some("v1"), live.as_ref());
        assert_eq!(of(Some(live("u1", "3", None))), None);
        assert_eq!(of(Some(live("u1", "3", Some("v1")))), None);
        assert_eq!(
            of(Some(live("u1", "4", None))).as_deref(),
            Some("stands at revision 4 instead of 3")
        );
        assert_eq!(
            of(Some(live("u1", "4", Some("v3")))).as_deref(),
            Some("holds version `v3` instead of `v1`")
        );
        assert_eq!(
            of(Some(live("u2", "3", Some("v1")))).as_deref(),
            Some("was replaced by another object of this name")
        );
        assert_eq!(of(None).as_deref(), Some("does not exist any more"));
    }

    #[test]
    fn a_restart_of_the_same_version_does_not_stand_in_the_way() {
        let restarted = live("u1", "4", Some("v1"));
        assert_eq!(
            problem(&recorded(Some("3")), Some("v1"), Some(&restarted)),
            None
        );
    }

    #[test]
    fn what_the_record_does_not_know_is_not_held_against_the_side() {
        let seen = live("u1", "4", None);
        assert_eq!(problem(&recorded(None), Some("v1"), Some(&seen)), None);
    }
}
