//! Whether every pod runs what was rolled out, read anew at the end. The decision is pure.

use std::collections::BTreeMap;

use serde_json::Value;
use switchyard_deployment::cluster_failure;
use switchyard_manifest::{Kind, names, object};
use switchyard_runner::{Failure, Kind as FailureKind};

use super::{Applying, Rolled};
use crate::sides;
use crate::subject::Subject;
use crate::survey::{revision_of, text};

impl Applying<'_> {
    /// Reads every Deployment with its pods again: all of them are of its new ReplicaSet.
    pub(super) async fn verify(&self, rolled: &[Rolled]) -> Result<(), Failure> {
        let list = |group, version, kind| self.objects.list_if_served(group, version, kind);
        let sets = list("apps", "v1", "ReplicaSet").await;
        let sets = sets.map_err(cluster_failure)?;
        let pods = list("", "v1", "Pod").await.map_err(cluster_failure)?;
        for one in rolled {
            let live = Subject::workload(&self.objects, &one.name).await?;
            let live = live.read().await?;
            one.refuse_foreign(&live)?;
            if sides::kind_of(&one.name) != Kind::Deployment {
                // Its own revision was compared with its pods' by the wait.
                self.context
                    .console
                    .info(format!("{}: every pod is new", one.name));
                continue;
            }
            let count = new_pods(&live, &sets, &pods).map_err(|old| {
                Failure::message(FailureKind::Gate, format!("{}: {old}", one.name))
                    .hint("another deployment began meanwhile: see its history (`kubectl rollout history`)")
            })?;
            self.context.console.info(format!(
                "{}: {count} of {count} pods run the new template",
                one.name
            ));
        }
        Ok(())
    }
}

/// Counts the pods of a Deployment, which must all be of the ReplicaSet that carries its revision.
fn new_pods(deployment: &Value, sets: &[Value], pods: &[Value]) -> Result<usize, String> {
    let uid = text(deployment, "/metadata/uid").unwrap_or_default();
    let own: BTreeMap<String, &Value> = sets
        .iter()
        .filter(|set| owner(set) == Some(uid.as_str()))
        .filter_map(|set| Some((text(set, "/metadata/uid")?, set)))
        .collect();
    let revision = revision_of(deployment);
    let mut count = 0;
    for pod in pods {
        let Some(set) = owner(pod).and_then(|owner| own.get(owner)) else {
            continue;
        };
        let phase = text(pod, "/status/phase").unwrap_or_default();
        let has_ended = matches!(phase.as_str(), "Succeeded" | "Failed");
        if has_ended || pod.pointer("/metadata/deletionTimestamp").is_some() {
            continue;
        }
        if revision_of(set) != revision || revision.is_none() {
            let hash = object::metadata_entry(set, "labels", names::POD_TEMPLATE_HASH);
            return Err(format!(
                "pod `{}` still runs template {}",
                text(pod, "/metadata/name").unwrap_or_default(),
                hash.unwrap_or("unknown")
            ));
        }
        count += 1;
    }
    Ok(count)
}

fn owner(value: &Value) -> Option<&str> {
    let owners = value.pointer("/metadata/ownerReferences")?.as_array()?;
    let controller = owners
        .iter()
        .find(|owner| owner.get("controller") == Some(&Value::Bool(true)))?;
    controller.get("uid")?.as_str()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn set(uid: &str, revision: &str) -> Value {
        json!({"metadata": {
            "uid": uid,
            "labels": {"pod-template-hash": format!("hash-{uid}")},
            "annotations": {"deployment.kubernetes.io/revision": revision},
            "ownerReferences": [{"uid": "web", "controller": true}],
        }})
    }

    fn pod(name: &str, set: &str, rest: &Value) -> Value {
        let mut pod = json!({
            "metadata": {"name": name, "ownerReferences": [{"uid": set, "controller": true}]},
            "status": {"phase": "Running"},
        });
        if let Some(phase) = rest.get("phase") {
            pod["status"]["phase"] = phase.clone();
        }
        if let Some(deleted) = rest.get("deleted") {
            pod["metadata"]["deletionTimestamp"] = deleted.clone();
        }
        pod
    }

    #[test]
    fn pods_that_go_or_have_ended_do_not_count_and_an_old_one_that_serves_does() {
        let deployment = json!({"metadata": {
            "uid": "web", "annotations": {"deployment.kubernetes.io/revision": "2"},
        }});
        let sets = [set("old", "1"), set("new", "2")];
        let mut pods = vec![
            pod("a", "new", &json!({})),
            pod("b", "new", &json!({})),
            pod("c", "old", &json!({"deleted": "2026-01-01T00:00:00Z"})),
            pod("d", "old", &json!({"phase": "Failed"})),
            pod("e", "of-another", &json!({})),
        ];
        assert_eq!(new_pods(&deployment, &sets, &pods), Ok(2));
        pods.push(pod("f", "old", &json!({})));
        assert_eq!(
            new_pods(&deployment, &sets, &pods),
            Err("pod `f` still runs template hash-old".to_owned())
        );
    }
}
